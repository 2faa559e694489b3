"""The event ring of one worker: alerts and drops on their way to telemetry."""

# What it owns
#   Nothing; ring and slots lie in the worker's page (stats.pyx).
#
# Layout
#   | written | ... | slot 0 | slot 1 | ... | slot n-1 |     slots of 96 bytes, n a power of two
#   Event number i (from 0) lies in slot i mod n and carries sequence i + 1; 0 means: being written.
#
# Invariants
#   The worker writes sequence 0, then the event, then its sequence, then `written`. A reader copies between two looks at the
#   sequence and keeps the copy only when both say i + 1: what it hands out is whole, and every number is either
#   handed out or counted as lost.
#
# Who may write what
#   The worker that owns the page, everything. Readers write nothing and may map the page read-only.
#
# What happens when full or broken
#   The oldest event is overwritten; readers that come too late count it. A worker killed in the middle leaves sequence 0 in one
#   slot; its successor goes on with the same number. A reader that finds `written` behind its own place starts again there.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

import socket
from typing import NamedTuple

from tigerfox.dataplane.atomic cimport fence_acquire, fence_release, load_acquire, load_relaxed, store_relaxed, store_release


cdef void event_push(EventRing *ring, EventKind kind, const Packet *p, uint32_t rule, uint32_t generation, uint32_t sid,
                     uint8_t action, uint8_t reason) noexcept nogil:
    cdef uint64_t number = ring.written[0]
    cdef Event *e = ring.slots + (number & ring.mask)
    store_relaxed(&e.sequence, 0)
    fence_release()
    e.time_ns, e.number, e.flow, e.ip_len = p.time_ns, p.number, p.flow, p.ip_len
    e.rule, e.generation, e.sid = rule, generation, sid
    e.kind, e.action, e.reason, e.verdict = <uint8_t>kind, action, reason, p.verdict
    e.icmp_type, e.icmp_code, e.tcp_flags, e.ttl = p.icmp_type, p.icmp_code, p.tcp_flags, p.ttl
    store_release(&e.sequence, number + 1)
    store_release(ring.written, number + 1)


cdef bint _read(const EventRing *ring, uint64_t number, Event *copy) noexcept nogil:
    """Copy one event; False when another has taken its place."""
    cdef Event *e = ring.slots + (number & ring.mask)
    if load_acquire(&e.sequence) != number + 1:
        return False
    copy[0] = e[0]
    fence_acquire()
    return load_relaxed(&e.sequence) == number + 1


# Public API

class EventRecord(NamedTuple):
    """One event. ``sequence`` counts from 1; ``time_ns`` is Unix time; addresses are text ("" where there is no IP header).

    ``rule`` is the rule's number in the set of ``generation`` (NO_RULE: none); ``kind``, ``action``, ``reason`` and ``verdict``
    are the numbers of EventKind, RuleAction, Reason and Verdict.
    """

    sequence: int
    time_ns: int
    number: int
    src: str
    dst: str
    sport: int
    dport: int
    proto: int
    version: int
    rule: int
    generation: int
    sid: int
    ip_len: int
    kind: int
    action: int
    reason: int
    verdict: int
    icmp_type: int
    icmp_code: int
    tcp_flags: int
    ttl: int


ALERT = <int>EVENT_ALERT
DROP = <int>EVENT_DROP
NO_RULE = 0xffffffff


cdef _text(const uint8_t *address, int version):
    if version == 6:
        return socket.inet_ntop(socket.AF_INET6, address[:16])
    return socket.inet_ntop(socket.AF_INET, address[:4]) if version == 4 else ""


cdef _record(const Event *e):
    cdef const FlowTuple *f = &e.flow
    return EventRecord(e.sequence, e.time_ns, e.number, _text(f.src, f.version), _text(f.dst, f.version), f.sport, f.dport,
                       f.proto, f.version, e.rule, e.generation, e.sid, e.ip_len, e.kind, e.action, e.reason, e.verdict,
                       e.icmp_type, e.icmp_code, e.tcp_flags, e.ttl)


cdef EventReader event_reader(object owner, EventRing ring, bint from_start):
    cdef EventReader reader = EventReader.__new__(EventReader)
    cdef uint64_t written = load_acquire(ring.written)
    reader._ring = ring
    reader._owner = owner
    reader._next = written
    if from_start:
        reader._next = written - ring.mask - 1 if written > ring.mask else 0
    return reader


cdef class EventReader:
    """Made by ``WorkerPage.reader()``. ``lost`` counts the events that were overwritten before ``drain`` came to them."""

    def __init__(self):
        raise TypeError("an EventReader is made by WorkerPage.reader()")

    def drain(self, limit=4096):
        """Return up to ``limit`` new events, oldest first, as EventRecords."""
        cdef Event copy
        cdef uint64_t written
        records = []
        while len(records) < limit:
            written = load_acquire(self._ring.written)
            if self._next >= written:
                self._next = written
                break
            if written - self._next > self._ring.mask + 1:
                self.lost += written - self._next - self._ring.mask - 1
                self._next = written - self._ring.mask - 1
            if _read(&self._ring, self._next, &copy):
                records.append(_record(&copy))
            else:
                self.lost += 1
            self._next += 1
        return records

    @property
    def waiting(self):
        """Events written and not yet drained; more than the ring holds when some are lost already."""
        written = load_acquire(self._ring.written)
        return written - self._next if written > self._next else 0
