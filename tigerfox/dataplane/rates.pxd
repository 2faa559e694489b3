# threshold and detection_filter: counts per rule and address, shared by all workers. See rates.pyx.

from libc.stdint cimport uint32_t, uint64_t
from tigerfox.dataplane.image cimport Rate
from tigerfox.dataplane.packet cimport FlowTuple
from tigerfox.dataplane.shared cimport Region, SharedHeader

cdef enum RateAnswer:
    RATE_SILENT = 0              # the rule does not fire: neither alert nor action
    RATE_FIRE = 1                # it fires
    RATE_ACT = 2                 # its action holds, the alert is not written again

cdef struct RateKey:             # 40 bytes, no padding
    uint64_t ends[4]             # tracked addresses in canonical order, zero where none is tracked
    uint32_t identity            # Rate.identity
    uint32_t family              # IP version; 0 for track by_rule

cdef struct RateTracker:         # 64 bytes
    uint64_t word                # low half: sequence; high half: 0 free, 1 in use (sequence even), second of the claim (odd)
    uint64_t window              # start in microseconds (44 bits), matches in it (20 bits); any process, exchange
    RateKey key                  # under the sequence
    uint64_t spare

cdef struct RateState:           # 64 bytes, behind the header
    uint64_t buckets             # creator, then constant
    uint64_t used                # any process, atomic add; too low by one per worker killed in the middle
    uint64_t displaced           # windows that gave way before their time; any process, atomic add
    uint64_t rejected            # matches that found no tracker; any process, atomic add
    uint64_t spare[4]

cdef struct RateTable:           # of one process: pointers into the region, bound once, then constant
    SharedHeader *header
    RateState *state
    RateTracker *entries
    uint32_t buckets

# Count one match of a rule with this rate, at the packet's own time (Packet.time_ns), as Suricata does. Any process, bounded time,
# never blocks.
cdef RateAnswer rate_count(RateTable *t, const Rate *rate, const FlowTuple *flow, uint64_t time_ns) noexcept nogil

cdef class Rates:
    """Python's hold on a rate table: opened from a file or anonymous."""
    cdef Region region
    cdef RateTable table
