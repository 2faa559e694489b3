"""Handing a packet over to a Python inspector.

What it owns
    The desks: which inspector has which queues. And the notes that workers leave for inspectors: with a packet that is queued
    again nothing comes along but its bytes and its mark, and the mark belongs to the operator.

Layout
    | SharedHeader 128 | NoteShared | notes of 64 bytes, a power of two ... |
    A note's place is its key, masked. A handed-over packet gets two: one under a key of the packet itself (its flow tuple,
    numbers, length, first bytes), one under a key of its flow and direction, which serves when the first was overwritten.

Invariants
    The verdict is NF_QUEUE with the queue's number in the upper 16 bits. Of an inspector's queues, a connection has one: the
    hash of its ends chooses. A note says who the packet belongs to and never what happens to it: an inspector that finds none
    gets the packet all the same, without sid and direction.

Who may write what
    Notes: any worker, under the note's sequence. `given`: any worker, atomically. Inspectors read.

What happens when full or broken
    A newer note overwrites an older one in its place. A worker killed while it writes leaves its place odd, which is then passed
    over and counted (`crowded`). No packet waits for any of this.
"""

from collections import namedtuple

from libc.string cimport memcpy, memset
from tigerfox.dataplane.atomic cimport (
    atomic_add, exchange_if, fence_acquire, fence_release, load_acquire, load_relaxed, store_release)
from tigerfox.dataplane.hashing cimport hash40, hash_ends
from tigerfox.dataplane.packet cimport VERDICT_QUEUE, payload_there
from tigerfox.dataplane.parse cimport parse_packet
from tigerfox.dataplane.shared cimport SHARED_HANDOVER, SharedHeader

import socket

from tigerfox.errors import UsageError

cdef enum:
    LAYOUT = 1
    NOTES_OFFSET = (sizeof(SharedHeader) + sizeof(NoteShared) + 63) // 64 * 64
    READ_TRIES = 4

DEFAULT_SLOTS = 16384


cdef inline uint64_t spread(uint64_t x) noexcept nogil:
    x ^= x >> 32
    x *= <uint64_t>0xd6e8feb86659fd93
    return x ^ x >> 32


cdef inline uint64_t flow_key(const Desks *d, const Packet *p) noexcept nogil:
    return hash40(<const uint8_t *>&p.flow, d.keys)


cdef uint64_t packet_key(const Desks *d, const Packet *p) noexcept nogil:
    cdef uint64_t first = 0
    cdef uint64_t numbers = <uint64_t>p.tcp_seq << 32 ^ <uint64_t>p.ip_len << 16 ^ p.ip_id ^ p.tcp_ack
    cdef uint32_t there = payload_there(p)
    memcpy(&first, p.data + p.payload_off if there else p.data, there if there < 8 else 8)
    return spread(flow_key(d, p) ^ spread(numbers + d.keys[0]) ^ spread(first + d.keys[1]))


cdef void note_write(Desks *d, uint64_t key, uint32_t sid, const Flow *f, FlowSide side) noexcept nogil:
    cdef Note *note = d.notes + (key & d.mask)
    cdef uint64_t sequence = load_relaxed(&note.sequence)
    if sequence & 1 or not exchange_if(&note.sequence, sequence, sequence + 1):
        atomic_add(&d.shared.crowded, 1)
        return
    fence_release()
    note.key, note.sid = key, sid
    note.flow_id, note.side = f.id if f != NULL else 0, <uint8_t>(side if f != NULL else NO_SIDE)
    store_release(&note.sequence, sequence + 2)


cdef bint note_read(const Desks *d, uint64_t key, Note *copy) noexcept nogil:
    cdef const Note *note = d.notes + (key & d.mask)
    cdef uint64_t sequence
    cdef int i
    for i in range(READ_TRIES):
        sequence = load_acquire(&note.sequence)
        memcpy(copy, note, sizeof(Note))
        fence_acquire()
        if not sequence & 1 and load_relaxed(&note.sequence) == sequence:
            return sequence != 0 and copy.key == key
    return False


cdef uint32_t handover_note(Desks *d, uint32_t inspector, const Packet *p, uint32_t sid, const Flow *f,
                            FlowSide side) noexcept nogil:
    cdef const Desk *desk = &d.desks[inspector]
    cdef uint32_t which = 0
    if desk.queues > 1:
        which = <uint32_t>(hash_ends(<const uint8_t *>&p.flow, d.keys) % desk.queues)
    note_write(d, packet_key(d, p), sid, f, side)
    note_write(d, flow_key(d, p), sid, f, side)
    atomic_add(&d.shared.given[desk.place + which], 1)
    return <uint32_t>VERDICT_QUEUE | (desk.first_queue + which) << 16 | desk.flag

# ---- Public API

Seen = namedtuple("Seen", "version proto src dst sport dport payload_at payload_length tcp_flags sid flow_id side")
"""What is known of a packet: fields of its headers; from the note ``sid`` (0: none was found), ``flow_id``, ``side`` (0 to the
server, 1 to the client, 2 not known). ``payload_at`` and ``payload_length`` are bytes that are there."""


cdef _address(const uint8_t *sixteen, int version):
    if version == 6:
        return socket.inet_ntop(socket.AF_INET6, sixteen[:16])
    return socket.inet_ntop(socket.AF_INET, sixteen[:4]) if version == 4 else ""


cdef class HandoverBook:
    """``HandoverBook.create(desks)``: for each inspector (first queue, number of queues, whether its policy is open), in the order
    in which rules number them. ``slots``: notes that are kept, a power of two.
    """

    @staticmethod
    def create(desks, uint64_t slots=DEFAULT_SLOTS):
        cdef HandoverBook book = HandoverBook.__new__(HandoverBook)
        cdef Desk *desk
        cdef uint32_t place = 0
        if len(desks) > INSPECTORS or sum(queues for _, queues, _ in desks) > DESK_QUEUES:
            raise UsageError(f"{len(desks)} inspectors are too many; start at most {INSPECTORS}, "
                             f"with {DESK_QUEUES} processes in all")
        if slots & (slots - 1) or not 1 < slots <= 1 << 24:
            raise ValueError(f"{slots} notes cannot be kept; choose a power of two up to {1 << 24}")
        book.region = Region.create(None, SHARED_HANDOVER, LAYOUT, NOTES_OFFSET + slots * sizeof(Note))
        book.desks.keys = book.region.header().keys
        book.desks.shared = <NoteShared *>(book.region.base + sizeof(SharedHeader))
        book.desks.notes = <Note *>(book.region.base + NOTES_OFFSET)
        book.desks.shared.slots, book.desks.mask = slots, slots - 1
        for first, queues, passes in desks:
            book.desks.count += 1
            desk = &book.desks.desks[book.desks.count]
            desk.first_queue, desk.queues, desk.place = first, queues, place
            desk.flag = QUEUE_BYPASS if passes else 0
            place += queues
        return book

    def given(self, int queue):
        """Packets that workers handed over to ``queue``; KeyError for a queue that no inspector has."""
        cdef uint32_t i
        cdef Desk *desk
        for i in range(1, self.desks.count + 1):
            desk = &self.desks.desks[i]
            if desk.first_queue <= <uint32_t>queue < desk.first_queue + desk.queues:
                return load_relaxed(&self.desks.shared.given[desk.place + <uint32_t>queue - desk.first_queue])
        raise KeyError(queue)

    @property
    def crowded(self):
        """Notes that were not written because their place was being written."""
        return self.desks.shared.crowded

    def read(self, const uint8_t[::1] data not None):
        """Return the Seen of a packet's bytes, from the IP header on."""
        cdef Packet p
        cdef Note note
        memset(&p, 0, sizeof(Packet))
        memset(&note, 0, sizeof(Note))
        p.caplen = p.wirelen = <uint32_t>data.shape[0]
        if p.caplen:
            p.data = &data[0]
            parse_packet(&p)
        if p.caplen and not note_read(&self.desks, packet_key(&self.desks, &p), &note) \
                and not note_read(&self.desks, flow_key(&self.desks, &p), &note):
            note.sid, note.flow_id, note.side = 0, 0, NO_SIDE
        flow_id = note.flow_id or hash_ends(<const uint8_t *>&p.flow, self.desks.keys) >> 11
        return Seen(p.flow.version, p.flow.proto, _address(p.flow.src, p.flow.version), _address(p.flow.dst, p.flow.version),
                    p.flow.sport, p.flow.dport, p.payload_off, payload_there(&p), p.tcp_flags, note.sid, flow_id, note.side)

    def note(self, int inspector, const uint8_t[::1] data not None, uint32_t sid=0):
        """Hand a packet over as a worker does, without a flow; return the verdict word. For tests and tools."""
        cdef Packet p
        memset(&p, 0, sizeof(Packet))
        p.data, p.caplen, p.wirelen = &data[0], <uint32_t>data.shape[0], <uint32_t>data.shape[0]
        parse_packet(&p)
        return handover_note(&self.desks, <uint32_t>inspector, &p, sid, NULL, <FlowSide>0)
