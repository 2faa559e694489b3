# Flows: both directions of a connection, their TCP state, and the memory that a connection's inspection needs. See flow.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from tigerfox.dataplane.atomic cimport prefetch
from tigerfox.dataplane.flowentry cimport (
    AGE_COUNT, AGE_ESTABLISHED, AGE_NEW, AGE_TCP_CLOSED, AGE_TCP_ESTABLISHED, AGE_TCP_NEW, FLOW_BITS, FLOW_CLOSED, FLOW_CLOSING,
    FLOW_DEAF, FLOW_ESTABLISHED, FLOW_FORGOTTEN, FLOW_IGNORED, FLOW_INSPECT, FLOW_MIDSTREAM, FLOW_NEW, FLOW_OPENED, FLOW_PASSED,
    FLOW_REPLIES_AWAY, FLOW_REPLIES_LEFT, FLOW_SEEN_CLIENT, FLOW_SEEN_SERVER, FLOW_SPLIT, FLOW_SYN_RECEIVED, FLOW_SYN_SENT,
    NO_SESSION, TO_CLIENT, TO_SERVER, Flow, FlowAge, FlowFlag, FlowSide, FlowState, TcpSide, flow_bit_clear, flow_bit_has,
    flow_established, seq_from)
from tigerfox.dataplane.hashing cimport hash_ends
from tigerfox.dataplane.packet cimport PACKET_BARE, PACKET_FRAGMENT, Packet
from tigerfox.dataplane.shared cimport Region, SharedHeader
from tigerfox.dataplane.tcp cimport PROTO_TCP

cdef enum:
    FLOW_ORPHANS = 64            # sessions to be released that are remembered
    FLOW_LINES = 4               # lines of a Flow that tracking a packet touches

cdef struct FlowCounts:          # since the reader took them
    uint64_t created
    uint64_t expired
    uint64_t evicted             # gave way to newer ones, embryonic first
    uint64_t evicted_open        # of these, connections that were established
    uint64_t rejected            # packets that found no place
    uint64_t bits_rejected       # flowbits beyond FLOW_BITS

cdef struct FlowList:
    uint32_t oldest              # number + 1, 0 none
    uint32_t newest
    uint32_t count
    uint32_t spare

cdef struct FlowShared:          # behind the header; its worker only
    uint32_t capacity            # creator, then constant; so is:
    uint32_t tag                 # upper bits of the flows' ids: the number of this table
    uint32_t changing            # 0, or the lists are not to be relied on
    uint32_t free                # first of the flows given back, by Flow.next
    uint32_t made                # flows 0..made-1 have been in use
    uint32_t used
    uint32_t orphan_first        # ring of sessions to be released
    uint32_t orphan_end
    uint64_t next_id
    FlowList lists[AGE_COUNT]
    uint32_t orphans[FLOW_ORPHANS]

cdef struct FlowTable:           # of one process: pointers into the region
    FlowCounts counts
    SharedHeader *header
    FlowShared *shared
    Flow *flows
    uint32_t *heads
    uint32_t capacity
    uint32_t mask
    uint32_t current             # number + 1 of the flow tracked last: it does not give way to the next
    uint32_t idle_at             # Unix second in which nothing was left to expire
    uint8_t midstream            # take TCP connections up in their middle; set at bind

# The flow of a parsed packet, made when there is none; NULL where the table has no place, and for what has no flow: packets
# without an IP header, fragments (the whole datagram has one), TCP without a whole header. `side` says the direction of the
# packet. Follows the TCP state: a packet's own state change counts for itself. Bounded time. The pointer is good until the
# second flow_track after it, or the next flow_expire.
cdef Flow *flow_track(FlowTable *t, const Packet *p, FlowSide *side) noexcept nogil

cdef inline bint has_flow(const Packet *p) noexcept nogil:
    if p.flow.version == 0 or p.flags & (PACKET_FRAGMENT | PACKET_BARE):
        return False
    return p.flow.proto != PROTO_TCP or p.payload_off >= p.l4_off + 20 and p.payload_off <= p.caplen

# The flow that a link names: its number + 1; NULL: none.
cdef inline Flow *linked(const FlowTable *t, uint32_t link) noexcept nogil:
    return t.flows + (link - 1) if 0 < link <= t.capacity else NULL


cdef inline void flow_near(const FlowTable *t, Packet *p) noexcept nogil:
    """Before a packet is tracked: work its hash out, and ask memory for the head of its chain."""
    p.flow_hash = 0
    if has_flow(p):
        p.flow_hash = hash_ends(<const uint8_t *>&p.flow, t.header.keys)
        prefetch(&t.heads[p.flow_hash & t.mask])


cdef inline const Flow *flow_nearer(const FlowTable *t, const Packet *p) noexcept nogil:
    """Some time later: the first flow of the chain, nearly always the packet's own, which is asked for; NULL: none."""
    cdef const Flow *f = linked(t, t.heads[p.flow_hash & t.mask]) if p.flow_hash else NULL
    cdef int line
    if f != NULL:
        for line in range(FLOW_LINES):
            prefetch(<const char *>f + 64 * line)
    return f

cdef bint flow_bit_set(FlowTable *t, Flow *f, uint32_t name) noexcept nogil   # False: no room, counted

# The next flow that is over (closed long enough, or not seen for its timeout), oldest first, taken out of the table and
# copied to `gone`; False when there is none now. `now_ns` Unix time. Call a few times a batch.
cdef bint flow_expire(FlowTable *t, uint64_t now_ns, Flow *gone) noexcept nogil

# A flow that had to give way has its session to be released: its number is here, NO_SESSION when there is none. Ask after
# every flow_track: when FLOW_ORPHANS wait, no flow with a session gives way any more.
cdef uint32_t flow_orphan(FlowTable *t) noexcept nogil

# For the owner of sessions: the flow with this number, NULL when it is not in use; and the number of a flow.
cdef Flow *flow_at(const FlowTable *t, uint32_t number) noexcept nogil
cdef inline uint32_t flow_number(const FlowTable *t, const Flow *f) noexcept nogil:
    return <uint32_t>(f - t.flows)

cdef class Flows:
    """Python's hold on a flow table: anonymous shared memory or a file."""
    cdef Region region
    cdef FlowTable table
