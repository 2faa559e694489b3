# Handing a packet over to a Python inspector: which queue it goes to, and a note of what is known about it. See handover.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.flowentry cimport Flow, FlowSide
from tigerfox.dataplane.image cimport INSPECTORS
from tigerfox.dataplane.packet cimport Packet
from tigerfox.dataplane.shared cimport Region

cdef enum:
    DESK_QUEUES = 256            # of all inspectors together
    NO_SIDE = 2                  # Note.side: the packet has no flow
    QUEUE_BYPASS = 0x8000        # linux/netfilter.h, NF_VERDICT_FLAG_QUEUE_BYPASS: with no listener the packet passes

cdef struct Note:                # 64 bytes; any worker, under sequence
    uint64_t sequence            # odd while it is written
    uint64_t key                 # of the packet, or of its flow and direction
    uint64_t flow_id             # 0: no flow
    uint32_t sid                 # of the rule that chose the inspector
    uint8_t side                 # FlowSide, or NO_SIDE
    uint8_t spare[35]

cdef struct NoteShared:          # behind the header
    uint64_t slots               # creator, then constant; a power of two
    uint64_t crowded             # workers: notes not written because another worker was writing in their place
    uint64_t given[DESK_QUEUES]  # workers, atomically: packets handed over, by place of the queue

cdef struct Desk:                # one inspector
    uint32_t first_queue
    uint32_t queues
    uint32_t flag                # QUEUE_BYPASS where its policy is open
    uint32_t place               # of its first queue in `given`

cdef struct Desks:               # of one process; set at bind, then constant
    uint32_t count
    Desk desks[INSPECTORS + 1]   # from 1 on, as rules number them
    const uint64_t *keys
    NoteShared *shared
    Note *notes
    uint64_t mask

# Leave a note for the inspector and count the packet; returns the whole verdict word. `f` may be NULL.
cdef uint32_t handover_note(Desks *d, uint32_t inspector, const Packet *p, uint32_t sid, const Flow *f,
                            FlowSide side) noexcept nogil

cdef class HandoverBook:
    """Python's hold on the desks and their notes: anonymous memory, shared through fork."""
    cdef Region region
    cdef Desks desks
