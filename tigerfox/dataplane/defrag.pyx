"""Fragments put together again, so that nothing hides between them (RFC 791, 815, 1858, 3128, 5722, 8200)."""

# What it owns: the datagrams of one worker that have come in part, in memory of its own. It is lost with the worker: to
#     its successor, what is under way then is a datagram without its beginning, and never complete.
#
# Layout: a tracker for each datagram, found by a seeded hash over addresses, identification, protocol (IPv4 only: an IPv6
#     fragment need not repeat it) and version; chained by hash and by age. What has come is a list of runs of bytes. Of
#     the data only the first `keep` bytes are stored, behind the headers of the first fragment, so that the packet
#     lies there as it is judged:
#         slot, `slot` bytes:  | ...... headers of the first fragment | data, first `keep` bytes |
#                              0                                      DEFRAG_HEADER
#     Header rules see the first bytes of a packet only, so `keep` is the copy range of the rules; 65,535 keeps all.
#
# Invariants: runs ascend, do not touch, and end at 65,535 at most. A byte is written once: the first copy holds. Where a
#     fragment brings other bytes for what is there it is R_FRAG_OVERLAP, which the policy `unparsed` drops, so the end host
#     has no choice either. In IPv6 any overlap ends the datagram (RFC 5722), as do two ends, or data beyond the end, in both
#     families (as in Linux). A fragment that lies within what is there and says the same is a duplicate.
#     A datagram that is whole and passes is forgotten, for IPv4 identifications come back soon; not so one of which a fragment
#     was dropped (`held`): its end host still waits for that part, which must be the one that was judged.
#     A datagram has an answer for all that is still to come as soon as `refused` is set. An IPv4 middle fragment counts
#     to the last multiple of 8, as in Linux; an IPv6 one is no part of anything (RFC 8200).
#     What stands in bytes beyond `keep` is not compared, and no rule looks at it.
#
# Who may write what: its worker, everything.
#
# What happens when full or broken: the oldest datagram gives way, and what then comes of it is R_FRAG_LIMIT for as long
#     as an end host could wait for it: `gone` remembers by hash, so no flood wipes that memory out; it makes other
#     newcomers R_FRAG_LIMIT too, in the proportion of what gave way to DEFRAG_GONE. R_FRAG_LIMIT also: more runs than
#     DEFRAG_RANGES, headers over DEFRAG_HEADER, fragments within fragments. A datagram waits DEFRAG_SECONDS, not Linux'
#     30: who waits less than the end host leaves it alone with the last fragment.
#     Memory: 0.9 MB with header rules; pages that no fragment has touched cost nothing.

import os

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memmove, memset
from tigerfox.dataplane.check cimport TF_ASSERT
from tigerfox.dataplane.hashing cimport hash40
from tigerfox.dataplane.packet cimport (
    FRAG_MORE, PACKET_FRAGMENT, PACKET_INNER, PACKET_REASSEMBLED, VERDICT_UNSET, FlowTuple, Packet)
from tigerfox.dataplane.parse cimport parse_packet
from tigerfox.dataplane.reason cimport (
    R_FRAG_DROPPED, R_FRAG_END, R_FRAG_LIMIT, R_FRAG_OVERLAP, R_FRAG_OVERSIZE, R_NONE, Reason)
from tigerfox.dataplane.wire cimport load_be16, store_be16

from tigerfox.dataplane.reason import REASONS

cdef enum:
    LONGEST = 65535              # an IPv4 packet, and the payload of an IPv6 one
    EXTENSIONS = 8               # headers followed to the fragment header, as in parse.pyx
    NEXT_FRAGMENT = 44           # IPv6 next header
    NEXT_AH = 51

cdef struct Span:                # a fragment's place in its datagram
    const uint8_t *data
    uint32_t start
    uint32_t end
    uint32_t known               # data is there for start <= x < known
    bint more


cdef inline uint32_t lesser(uint32_t a, uint32_t b) noexcept nogil:
    return a if a < b else b


cdef inline uint32_t greater(uint32_t a, uint32_t b) noexcept nogil:
    return a if a > b else b


cdef inline uint8_t *data_of(const Defrag *d, const Tracker *t) noexcept nogil:
    return d.slots + <size_t>(t - d.trackers) * d.slot + DEFRAG_HEADER


# Trackers: found by hash, ordered by age

cdef inline uint16_t link_of(const Defrag *d, const Tracker *t) noexcept nogil:
    return <uint16_t>(t - d.trackers + 1)


cdef inline Tracker *linked(const Defrag *d, uint16_t link) noexcept nogil:
    return d.trackers + link - 1 if link else NULL


cdef inline uint64_t key_fill(const Defrag *d, const Packet *p, FlowTuple *key) noexcept nogil:
    """The key of a fragment's datagram; returns its hash."""
    memset(key, 0, sizeof(FlowTuple))
    memcpy(key.src, p.flow.src, 16)
    memcpy(key.dst, p.flow.dst, 16)
    key.sport, key.dport = <uint16_t>(p.ip_id >> 16), <uint16_t>p.ip_id
    key.version = p.flow.version
    key.proto = p.flow.proto if p.flow.version == 4 else 0
    return hash40(<const uint8_t *>key, d.keys)


cdef Tracker *tracker_find(const Defrag *d, const FlowTuple *key, uint64_t hashed) noexcept nogil:
    cdef Tracker *t = linked(d, d.heads[hashed % DEFRAG_TRACKERS])
    while t != NULL and (t.hash != hashed or memcmp(&t.key, key, sizeof(FlowTuple))):
        t = linked(d, t.next)
    return t


cdef void chain_leave(Defrag *d, const Tracker *t) noexcept nogil:
    cdef uint16_t *link = &d.heads[t.hash % DEFRAG_TRACKERS]
    while link[0] != link_of(d, t):
        TF_ASSERT(link[0] != 0)
        link = &linked(d, link[0]).next
    link[0] = t.next


cdef void age_leave(Defrag *d, const Tracker *t) noexcept nogil:
    if t.older:
        linked(d, t.older).newer = t.newer
    else:
        d.oldest = t.newer
    if t.newer:
        linked(d, t.newer).older = t.older
    else:
        d.newest = t.older


cdef void defrag_release(Defrag *d, Tracker *t) noexcept nogil:
    chain_leave(d, t)
    age_leave(d, t)
    t.next = d.free
    d.free = link_of(d, t)


cdef void trackers_expire(Defrag *d, uint32_t now) noexcept nogil:
    """Forget the datagrams whose time is over; one whose clock was far ahead of `now` goes too."""
    cdef Tracker *t = linked(d, d.oldest)
    while t != NULL and not -DEFRAG_SECONDS < <int32_t>(now - t.since) < DEFRAG_SECONDS:
        d.counts.expired += not t.refused
        defrag_release(d, t)
        t = linked(d, d.oldest)


cdef inline bint gave_way(const Defrag *d, uint64_t hashed, uint32_t now) noexcept nogil:
    cdef uint32_t since = d.gone[hashed % DEFRAG_GONE]
    return since and -DEFRAG_SECONDS < <int32_t>(now - since) < DEFRAG_SECONDS


cdef void oldest_displace(Defrag *d, uint32_t now) noexcept nogil:
    cdef Tracker *t = linked(d, d.oldest)
    d.gone[t.hash % DEFRAG_GONE] = now if now else 1
    d.counts.displaced += 1
    defrag_release(d, t)


cdef Tracker *tracker_new(Defrag *d, const FlowTuple *key, uint64_t hashed, uint32_t now) noexcept nogil:
    cdef Tracker *t
    cdef uint16_t *head = &d.heads[hashed % DEFRAG_TRACKERS]
    if not d.free:
        oldest_displace(d, now)
    t = linked(d, d.free)
    d.free = t.next
    t.key, t.hash, t.since, t.readable = key[0], hashed, now, d.keep
    t.sid = t.header = t.end = t.run_count = 0
    t.refused = t.has_end = t.held = 0
    t.next, head[0] = head[0], link_of(d, t)
    t.older, t.newer = d.newest, 0
    if d.newest:
        linked(d, d.newest).newer = link_of(d, t)
    else:
        d.oldest = link_of(d, t)
    d.newest = link_of(d, t)
    return t


cdef void defrag_refuse(Tracker *t, Reason reason, uint32_t sid) noexcept nogil:
    if not t.refused:
        t.refused, t.sid = <uint8_t>reason, sid


# One fragment against what is there

cdef bint span_fill(const Packet *p, Span *s) noexcept nogil:
    """Where a fragment belongs; False: no end host takes it for a part of anything."""
    cdef uint32_t length = p.ip_len - p.frag_data
    if p.frag_data == 0 or p.ip_len < p.frag_data or p.ip_len > p.wirelen:
        return False
    s.more = p.frag_bits & FRAG_MORE
    if s.more and p.flow.version == 4:
        length &= ~<uint32_t>7
    if length == 0 and (s.more or p.flow.version == 6) or s.more and length & 7:
        return False
    s.data, s.start, s.end = p.data + p.frag_data, p.frag_off, p.frag_off + length
    s.known = s.start + lesser(length, p.caplen - p.frag_data)
    return s.end + p.frag_data - (48 if p.flow.version == 6 else 0) <= LONGEST


cdef inline uint32_t last_byte(const Tracker *t) noexcept nogil:
    return t.runs[t.run_count - 1].end if t.run_count else 0


cdef Reason end_check(Tracker *t, const Span *s) noexcept nogil:
    """One end, and nothing beyond it."""
    if t.has_end and (s.end > t.end or not s.more and s.end != t.end) or not s.more and last_byte(t) > s.end:
        return R_FRAG_END
    if not s.more:
        t.end, t.has_end = s.end, 1
    return R_NONE


cdef bint span_inside(const Tracker *t, const Span *s) noexcept nogil:
    cdef uint32_t i
    for i in range(t.run_count):
        if t.runs[i].start <= s.start and s.end <= t.runs[i].end:
            return s.start < s.end
    return False


cdef bint span_overlaps(const Tracker *t, const Span *s) noexcept nogil:
    cdef uint32_t i
    for i in range(t.run_count):
        if t.runs[i].start < s.end and s.start < t.runs[i].end:
            return True
    return False


cdef bint span_differs(const Tracker *t, const Span *s, const uint8_t *data) noexcept nogil:
    """Whether it has other bytes for what is there, as far as both are known."""
    cdef uint32_t limit = lesser(s.known, t.readable)
    cdef uint32_t i, first, end
    for i in range(t.run_count):
        first, end = greater(s.start, t.runs[i].start), lesser(limit, t.runs[i].end)
        if first < end and memcmp(data + first, s.data + (first - s.start), end - first):
            return True
    return False


cdef Reason overlap_check(Defrag *d, const Tracker *t, const Span *s) noexcept nogil:
    """R_NONE: new, the same again, or, in IPv4, both without contradiction."""
    cdef bint differs
    if not span_overlaps(t, s):
        return R_NONE
    differs = span_differs(t, s, data_of(d, t))
    if span_inside(t, s) and not differs:
        d.counts.duplicates += 1
        return R_NONE
    d.counts.overlaps += 1
    return R_FRAG_OVERLAP if differs or t.key.version == 6 else R_NONE


cdef inline void part_copy(uint8_t *data, const Span *s, uint32_t first, uint32_t end) noexcept nogil:
    if first < end:
        memcpy(data + first, s.data + (first - s.start), end - first)


cdef void data_copy(const Defrag *d, Tracker *t, const Span *s) noexcept nogil:
    """Keep what lies between the runs; what was not captured ends what can be read of the datagram."""
    cdef uint8_t *data = data_of(d, t)
    cdef uint32_t limit = lesser(s.known, d.keep)
    cdef uint32_t at = s.start
    cdef uint32_t i
    for i in range(t.run_count):
        part_copy(data, s, at, lesser(limit, t.runs[i].start))
        at = greater(at, t.runs[i].end)
    part_copy(data, s, at, limit)
    if s.known < s.end:
        t.readable = lesser(t.readable, s.known)


cdef bint run_add(Tracker *t, uint32_t start, uint32_t end) noexcept nogil:
    """Join start <= x < end to the runs; False: one too many."""
    cdef uint32_t first = 0
    cdef uint32_t behind
    while first < t.run_count and t.runs[first].end < start:
        first += 1
    behind = first
    while behind < t.run_count and t.runs[behind].start <= end:
        behind += 1
    if behind == first and t.run_count == DEFRAG_RANGES:
        return False
    if behind > first:
        start, end = lesser(start, t.runs[first].start), greater(end, t.runs[behind - 1].end)
    memmove(t.runs + first + 1, t.runs + behind, (t.run_count - behind) * sizeof(Run))
    t.run_count = t.run_count + 1 - (behind - first)
    t.runs[first].start, t.runs[first].end = <uint16_t>start, <uint16_t>end
    return True


cdef uint32_t next_header_place(const Packet *p) noexcept nogil:
    """Where the header before an IPv6 fragment header names it."""
    cdef uint32_t place = 6
    cdef uint32_t at = 40
    cdef uint8_t kind = p.data[6]
    cdef int i
    for i in range(EXTENSIONS):
        if at + 8 >= p.frag_data or kind == NEXT_FRAGMENT:
            break
        place = at
        at += (p.data[at + 1] + 2) * 4 if kind == NEXT_AH else (p.data[at + 1] + 1) * 8
        kind = p.data[place]
    return place


cdef bint header_keep(const Defrag *d, Tracker *t, const Packet *p) noexcept nogil:
    """Keep the IP headers of the first fragment, in IPv6 without the fragment header; False: too long."""
    cdef uint32_t length = p.frag_data if p.flow.version == 4 else p.frag_data - 8
    cdef uint8_t *head = data_of(d, t) - length
    if length > DEFRAG_HEADER:
        return False
    memcpy(head, p.data, length)
    if p.flow.version == 6:
        head[next_header_place(p)] = p.data[length]
    t.header = length
    return True


cdef Reason span_place(Defrag *d, Tracker *t, const Packet *p, const Span *s) noexcept nogil:
    """Take in what is new of a fragment; R_FRAG_END, R_FRAG_LIMIT and IPv6 overlaps end its datagram."""
    cdef Reason found = end_check(t, s)
    cdef Reason overlap
    if found != R_NONE:
        return found
    overlap = overlap_check(d, t, s)
    if overlap != R_NONE and t.key.version == 6:
        return overlap
    data_copy(d, t, s)
    if s.start < s.end and not run_add(t, s.start, s.end) or s.start == 0 and not t.header and not header_keep(d, t, p):
        d.counts.rejected += 1
        return R_FRAG_LIMIT
    return overlap


cdef inline bint is_complete(const Tracker *t) noexcept nogil:
    return t.has_end and t.header and t.run_count == 1 and t.runs[0].start == 0 and t.runs[0].end == t.end


# The stage

cdef Reason defrag_add(Defrag *d, const Packet *p, uint32_t now, Piece *piece) noexcept nogil:
    cdef FlowTuple key
    cdef Span span
    cdef uint64_t hashed
    cdef Tracker *t
    cdef Reason found
    piece.tracker, piece.completes, piece.again, piece.sid = NULL, False, False, 0
    if not span_fill(p, &span):
        return R_NONE
    trackers_expire(d, now)
    hashed = key_fill(d, p, &key)
    t = tracker_find(d, &key, hashed)
    if t == NULL and gave_way(d, hashed, now):
        d.counts.rejected += 1
        return R_FRAG_LIMIT
    if t == NULL:
        t = tracker_new(d, &key, hashed, now)
    piece.tracker = t
    if t.refused:
        piece.sid = t.sid
        return <Reason>t.refused
    piece.again = is_complete(t)
    found = span_place(d, t, p, &span)
    if found == R_FRAG_END or found == R_FRAG_LIMIT or found != R_NONE and t.key.version == 6:
        defrag_refuse(t, found, 0)
        return found
    piece.completes = is_complete(t)
    d.counts.completed += piece.completes
    return found


cdef Reason defrag_whole(Defrag *d, Tracker *t, const Packet *p, Packet *whole) noexcept nogil:
    cdef uint8_t *head = data_of(d, t) - t.header
    cdef uint32_t length = t.header + t.end
    cdef bint fits = length <= LONGEST + (40 if t.key.version == 6 else 0)
    cdef Reason fault
    if t.key.version == 4:
        store_be16(head + 2, <uint16_t>length)
        store_be16(head + 6, load_be16(head + 6) & 0xc000)
    else:
        store_be16(head + 4, <uint16_t>(length - 40))
    whole.data, whole.wirelen = head, length if fits else t.header
    whole.caplen = lesser(whole.wirelen, t.header + lesser(t.end, t.readable))
    whole.time_ns, whole.number, whole.verdict, whole.match_count = p.time_ns, p.number, VERDICT_UNSET, 0
    fault = parse_packet(whole)
    if whole.flags & PACKET_FRAGMENT:
        fault = R_FRAG_LIMIT
    whole.flags |= PACKET_REASSEMBLED | (p.flags & PACKET_INNER)
    return fault if fits else R_FRAG_OVERSIZE


# Public API

cdef class Reassembly:
    """Datagrams in parts, at most DEFRAG_TRACKERS; of each the first ``keep`` bytes of data, 128 to 65,535, are kept.

    Raises MemoryError.
    """

    def __cinit__(self, uint32_t keep=DEFRAG_KEEP):
        cdef bytes keys = os.urandom(sizeof(self.defrag.keys))
        cdef int i
        memset(&self.defrag, 0, sizeof(Defrag))
        memcpy(self.defrag.keys, <const char *>keys, sizeof(self.defrag.keys))
        self.defrag.trackers = <Tracker *>calloc(DEFRAG_TRACKERS, sizeof(Tracker))
        self.defrag.heads = <uint16_t *>calloc(DEFRAG_TRACKERS, sizeof(uint16_t))
        self.defrag.gone = <uint32_t *>calloc(DEFRAG_GONE, sizeof(uint32_t))
        if self.defrag.trackers == NULL or self.defrag.heads == NULL or self.defrag.gone == NULL:
            raise MemoryError
        for i in range(DEFRAG_TRACKERS):
            self.defrag.trackers[i].next = <uint16_t>(i + 2 if i + 1 < DEFRAG_TRACKERS else 0)
        self.defrag.free = 1
        self.widen(keep)

    def __dealloc__(self):
        free(self.defrag.trackers)
        free(self.defrag.heads)
        free(self.defrag.gone)
        free(self.defrag.slots)

    cdef int widen(self, uint32_t keep) except -1:
        """Keep more of each datagram from now on; of those under way, what there is."""
        cdef Defrag *d = &self.defrag
        cdef uint32_t i, slot
        cdef uint8_t *slots
        keep = (lesser(greater(keep, DEFRAG_KEEP), LONGEST) + 63) & ~<uint32_t>63
        if keep <= d.keep:
            return 0
        slot = DEFRAG_HEADER + keep
        slots = <uint8_t *>calloc(DEFRAG_TRACKERS, slot)
        if slots == NULL:
            raise MemoryError
        if d.keep:
            for i in range(DEFRAG_TRACKERS):
                memcpy(slots + <size_t>i * slot, d.slots + <size_t>i * d.slot, d.slot)
        free(d.slots)
        d.slots, d.slot, d.keep = slots, slot, keep
        return 0

    def add(self, const uint8_t[::1] packet not None, uint32_t now=0, wirelen=None):
        """Parse and take in one fragment that came at ``now`` (Unix seconds), as the worker does for packets that pass.

        ``wirelen`` is its length in bytes where ``packet`` is only its beginning. Returns (reason by name, the whole
        packet as bytes or None), and forgets a datagram that is whole.
        """
        cdef Packet p, whole
        cdef Piece piece
        cdef Reason found
        memset(&p, 0, sizeof(p))
        memset(&whole, 0, sizeof(whole))
        p.data, p.caplen = &packet[0], <uint32_t>packet.shape[0]
        p.wirelen = p.caplen if wirelen is None else wirelen
        parse_packet(&p)
        if not p.flags & PACKET_FRAGMENT:
            raise ValueError("not a fragment: give a packet with an offset or with more fragments to come")
        found = defrag_add(&self.defrag, &p, now, &piece)
        if not piece.completes:
            return REASONS[<int>found][0], None
        if found == R_NONE:
            found = defrag_whole(&self.defrag, piece.tracker, &p, &whole)
        else:
            defrag_whole(&self.defrag, piece.tracker, &p, &whole)
        made = whole.data[:whole.caplen]
        defrag_release(&self.defrag, piece.tracker)
        return REASONS[<int>found][0], made

    @property
    def counts(self):
        """The DefragCounts by name, and ``used``: datagrams in parts now."""
        used, t = 0, linked(&self.defrag, self.defrag.oldest)
        while t != NULL:
            used, t = used + 1, linked(&self.defrag, t.newer)
        return dict(self.defrag.counts, used=used)
