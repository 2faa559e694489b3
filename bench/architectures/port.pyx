"""One run's packets, rules and verdicts, the same for every engine.

What it owns
    The packets of a capture (Traffic) or the netlink queues of a live run, the ledger in which every verdict is written down,
    and the rule sets: the whole one, and its parts where a design divides the rules.

Layout
    An engine takes packets by feed_batch in its capture thread, parsed; judges them by judge_drops in any thread; and gives
    verdicts by outlet_give, an Outlet for each thread that answers. In memory a verdict is a mark by packet number; live it is
    a netlink message, built by the product's queue.

Invariants
    Every engine receives through the same calls: up to 64 packets a system call, however many the design takes at a time, so
    that what differs between two engines is the design. A verdict is written down once; a second one leaves MARK_TWICE.
    Packet.time_ns is the monotonic time of arrival: in a paced run the time at which the packet was due, whether or not the
    engine was there to take it.

Who may write what
    A feed: its capture thread. A Judge: its worker. The ledger: any answering thread, at the position that it drew.

What happens when full or broken
    Beyond `room` verdicts, order and lags are no longer recorded. A stopped feed ends like one that is empty: what was taken
    is still judged and answered.
"""

import array
import os

from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from tigerfox.dataplane.capture cimport Capture
from tigerfox.dataplane.image cimport ACTION_DROP, ACTION_REJECT_BOTH, CompiledRules
from tigerfox.dataplane.match cimport rules_match
from tigerfox.dataplane.image cimport DIM_COUNT
from tigerfox.dataplane.packet cimport PACKET_BARE, VERDICT_ACCEPT, VERDICT_DROP, VERDICT_UNSET, Verdict
from tigerfox.dataplane.parse cimport parse_packet
from tigerfox.dataplane.queue cimport (
    QUEUE_FAILED, QUEUE_LOST, queue_bind, queue_follow, queue_free, queue_poll, queue_receive, queue_send, queue_take, queue_verdict)
from tigerfox.dataplane.reason cimport CLASS_UNPARSED, R_NONE, Reason, reason_class

from bench.architectures.threads cimport *
from tigerfox.errors import UsageError

cdef enum:
    LAG_MOST = 0xffffffff        # nanoseconds; more is written down as this
    DUE_SOON_NS = 60_000         # below it a paced feed yields until the packet is due, above it sleeps

# ---- feed


cdef void packet_arrived(Packet *p, uint64_t at_ns) noexcept nogil:
    p.verdict = VERDICT_UNSET
    p.fault = R_NONE
    if not p.flags & PACKET_BARE:
        p.fault = <uint8_t>parse_packet(p)
    p.time_ns = at_ns


cdef int feed_batch(Feed *f, Packet *packets, int most, bint wait) noexcept nogil:
    if f.queue != NULL:
        return queue_batch(f, packets, most, wait)
    return memory_batch(f, packets, most, wait)


cdef int memory_batch(Feed *f, Packet *packets, int most, bint wait) noexcept nogil:
    cdef uint64_t due = f.total, place
    cdef int n = 0
    if f.next >= f.total or word_load(f.stopped):
        return FEED_END
    if f.interval_ns:
        due = packets_due(f, wait)
    while n < most and f.next < due:
        place = f.first + f.next * f.step
        packets[n].data = f.data[place % f.count]
        packets[n].caplen = packets[n].wirelen = f.lengths[place % f.count]
        packets[n].number = place
        packets[n].flags = 0
        packet_arrived(&packets[n], f.begin_ns + f.next * f.interval_ns if f.interval_ns else 0)
        f.next += 1
        n += 1
    return n


cdef uint64_t packets_due(Feed *f, bint wait) noexcept nogil:
    """How many packets have come by now; waits for one more than were taken where asked to."""
    cdef uint64_t now = now_ns(), at = f.begin_ns + f.next * f.interval_ns
    if f.begin_ns == 0:
        f.begin_ns = at = now
    while wait and now < at and not word_load(f.stopped):
        if at - now > DUE_SOON_NS:
            sleep_ns(at - now - DUE_SOON_NS)
        else:
            sched_yield()
        now = now_ns()
    if now < at:
        return f.next
    at = (now - f.begin_ns) // f.interval_ns + 1
    return at if at < f.total else f.total


cdef int queue_batch(Feed *f, Packet *packets, int most, bint wait) noexcept nogil:
    cdef int n = 0
    while f.at >= f.held:
        if word_load(f.stopped):
            return FEED_END
        f.at, f.held = 0, queue_receive(f.queue) if wait else queue_poll(f.queue)
        f.lost += f.held == QUEUE_LOST
        if f.held == QUEUE_FAILED:
            return FEED_END
        f.taken_ns = now_ns()
        if not wait and f.held <= 0:
            return 0
    while n < most and f.at < f.held:
        if message_taken(f, &packets[n]):
            packet_arrived(&packets[n], f.taken_ns)
            n += 1
        f.at += 1
    return n


cdef inline bint message_taken(Feed *f, Packet *p) noexcept nogil:
    """Messages that are no packet are the kernel's answers to verdicts."""
    cdef int kind = queue_take(f.queue, f.at, p)
    return kind == 1 or kind == 3 or kind == 5

# ---- judge


cdef bint judge_drops(Judge *j, Packet *p) noexcept nogil:
    """Whether a rule of this worker stops the packet, or nothing could be made of it."""
    cdef uint32_t key[DIM_COUNT]
    cdef int i
    j.judged += 1
    if j.turns:
        j.sum += work_turns(j.turns, p.number)
    if p.fault != R_NONE and reason_class(<Reason>p.fault) == CLASS_UNPARSED:
        return True
    rules_match(j.rules, p, key, NULL)
    for i in range(p.match_count):
        if ACTION_DROP <= j.rules.rules[p.matches[i]].action <= ACTION_REJECT_BOTH:
            return True
    return False

# ---- verdicts


cdef void outlet_give(Outlet *o, const Packet *p, bint drop, uint8_t mark) noexcept nogil:
    cdef Ledger *ledger = o.ledger
    cdef uint64_t place = long_add(&ledger.given, 1)
    cdef uint64_t lag = now_ns() - p.time_ns if p.time_ns else 0
    if place < ledger.room:
        ledger.order[place] = <uint32_t>p.number
        ledger.lags[place] = <uint32_t>(lag if lag < LAG_MOST else LAG_MOST)
    o.overflowed += mark == MARK_OVERFLOW
    if o.queue == NULL:
        if ledger.marks[p.number]:
            mark |= MARK_TWICE
        ledger.marks[p.number] |= <uint8_t>(MARK_GIVEN | mark | (MARK_DROP if drop else 0))
        return
    if not o.queue.disordered:
        queue_follow(o.queue, <uint32_t>p.number)
    queue_verdict(o.queue, <uint32_t>p.number, <Verdict>(VERDICT_DROP if drop else VERDICT_ACCEPT))
    o.pending += 1
    if o.pending >= o.most:
        outlet_flush(o)


cdef void outlet_flush(Outlet *o) noexcept nogil:
    if o.queue != NULL and o.pending:
        o.failed += queue_send(o.queue) != 0
        o.pending = 0

# ---- Public API


cdef class Traffic:
    """The IP packets of a capture in memory, aligned and one behind the other."""
    cdef uint8_t **data
    cdef uint32_t *lengths
    cdef uint8_t *bytes
    cdef readonly uint32_t count

    def __init__(self, path):
        found = [data for _, _, data, _, bare in Capture(path) if not bare]
        if not found:
            raise UsageError(f"{path}: no IP packet in it. Give a capture with some.")
        self.count = len(found)
        self.data = <uint8_t **>calloc(self.count, sizeof(uint8_t *))
        self.lengths = <uint32_t *>calloc(self.count, sizeof(uint32_t))
        self.bytes = <uint8_t *>malloc(sum((len(one) + 63) & ~63 for one in found))
        if self.data == NULL or self.lengths == NULL or self.bytes == NULL:
            raise MemoryError
        at = 0
        for i, one in enumerate(found):
            self.data[i], self.lengths[i] = self.bytes + <size_t>at, len(one)
            memcpy(self.data[i], <const uint8_t *>one, len(one))
            at += (len(one) + 63) & ~63

    def __dealloc__(self):
        free(self.data)
        free(self.lengths)
        free(self.bytes)


def array_of(code, count):
    """An array of zeros."""
    return array.array(code, bytes(count * array.array(code).itemsize))


cdef class Rig:
    """``Rig(whole, parts)`` with CompiledRules; then ``memory`` or ``live``, then one engine's run.

    ``turns`` of extra work are done a packet; divided by the workers where the design divides the rules.
    """

    def __init__(self, CompiledRules whole not None, parts, turns=0):
        self.whole, self.parts, self.turns = whole, list(parts), turns

    def memory(self, Traffic traffic not None, uint64_t total, feeds=1, double rate=0):
        """Packets of a capture, over and over, ``total`` in all; ``rate`` packets a second, 0: as fast as they are taken.

        With several feeds packet n is handed out by feed n modulo their number.
        """
        cdef int i
        self._ledger(total)
        self.marks_hold = array_of("B", total)
        cdef uint8_t[::1] marks = self.marks_hold
        self.ledger.marks = &marks[0]
        self.traffic, self.feed_count = traffic, feeds
        for i in range(feeds):
            memset(&self.feeds[i], 0, sizeof(Feed))
            self.feeds[i].data, self.feeds[i].lengths, self.feeds[i].count = traffic.data, traffic.lengths, traffic.count
            self.feeds[i].first, self.feeds[i].step = i, feeds
            self.feeds[i].total = (total - i + feeds - 1) // feeds
            self.feeds[i].interval_ns = <uint64_t>(1e9 * feeds / rate) if rate else 0
            self.feeds[i].stopped = &self.stop_word
        return self

    def live(self, sockets, uint64_t room=2_000_000):
        """The queues of QueueSockets that are bound; ``room`` verdicts are recorded."""
        cdef int i
        self._ledger(room)
        self.feed_count = len(sockets)
        for i, held in enumerate(sockets):
            memset(&self.feeds[i], 0, sizeof(Feed))
            if queue_bind(&self.queues[i], held.fileno(), held.number, held.copy_range):
                raise MemoryError
            self.feeds[i].queue = &self.queues[i]
            self.feeds[i].stopped = &self.stop_word
        return self

    def _ledger(self, uint64_t room):
        memset(&self.ledger, 0, sizeof(Ledger))
        self.order_hold, self.lags_hold = array_of("I", room), array_of("I", room)
        cdef uint32_t[::1] order = self.order_hold
        cdef uint32_t[::1] lags = self.lags_hold
        self.ledger.order, self.ledger.lags, self.ledger.room = &order[0], &lags[0], room

    cdef void judge_bind(self, Judge *j, int worker, int workers, bint partition):
        """Give a worker its rules: all of them, or its share."""
        cdef CompiledRules rules = self.parts[worker] if partition else self.whole
        memset(j, 0, sizeof(Judge))
        j.rules = &rules.rules
        j.turns = self.turns // workers if partition else self.turns

    cdef int outlet_bind(self, Outlet *o, int most, int feed) except -1:
        """Give an answering thread its outlet; ``feed`` >= 0: it is the only one that answers this queue, in order."""
        memset(o, 0, sizeof(Outlet))
        o.ledger, o.most = &self.ledger, most
        if self.feeds[0].queue == NULL:
            return 0
        if feed >= 0:
            o.queue = &self.queues[feed]
            return 0
        o.queue = &self.answers[self.answer_count]
        if queue_bind(o.queue, self.queues[0].fd, self.queues[0].number, self.queues[0].copy_range):
            raise MemoryError
        o.queue.disordered = 1
        self.answer_count += 1
        return 0

    def __dealloc__(self):
        cdef int i
        for i in range(self.feed_count):
            if self.feeds[i].queue != NULL:
                queue_free(&self.queues[i])
        for i in range(self.answer_count):
            queue_free(&self.answers[i])

    def stop(self):
        """End the run as if no more packets came; from any thread."""
        word_store(&self.stop_word, 1)

    @property
    def taken(self):
        """Packets that the feeds handed out, in memory."""
        return sum(self.feeds[i].next for i in range(self.feed_count))

    @property
    def given(self):
        """Verdicts given so far."""
        return long_load(&self.ledger.given)

    @property
    def lost(self):
        """ENOBUFS answers of the queues."""
        return sum(self.feeds[i].lost for i in range(self.feed_count))

    @property
    def marks(self):
        """Mark bits by packet number (in memory)."""
        return bytes(self.marks_hold)

    @property
    def lags(self):
        """Nanoseconds from arrival to verdict, in the order of verdicts."""
        return self.lags_hold[:min(self.given, self.ledger.room)]

    def disordered(self):
        """Verdicts given after one on a later packet of the same feed."""
        cdef uint64_t seen = min(self.given, self.ledger.room), i
        cdef uint64_t late = 0
        cdef uint32_t highest[MOST_WORKERS]
        cdef uint32_t feed, feeds = self.feed_count if self.ledger.marks != NULL else 1
        memset(highest, 0, sizeof(highest))
        for i in range(seen):
            feed = self.ledger.order[i] % feeds
            if self.ledger.order[i] < highest[feed]:
                late += 1
            else:
                highest[feed] = self.ledger.order[i]
        return late


def time_turns(uint32_t turns):
    """Nanoseconds that ``turns`` of extra work take."""
    cdef uint64_t begin = now_ns(), x
    with nogil:
        x = work_turns(turns, 1)
    return now_ns() - begin + (x == 0)


MARKS = {"drop": MARK_DROP, "given": MARK_GIVEN, "overflow": MARK_OVERFLOW, "twice": MARK_TWICE, "late": MARK_LATE}
