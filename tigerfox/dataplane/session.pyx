"""Sessions: the memory that the inspection of a connection needs, in slots of one size.

What it owns
    The session table of one queue. A slot is taken when a TCP connection brings its first byte that a rule may look at, and given
    back when its flow goes.

Layout
    Shared memory, made by the supervisor without reserving it: pages come into being as they are touched, so a short HTTP
    exchange costs some tens of kilobytes, whatever SESSION_SIZE says. Free slots are used again last in, first out.

        | SharedHeader | SessionState | slot: Session | window x 2 | head x 2 | body x 2 | colour | slot ...

    A stream holds STREAM_NARROW bytes at most. Where much is under way, as when a fast path begins, it becomes wide and may use
    all of its window: WIDE_STREAMS of a worker at a time, each until little is under way, all is beyond its depth, or its flow
    goes. What lies behind STREAM_NARROW is given back to the system then.

    TLS and DNS over TCP use `body` for their text: a connection speaks one protocol.

Invariants
    No pointers. A Session that stands in its flow has the flow's id, and nobody else's. Numbers that come from shared memory
    are compared with the capacity before they are used.

Who may write what
    The worker of the queue, alone.

What happens when full or broken
    Of some slots, the one that was not used for longest gives way, if that was IDLE_NS ago; a flow that lost its session so does
    not get another, or whoever fills the table could have his own connection forgotten in the middle of a request. Where none is
    idle, session_open answers NULL and counts. Either way payload does not pass (stream_sessions): its sender sends it again.
    What a killed worker was in the middle of changing (`busy`) is marked as broken by its successor at bind; that flow's stream
    is not followed any more. Decoders of bodies are private memory: see app/httpinflate.pyx.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.mman cimport madvise
from tigerfox.dataplane.app.http cimport http_flow_init, http_release
from tigerfox.dataplane.app.httpinflate cimport inflate_pool_free, inflate_pool_new
from tigerfox.dataplane.flow cimport NO_SESSION, TO_CLIENT, TO_SERVER
from tigerfox.dataplane.image cimport APP_HTTP
from tigerfox.dataplane.shared cimport SHARED_SESSIONS
from tigerfox.dataplane.stream cimport STREAM_NARROW, STREAM_WINDOW

import os

cdef extern from "sys/mman.h" nogil:
    int MADV_REMOVE

cdef enum:
    PAGE = 4096
    HEADER_BYTES = 4096          # SharedHeader and SessionState
    LAYOUT = 5
    IDLE_NS = 2_000_000_000      # what is not used for so long may give way

assert sizeof(Session) <= SESSION_STATE


cdef inline Session *slot_at(const Sessions *t, uint32_t number) noexcept nogil:
    return <Session *>(t.slots + <uint64_t>number * SESSION_SIZE)


cdef Session *session_of(Sessions *t, const Flow *f) noexcept nogil:
    cdef Session *s = session_slot(t, f.session)
    return s if s != NULL and s.flow_id == f.id else NULL


cdef inline uint32_t slot_take(Sessions *t) noexcept nogil:
    """A free slot's number, or NO_SESSION."""
    cdef uint32_t number = t.state.free
    if number and number <= t.capacity:
        t.state.free = slot_at(t, number - 1).next
        return number - 1
    if t.state.touched >= t.capacity:
        return <uint32_t>NO_SESSION
    t.state.touched += 1
    return t.state.touched - 1


cdef Session *session_open(Sessions *t, Flow *f, uint32_t flow) noexcept nogil:
    cdef Session *s = session_of(t, f)
    cdef uint32_t number
    if s != NULL:
        return s
    number = slot_take(t)
    if number == <uint32_t>NO_SESSION:
        t.counts.rejected += 1
        return NULL
    s = slot_at(t, number)
    memset(s, 0, sizeof(Session))
    http_flow_init(&s.http, SESSION_HEAD, SESSION_HEAD)
    s.flow_id, s.flow = f.id, flow
    f.session = number
    t.state.used += 1
    t.counts.opened += 1
    return s


cdef Session *session_idle(Sessions *t, uint64_t now_ns) noexcept nogil:
    cdef uint64_t oldest = now_ns - IDLE_NS if now_ns > IDLE_NS else 0
    cdef Session *found = NULL
    cdef Session *s
    cdef uint32_t i, made = min(t.state.touched, t.capacity)
    for i in range(min(<uint32_t>SESSION_LOOKS, made)):
        t.state.hand = (t.state.hand + 1) % made
        s = slot_at(t, t.state.hand)
        if s.flow_id and s.seen_ns < oldest:
            found, oldest = s, s.seen_ns
    if found != NULL:
        t.counts.displaced += 1
    return found


cdef void session_release(Sessions *t, uint32_t number) noexcept nogil:
    cdef Session *s
    if number >= t.capacity:
        return
    s = slot_at(t, number)
    if s.flow_id == 0:
        return
    if s.app == APP_HTTP:
        http_release(&s.http, t.pool)
    session_narrow(t, s, TO_SERVER)
    session_narrow(t, s, TO_CLIENT)
    s.flow_id = 0
    s.next = t.state.free
    t.state.free = number + 1
    t.state.used -= 1


cdef void session_widen(Sessions *t, Session *s, FlowSide side) noexcept nogil:
    if t.state.wide < WIDE_STREAMS and not s.streams[<int>side].wide:
        t.state.wide += 1
        s.streams[<int>side].wide = 1


cdef void session_narrow(Sessions *t, Session *s, FlowSide side) noexcept nogil:
    cdef size_t window = <size_t>session_window(s, side), first, last
    if not s.streams[<int>side].wide:
        return
    first = (window + STREAM_NARROW + PAGE - 1) & ~<size_t>(PAGE - 1)
    last = (window + STREAM_WINDOW) & ~<size_t>(PAGE - 1)
    s.streams[<int>side].wide = 0
    t.state.wide -= t.state.wide != 0
    madvise(<void *>first, last - first, MADV_REMOVE)


cdef uint32_t wide_count(const Sessions *t) noexcept nogil:
    cdef uint32_t i, found = 0
    cdef const Session *s
    for i in range(min(t.state.touched, t.capacity)):
        s = slot_at(t, i)
        if s.flow_id:
            found += (s.streams[0].wide != 0) + (s.streams[1].wide != 0)
    return found


cdef void session_begin(Sessions *t, const Session *s) noexcept nogil:
    t.state.busy = (<uint64_t>(<const uint8_t *>s - t.slots)) // SESSION_SIZE + 1


cdef void session_end(Sessions *t) noexcept nogil:
    t.state.busy = 0


cdef uint8_t *session_window(Session *s, FlowSide side) noexcept nogil:
    return <uint8_t *>s + SESSION_STATE + <uint64_t>side * STREAM_WINDOW


cdef inline uint8_t *head_of(Session *s, FlowSide side) noexcept nogil:
    return <uint8_t *>s + SESSION_STATE + 2 * STREAM_WINDOW + <uint64_t>side * SESSION_HEAD


cdef inline uint8_t *body_of(Session *s, FlowSide side) noexcept nogil:
    return <uint8_t *>s + SESSION_STATE + 2 * (STREAM_WINDOW + SESSION_HEAD) + <uint64_t>side * SESSION_BODY


cdef void session_http_memory(Session *s, FlowSide side, HttpMemory *memory) noexcept nogil:
    memory.head.data, memory.head.size, memory.head.used = head_of(s, side), SESSION_HEAD, s.http.side[<int>side].head_len
    memory.body.data, memory.body.size, memory.body.used = body_of(s, side), SESSION_BODY, s.http.side[<int>side].body_len


cdef AppBuffer session_buffer(Session *s, FlowSide side) noexcept nogil:
    cdef AppBuffer b
    b.data, b.size, b.used = body_of(s, side), SESSION_BODY, 0
    return b


# Public API

cdef class SessionTable:
    """``SessionTable.create(capacity)``: slots for so many TCP connections under inspection at a time, in anonymous shared memory.

    Raises SharedMemoryError when the address space is refused. ``bind`` is called in the process that works with it.
    """

    @staticmethod
    def create(uint32_t capacity):
        cdef SessionTable made = SessionTable.__new__(SessionTable)
        made.region = Region.create(None, SHARED_SESSIONS, LAYOUT,
                                    HEADER_BYTES + <size_t>capacity * SESSION_SIZE, False)
        made.sessions.header = made.region.header()
        made.sessions.state = <SessionState *>(made.region.base + sizeof(SharedHeader))
        made.sessions.slots = made.region.base + HEADER_BYTES
        made.sessions.capacity = capacity
        return made

    def __dealloc__(self):
        inflate_pool_free(self.sessions.pool)

    def bind(self):
        """Prepare this process: its own decoders; what a predecessor left half changed is marked. Raises MemoryError."""
        cdef uint64_t busy = self.sessions.state.busy
        if self.sessions.pool == NULL:
            self.sessions.pool = inflate_pool_new(DECODERS, int.from_bytes(os.urandom(8), "little"))
            if self.sessions.pool == NULL:
                raise MemoryError
        if 0 < busy <= self.sessions.capacity:
            slot_at(&self.sessions, <uint32_t>(busy - 1)).broken = 1
            self.sessions.counts.discarded += 1
        self.sessions.state.busy = 0
        self.sessions.state.wide = wide_count(&self.sessions)

    @property
    def used(self):
        """Slots in use."""
        return self.sessions.state.used

    @property
    def capacity(self):
        """Slots in all."""
        return self.sessions.capacity
