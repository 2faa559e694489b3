# One flow, as it lies in the table: its ends, its age, the TCP state of both sides. Written by flow.pyx, tcp.pyx and stream.pyx.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.packet cimport FlowTuple

cdef enum FlowSide:              # of a packet; index of per-direction fields
    TO_SERVER = 0
    TO_CLIENT = 1

cdef enum FlowState:             # TCP by RFC 9293 as far as a middle box sees it; others use NEW and ESTABLISHED
    FLOW_NEW = 0                 # no SYN seen (midstream), or another protocol's first packets
    FLOW_SYN_SENT
    FLOW_SYN_RECEIVED
    FLOW_ESTABLISHED
    FLOW_CLOSING                 # a FIN was seen
    FLOW_CLOSED                  # FINs of both, or a RST that counts

cdef enum FlowFlag:
    FLOW_SEEN_SERVER = 1         # a packet to the server was seen
    FLOW_SEEN_CLIENT = 2
    FLOW_MIDSTREAM = 4           # TCP without its beginning
    FLOW_INSPECT = 8             # its stream is followed
    FLOW_DEAF = 16               # a bound was reached: its stream is no longer followed
    FLOW_OPENING = 32            # the handshake ended with its last packet, which carried nothing
    FLOW_OPENED = 64             # the handshake was seen to its end, or, of other protocols, both directions
    FLOW_IGNORED = 128           # its last packet is one that the receiver ignores: it has changed nothing
    FLOW_SPLIT = 256             # both ends sent a SYN without ACK
    FLOW_FORGOTTEN = 512         # its session gave way to another flow's: no payload of it passes any more
    FLOW_PASSED = 1024           # a pass rule of the generation in `bypassed` lets all of it through
    FLOW_REPLIES_LEFT = 2048     # its replies were left to the kernel once: their stream is no longer followed, and `acked` and
                                 # `edge` of the client may be older than what the server has said since
    FLOW_REPLIES_AWAY = 4096     # they may pass there just now

cdef enum FlowAge:               # the ageing lists; a flow is in one of them. 0: not in use
    AGE_TCP_NEW = 1
    AGE_TCP_ESTABLISHED
    AGE_TCP_CLOSED
    AGE_NEW                    # other protocols: packets of one direction only
    AGE_ESTABLISHED
    AGE_COUNT

cdef enum:
    FLOW_BITS = 26               # names kept of `flowbits`
    NO_SESSION = 0xffffffff

cdef struct TcpSide:             # what one end has sent
    uint32_t isn
    uint32_t next_seq            # behind the highest in-order byte that was inspected; stream.pyx moves it
    uint32_t high_seq            # behind the highest byte seen
    uint32_t acked               # the other end has confirmed up to here
    uint32_t edge                # it may send up to here: the highest that the other end has offered
    uint32_t fin_seq
    uint32_t pending             # sequence number of a SYN that would begin this side anew, should it be answered
    uint8_t wscale               # of the windows this end offers; TCP_NO_SCALE until both have sent the option
    uint8_t flags                # TCP flags seen, or-ed
    uint8_t fin                  # a FIN stands at fin_seq
    uint8_t known                # isn and next_seq are set
    uint8_t has_pending
    uint8_t spare[3]

cdef struct Flow:                # its worker only; 320 bytes, what a look-up reads in the first 64
    FlowTuple key                # as the client sent it: src is the client
    uint64_t hash
    uint32_t next                # in the hash chain: number + 1, 0 none
    uint32_t session             # number of its Session, NO_SESSION
    uint16_t flags               # FlowFlag
    uint8_t state                # FlowState
    uint8_t age                  # FlowAge
    uint8_t app                  # AppProto
    uint8_t app_tried[2]         # detection gave up on this side
    uint8_t bit_count
    uint64_t last_ns             # Unix time of the last packet
    uint64_t packets[2]          # by FlowSide
    uint64_t bytes[2]            # of IP packets
    uint32_t filed               # Unix seconds at which it was put at the end of its list
    uint32_t older               # number + 1, 0 none; likewise:
    uint32_t newer
    uint32_t bypassed            # generation of the rules under which nothing of it can match any more; 0: not so
    uint64_t id                  # for events; unique in the instance, below 2**53
    uint64_t since_ns            # Unix time of the first packet
    TcpSide tcp[2]               # by the side that sends: TO_SERVER is what the client sends
    uint8_t inspector            # lane: number of the Python inspector that is asked about all of it, 0 none
    uint8_t spare[3]
    uint32_t inspect_sid         # lane: of the rule that chose the inspector
    uint32_t bits[FLOW_BITS]     # BitStep.name of the bits that are set

# Suricata's `flow:established`: TCP has completed its handshake, before this packet or with data in it; others were seen in both
# directions, this packet counts.
cdef inline bint flow_established(const Flow *f) noexcept nogil:
    return f.flags & (FLOW_OPENED | FLOW_OPENING) == FLOW_OPENED

# Distance of two sequence numbers, negative where a stands before b (RFC 9293, 3.4).
cdef inline int32_t seq_from(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b)

cdef inline bint flow_bit_has(const Flow *f, uint32_t name) noexcept nogil:
    cdef int i
    for i in range(f.bit_count if f.bit_count < FLOW_BITS else FLOW_BITS):
        if f.bits[i] == name:
            return True
    return False

cdef inline void flow_bit_clear(Flow *f, uint32_t name) noexcept nogil:
    cdef int i
    for i in range(f.bit_count if f.bit_count < FLOW_BITS else FLOW_BITS):
        if f.bits[i] == name:
            f.bits[i] = f.bits[f.bit_count - 1]
            f.bit_count -= 1
            return
