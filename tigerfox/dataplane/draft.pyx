"""Draft: an HTTP message that is whole in one packet is read in the worker's own memory, and forgotten with the packet.

What it owns
    Nothing: Detect.draft is a head and a body as a session has them, for the message that is being read.

Layout
    a message begins ─▶ read in the draft ─▶ whole at the packet's end? ─yes─▶ nothing is kept: the stream has its bytes
                                                       └─no─▶ copy what is there into the session's memory, go on there

    Most messages are whole in one packet. Read in the sessions, each connection's head and body were pages of its own that came
    from afar to be written once and never read again; the draft is always in the cache.

Invariants
    Offsets in HttpSide are the same in both memories. What a response was made of can be asked for once more: bytes behind it
    that are no response belong to its body. Then the response is read again, from the stream, into the session's memory, without
    its rules, and the bytes behind it find what they would have found there. So only a response whose bytes the stream still has
    is left in the draft (DRAFT_MOST), and none that would be read otherwise the second time (again_alike).

Who may write what
    The worker of the flow: its session, and its draft.

What happens when full or broken
    A worker that is killed while it reads leaves its session marked as broken (session.pyx).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from tigerfox.dataplane.app.http cimport http_feed, response_again
from tigerfox.dataplane.app.httpmessage cimport *
from tigerfox.dataplane.ascii cimport ascii_lower
from tigerfox.dataplane.flow cimport TO_CLIENT
from tigerfox.dataplane.scene cimport Scene
from tigerfox.dataplane.session cimport SESSION_BODY, SESSION_HEAD, Session, session_http_memory, session_window
from tigerfox.dataplane.stream cimport STREAM_KEEP, Stream, stream_at, stream_held_at

cdef enum:
    DRAFT_MOST = STREAM_KEEP - HTTP_PEEK     # bytes of a response that may be asked for again: a few blanks may come before


cdef inline void draft_copy(const HttpSide *h, HttpMemory *to, const HttpMemory *draft) noexcept nogil:
    """Copy what is there of a message: raw head, what was made of it, body."""
    cdef uint32_t top = min(h.head_top, <uint32_t>SESSION_HEAD)
    memcpy(to.head.data, draft.head.data, min(h.head_len, <uint32_t>SESSION_HEAD))
    memcpy(to.head.data + top, draft.head.data + top, SESSION_HEAD - top)
    memcpy(to.body.data, draft.body.data, min(h.body_len, <uint32_t>SESSION_BODY))


cdef inline bint may_go_on(const HttpSide *h, uint8_t first) noexcept nogil:
    """Whether a byte behind a response may turn out to be more of it: a status line begins with an H."""
    return h.direction == HTTP_RESPONSE and h.transaction != 0 and not h.tunnel_next and ascii_lower(first) != 104


cdef inline bint again_alike(const HttpSide *h) noexcept nogil:
    return not h.tunnel_next and not http_has_event(h, HTTP_EV_RESPONSE_UNASKED)


cdef bint response_recall(Scene *s, uint64_t offset) noexcept nogil:
    """Read the last response once more, from the stream up to `offset`, into the session's memory."""
    cdef const Stream *stream = &s.session.streams[<int>s.side]
    cdef uint64_t at = s.session.begun[<int>s.side]
    cdef uint32_t taken = 1
    if at > offset or at < stream_held_at(stream) or offset > stream.end_at:
        return False
    response_again(&s.session.http)
    while at < offset and taken:
        http_feed(&s.session.http, HTTP_RESPONSE, &s.memory, s.d.sessions.pool,
                  stream_at(stream, session_window(s.session, s.side), at), <uint32_t>(offset - at), &taken)
        at += taken
    return at == offset


cdef bint draft_open(Scene *s, uint8_t first, uint64_t offset) noexcept nogil:
    cdef uint8_t *drafted = &s.session.drafted[<int>s.side]
    s.memory = s.d.draft
    if message_over(s.http) and not may_go_on(s.http, first):
        return True
    session_http_memory(s.session, s.side, &s.memory)
    if not drafted[0]:
        return True
    drafted[0] = 0
    return response_recall(s, offset)


cdef void draft_close(Scene *s, uint64_t begun, uint64_t end) noexcept nogil:
    cdef Session *own = s.session
    cdef HttpMemory memory
    if s.memory.head.data != s.d.draft.head.data:
        return
    own.begun[<int>s.side] = begun
    own.drafted[<int>s.side] = message_over(s.http) and (
        s.side != TO_CLIENT or end - begun <= DRAFT_MOST and again_alike(s.http))
    if not own.drafted[<int>s.side]:
        session_http_memory(own, s.side, &memory)
        draft_copy(s.http, &memory, &s.d.draft)
