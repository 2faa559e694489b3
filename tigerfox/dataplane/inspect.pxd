# The full check of what a rule looks for in buffers: content, pcre, isdataat, bsize, byte_*. See inspect.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from tigerfox.dataplane.image cimport RULE_VARIABLES, Inspection, Part, RuleSet

cdef enum:
    INSPECT_STEPS = 3000         # tests of one buffer, repetitions counted; Suricata: inspection-recursion-limit
    INSPECT_INSTANCES = 1024     # instances of a buffer that are looked at
    INSPECT_MADE = 1 << 20       # bytes of a transformed buffer
    INSPECT_DECODED = 1 << 16    # bytes that base64_decode makes; Suricata: as many

cdef struct Bytes:
    const uint8_t *data
    uint32_t n

# Instance `index` (from 0) of a buffer; False where there is none.
ctypedef bint (*BufferFetch)(void *who, uint8_t buffer, uint32_t index, Bytes *out) noexcept nogil

cdef struct Inspector:           # of one process and one rule set: compiled expressions, memory for transforms and variables
    void **expressions           # [expression number], made on first use
    uint8_t *refused             # [expression number]: PCRE2 did not take it
    void *match_data
    void *match_context
    void *jit_stack
    uint8_t *made                # transformed buffer
    uint8_t *decoded             # what base64_decode makes
    uint64_t limits              # expressions that gave up at their bound
    uint64_t steps_ended         # inspections that ended at INSPECT_STEPS
    uint64_t values[RULE_VARIABLES]
    Bytes bytes                  # what is being looked at
    uint32_t at                  # where the match before ended
    uint32_t again               # pcre: where the next search begins, 0 for the first
    uint32_t steps
    uint32_t decoded_used        # bytes of `decoded` that are being looked at

# Do all parts hold? Stops at the first that does not.
cdef bint inspect_parts(Inspector *i, const RuleSet *rs, const Inspection *inspection, BufferFetch fetch, void *who) noexcept nogil

# How many of a part's tests, counted from its first, can hold together, in the instance where most do; `instances`: how many
# there are. Variables as in inspect_parts, which clears them. For explanations.
cdef uint32_t part_reach(Inspector *i, const RuleSet *rs, const Part *part, BufferFetch fetch, void *who,
                         uint32_t *instances) noexcept nogil

# Bytes as a view sees them: themselves, or transformed into the inspector's memory.
cdef Bytes view_bytes(Inspector *i, const RuleSet *rs, uint32_t view, Bytes raw) noexcept nogil


cdef class InspectorHold:
    cdef Inspector inspector
    cdef uint32_t expression_count
    cdef object rules            # CompiledRules
