"""Flows: who talks to whom, in which direction, and how far the TCP connection has come."""

# What it owns: the flow table of one queue, in shared memory: a worker that dies leaves its flows to its successor.
#
# Layout: | header, 128 | FlowShared | heads, a power of two of them, at least `capacity` | flows, 320 bytes each, on lines |
#     Found by a seeded hash over the two ends in canonical order, chained. Every flow stands in one ageing list of those
#     whose timeout is the same, sorted by `filed`: seen again within a second it stays where it is, later it goes to
#     the end. So a packet touches its flow's own lines only, and the first of a list is the oldest, to a second.
#
# Invariants: numbers are stored + 1, so 0 is none. Every number that is read from the region is checked before use, and a
#     walk along a chain ends after CHAIN_LIMIT steps (with a seeded hash and as many heads as flows, 16 is rare).
#     `changing` is set while lists are being changed, and `age` of the flow being made or given back is 0: a successor
#     that finds `changing` set builds all lists again from the flows whose `age` says that they are in use, so that
#     only the flow under way is lost. What tracking writes into an existing flow is harmless half done: the packet was not
#     settled and comes again.
#     What a TCP packet does to the state stands in tcp.pyx.
#
# Who may write what: its worker, everything; the supervisor makes the file.
#
# What happens when full or broken: half-open TCP connections and flows of one direction give way first, the oldest of
#     them, then closed connections, then the oldest of the others. Its session becomes an orphan, which the caller
#     releases. Timeouts are Suricata's defaults.

import os

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcpy, memset
from tigerfox.dataplane.atomic cimport fence_release
from tigerfox.dataplane.hashing cimport hash_ends
from tigerfox.dataplane.packet cimport VERDICT_UNSET, FlowTuple, Packet
from tigerfox.dataplane.parse cimport parse_packet
from tigerfox.dataplane.reason cimport R_NONE
from tigerfox.dataplane.shared cimport SHARED_FLOWS, Region, SharedHeader
from tigerfox.dataplane.tcp cimport (
    PROTO_TCP, TCP_ACK, TCP_RST, TCP_SYN, tcp_first, tcp_next, tcp_of_server, tcp_reopen, tcp_reopens)

from tigerfox.errors import SharedMemoryError

cdef enum:
    LAYOUT = 1
    SHARED_OFFSET = sizeof(SharedHeader)
    HEADS_OFFSET = SHARED_OFFSET + sizeof(FlowShared)
    LINE = 64
    SMALLEST = 16                # flows
    LARGEST = 1 << 26
    CHAIN_LIMIT = 256
    REFILE_LIMIT = 16            # flows put back by one flow_expire
    ID_BITS = 40                 # of a flow's id: counted; above them the table's number
    SECOND = 1000000000

cdef uint32_t[7] TIMEOUTS        # seconds, by FlowAge
TIMEOUTS[:] = [0, 60, 600, 60, 30, 300, 0]


# Numbers, links and lists

cdef inline uint32_t link_of(const FlowTable *t, const Flow *f) noexcept nogil:
    return flow_number(t, f) + 1


cdef inline void change_begin(FlowTable *t) noexcept nogil:
    t.shared.changing = 1
    fence_release()


cdef inline void change_end(FlowTable *t) noexcept nogil:
    fence_release()
    t.shared.changing = 0


cdef void age_join(FlowTable *t, Flow *f, uint8_t age, uint32_t now) noexcept nogil:
    """Put a flow at the end of a list."""
    cdef FlowList *kept = &t.shared.lists[age]
    cdef Flow *last = linked(t, kept.newest)
    f.older, f.newer, f.filed, f.age = kept.newest, 0, now, age
    if last != NULL:
        last.newer = link_of(t, f)
    else:
        kept.oldest = link_of(t, f)
    kept.newest = link_of(t, f)
    kept.count += 1


cdef void age_leave(FlowTable *t, Flow *f) noexcept nogil:
    cdef FlowList *kept = &t.shared.lists[f.age if f.age < AGE_COUNT else 0]
    cdef Flow *older = linked(t, f.older)
    cdef Flow *newer = linked(t, f.newer)
    if older != NULL:
        older.newer = f.newer
    else:
        kept.oldest = f.newer
    if newer != NULL:
        newer.older = f.older
    else:
        kept.newest = f.older
    kept.count -= 1


cdef void chain_leave(FlowTable *t, const Flow *f) noexcept nogil:
    cdef uint32_t *link = &t.heads[f.hash & t.mask]
    cdef Flow *at
    cdef int steps
    for steps in range(CHAIN_LIMIT):
        at = linked(t, link[0])
        if at == NULL:
            return
        if at == f:
            link[0] = f.next
            return
        link = &at.next


cdef inline uint8_t age_of(const Flow *f) noexcept nogil:
    """The list in which a flow belongs by its state."""
    cdef bint both = (f.flags & (FLOW_SEEN_SERVER | FLOW_SEEN_CLIENT)) == (FLOW_SEEN_SERVER | FLOW_SEEN_CLIENT)
    if f.key.proto != PROTO_TCP:
        return AGE_ESTABLISHED if both else AGE_NEW
    if f.state == FLOW_CLOSED or f.state == FLOW_CLOSING and f.tcp[0].fin and f.tcp[1].fin:
        return AGE_TCP_CLOSED
    if f.state >= FLOW_ESTABLISHED or f.state == FLOW_NEW and both:
        return AGE_TCP_ESTABLISHED
    return AGE_TCP_NEW


cdef inline void flow_file(FlowTable *t, Flow *f, uint32_t now) noexcept nogil:
    """Keep a flow in the right list, not too far from its end."""
    cdef uint8_t age = age_of(f)
    if age == f.age and f.filed == now:
        return
    change_begin(t)
    age_leave(t, f)
    age_join(t, f, age, now)
    change_end(t)


# Orphans: sessions of flows that are gone

cdef inline bint orphans_full(const FlowTable *t) noexcept nogil:
    return t.shared.orphan_end - t.shared.orphan_first >= FLOW_ORPHANS


cdef bint orphan_add(FlowTable *t, Flow *f) noexcept nogil:
    """Remember a flow's session; False: no room. The caller has begun the change."""
    cdef FlowShared *s = t.shared
    if f.session == NO_SESSION:
        return True
    if orphans_full(t):
        return False
    s.orphans[s.orphan_end % FLOW_ORPHANS] = f.session
    fence_release()
    s.orphan_end += 1
    fence_release()
    f.session = NO_SESSION
    return True


cdef uint32_t flow_orphan(FlowTable *t) noexcept nogil:
    cdef FlowShared *s = t.shared
    cdef uint32_t session = NO_SESSION
    if s.orphan_end != s.orphan_first:
        session = s.orphans[s.orphan_first % FLOW_ORPHANS]
        s.orphan_first += 1
    return session


# Flows made and given back

cdef void flow_release(FlowTable *t, Flow *f) noexcept nogil:
    change_begin(t)
    chain_leave(t, f)
    age_leave(t, f)
    f.age = 0
    f.next = t.shared.free
    t.shared.free = link_of(t, f)
    t.shared.used -= 1
    change_end(t)


cdef inline Flow *older_of(Flow *a, Flow *b) noexcept nogil:
    if a == NULL or b == NULL:
        return b if a == NULL else a
    return b if <int32_t>(b.filed - a.filed) < 0 else a


cdef inline Flow *oldest_in(const FlowTable *t, int age) noexcept nogil:
    """The oldest of a list, but not the flow that was tracked just before."""
    cdef Flow *f = linked(t, t.shared.lists[age].oldest)
    if f != NULL and link_of(t, f) == t.current:
        f = linked(t, f.newer)
    return f


cdef bint flow_evict(FlowTable *t) noexcept nogil:
    cdef Flow *f = older_of(oldest_in(t, AGE_TCP_NEW), oldest_in(t, AGE_NEW))
    if f == NULL:
        f = oldest_in(t, AGE_TCP_CLOSED)
    if f == NULL:
        f = older_of(oldest_in(t, AGE_TCP_ESTABLISHED), oldest_in(t, AGE_ESTABLISHED))
    if f == NULL:
        return False
    change_begin(t)
    if not orphan_add(t, f):
        change_end(t)
        return False
    t.counts.evicted += 1
    t.counts.evicted_open += f.flags & FLOW_OPENED != 0
    flow_release(t, f)
    return True


cdef void flow_clear(FlowTable *t, Flow *f, const FlowTuple *key, uint64_t time_ns, bint turned) noexcept nogil:
    """A flow's beginning; `turned`: the packet's source is the server. Its place in chain and list stays."""
    memcpy(&f.key, key, sizeof(FlowTuple))
    if turned:
        memcpy(f.key.src, key.dst, 16)
        memcpy(f.key.dst, key.src, 16)
        f.key.sport, f.key.dport = key.dport, key.sport
    f.session = NO_SESSION
    f.flags = f.state = f.app = f.app_tried[0] = f.app_tried[1] = f.bit_count = f.inspector = 0
    f.bypassed = 0
    f.packets[0] = f.packets[1] = f.bytes[0] = f.bytes[1] = 0
    f.id = <uint64_t>t.shared.tag << ID_BITS | t.shared.next_id & ((<uint64_t>1 << ID_BITS) - 1)
    t.shared.next_id += 1
    f.last_ns = f.since_ns = time_ns
    memset(f.tcp, 0, sizeof(f.tcp))
    t.counts.created += 1


cdef Flow *flow_take(FlowTable *t) noexcept nogil:
    """A flow that is not in use; the caller has begun the change."""
    cdef FlowShared *s = t.shared
    cdef Flow *f = linked(t, s.free)
    if f != NULL:
        s.free = f.next
    elif s.made < t.capacity:
        f = t.flows + s.made
        s.made += 1
    return f


cdef Flow *flow_make(FlowTable *t, const FlowTuple *key, uint64_t hashed, uint64_t time_ns, bint turned) noexcept nogil:
    cdef uint32_t *head = &t.heads[hashed & t.mask]
    cdef Flow *f
    if t.shared.used >= t.capacity and not flow_evict(t):
        return NULL
    change_begin(t)
    f = flow_take(t)
    if f != NULL:
        f.age = 0
        fence_release()
        flow_clear(t, f, key, time_ns, turned)
        f.hash, f.next, head[0] = hashed, head[0], link_of(t, f)
        fence_release()
        age_join(t, f, AGE_TCP_NEW if key.proto == PROTO_TCP else AGE_NEW, <uint32_t>(time_ns // SECOND))
        t.shared.used += 1
    change_end(t)
    return f


# Look-up

cdef inline bint words_equal(const void *a, const void *b, int words) noexcept nogil:
    cdef const uint64_t *x = <const uint64_t *>a
    cdef const uint64_t *y = <const uint64_t *>b
    cdef uint64_t differs = 0
    cdef int i
    for i in range(words):
        differs |= x[i] ^ y[i]
    return differs == 0


cdef inline bint is_answer(const FlowTuple *key, const FlowTuple *tuple) noexcept nogil:
    """Whether a packet goes from the key's destination to its source."""
    return (words_equal(key.src, tuple.dst, 2) and words_equal(key.dst, tuple.src, 2) and key.sport == tuple.dport
            and key.dport == tuple.sport and key.proto == tuple.proto and key.version == tuple.version)


cdef inline Flow *flow_find(const FlowTable *t, const FlowTuple *key, uint64_t hashed, FlowSide *side) noexcept nogil:
    cdef Flow *f = linked(t, t.heads[hashed & t.mask])
    cdef uint32_t steps
    for steps in range(<uint32_t>CHAIN_LIMIT):
        if f == NULL:
            return NULL
        if f.hash == hashed:
            if words_equal(&f.key, key, 5):
                side[0] = TO_SERVER
                return f
            if is_answer(&f.key, key):
                side[0] = TO_CLIENT
                return f
        f = linked(t, f.next)
    return NULL


cdef inline bint flow_is_over(const Flow *f, uint64_t now_ns) noexcept nogil:
    return <int64_t>(now_ns - f.last_ns) >= <int64_t>TIMEOUTS[f.age if f.age < AGE_COUNT else 0] * SECOND


# The stage

cdef inline bint syn_begins(const Flow *f, const Packet *p) noexcept nogil:
    """Whether a SYN stands at the beginning of another connection."""
    return f.state == FLOW_NEW or f.state == FLOW_CLOSED or flow_is_over(f, p.time_ns)


cdef bint flow_replace(FlowTable *t, Flow *f, FlowSide *side, const Packet *p, FlowSide now) noexcept nogil:
    """Another connection between the same ends, in the place of the one before; False: its session cannot be given up."""
    cdef uint8_t age = f.age
    change_begin(t)
    if not orphan_add(t, f):
        change_end(t)
        return False
    f.age = 0
    fence_release()
    flow_clear(t, f, &p.flow, p.time_ns, now == TO_CLIENT)
    fence_release()
    f.age = age
    change_end(t)
    side[0] = now
    return True


cdef bint tcp_meet(FlowTable *t, Flow *f, FlowSide *side, const Packet *p) noexcept nogil:
    """A TCP packet of a known flow; False: it begins another, and the one before cannot be given up."""
    cdef uint16_t kind = p.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)
    cdef uint32_t isn
    if kind == TCP_SYN and syn_begins(f, p):
        if not flow_replace(t, f, side, p, TO_SERVER):
            return False
        tcp_first(f, TO_SERVER, p, t.midstream)
        return True
    if kind == (TCP_SYN | TCP_ACK) and tcp_reopens(f, side[0], p):
        isn = p.tcp_ack - 1
        if not flow_replace(t, f, side, p, TO_CLIENT):
            return False
        tcp_reopen(f, isn)
    tcp_next(f, side[0], p)
    return True


cdef inline void flow_count(Flow *f, FlowSide side, const Packet *p) noexcept nogil:
    f.packets[<int>side] += 1
    f.bytes[<int>side] += p.ip_len
    f.flags |= FLOW_SEEN_SERVER if side == TO_SERVER else FLOW_SEEN_CLIENT
    if <int64_t>(p.time_ns - f.last_ns) > 0:
        f.last_ns = p.time_ns


cdef Flow *flow_begin(FlowTable *t, const Packet *p, uint64_t hashed, FlowSide *side) noexcept nogil:
    """The flow of a packet that has none; its source is the client, but in midstream what tcp_of_server says."""
    cdef bint is_tcp = p.flow.proto == PROTO_TCP
    cdef bint turned = t.midstream and is_tcp and tcp_of_server(p)
    cdef Flow *f = flow_make(t, &p.flow, hashed, p.time_ns, turned)
    if f == NULL:
        return NULL
    side[0] = TO_CLIENT if turned else TO_SERVER
    if is_tcp:
        tcp_first(f, side[0], p, t.midstream)
    return f


cdef inline bint flow_meet(FlowTable *t, Flow *f, FlowSide *side, const Packet *p) noexcept nogil:
    """A packet of a known flow; False as of tcp_meet."""
    if p.flow.proto == PROTO_TCP:
        return tcp_meet(t, f, side, p)
    if flow_is_over(f, p.time_ns):
        return flow_replace(t, f, side, p, TO_SERVER)
    if not f.packets[1 - <int>side[0]]:
        return True
    f.state = FLOW_ESTABLISHED
    f.flags |= FLOW_OPENED
    return True


cdef Flow *flow_track(FlowTable *t, const Packet *p, FlowSide *side) noexcept nogil:
    cdef uint64_t hashed
    cdef Flow *f
    side[0] = TO_SERVER
    if not has_flow(p):
        return NULL
    hashed = p.flow_hash if p.flow_hash else hash_ends(<const uint8_t *>&p.flow, t.header.keys)
    f = flow_find(t, &p.flow, hashed, side)
    if f == NULL:
        f = flow_begin(t, p, hashed, side)
    elif not flow_meet(t, f, side, p):
        f = NULL
    if f == NULL:
        t.counts.rejected += 1
        return NULL
    flow_count(f, side[0], p)
    t.current = link_of(t, f)
    flow_file(t, f, <uint32_t>(p.time_ns // SECOND))
    return f


cdef Flow *flow_at(const FlowTable *t, uint32_t number) noexcept nogil:
    cdef Flow *f = linked(t, number + 1) if number < t.shared.made else NULL
    return f if f != NULL and 0 < f.age < AGE_COUNT else NULL


cdef bint flow_expire(FlowTable *t, uint64_t now_ns, Flow *gone) noexcept nogil:
    cdef uint32_t now = <uint32_t>(now_ns // SECOND)
    cdef Flow *f
    cdef int age, steps
    if t.idle_at == now:
        return False
    for age in range(AGE_TCP_NEW, AGE_COUNT):
        for steps in range(REFILE_LIMIT):
            f = linked(t, t.shared.lists[age].oldest)
            if f == NULL or <int32_t>(now - f.filed) <= <int32_t>TIMEOUTS[age]:
                break
            if flow_is_over(f, now_ns):
                gone[0] = f[0]
                flow_release(t, f)
                t.counts.expired += 1
                return True
            flow_file(t, f, now)
    t.idle_at = now
    return False


# Bits

cdef bint flow_bit_set(FlowTable *t, Flow *f, uint32_t name) noexcept nogil:
    if flow_bit_has(f, name):
        return True
    if f.bit_count >= FLOW_BITS:
        t.counts.bits_rejected += 1
        return False
    f.bits[f.bit_count] = name
    fence_release()
    f.bit_count += 1
    return True


# Recovery: what a worker left that was killed while it changed the lists

cdef bint is_orphan(const FlowTable *t, uint32_t session) noexcept nogil:
    cdef uint32_t i
    for i in range(t.shared.orphan_first, t.shared.orphan_end):
        if t.shared.orphans[i % FLOW_ORPHANS] == session:
            return True
    return False


cdef int filed_before(const void *a, const void *b) noexcept nogil:
    cdef uint64_t x = (<const uint64_t *>a)[0]
    cdef uint64_t y = (<const uint64_t *>b)[0]
    return (x > y) - (x < y)


cdef void flow_link(FlowTable *t, Flow *f) noexcept nogil:
    """Put a flow that says it is in use back into chain and list."""
    cdef uint32_t *head
    f.hash = hash_ends(<const uint8_t *>&f.key, t.header.keys)
    head = &t.heads[f.hash & t.mask]
    f.next, head[0] = head[0], link_of(t, f)
    if f.session != NO_SESSION and is_orphan(t, f.session):
        f.session = NO_SESSION
    if f.bit_count > FLOW_BITS:
        f.bit_count = FLOW_BITS
    age_join(t, f, f.age, f.filed)
    t.shared.used += 1


cdef bint lists_rebuild(FlowTable *t) noexcept nogil:
    """All lists anew from the flows themselves; False: no memory to sort them in."""
    cdef FlowShared *s = t.shared
    cdef uint32_t i, found = 0
    cdef uint64_t *order = <uint64_t *>malloc(<size_t>t.capacity * sizeof(uint64_t))
    if order == NULL:
        return False
    s.changing = 1
    memset(t.heads, 0, (<size_t>t.mask + 1) * sizeof(uint32_t))
    memset(s.lists, 0, sizeof(s.lists))
    s.free = s.used = 0
    s.made = s.made if s.made < t.capacity else t.capacity
    if s.orphan_end - s.orphan_first > FLOW_ORPHANS:
        s.orphan_first = s.orphan_end
    for i in range(s.made):
        if 0 < t.flows[i].age < AGE_COUNT:
            order[found] = <uint64_t>t.flows[i].filed << 32 | i
            found += 1
        else:
            t.flows[i].next, s.free = s.free, i + 1
            t.flows[i].age = 0
    qsort(order, found, sizeof(uint64_t), filed_before)
    for i in range(found):
        flow_link(t, t.flows + <uint32_t>order[i])
    free(order)
    change_end(t)
    return True


# Public API

AGES = ("", "tcp_new", "tcp_established", "tcp_closed", "new", "established")
STATES = ("new", "syn_sent", "syn_received", "established", "closing", "closed")
FLAGS = {"seen_server": FLOW_SEEN_SERVER, "seen_client": FLOW_SEEN_CLIENT, "midstream": FLOW_MIDSTREAM, "inspect": FLOW_INSPECT,
         "deaf": FLOW_DEAF, "opened": FLOW_OPENED, "ignored": FLOW_IGNORED, "split": FLOW_SPLIT, "forgotten": FLOW_FORGOTTEN,
         "passed": FLOW_PASSED, "replies_left": FLOW_REPLIES_LEFT, "replies_away": FLOW_REPLIES_AWAY}
DEFAULT_FLOWS = 65536


cdef dict _fields(const FlowTable *t, Flow *f):
    return {
        "number": flow_number(t, f), "id": f.id, "src": f.key.src[:16], "dst": f.key.dst[:16], "sport": f.key.sport,
        "dport": f.key.dport, "proto": f.key.proto, "version": f.key.version, "state": STATES[f.state], "age": AGES[f.age],
        "flags": {name for name, bit in FLAGS.items() if f.flags & bit}, "packets": list(f.packets), "bytes": list(f.bytes),
        "since": f.since_ns, "last": f.last_ns, "session": None if f.session == NO_SESSION else f.session,
        "tcp": [f.tcp[0], f.tcp[1]], "established": bool(flow_established(f)), "bits": [f.bits[i] for i in range(f.bit_count)],
    }


cdef uint64_t _heads(uint64_t flows):
    cdef uint64_t heads = SMALLEST
    while heads < flows:
        heads *= 2
    return heads


cdef uint64_t _place(uint64_t flows):
    """Where the flows begin: behind the heads, on a line."""
    return (HEADS_OFFSET + _heads(flows) * sizeof(uint32_t) + LINE - 1) // LINE * LINE


cdef class Flows:
    """``Flows.create(path, flows, midstream, number)`` makes a table (``path=None``: anonymous), ``Flows.open(path)`` maps one.

    ``number`` (0 to 4095) stands in the upper bits of the flows' ids, so that those of several tables differ. A worker that
    takes the table over from another calls ``recover``; ``open`` does so when it maps for writing. Raises
    SharedMemoryError when a file is not a flow table of this version, or its sizes contradict each other.
    """

    @staticmethod
    def create(path, flows=DEFAULT_FLOWS, bint midstream=False, number=0):
        cdef Flows made = Flows.__new__(Flows)
        cdef FlowShared *shared
        if not SMALLEST <= flows <= LARGEST or not 0 <= number < 4096:
            raise ValueError(f"table {number} of {flows} flows cannot be made; "
                             f"choose {SMALLEST} to {LARGEST} flows and a number of 0 to 4095")
        made.region = Region.create(path, SHARED_FLOWS, LAYOUT, _place(flows) + flows * sizeof(Flow))
        shared = <FlowShared *>(made.region.base + SHARED_OFFSET)
        shared.capacity, shared.tag, shared.next_id = flows, number, 1
        made._bind(midstream)
        return made

    @staticmethod
    def open(path, bint writable=True, bint midstream=False):
        cdef Flows made = Flows.__new__(Flows)
        made.region = Region.open(path, SHARED_FLOWS, LAYOUT, writable)
        made._bind(midstream)
        if writable:
            made.recover()
        return made

    def _bind(self, midstream):
        cdef FlowShared *shared = <FlowShared *>(self.region.base + SHARED_OFFSET)
        cdef uint64_t flows = shared.capacity if self.region.size >= HEADS_OFFSET else 0
        if not SMALLEST <= flows <= LARGEST or _place(flows) + flows * sizeof(Flow) != self.region.size:
            raise SharedMemoryError(f"{self.region.path}: {flows} flows do not fit its {self.region.size} bytes. "
                                    "Remove it and start the instance again.")
        memset(&self.table, 0, sizeof(FlowTable))
        self.table.header = self.region.header()
        self.table.shared = shared
        self.table.heads = <uint32_t *>(self.region.base + HEADS_OFFSET)
        self.table.flows = <Flow *>(self.region.base + _place(flows))
        self.table.capacity = <uint32_t>flows
        self.table.mask = <uint32_t>_heads(flows) - 1
        self.table.midstream = midstream

    def _writable(self):
        if not self.region.writable:
            raise SharedMemoryError(f"{self.region.path}: mapped for reading only. Open it with writable=True.")

    def recover(self, bint always=False):
        """Build the lists anew where the worker before was killed while it changed them; says whether it was."""
        self._writable()
        if not self.table.shared.changing and not always:
            return False
        if not lists_rebuild(&self.table):
            raise MemoryError(f"{8 * self.table.capacity} bytes to sort the flows in are not to be had")
        return True

    def track(self, data, now=0.0, wirelen=None):
        """Track a packet given from its IP header on, at Unix time ``now`` in seconds.

        Returns the fields of its flow with ``side`` ("to_server" or "to_client"), or None where it has none.
        """
        cdef const uint8_t[::1] view = memoryview(data).cast("B")
        cdef Packet packet
        cdef FlowSide side
        cdef Flow *f
        self._writable()
        memset(&packet, 0, sizeof(packet))
        packet.data = &view[0] if view.shape[0] else NULL
        packet.caplen = view.shape[0]
        packet.wirelen = view.shape[0] if wirelen is None else wirelen
        packet.time_ns = <uint64_t>round(now * SECOND)
        packet.verdict = VERDICT_UNSET
        parse_packet(&packet)
        with nogil:
            f = flow_track(&self.table, &packet, &side)
        if f == NULL:
            return None
        return {**_fields(&self.table, f), "side": "to_client" if side == TO_CLIENT else "to_server"}

    def flow(self, uint32_t number):
        """The fields of the flow with this number, None where it is not in use."""
        cdef Flow *f = flow_at(&self.table, number)
        return None if f == NULL else _fields(&self.table, f)

    def attach(self, uint32_t number, uint32_t session):
        """Give a flow a session's number."""
        self._writable()
        cdef Flow *f = flow_at(&self.table, number)
        if f == NULL:
            raise ValueError(f"flow {number} is not in use; take a number that track() gave")
        f.session = session

    def orphan(self):
        """The next session to be released, None when there is none."""
        self._writable()
        session = flow_orphan(&self.table)
        return None if session == NO_SESSION else session

    def expire(self, now):
        """Take out the flows that are over at ``now`` (Unix seconds); the fields of each."""
        cdef Flow gone
        cdef uint64_t now_ns = <uint64_t>round(now * SECOND)
        self._writable()
        found = []
        while flow_expire(&self.table, now_ns, &gone):
            found.append({**_fields(&self.table, &gone), "number": None})
        return found

    def bit(self, uint32_t number, doing, uint32_t name):
        """``doing``: "has", "set" or "clear" a flowbit by the hash of its name; True where it is there afterwards."""
        self._writable()
        cdef Flow *f = flow_at(&self.table, number)
        if f == NULL:
            raise ValueError(f"flow {number} is not in use; take a number that track() gave")
        if doing == "set":
            return bool(flow_bit_set(&self.table, f, name))
        if doing == "clear":
            flow_bit_clear(f, name)
        return bool(flow_bit_has(f, name))

    def counters(self):
        """Gauges and counters by name; the counters are those of this process."""
        counts = dict(self.table.counts)
        lists = {AGES[age]: self.table.shared.lists[age].count for age in range(1, AGE_COUNT)}
        return {"used": self.table.shared.used, "size": self.table.capacity, **lists, **counts}

    def faults(self):
        """What contradicts itself in the lists, as text; an empty list when all is well."""
        return _faults(&self.table)


cdef list _faults(const FlowTable *t):
    cdef const Flow *f
    found, chained, listed = [], {}, {}
    for bucket in range(t.mask + 1):
        link = t.heads[bucket]
        while link:
            if link > t.capacity or link in chained:
                found.append(f"chain {bucket}: link {link} is out of range or there twice")
                break
            chained[link] = bucket
            link = t.flows[link - 1].next
    for age in range(1, AGE_COUNT):
        link, before = t.shared.lists[age].oldest, 0
        while link:
            if link > t.capacity or link in listed:
                found.append(f"list {age}: link {link} is out of range or there twice")
                break
            f = &t.flows[link - 1]
            listed[link] = age
            if f.older != before or f.age != age:
                found.append(f"list {age}: flow {link - 1} is of age {f.age}, behind {f.older}, not {before}")
            link, before = f.newer, link
        if t.shared.lists[age].newest != before or t.shared.lists[age].count != sum(1 for one in listed.values() if one == age):
            found.append(f"list {age}: its end or count is wrong")
    if set(chained) != set(listed) or len(listed) != t.shared.used:
        found.append(f"{len(chained)} flows in chains, {len(listed)} in lists, {t.shared.used} in use")
    return found
