# The event ring of one worker: alerts and drops on their way to telemetry. See events.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.packet cimport FlowTuple, Packet

cdef enum EventKind:
    EVENT_ALERT = 1
    EVENT_DROP = 2

cdef struct Event:               # 96 bytes
    uint64_t sequence            # place in the stream + 1, written last
    uint64_t time_ns             # Unix time of the packet
    uint64_t number              # packet id of the queue, or 1-based place in the capture
    FlowTuple flow
    uint32_t rule                # rule number in the set of `generation`; 0xffffffff: none
    uint32_t generation          # of the rule set
    uint32_t sid                 # of the rule, or of what had caused a block
    uint32_t ip_len
    uint8_t kind                 # EventKind
    uint8_t action               # of the rule: RuleAction
    uint8_t reason               # Reason
    uint8_t verdict              # Verdict
    uint8_t icmp_type
    uint8_t icmp_code
    uint16_t tcp_flags
    uint8_t ttl
    uint8_t spare[7]

cdef struct EventRing:
    uint64_t *written            # in shared memory: events ever written; the worker alone writes it
    Event *slots
    uint64_t mask                # slots - 1

# Write one event over the oldest. The worker that owns the ring, nobody else.
cdef void event_push(EventRing *ring, EventKind kind, const Packet *p, uint32_t rule, uint32_t generation, uint32_t sid,
                     uint8_t action, uint8_t reason) noexcept nogil

cdef class EventReader:
    """Reads a ring that its worker may be writing at the same time."""
    cdef EventRing _ring
    cdef object _owner               # keeps the memory mapped
    cdef uint64_t _next              # place in the stream
    cdef readonly uint64_t lost      # events overwritten before they were read

# A reader of `ring`, whose memory `owner` keeps; it begins with the oldest event that is still there, or with the next to come.
cdef EventReader event_reader(object owner, EventRing ring, bint from_start)
