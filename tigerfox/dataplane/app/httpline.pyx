"""Request lines and status lines of HTTP/1.x, read as leniently as browsers and servers read them."""

# What it owns: a table of methods.
#
# Layout: a request line is method, target, protocol; a status line protocol, code, message. Spans into `head`.
#
# Invariants: a target ends at a space; only where the line has no other space, at other white space (libhtp). One
#     pass over the line.
#
# Who may write what: the spans of the first line, HttpSide.version, .status.
#
# What happens when full or broken: a line can be odd (HTTP_EV_LINE_ODD), not broken. A request line of one or two words
#     is HTTP/0.9 (version 9) until fields follow.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, strlen

from tigerfox.dataplane.app.httpmessage cimport *
from tigerfox.dataplane.wide cimport WIDE, wide_below, wide_first, wide_load

cdef enum:
    METHODS = 29
    METHOD_MAX = 16
    LOOK_LINE_MAX = 8192         # of a line that begins with no known method, to find its protocol

cdef const char *methods[METHODS]
methods[:] = [
    b"get", b"put", b"post", b"head", b"trace", b"options", b"connect", b"delete", b"patch", b"propfind", b"proppatch",
    b"mkcol", b"copy", b"move", b"lock", b"unlock", b"checkout", b"uncheckout", b"checkin", b"update", b"label",
    b"report", b"mkworkspace", b"mkactivity", b"merge", b"invalid", b"version-control", b"baseline-control", b"search"]


cdef bint line_is_blank(const uint8_t *line, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if not ascii_is_space(line[i]):
            return False
    return True


# Detection

cdef LineLook status_look(const uint8_t *data, uint32_t n) noexcept nogil:
    cdef uint32_t at = 0, i
    if n >= 4 and memcmp(data, b"HTTP", 4) == 0:
        return LOOK_YES
    while at < n and (ascii_is_space(data[at]) or data[at] == 0):
        at += 1
    for i in range(min(n - at, <uint32_t>4)):
        if ascii_lower(data[at + i]) != <uint8_t>b"http"[i]:
            return LOOK_NO
    return LOOK_YES if n - at >= 4 else LOOK_MORE


cdef LineLook protocol_look(const uint8_t *data, uint32_t n) noexcept nogil:
    """An unknown method: does its line end with a protocol?"""
    cdef const uint8_t *lf = <const uint8_t *>memchr(data, 10, n)
    cdef uint32_t i, line = n if lf == NULL else <uint32_t>(lf - data)
    if line >= LOOK_LINE_MAX:
        return LOOK_NO
    for i in range(min(line, <uint32_t>40)):
        if (data[i] < 32 and data[i] != 13) or data[i] > 126:
            return LOOK_NO
    if lf == NULL:
        return LOOK_MORE
    n = line
    if n and data[n - 1] == 13:
        n -= 1
    return LOOK_YES if n > 9 and ascii_is_space(data[n - 9]) and http_same(data + n - 8, b"http/", 5) else LOOK_NO


cdef LineLook request_look(const uint8_t *data, uint32_t n) noexcept nogil:
    cdef uint32_t at = 0, word, i, size
    while at < n and ascii_is_space(data[at]):
        at += 1
    data += at
    n -= at
    word = 0
    while word < n and word <= METHOD_MAX and not ascii_is_space(data[word]):
        if data[word] < 33 or data[word] > 126:
            return LOOK_NO
        word += 1
    if word > METHOD_MAX:
        return LOOK_NO
    if word == n:
        return LOOK_MORE
    for i in range(METHODS):
        size = <uint32_t>strlen(methods[i])
        if word == size and http_same(data, methods[i], size):
            return LOOK_YES
    return protocol_look(data, n)


# Request line

cdef inline uint32_t space_end(const uint8_t *head, uint32_t at, uint32_t end) noexcept nogil:
    while at < end and ascii_is_space(head[at]):
        at += 1
    return at


cdef uint32_t word_end(const HttpRun *r, uint32_t at) noexcept nogil:
    """The first white space from `at` on, or the line's end; what lies behind that in `head` is looked at, but does not count."""
    cdef const uint8_t *head = r.memory.head.data
    cdef uint32_t end = r.side.line_end, bits
    while at < end and at + WIDE <= r.memory.head.size:
        bits = wide_below(wide_load(head + at), 33)
        while bits:
            if at + wide_first(bits) >= end:
                return end
            if ascii_is_space(head[at + wide_first(bits)]):
                return at + wide_first(bits)
            bits &= bits - 1
        at += WIDE
    while at < end and not ascii_is_space(head[at]):
        at += 1
    return min(at, end)


cdef uint8_t version_read(const uint8_t *text, uint32_t n) noexcept nogil:
    """9, 10 or 11; 0 for any other version or text."""
    if n == 8 and memcmp(text, b"HTTP/1.1", 8) == 0:
        return 11
    if n != 8 or not http_same(text, b"http/", 5) or text[6] != 46:
        return 0
    if text[5] == 49 and 48 <= text[7] <= 49:
        return 10 + text[7] - 48
    return 9 if text[5] == 48 and text[7] == 57 else 0


cdef uint8_t asked_read(const uint8_t *method, uint32_t n) noexcept nogil:
    if n == 4 and memcmp(method, b"HEAD", 4) == 0:
        return HTTP_ASKED_HEAD
    if n == 7 and memcmp(method, b"CONNECT", 7) == 0:
        return HTTP_ASKED_CONNECT
    return HTTP_ASKED_PLAIN


cdef uint32_t target_end(HttpRun *r, uint32_t at) noexcept nogil:
    """A target ends at a space, in a line without one at any white space."""
    cdef const uint8_t *head = r.memory.head.data
    cdef const uint8_t *space
    cdef uint32_t word = word_end(r, at)
    if word == r.side.line_end or head[word] == 32:
        return word
    http_event(r.side, HTTP_EV_LINE_ODD)
    space = <const uint8_t *>memchr(head + word, 32, r.side.line_end - word)
    return word if space == NULL else <uint32_t>(space - head)


cdef void request_line_read(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef const uint8_t *head = r.memory.head.data
    cdef uint32_t at = space_end(head, s.line_off, s.line_end), end
    http_set(s, HTTP_BUF_LINE, s.line_off, s.line_end - s.line_off)
    end = word_end(r, at)
    if at != s.line_off or (end < s.line_end and head[end] != 32):
        http_event(s, HTTP_EV_LINE_ODD)
    http_set(s, HTTP_BUF_METHOD, at, end - at)
    s.asked = asked_read(head + at, end - at)
    s.version = 9
    at = space_end(head, end, s.line_end)
    if at == s.line_end:
        return
    end = target_end(r, at)
    http_set(s, HTTP_BUF_URI_RAW, at, end - at)
    at = space_end(head, end, s.line_end)
    if at == s.line_end:
        return
    http_set(s, HTTP_BUF_PROTOCOL, at, s.line_end - at)
    s.version = version_read(head + at, s.line_end - at)
    if s.version < 10:
        http_event(s, HTTP_EV_LINE_ODD)
        s.version = 0            # it names a protocol, so fields follow


# Status line

cdef uint16_t status_number(const uint8_t *text, uint32_t n) noexcept nogil:
    """The status that is three digits, else 0."""
    cdef uint16_t number = 0
    cdef uint32_t i
    if n != 3:
        return 0
    for i in range(3):
        if not 48 <= text[i] <= 57:
            return 0
        number = number * 10 + text[i] - 48
    return number


cdef void status_line_read(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef const uint8_t *head = r.memory.head.data
    cdef uint32_t at = space_end(head, s.line_off, s.line_end)
    cdef uint32_t end = word_end(r, at)
    http_set(s, HTTP_BUF_LINE, s.line_off, s.line_end - s.line_off)
    http_set(s, HTTP_BUF_PROTOCOL, at, end - at)
    s.version = version_read(head + at, end - at)
    s.status = 0
    at = space_end(head, end, s.line_end)
    if at < s.line_end:
        end = word_end(r, at)
        http_set(s, HTTP_BUF_STAT_CODE, at, end - at)
        s.status = status_number(head + at, end - at)
        at = space_end(head, end, s.line_end)
        if at < s.line_end:
            http_set(s, HTTP_BUF_STAT_MSG, at, s.line_end - at)
    if not s.version or s.status < 100:
        http_event(s, HTTP_EV_LINE_ODD)
