# A candidate: a rule that a scan or the header index named. See candidate.pyx.

from libc.stdint cimport uint8_t, uint32_t
from tigerfox.dataplane.inspect cimport Bytes
from tigerfox.dataplane.image cimport (
    BUF_DNS_QUERY, BUF_HTTP_REQUEST_FIELD, BUF_HTTP_RESPONSE_FIELD, BUF_TLS_CERTS, InspectUnit)
from tigerfox.dataplane.scene cimport Detect, Scene

# Does all of the rule hold in this scene?
cdef bint candidate_holds(Scene *s, uint32_t number) noexcept nogil

cdef enum FaultKind:             # of what a rule needs, in the order in which it is asked for
    FAULT_NONE = 0
    FAULT_HEADER                 # number: Misfit
    FAULT_FLOW
    FAULT_APP
    FAULT_BITS                   # number: the step
    FAULT_SIZES                  # number: the step
    FAULT_BUFFER                 # number: the part; its buffer is not there
    FAULT_TEST                   # number: the part, test: of its tests, counted from 0

cdef struct Fault:
    FaultKind kind
    uint32_t number
    uint32_t test                # those before it can hold together, not with it

# What does not hold, by the same stages; for explanations.
cdef Fault candidate_fault(Scene *s, uint32_t number) noexcept nogil

# It does: note the match, and do what the rule does to its flow.
cdef void candidate_fire(Scene *s, uint32_t number) noexcept nogil

# Add the rules of the packet that nothing scans for and that look at this unit.
cdef void pending_join(Detect *d, InspectUnit unit) noexcept nogil

# A buffer of the HTTP message; of a buffer that is none, nothing.
cdef bint http_fetch(Scene *s, uint8_t buffer, Bytes *out) noexcept nogil

# Instance `index` of a buffer in the scene `who`; a BufferFetch.
cdef bint scene_fetch(void *who, uint8_t buffer, uint32_t index, Bytes *out) noexcept nogil

# Whether there may be more than one instance of a buffer.
cdef inline bint buffer_repeats(uint8_t buffer) noexcept nogil:
    return (buffer == BUF_DNS_QUERY or buffer == BUF_TLS_CERTS or buffer == BUF_HTTP_REQUEST_FIELD
            or buffer == BUF_HTTP_RESPONSE_FIELD)
