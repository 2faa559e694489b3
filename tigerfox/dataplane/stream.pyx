"""TCP streams put in order, so that what is inspected is what the end host reads (RFC 9293, 3.10.7.4)."""

# What it owns: nothing; Stream and window are the session's, in shared memory.
#
# Layout: positions are stream offsets of 64 bits, 0 the first byte behind the SYN, so neither wrapped sequence numbers nor a
#     moved window changes them:
#         window   | inspected before, STREAM_KEEP and all that is not confirmed | fresh |  gap  | run |        |
#                  base                                                     fresh_at  end_at        base + stream_room
#
# Invariants: base, held_at <= fresh_at <= end_at. Held are the bytes from the higher of the first two to end_at, and the runs,
#     which lie behind end_at, in no order, and may touch or overlap, for they hold the same bytes. The first copy of a byte
#     holds, because a second, different one never gets through (STREAM_OVERLAP): so it does not matter which one the
#     end host would prefer. A packet that is refused leaves nothing behind.
#     What the receiver has confirmed is what it has read: a packet with older bytes changes nothing for it. What it has not
#     confirmed stays, for it may have to be sent again, and is compared then: base <= confirmed, also at the depth. So no loss
#     behind here ends a stream. One byte before what was confirmed is a keep-alive. Only of a stream that was taken up in its
#     middle and whose receiver was never heard older bytes are let go of; sent again, they are STREAM_UNSEEN.
#     A FIN ends the stream where it stands, but data behind it is taken in like any other: the FIN may not have arrived.
#     Urgent data stays in its place, as in Suricata 7 ("inline"). End hosts differ: where SO_OOBINLINE is off, as usual, the
#     byte before the urgent pointer is missing from what is read. So it does not get here in protocols that are read
#     (detect.pyx, R_STREAM_URGENT).
#     Killed at any instruction, nothing of this breaks: bytes are written before the positions that show them, a run is whole
#     before it counts, and a moved window is a copy that does not overlap and then one store of `base`.
#
# Who may write what: the worker of the flow. Of the flow: TcpSide.next_seq.
#
# What happens when full or broken: more than STREAM_RUNS gaps, bytes that lie too far behind one, and bytes that do not fit beside
#     those that are not confirmed, are STREAM_LIMIT: not let through, the sender sends them again. Since a move does not
#     overlap, half of a stream's room can always be under way, up to all of it by chance; a receiver that confirms nothing
#     stops its sender there. Who may have more room than others: session.pyx. Bytes that the receiver confirms and that never
#     came by (a capture with gaps; packets that passed while failing open) are a hole: counted in `lost`; what lies before
#     it is let go of. Beyond the depth nothing is held, and what is held before it goes when the receiver has confirmed it.
#     Bytes in order cost one copy; kept bytes (4 KB, or what is under way) are moved once in STREAM_SLIDE bytes, or as many as are
#     kept. A small slide keeps a direction's window in the cache: with 100 connections 17 % of the time of an HTTP packet,
#     beside slots in different sets (session.pxd).

import time

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset
from tigerfox.dataplane.atomic cimport fence_release
from tigerfox.dataplane.flow cimport (
    FLOW_DEAF, FLOW_IGNORED, FLOW_INSPECT, FLOW_MIDSTREAM, FLOW_REPLIES_LEFT, Flow, Flows, FlowSide, TcpSide, TO_SERVER,
    flow_at, flow_expire, flow_orphan, flow_track, seq_from)
from tigerfox.dataplane.packet cimport VERDICT_UNSET, Packet, payload_there
from tigerfox.dataplane.parse cimport parse_packet
from tigerfox.dataplane.shared cimport Region, SharedHeader
from tigerfox.dataplane.tcp cimport TCP_RST, TCP_SYN

cdef enum:
    STREAM_SLIDE = 12288         # bytes in order in the window from which on it is moved

cdef struct Span:                # a packet's bytes in the stream
    const uint8_t *data
    int64_t start                # stream offset; < 0: before the beginning
    int64_t end
    int64_t confirmed            # up to where the receiver has confirmed; -1: not even the SYN
    bint heard                   # False: a connection taken up in its middle, and nothing came from the receiver


cdef inline uint64_t lesser(uint64_t a, uint64_t b) noexcept nogil:
    return a if a < b else b


cdef inline uint64_t greater(uint64_t a, uint64_t b) noexcept nogil:
    return a if a > b else b


cdef inline uint32_t seq_of(const Stream *s, uint64_t offset) noexcept nogil:
    return s.isn + 1 + <uint32_t>offset


cdef inline int64_t offset_of(const Stream *s, uint32_t seq) noexcept nogil:
    """The stream offset of a sequence number not 2**31 away from what is in order."""
    return <int64_t>s.end_at + seq_from(seq, seq_of(s, s.end_at))


cdef void stream_begin(Stream *s, uint32_t isn) noexcept nogil:
    cdef uint8_t wide = s.wide
    memset(s, 0, sizeof(Stream))
    s.isn, s.wide = isn, wide
    s.started = 1


# The window

cdef inline void window_write(Stream *s, uint8_t *window, const Span *x) noexcept nogil:
    memcpy(window + (<uint64_t>x.start - s.base), x.data, <size_t>(x.end - x.start))
    fence_release()


cdef uint64_t held_to(const Stream *s) noexcept nogil:
    """Behind the last byte that is held."""
    cdef uint64_t top = s.end_at
    cdef uint32_t i
    for i in range(s.run_count):
        top = greater(top, s.runs[i].end)
    return top


cdef bint window_move(Stream *s, uint8_t *window, uint64_t base) noexcept nogil:
    """Let go of what lies before `base` and is not new; False: the rest would be copied onto itself."""
    cdef uint64_t rest
    base = lesser(base, s.fresh_at)
    rest = held_to(s) - base
    if base <= s.base or rest > base - s.base:
        return False
    memcpy(window, window + (base - s.base), <size_t>rest)
    fence_release()
    s.base = base
    return True


cdef uint64_t window_needs(const Stream *s, const Span *x) noexcept nogil:
    """The first held byte that may still be compared, or that the new ones are judged with."""
    cdef int64_t start = <int64_t>s.end_at - STREAM_KEEP
    if x.confirmed < start:
        start = x.confirmed if x.heard else max(x.confirmed, <int64_t>s.end_at - STREAM_UNHEARD)
    return s.base if start < <int64_t>s.base else <uint64_t>start


cdef bint window_fits(Stream *s, uint8_t *window, const Span *x) noexcept nogil:
    """Make room for a packet, if need be by letting go of all that is not needed."""
    cdef uint64_t end = <uint64_t>x.end
    if end - s.base <= stream_room(s):
        return True
    return window_move(s, window, window_needs(s, x)) and end - s.base <= stream_room(s)


# Runs behind gaps

cdef inline void run_remove(Stream *s, uint32_t i) noexcept nogil:
    s.runs[i] = s.runs[s.run_count - 1]
    fence_release()
    s.run_count -= 1


cdef inline bint run_joins(StreamRun *run, uint64_t start, uint64_t end) noexcept nogil:
    """Let a run grow over held bytes that it touches; each store by itself leaves a true run."""
    if run.start > end or start > run.end:
        return False
    if start < run.start:
        run.start = start
    fence_release()
    if end > run.end:
        run.end = end
    fence_release()
    return True


cdef void runs_merge(Stream *s, uint32_t grown) noexcept nogil:
    """Let a run take in those that it has come to touch."""
    cdef uint32_t i = 0
    while i < s.run_count:
        if i == grown or not run_joins(&s.runs[grown], s.runs[i].start, s.runs[i].end):
            i += 1
            continue
        run_remove(s, i)
        if grown == s.run_count:
            grown = i
        i = 0


cdef void runs_add(Stream *s, uint64_t start, uint64_t end) noexcept nogil:
    """Note bytes behind a gap, which are written by then and for which there is room."""
    cdef uint32_t i
    for i in range(s.run_count):
        if run_joins(&s.runs[i], start, end):
            runs_merge(s, i)
            return
    s.runs[s.run_count].start, s.runs[s.run_count].end = start, end
    fence_release()
    s.run_count += 1


cdef bint runs_have_room(const Stream *s, const Span *x) noexcept nogil:
    """Whether a further run fits, or this one touches another."""
    cdef uint32_t i
    if s.run_count < STREAM_RUNS:
        return True
    for i in range(s.run_count):
        if s.runs[i].start <= <uint64_t>x.end and <uint64_t>x.start <= s.runs[i].end:
            return True
    return False


cdef void runs_absorb(Stream *s) noexcept nogil:
    """Move the end over the runs that it has reached."""
    cdef uint32_t i = 0
    while i < s.run_count:
        if s.runs[i].start > s.end_at:
            i += 1
            continue
        if s.runs[i].end > s.end_at:
            s.end_at = s.runs[i].end
            fence_release()
            run_remove(s, i)
            i = 0
        else:
            run_remove(s, i)


cdef bint runs_next(const Stream *s, uint64_t *start) noexcept nogil:
    """The first held byte behind the gap."""
    cdef uint32_t i
    cdef bint found = False
    for i in range(s.run_count):
        if not found or s.runs[i].start < start[0]:
            start[0] = s.runs[i].start
            found = True
    return found


# Comparison

cdef bint part_differs(const Stream *s, const uint8_t *window, const Span *x, uint64_t start, uint64_t end) noexcept nogil:
    """Whether the packet brings other bytes for start <= x < end, which are held."""
    cdef uint64_t first = greater(start, <uint64_t>x.start)
    cdef uint64_t last = lesser(end, <uint64_t>x.end)
    return first < last and memcmp(window + (first - s.base), x.data + (first - <uint64_t>x.start), <size_t>(last - first)) != 0


cdef bint span_differs(const Stream *s, const uint8_t *window, const Span *x) noexcept nogil:
    cdef uint32_t i
    if part_differs(s, window, x, stream_held_at(s), s.end_at):
        return True
    for i in range(s.run_count):
        if part_differs(s, window, x, s.runs[i].start, s.runs[i].end):
            return True
    return False


# One packet

cdef inline void span_cut(Span *x, int64_t start) noexcept nogil:
    """Leave out what lies before `start`."""
    if x.start < start:
        x.data += start - x.start
        x.start = start


cdef StreamAnswer span_keep(Stream *s, uint8_t *window, const Span *x) noexcept nogil:
    """Hold a packet's bytes, which contradict nothing."""
    cdef uint64_t start = <uint64_t>x.start
    cdef uint64_t end = <uint64_t>x.end
    if end <= s.end_at:
        return STREAM_NOTHING
    if not window_fits(s, window, x) or start > s.end_at and not runs_have_room(s, x):
        return STREAM_LIMIT
    window_write(s, window, x)
    if start > s.end_at:
        runs_add(s, start, end)
        return STREAM_WAITING
    s.end_at = end
    fence_release()
    runs_absorb(s)
    return STREAM_NEW


cdef inline void depth_leave(Stream *s, uint64_t to) noexcept nogil:
    """Go on beyond the depth, where nothing is held."""
    s.skipped += to - s.end_at
    s.end_at = s.fresh_at = to
    s.base = s.end_at
    s.run_count = 0


cdef StreamAnswer span_beyond(Stream *s, const Span *x, uint32_t depth) noexcept nogil:
    """Bytes beyond the depth, when all up to it was inspected. What was, stays until the receiver has it."""
    if x.end > <int64_t>s.end_at and (x.confirmed >= depth or not x.heard):
        depth_leave(s, <uint64_t>x.end)
    return STREAM_NOTHING


cdef StreamAnswer span_take(Stream *s, uint8_t *window, Span *x, uint32_t depth) noexcept nogil:
    """Any packet but one that simply goes on."""
    cdef int64_t held = <int64_t>stream_held_at(s)
    cdef int64_t old
    if x.end - x.start == 1 and x.end == x.confirmed or x.end <= 0:
        return STREAM_NOTHING
    span_cut(x, 0)
    old = x.end if x.end < held else held
    if depth and old > depth:
        old = depth                  # beyond it nothing was inspected, so there is nothing to compare with
    if x.start < old and old > x.confirmed:
        return STREAM_UNSEEN
    if x.end <= held:
        return STREAM_NOTHING
    span_cut(x, held)
    if span_differs(s, window, x):
        return STREAM_OVERLAP
    if depth and x.end > depth:
        if s.end_at >= depth:
            return span_beyond(s, x, depth)
        if x.start >= depth:
            return STREAM_NOTHING
        x.end = depth
    return span_keep(s, window, x)


cdef void hole_skip(Stream *s, const TcpSide *me, uint32_t depth) noexcept nogil:
    """Go on behind bytes that the receiver has and that never came by here, or were not looked at; one hole a packet."""
    cdef int64_t confirmed = offset_of(s, me.fin_seq if me.fin and seq_from(me.acked, me.fin_seq) > 0 else me.acked)
    cdef uint64_t to = <uint64_t>confirmed
    cdef uint64_t held = 0
    if confirmed <= <int64_t>s.end_at:
        return
    if depth and s.end_at >= depth:
        depth_leave(s, to)
        return
    if runs_next(s, &held) and held < to:
        to = held
    s.lost += to - s.end_at
    s.holed = 1
    s.end_at = s.fresh_at = s.held_at = to
    fence_release()
    if s.run_count == 0:
        s.base = to
    runs_absorb(s)


cdef inline StreamAnswer payload_take(Stream *s, uint8_t *window, Span *x, uint32_t depth) noexcept nogil:
    cdef uint64_t end = <uint64_t>x.end
    if s.run_count == 0:
        if s.end_at - s.base > STREAM_SLIDE:
            window_move(s, window, window_needs(s, x))
        if x.start == <int64_t>s.end_at and end - s.base <= stream_room(s) and (depth == 0 or end <= depth):
            window_write(s, window, x)
            s.end_at = end
            return STREAM_NEW
    return span_take(s, window, x, depth)


cdef inline void packet_span(const Stream *s, const Flow *f, FlowSide side, const Packet *p, Span *x) noexcept nogil:
    """Where a packet's payload belongs, as far as it was captured, and how far its receiver has come."""
    x.data = p.data + p.payload_off
    x.start = offset_of(s, p.tcp_seq + (p.tcp_flags & TCP_SYN != 0))
    x.end = x.start + payload_there(p)
    x.confirmed = offset_of(s, f.tcp[<int>side].acked)
    x.heard = not f.flags & FLOW_MIDSTREAM or f.packets[1 - <int>side] != 0


cdef inline void stream_ready(Stream *s, const TcpSide *me) noexcept nogil:
    """Begin, if need be; mend what a worker left that was killed in the middle. What was offered is no longer new."""
    if not s.started or s.isn != me.isn:
        stream_begin(s, me.isn)
    if s.base > s.end_at:
        s.base = s.end_at
    if s.offered or s.fresh_at < s.base:
        s.fresh_at = s.end_at
        s.offered = s.holed = 0


cdef inline StreamAnswer stream_offer(Stream *s, StreamAnswer answer) noexcept nogil:
    """New bytes are offered by the first packet from then on that may pass."""
    if s.fresh_at == s.end_at or answer > STREAM_WAITING:
        return answer
    s.offered = 1
    return STREAM_NEW


cdef StreamAnswer stream_take(Stream *s, uint8_t *window, Flow *f, FlowSide side, const Packet *p, uint32_t depth) noexcept nogil:
    cdef TcpSide *me = &f.tcp[<int>side]
    cdef StreamAnswer answer = STREAM_NOTHING
    cdef Span x
    if f.flags & (FLOW_INSPECT | FLOW_DEAF) != FLOW_INSPECT or not me.known:
        s.fresh_at = s.end_at
        return STREAM_UNKNOWN
    stream_ready(s, me)
    if f.flags & FLOW_IGNORED:
        return STREAM_OUTSIDE
    if p.tcp_flags & TCP_RST:
        return STREAM_NOTHING
    if seq_from(me.acked, seq_of(s, s.end_at)) > 0 and s.fresh_at == s.end_at:
        hole_skip(s, me, depth)
    packet_span(s, f, side, p, &x)
    if x.start < x.end:
        answer = payload_take(s, window, &x, depth)
    me.next_seq = seq_of(s, s.end_at)
    s.ended = me.fin and me.fin_seq == me.next_seq
    return stream_offer(s, answer)


# Public API

ANSWERS = ("nothing", "new", "waiting", "overlap", "outside", "limit", "unknown", "unseen")


cdef int _packet_fill(Packet *p, data, wirelen, now) except -1:
    """Parse a packet whose bytes the caller keeps."""
    cdef const uint8_t[::1] view = memoryview(data).cast("B")
    memset(p, 0, sizeof(Packet))
    p.data = &view[0] if view.shape[0] else NULL
    p.caplen = view.shape[0]
    p.wirelen = view.shape[0] if wirelen is None else wirelen
    p.time_ns = <uint64_t>round(now * 1000000000)
    p.verdict = VERDICT_UNSET
    parse_packet(p)
    return 0


cdef class StreamProbe:
    """One connection's two streams, fed with packets: ``StreamProbe(depth=0, midstream=False, flows=16)``.

    ``depth`` is the number of bytes of a direction that are inspected, 0: all. All memory is shared with children of a fork.
    """
    cdef readonly Flows flows
    cdef Region region
    cdef Stream *streams         # [2], by FlowSide
    cdef uint8_t *windows        # [2]
    cdef uint32_t depth

    def __cinit__(self, uint32_t depth=0, bint midstream=False, flows=16):
        self.flows = Flows.create(None, flows, midstream)
        self.depth = depth
        self.region = Region.create(None, 0, 0, sizeof(SharedHeader) + 2 * (sizeof(Stream) + STREAM_WINDOW))
        self.streams = <Stream *>(self.region.base + sizeof(SharedHeader))
        self.windows = <uint8_t *>&self.streams[2]
        memset(self.windows, 0xaa, 2 * STREAM_WINDOW)

    cdef Flow *_take(self, const Packet *p, FlowSide *side, StreamAnswer *answer) noexcept nogil:
        cdef Flow *f = flow_track(&self.flows.table, p, side)
        cdef uint8_t *window
        if f != NULL:
            window = self.windows + <int>side[0] * STREAM_WINDOW
            answer[0] = stream_take(&self.streams[<int>side[0]], window, f, side[0], p, self.depth)
        return f

    def pound(self, packets, now, uint64_t rounds, uint64_t step_ns=1000):
        """Track and take many packets, ``rounds`` times over, without Python between them; returns CPU nanoseconds a packet.

        ``packets`` is a list of bytes, each from its IP header on; ``now`` Unix time of the first in seconds, and every
        packet is ``step_ns`` later than the one before.
        """
        cdef Py_ssize_t count = len(packets)
        cdef Py_ssize_t i
        cdef uint64_t number
        cdef FlowSide side = TO_SERVER
        cdef StreamAnswer answer = STREAM_NOTHING
        cdef Flow gone
        cdef Packet *ready = <Packet *>calloc(count, sizeof(Packet))
        if ready == NULL:
            raise MemoryError
        try:
            for i in range(count):
                _packet_fill(&ready[i], packets[i], None, now)
            begun = time.process_time()
            with nogil:
                for number in range(rounds):
                    for i in range(count):
                        self._take(&ready[i], &side, &answer)
                        ready[i].time_ns += count * step_ns
                        flow_orphan(&self.flows.table)
                    flow_expire(&self.flows.table, ready[0].time_ns, &gone)
            return (time.process_time() - begun) * 1e9 / (rounds * count or 1)
        finally:
            free(ready)

    def take(self, data, now=0.0, wirelen=None):
        """Track a packet, given from its IP header on, and take its payload.

        Returns a dict: ``answer``, ``side`` (0 to the server), ``fresh`` and ``held`` bytes, ``at`` (stream offset of the fresh
        ones), ``ended``, ``holed``, ``skipped``, ``lost``, ``runs``. None where the packet has no flow.
        """
        cdef Packet packet
        cdef FlowSide side = TO_SERVER
        cdef StreamAnswer answer = STREAM_NOTHING
        cdef Flow *f
        _packet_fill(&packet, data, wirelen, now)
        with nogil:
            f = self._take(&packet, &side, &answer)
        return None if f == NULL else self._found(side, answer)

    cdef dict _found(self, FlowSide side, StreamAnswer answer):
        cdef Stream *s = &self.streams[<int>side]
        cdef uint8_t *window = self.windows + <int>side * STREAM_WINDOW
        cdef uint8_t *fresh = stream_at(s, window, s.fresh_at)
        cdef uint8_t *held = stream_at(s, window, stream_held_at(s))
        return {
            "answer": ANSWERS[<int>answer], "side": <int>side, "at": s.fresh_at, "ended": bool(s.ended), "holed": bool(s.holed),
            "fresh": fresh[: stream_fresh(s)] if answer == STREAM_NEW else b"", "held": held[: s.end_at - stream_held_at(s)],
            "skipped": s.skipped, "lost": s.lost, "runs": sorted((s.runs[i].start, s.runs[i].end) for i in range(s.run_count)),
        }

    def widen(self, side):
        """Let a direction ("c" or "s") hold as much as a wide one may."""
        self.streams[0 if side == "c" else 1].wide = 1

    def leave_replies(self):
        """From now on replies may pass that are not taken here."""
        flow_at(&self.flows.table, 0).flags |= FLOW_REPLIES_LEFT

    def flow(self):
        """The fields of the connection's flow, as of Flows.flow."""
        return self.flows.flow(0)
