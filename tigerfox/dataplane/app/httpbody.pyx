"""Bodies of HTTP messages: how long they are, chunks, and what becomes visible of them."""

# What it owns: nothing; it writes the lent `body` and HttpSide's body members.
#
# Layout: `body` holds the first bytes of the body, up to its size; HttpSide.body_total counts all.
#
# Invariants: Transfer-Encoding that names "chunked" anywhere goes before Content-Length, also in HTTP/1.0; a length is the
#     first run of digits of its value; a response without either goes on until the stream ends. 1xx, 204 and 304 have a body
#     only where a field announces one, HEAD and 2xx to CONNECT never. What does not read as a chunk size is, from its line on,
#     body until the end. All of this is what Suricata (libhtp) and browsers do; it errs on the side of showing more.
#     Each byte is looked at once; the size of a chunk may be cut anywhere.
#
# Who may write what: these functions the members named above, and the decoder pool of their process.
#
# What happens when full or broken: a full `body` keeps its first bytes, the rest is counted only. Without a free decoder
#     the body is shown as it came.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from tigerfox.dataplane.app.httpfields cimport field_find
from tigerfox.dataplane.app.httpinflate cimport *
from tigerfox.dataplane.app.httpmessage cimport *

cdef enum:
    CHUNK_MAX = 0x7fffffff       # libhtp
    LENGTH_MAX = 0x7fffffffffff


# What is visible

cdef void notes_keep(HttpSide *s, uint32_t notes) noexcept nogil:
    if notes & INFLATE_FALSE:
        http_event(s, HTTP_EV_ENCODING_FALSE)
    if notes & INFLATE_BROKEN:
        http_event(s, HTTP_EV_ENCODING_BROKEN)
    if notes & INFLATE_TRAILING:
        http_event(s, HTTP_EV_ENCODING_TRAILING)
    if notes & INFLATE_BOMB:
        http_event(s, HTTP_EV_BOMB)
    if notes & INFLATE_FULL:
        http_event(s, HTTP_EV_BODY_FULL)
    if notes & INFLATE_LOST:
        http_event(s, HTTP_EV_DECODER_LOST)


cdef void decoded_add(HttpRun *r, const uint8_t *data, uint32_t n) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef AppBuffer out
    if r.pool == NULL or s.codec_epoch != r.pool.epoch:
        http_event(s, HTTP_EV_DECODER_LOST)
        return
    out.data = r.memory.body.data
    out.size = r.memory.body.size
    out.used = s.body_len
    notes_keep(s, inflate_feed(r.pool, s.codec, data, n, &out))
    s.body_len = out.used


cdef void body_add(HttpRun *r, const uint8_t *data, uint32_t n) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef uint32_t room = r.memory.body.size - s.body_len
    s.body_total += n
    if s.codec:
        decoded_add(r, data, n)
        return
    if n > room:
        http_event(s, HTTP_EV_BODY_FULL)
        n = room
    memcpy(r.memory.body.data + s.body_len, data, n)
    s.body_len += n


cdef void body_release(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    if s.codec and r.pool != NULL and s.codec_epoch == r.pool.epoch:
        inflate_close(r.pool, s.codec)
    s.codec = 0


# Content-Encoding

cdef bint text_has(const uint8_t *text, uint32_t n, const char *word, uint32_t size) noexcept nogil:
    """Is the lower-case word in the text, whatever its case? NULs in the text are passed over, as browsers do."""
    cdef uint32_t at, i, k
    for at in range(n):
        i = at
        k = 0
        while i < n and k < size:
            if text[i] != 0 or k == 0:
                if ascii_lower(text[i]) != <uint8_t>word[k]:
                    break
                k += 1
            i += 1
        if k == size:
            return True
    return False


cdef inline bint is_separator(uint8_t c) noexcept nogil:
    return c == 44 or c == 32


cdef void coding_add(HttpSide *s, const uint8_t *word, uint32_t n) noexcept nogil:
    cdef uint8_t coding = CODING_NONE
    if text_has(word, n, b"gzip", 4):
        coding = CODING_GZIP
    elif text_has(word, n, b"deflate", 7):
        coding = CODING_DEFLATE
    elif text_has(word, n, b"lzma", 4):
        http_event(s, HTTP_EV_ENCODING_LZMA)
    elif not (n == 8 and http_same(word, b"identity", 8)) and not (n == 7 and http_same(word, b"inflate", 7)) \
            and not (n == 4 and http_same(word, b"none", 4)):
        http_event(s, HTTP_EV_ENCODING_UNKNOWN)
    if coding == CODING_NONE:
        return
    s.coding[s.codings] = coding
    s.codings += 1


cdef void codings_read(HttpSide *s, const uint8_t *text, uint32_t n) noexcept nogil:
    """The words of Content-Encoding in their order; mixed ones sort themselves out when they are tried."""
    cdef uint32_t at = 0, start, words = 0
    while at < n:
        while at < n and is_separator(text[at]):
            at += 1
        start = at
        while at < n and not is_separator(text[at]):
            at += 1
        if at == start:
            break
        if words == HTTP_LAYERS:
            http_event(s, HTTP_EV_ENCODING_DEEP)
            break
        words += 1
        coding_add(s, text + start, at - start)


cdef void encoding_decide(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef const uint8_t *head = r.memory.head.data
    cdef const HttpField *field = field_find(s, head, HTTP_NAME_CONTENT_ENCODING)
    s.codings = 0
    s.codec = 0
    if field == NULL:
        return
    codings_read(s, head + field.value_off, field.value_len)
    if not s.codings:
        return
    if r.pool != NULL:
        s.codec_epoch = r.pool.epoch
        s.codec = inflate_open(r.pool, s.coding, s.codings)
    if not s.codec:
        http_event(s, HTTP_EV_DECODER_NONE)


# Length

cdef bint length_read(HttpSide *s, const uint8_t *text, uint32_t n) noexcept nogil:
    """The first run of digits, to body_left; false where there is none, or it is too large."""
    cdef uint64_t value = 0
    cdef uint32_t at = 0, start
    while at < n and not 48 <= text[at] <= 57:
        at += 1
    start = at
    while at < n and 48 <= text[at] <= 57 and value <= LENGTH_MAX:
        value = value * 10 + text[at] - 48
        at += 1
    s.body_left = value
    if at == start or value > LENGTH_MAX:
        http_event(s, HTTP_EV_LENGTH_INVALID)
        return False
    if start or at != n:
        http_event(s, HTTP_EV_LENGTH_INVALID)
    return True


cdef bint is_chunked(HttpRun *r, const HttpField *coding) noexcept nogil:
    cdef const uint8_t *text = r.memory.head.data + coding.value_off
    if coding.value_len == 7 and http_same(text, b"chunked", 7):
        return True
    http_event(r.side, HTTP_EV_CODING_ODD)
    return text_has(text, coding.value_len, b"chunked", 7)


cdef bint body_forbidden(const HttpSide *s, bint announced) noexcept nogil:
    if s.direction == HTTP_REQUEST:
        return not announced
    if s.asked == HTTP_ASKED_HEAD or (s.asked == HTTP_ASKED_CONNECT and 200 <= s.status <= 299):
        return True
    return not announced and (100 <= s.status <= 199 or s.status == 204 or s.status == 304)


cdef BodyAnswer body_decide(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef const uint8_t *head = r.memory.head.data
    cdef const HttpField *length = field_find(s, head, HTTP_NAME_CONTENT_LENGTH)
    cdef const HttpField *coding = field_find(s, head, HTTP_NAME_TRANSFER_ENCODING)
    if body_forbidden(s, length != NULL or coding != NULL):
        return BODY_WHOLE
    encoding_decide(r)
    s.peek_len = s.chunk_digits = 0
    s.body_left = 0
    if coding != NULL and is_chunked(r, coding):
        if length != NULL:
            http_event(s, HTTP_EV_LENGTH_AMBIGUOUS)
        s.step = HTTP_STEP_CHUNK_SIZE
        return BODY_NEXT
    if length != NULL and length_read(s, head + length.value_off, length.value_len):
        s.step = HTTP_STEP_LENGTH
        return BODY_NEXT if s.body_left else BODY_WHOLE
    if s.direction == HTTP_REQUEST and length == NULL:
        return BODY_WHOLE        # a request with a transfer coding that is none
    s.step = HTTP_STEP_CLOSE
    return BODY_NEXT


# Steps

cdef BodyAnswer length_step(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef uint32_t n = <uint32_t>min(<uint64_t>http_left(r), s.body_left)
    body_add(r, r.pos, n)
    r.pos += n
    s.body_left -= n
    return BODY_MORE if s.body_left else BODY_WHOLE


cdef BodyAnswer close_step(HttpRun *r) noexcept nogil:
    body_add(r, r.pos, http_left(r))
    r.pos = r.end
    return BODY_MORE


cdef BodyAnswer chunk_give_up(HttpRun *r) noexcept nogil:
    """No size: what was held back of the line, and all that follows, is body."""
    cdef HttpSide *s = r.side
    http_event(s, HTTP_EV_CHUNK_BROKEN)
    body_add(r, s.peek, s.peek_len)
    s.step = HTTP_STEP_CLOSE
    return BODY_NEXT


cdef BodyAnswer chunk_size_step(HttpRun *r) noexcept nogil:
    """White space and line ends, then hexadecimal digits, up to the first byte that is neither."""
    cdef HttpSide *s = r.side
    cdef uint8_t c
    cdef int digit
    while r.pos < r.end:
        c = r.pos[0]
        digit = ascii_hex(c)
        if digit < 0 and s.chunk_digits:
            s.step = HTTP_STEP_CHUNK_REST
            return BODY_NEXT
        if digit < 0 and not ascii_is_space(c):
            return chunk_give_up(r)
        if digit >= 0:
            s.chunk_digits = 1
            s.body_left = s.body_left * 16 + digit
        r.pos += 1
        if s.peek_len < HTTP_PEEK:
            s.peek[s.peek_len] = c
            s.peek_len += 1
        if s.body_left > CHUNK_MAX:
            return chunk_give_up(r)
    return BODY_MORE


cdef void junk_check(HttpRun *r, uint32_t n) noexcept nogil:
    """The line's n bytes should be its end only."""
    cdef uint32_t i
    for i in range(n):
        if r.pos[i] != 13:
            http_event(r.side, HTTP_EV_CHUNK_ODD)
            break


cdef BodyAnswer chunk_line_step(HttpRun *r) noexcept nogil:
    """The rest of a line, behind a size or behind data."""
    cdef HttpSide *s = r.side
    cdef const uint8_t *lf = <const uint8_t *>memchr(r.pos, 10, http_left(r))
    junk_check(r, http_left(r) if lf == NULL else <uint32_t>(lf - r.pos))
    if lf == NULL:
        r.pos = r.end
        return BODY_MORE
    r.pos = lf + 1
    s.peek_len = s.chunk_digits = 0
    if s.step == HTTP_STEP_CHUNK_END:
        s.step = HTTP_STEP_CHUNK_SIZE
    elif s.body_left:
        s.step = HTTP_STEP_CHUNK_DATA
    else:
        s.step = HTTP_STEP_TRAILER
        s.line_off = s.head_len
        s.lf = s.cr = 0
    return BODY_NEXT


cdef BodyAnswer chunk_data_step(HttpRun *r) noexcept nogil:
    cdef BodyAnswer answer = length_step(r)
    if answer == BODY_WHOLE:
        r.side.step = HTTP_STEP_CHUNK_END
        return BODY_NEXT
    return answer


cdef BodyAnswer body_step(HttpRun *r) noexcept nogil:
    cdef uint8_t step = r.side.step
    if step == HTTP_STEP_LENGTH:
        return length_step(r)
    if step == HTTP_STEP_CLOSE:
        return close_step(r)
    if step == HTTP_STEP_CHUNK_SIZE:
        return chunk_size_step(r)
    if step == HTTP_STEP_CHUNK_DATA:
        return chunk_data_step(r)
    return chunk_line_step(r)
