"""HTTP/1.x, both directions, from in-order bytes in any cut to transactions whose buffers rules can look at."""

# What it owns: nothing; state and memory are the caller's (httpmessage.pxd).
#
# Layout: one step function for each state; a run of steps takes the bytes of one call.
#       request    LINE ─▶ OLD? ─▶ FIELDS ─▶ LENGTH | CHUNK_* ─▶ TRAILER ─▶ AFTER
#       response   LINE ⇄ JUNK, LINE ─▶ FIELDS ─▶ LENGTH | CLOSE | CHUNK_* ─▶ TRAILER ─▶ AFTER
#
# Invariants: what is seen, and every event, is the same however the bytes were cut. Nothing is allocated; work is in
#     proportion to the bytes, but for what a decoder makes (bounded, httpinflate.pyx). A message is whole with its last byte.
#     Requests and responses are paired by their order; of a request its response needs to know only HttpAsked.
#     A line that is no status line is body of the response it stands before, as browsers show it; so are bytes behind a
#     response that are no response. Behind CONNECT and 101 the bytes are HTTP only if they read as HTTP.
#
# Who may write what: the worker that has the flow.
#
# What happens when full or broken: events name it (HttpEvent). Only a head that is larger than its memory ends the
#     parsing (HTTP_BROKEN): what follows cannot be told from the head.
#
# Not here: HTTP/2, multipart, the text of JavaScript or Flash; file.data of a request is its whole body.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from tigerfox.dataplane.app.httpbody cimport BODY_MORE, BODY_WHOLE, BodyAnswer, body_add, body_decide, body_release, body_step
from tigerfox.dataplane.app.httpfields cimport (
    LINE_FULL, LINE_MORE, LINE_WHOLE, LineAnswer, field_line, fields_finish, fields_take, line_take)
from tigerfox.dataplane.app.httpline cimport (
    LOOK_MORE, LOOK_NO, LOOK_YES, LineLook, line_is_blank, request_line_read, request_look, status_line_read, status_look)
from tigerfox.dataplane.app.httpmessage cimport *

cdef enum Turn:
    TURN_MORE = 0                # needs another byte
    TURN_ON = 1
    TURN_HEAD = 2
    TURN_INTERIM = 3
    TURN_COMPLETE = 4
    TURN_STOP = 5                # tunnel or broken


# Beginnings and ends

cdef HttpProbe http_probe(HttpDirection direction, const uint8_t *data, uint32_t n) noexcept nogil:
    return <HttpProbe><int>(request_look(data, n) if direction == HTTP_REQUEST else status_look(data, n))


cdef HttpSide BLANK
cdef size_t COUNTS = <size_t>(<char *>&BLANK.span - <char *>&BLANK)     # before the tables; no constant, or GCC clears by rep stos


cdef void side_clear(HttpSide *s, uint32_t head_size) noexcept nogil:
    """All but direction and transaction, and without the tables, whose counts are zero."""
    cdef uint32_t transaction = s.transaction
    cdef uint8_t direction = s.direction, tunnel_next = s.tunnel_next
    memset(s, 0, COUNTS)
    s.transaction = transaction
    s.direction = direction
    s.tunnel_next = tunnel_next
    s.head_top = min(head_size, <uint32_t>HTTP_HEAD_MAX)


cdef void http_flow_init(HttpFlow *flow, uint32_t request_head_size, uint32_t response_head_size) noexcept nogil:
    memset(flow, 0, sizeof(HttpFlow))
    flow.side[1].direction = HTTP_RESPONSE
    side_clear(&flow.side[0], request_head_size)
    side_clear(&flow.side[1], response_head_size)


cdef void message_begin(HttpRun *r) noexcept nogil:
    """The first byte of a message: clear what is left of the one before."""
    cdef HttpSide *s = r.side
    cdef HttpFlow *flow = r.flow
    body_release(r)
    side_clear(s, r.memory.head.size)
    s.transaction += 1
    if s.direction == HTTP_REQUEST:
        flow.requests += 1
        flow.asked[(flow.requests - 1) & (HTTP_PIPELINE - 1)] = HTTP_ASKED_PLAIN
        if flow.requests - flow.responses > HTTP_PIPELINE:
            http_event(s, HTTP_EV_PIPELINE_FULL)
        return
    if flow.responses == flow.requests:
        flow.requests += 1
        flow.asked[(flow.requests - 1) & (HTTP_PIPELINE - 1)] = HTTP_ASKED_PLAIN
        http_event(s, HTTP_EV_RESPONSE_UNASKED)
    if flow.requests - flow.responses <= HTTP_PIPELINE:
        s.asked = flow.asked[flow.responses & (HTTP_PIPELINE - 1)]
    flow.responses += 1
    if s.asked == HTTP_ASKED_OLD:
        s.step = HTTP_STEP_CLOSE


cdef Turn message_end(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    body_release(r)
    s.progress = HTTP_PROGRESS_COMPLETE
    s.step = HTTP_STEP_AFTER
    s.peek_len = 0
    return TURN_COMPLETE


cdef Turn side_break(HttpRun *r) noexcept nogil:
    body_release(r)
    r.side.step = HTTP_STEP_BROKEN
    return TURN_STOP


# First lines

cdef void line_drop(HttpSide *s) noexcept nogil:
    http_event(s, HTTP_EV_LEADING_JUNK)
    s.head_len = s.line_off = 0


cdef Turn old_begin(HttpRun *r) noexcept nogil:
    """A request line without a protocol: the next byte decides."""
    r.side.step = HTTP_STEP_OLD
    return TURN_ON


cdef Turn request_line_done(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    request_line_read(r)
    s.progress = HTTP_PROGRESS_LINE
    s.fields_off = s.line_off = s.head_len
    r.flow.asked[(r.flow.requests - 1) & (HTTP_PIPELINE - 1)] = s.asked
    if s.version == 9:
        return old_begin(r)
    s.step = HTTP_STEP_FIELDS
    return TURN_ON


cdef Turn tunnel_begin(HttpRun *r) noexcept nogil:
    body_release(r)
    http_event(r.side, HTTP_EV_UPGRADE)
    r.side.step = HTTP_STEP_TUNNEL
    return TURN_STOP


cdef Turn tunnel_probe(HttpRun *r) noexcept nogil:
    """Behind CONNECT: HTTP again, or a tunnel?"""
    cdef HttpSide *s = r.side
    cdef const uint8_t *head = r.memory.head.data
    cdef HttpProbe look = http_probe(<HttpDirection>s.direction, head, s.head_len)
    if look == HTTP_PROBE_NO:
        s.events &= ~(<uint64_t>1 << HTTP_EV_LINE_END_ODD | <uint64_t>1 << HTTP_EV_HEAD_FULL)     # of a line that is none
        return tunnel_begin(r)
    if look == HTTP_PROBE_YES:
        s.tunnel_next = 0
    return TURN_ON


cdef Turn request_line_step(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef LineAnswer answer = line_take(r)
    if s.tunnel_next and tunnel_probe(r) == TURN_STOP:
        return TURN_STOP
    if answer == LINE_FULL:
        return side_break(r)
    if answer == LINE_MORE:
        return TURN_MORE
    if line_is_blank(r.memory.head.data + s.line_off, s.line_end - s.line_off):
        line_drop(s)
        return TURN_ON
    return request_line_done(r)


cdef Turn old_step(HttpRun *r) noexcept nogil:
    """Anything but white space behind the line means that fields follow and only the protocol was left out."""
    cdef HttpSide *s = r.side
    if ascii_is_space(r.pos[0]):
        http_event(s, HTTP_EV_OLD_PROTOCOL)
        r.flow.asked[(r.flow.requests - 1) & (HTTP_PIPELINE - 1)] = HTTP_ASKED_OLD
        return message_end(r)
    http_event(s, HTTP_EV_PROTOCOL_MISSING)
    s.step = HTTP_STEP_FIELDS
    return TURN_ON


cdef Turn junk_begin(HttpRun *r, bint whole) noexcept nogil:
    """What stands in `head` is no status line: body, and so is what follows up to the line's end."""
    cdef HttpSide *s = r.side
    http_event(s, HTTP_EV_LEADING_JUNK)
    body_add(r, r.memory.head.data, s.head_len)
    s.junk = 1
    s.step = HTTP_STEP_LINE if whole or s.cr else HTTP_STEP_JUNK
    s.head_len = s.line_off = 0
    s.cr = 0
    return TURN_ON


cdef Turn junk_step(HttpRun *r) noexcept nogil:
    """Body up to the end of the line; behind it a response may begin."""
    cdef HttpSide *s = r.side
    cdef uint32_t n = 0, left = http_left(r)
    while n < left and r.pos[n] != 10 and r.pos[n] != 13:
        n += 1
    if n < left:
        n += 1
        s.step = HTTP_STEP_AFTER if s.progress == HTTP_PROGRESS_COMPLETE else HTTP_STEP_LINE
    body_add(r, r.pos, n)
    r.pos += n
    return TURN_ON


cdef Turn status_line_done(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    status_line_read(r)
    s.progress = HTTP_PROGRESS_LINE
    s.step = HTTP_STEP_FIELDS
    s.fields_off = s.line_off = s.head_len
    return TURN_ON


cdef bint looks_like_body(const HttpSide *s, const uint8_t *head, bint blank, bint whole) noexcept nogil:
    """Is the first line of a response, as far as it is there, none?"""
    cdef LineLook look = status_look(head, s.head_len)
    return blank or look == LOOK_NO or (whole and look == LOOK_MORE)


cdef Turn status_line_step(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef const uint8_t *head = r.memory.head.data
    cdef uint64_t before = s.events
    cdef LineAnswer answer = line_take(r)
    cdef bint blank
    if s.tunnel_next and tunnel_probe(r) == TURN_STOP:
        return TURN_STOP
    if answer == LINE_FULL and not looks_like_body(s, head, False, False):
        return side_break(r)
    blank = answer == LINE_WHOLE and line_is_blank(head + s.line_off, s.line_end - s.line_off)
    if blank and not s.junk:
        line_drop(s)
        return TURN_ON
    if looks_like_body(s, head, blank, answer == LINE_WHOLE):
        s.events = before        # how such a line ends does not matter
        return junk_begin(r, answer == LINE_WHOLE)
    return TURN_MORE if answer == LINE_MORE else status_line_done(r)


# Fields

cdef Turn upgrade(HttpRun *r) noexcept nogil:
    """101 without a body."""
    cdef HttpRun request = r[0]
    request.side = &r.flow.side[0]
    r.flow.upgraded = 1
    tunnel_begin(&request)
    return tunnel_begin(r)


cdef Turn interim(HttpRun *r) noexcept nogil:
    """1xx without a body: the response proper follows."""
    r.side.step = HTTP_STEP_AFTER
    r.side.progress = HTTP_PROGRESS_HEAD
    return TURN_INTERIM


cdef void connect_note(HttpRun *r) noexcept nogil:
    """Behind CONNECT the direction may be a tunnel, behind a refusal it is not."""
    cdef HttpSide *s = r.side
    if s.asked == HTTP_ASKED_CONNECT and (s.direction == HTTP_REQUEST or 200 <= s.status <= 299):
        s.tunnel_next = r.flow.connected = 1


cdef Turn head_done(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef BodyAnswer answer
    fields_finish(r)
    s.progress = HTTP_PROGRESS_HEAD
    answer = body_decide(r)
    connect_note(r)
    if answer != BODY_WHOLE:
        return TURN_HEAD
    body_release(r)
    if s.direction == HTTP_RESPONSE and s.status == 101:
        return upgrade(r)
    if s.direction == HTTP_RESPONSE and 100 <= s.status <= 199:
        return interim(r)
    return message_end(r)


cdef Turn fields_step(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef LineAnswer answer = fields_take(r)
    if answer == LINE_MORE:
        return TURN_MORE
    if answer == LINE_FULL:
        return side_break(r)
    if s.step == HTTP_STEP_FIELDS:
        return head_done(r)
    fields_finish(r)
    trailer_show(s)
    return message_end(r)


cdef void trailer_show(HttpSide *s) noexcept nogil:
    """Buffers that the trailer adds to are made again."""
    cdef uint64_t keep = (<uint64_t>1 << HTTP_BUF_HEADER_RAW) - 1
    s.built &= keep
    s.there &= keep


# Behind a message

cdef Turn after_step(HttpRun *r) noexcept nogil:
    """The first byte that is not blank tells a response from more body; a request is a request."""
    cdef HttpSide *s = r.side
    cdef uint8_t c = r.pos[0]
    if s.direction == HTTP_RESPONSE and s.progress == HTTP_PROGRESS_COMPLETE and not s.tunnel_next:
        if (ascii_is_space(c) or c == 0) and s.peek_len < HTTP_PEEK:
            s.peek[s.peek_len] = c
            s.peek_len += 1
            r.pos += 1
            return TURN_ON
        if ascii_lower(c) != 104:
            http_event(s, HTTP_EV_BODY_UNEXPECTED)
            body_add(r, s.peek, s.peek_len)
            s.peek_len = 0
            s.step = HTTP_STEP_JUNK
            return TURN_ON
    if s.progress == HTTP_PROGRESS_HEAD:
        side_again(r)
    else:
        message_begin(r)
    return TURN_ON


cdef void side_again(HttpRun *r) noexcept nogil:
    """The response proper behind an interim one: the same transaction."""
    cdef HttpSide *s = r.side
    cdef uint8_t asked = s.asked
    side_clear(s, r.memory.head.size)
    s.asked = asked


# Running

cdef Turn body_turn(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef BodyAnswer answer
    s.progress = HTTP_PROGRESS_BODY
    if s.skip_lf:
        s.skip_lf = 0
        if r.pos[0] == 10:
            r.pos += 1
            return TURN_ON
    answer = body_step(r)
    if answer == BODY_WHOLE:
        return message_end(r)
    return TURN_MORE if answer == BODY_MORE else TURN_ON


cdef Turn step_run(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    if s.transaction == 0:
        message_begin(r)
    if s.step == HTTP_STEP_LINE:
        return request_line_step(r) if s.direction == HTTP_REQUEST else status_line_step(r)
    if s.step == HTTP_STEP_FIELDS or s.step == HTTP_STEP_TRAILER:
        return fields_step(r)
    if s.step == HTTP_STEP_AFTER:
        return after_step(r)
    if s.step == HTTP_STEP_JUNK:
        return junk_step(r)
    if s.step == HTTP_STEP_OLD:
        return old_step(r)
    return TURN_STOP if s.step >= HTTP_STEP_TUNNEL else body_turn(r)


cdef HttpAnswer turn_answer(const HttpSide *s, Turn turn) noexcept nogil:
    if turn == TURN_STOP:
        return HTTP_TUNNEL if s.step == HTTP_STEP_TUNNEL else HTTP_BROKEN
    if turn == TURN_HEAD:
        return HTTP_HEAD
    if turn == TURN_INTERIM:
        return HTTP_INTERIM
    return HTTP_COMPLETE if turn == TURN_COMPLETE else HTTP_MORE


cdef HttpAnswer http_feed(HttpFlow *flow, HttpDirection direction, HttpMemory *memory, InflatePool *pool,
                          const uint8_t *data, uint32_t n, uint32_t *taken) noexcept nogil:
    cdef HttpRun r
    cdef Turn turn = TURN_ON
    r.flow = flow
    r.side = &flow.side[<int>direction]
    r.memory = memory
    r.pool = pool
    r.pos = data
    r.end = data + n
    while turn == TURN_ON and r.pos < r.end:
        turn = step_run(&r)
    taken[0] = <uint32_t>(r.pos - data)
    memory.head.used = r.side.head_len
    memory.body.used = r.side.body_len
    return turn_answer(r.side, turn)


cdef void response_again(HttpFlow *flow) noexcept nogil:
    cdef HttpSide *s = &flow.side[<int>HTTP_RESPONSE]
    s.transaction -= 1
    flow.responses -= 1
    s.step, s.progress, s.peek_len = HTTP_STEP_AFTER, HTTP_PROGRESS_COMPLETE, 0


# The end of a direction

cdef void line_close(HttpRun *r) noexcept nogil:
    """A first line that the stream's end cuts: a request (there are servers that answer it), a status line, or body."""
    cdef HttpSide *s = r.side
    if not s.head_len:
        return
    s.line_end = s.head_len - s.cr
    if s.direction == HTTP_REQUEST:
        if not s.tunnel_next and not line_is_blank(r.memory.head.data + s.line_off, s.line_end - s.line_off):
            request_line_done(r)
    elif status_look(r.memory.head.data, s.head_len) == LOOK_YES:
        status_line_done(r)
    else:
        junk_begin(r, True)


cdef void fields_close(HttpRun *r) noexcept nogil:
    """Fields that the stream's end cuts."""
    cdef HttpSide *s = r.side
    if s.head_len > s.line_off:
        s.line_end = s.head_len - s.cr
        field_line(r)
        s.line_off = s.head_len
    fields_finish(r)
    if s.step == HTTP_STEP_TRAILER:
        trailer_show(s)


cdef HttpAnswer http_close(HttpFlow *flow, HttpDirection direction, HttpMemory *memory, InflatePool *pool) noexcept nogil:
    cdef HttpRun r
    cdef HttpSide *s = &flow.side[<int>direction]
    if s.step >= HTTP_STEP_AFTER or s.transaction == 0:
        return HTTP_MORE
    r.flow = flow
    r.side = s
    r.memory = memory
    r.pool = pool
    if s.step == HTTP_STEP_LINE:
        line_close(&r)
    elif s.step == HTTP_STEP_FIELDS or s.step == HTTP_STEP_TRAILER:
        fields_close(&r)
    if s.step != HTTP_STEP_CLOSE and s.step != HTTP_STEP_OLD and s.step != HTTP_STEP_JUNK:
        http_event(s, HTTP_EV_BODY_CUT)
    if s.step == HTTP_STEP_CHUNK_SIZE:
        body_add(&r, s.peek, s.peek_len)
    message_end(&r)
    return HTTP_COMPLETE


cdef void http_release(HttpFlow *flow, InflatePool *pool) noexcept nogil:
    http_forget(flow, HTTP_REQUEST, pool)
    http_forget(flow, HTTP_RESPONSE, pool)


cdef void http_forget(HttpFlow *flow, HttpDirection direction, InflatePool *pool) noexcept nogil:
    cdef HttpRun r
    r.pool = pool
    r.side = &flow.side[<int>direction]
    body_release(&r)
