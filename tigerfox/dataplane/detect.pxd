# What rules see beyond the headers of a packet. See detect.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from tigerfox.dataplane.flow cimport Flows
from tigerfox.dataplane.image cimport CompiledRules
from tigerfox.dataplane.inspect cimport InspectorHold
from tigerfox.dataplane.packet cimport Packet
from tigerfox.dataplane.reason cimport Reason
from tigerfox.dataplane.scan cimport ScannerHold
from tigerfox.dataplane.scene cimport Detect
from tigerfox.dataplane.session cimport SessionTable

# Inspect a packet that passed the block table, after rules_match filled `pending` and `key`; adds to p.matches. R_NONE, or
# why its bytes cannot be judged.
cdef Reason detect_packet(Detect *d, Packet *p, const uint32_t *key) noexcept nogil

# The packet inspected last belongs to a connection that is left to the kernel: give up what was kept for it. False: it was
# left before.
cdef bint detect_bypass(Detect *d) noexcept nogil

# Of the packet inspected last, which passes: whether its connection allows that its replies, of which it is one, are left to the
# kernel; and do so. detect_leave answers whether it is the first time. detect_returns: they are to be seen again.
cdef bint detect_lets_replies(Detect *d, const Packet *p) noexcept nogil
cdef bint detect_leave_replies(Detect *d) noexcept nogil
cdef bint detect_returns(Detect *d, const Packet *p) noexcept nogil

# Of the packet inspected last, which is R_STREAM_OVERLAP: whether it is a keep-alive probe of one byte where replies are left, and
# which byte is held in its place.
cdef bint detect_holds(Detect *d, const Packet *p, uint8_t *held) noexcept nogil

# A pass rule decided on the packet inspected last, and on the rest of its flow, which is not looked into again.
cdef void detect_pass(Detect *d) noexcept nogil

# Give back what flows that are over have held; a few at a time.
cdef void detect_tidy(Detect *d, uint64_t now_ns) noexcept nogil


cdef class Detection:
    """Keeps alive what a Detect points into."""
    cdef Detect *detect
    cdef Flows flows
    cdef SessionTable sessions
    cdef CompiledRules rules
    cdef ScannerHold scanners
    cdef InspectorHold inspector
    cdef int use(self, CompiledRules rules) except -1
