"""The buffers of an HTTP message as Suricata's rules name them, made when one is asked for."""

# What it owns: a table of the fields that are buffers of their own.
#
# Layout: spans (httpmessage.pxd). What stands in the head as it came is a span of it; what must be made (uri, host, header,
#     header_names, start) is written once to the derived end.
#
# Invariants: http.header has "Name: value" and CR LF for each field in the order of first appearance, without Cookie in
#     requests and Set-Cookie in responses; http.header_names has CR LF, each name and CR LF, and CR LF again;
#     http.start is the first line, all fields, and an empty line. Folded and repeated fields are unfolded and joined.
#     http.host is the target's host or else the Host field: lower case, without port; http.host.raw as it came.
#
# Who may write what: spans and the derived end of `head`.
#
# What happens when full or broken: without room a buffer is missing, with HTTP_EV_DERIVED_FULL; its raw form is there.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from tigerfox.dataplane.app.httpfields cimport cookie_name, derived_take, field_find
from tigerfox.dataplane.app.httpmessage cimport *
from tigerfox.dataplane.app.httpuri cimport UriParts, uri_is_normal, uri_normalise, uri_split
from tigerfox.dataplane.wide cimport WIDE, wide_left, wide_load, wide_within

cdef uint8_t field_buffers[HTTP_BUF_COUNT]           # HttpName of the field that is the buffer
field_buffers[<int>HTTP_BUF_USER_AGENT] = HTTP_NAME_USER_AGENT
field_buffers[<int>HTTP_BUF_CONTENT_TYPE] = HTTP_NAME_CONTENT_TYPE
field_buffers[<int>HTTP_BUF_CONTENT_LEN] = HTTP_NAME_CONTENT_LENGTH
field_buffers[<int>HTTP_BUF_REFERER] = HTTP_NAME_REFERER
field_buffers[<int>HTTP_BUF_ACCEPT] = HTTP_NAME_ACCEPT
field_buffers[<int>HTTP_BUF_ACCEPT_LANG] = HTTP_NAME_ACCEPT_LANGUAGE
field_buffers[<int>HTTP_BUF_ACCEPT_ENC] = HTTP_NAME_ACCEPT_ENCODING
field_buffers[<int>HTTP_BUF_CONNECTION] = HTTP_NAME_CONNECTION
field_buffers[<int>HTTP_BUF_SERVER] = HTTP_NAME_SERVER
field_buffers[<int>HTTP_BUF_LOCATION] = HTTP_NAME_LOCATION


cdef HttpProgress http_buffer_progress(HttpBuffer which) noexcept nogil:
    if which <= HTTP_BUF_STAT_MSG:
        return HTTP_PROGRESS_LINE
    return HTTP_PROGRESS_BODY if which == HTTP_BUF_BODY else HTTP_PROGRESS_HEAD


# Target and host

cdef void uri_make(HttpRun *r) noexcept nogil:
    """The normal form; CONNECT names a host and no path."""
    cdef HttpSide *s = r.side
    cdef HttpSpan raw = s.span[<int>HTTP_BUF_URI_RAW]
    cdef uint32_t made, n
    cdef bint odd = False
    if not (s.there >> HTTP_BUF_URI_RAW) & 1 or s.asked == HTTP_ASKED_CONNECT:
        return
    if uri_is_normal(r.memory.head.data + raw.off, raw.len, r.memory.head.size - raw.off):
        http_set(s, HTTP_BUF_URI, raw.off, raw.len)
        return
    made = derived_take(r, raw.len)
    if made > HTTP_HEAD_MAX:
        return
    n = uri_normalise(r.memory.head.data + raw.off, raw.len, r.memory.head.data + made, &odd)
    http_set(s, HTTP_BUF_URI, made, n)
    if odd:
        http_event(s, HTTP_EV_URI_ENCODING_ODD)


cdef bint host_find(HttpRun *r, HttpSpan *host, bint *from_target) noexcept nogil:
    """Where the host stands: in an absolute target (or that of CONNECT), or in the Host field."""
    cdef HttpSide *s = r.side
    cdef const uint8_t *head = r.memory.head.data
    cdef HttpSpan raw = s.span[<int>HTTP_BUF_URI_RAW]
    cdef const HttpField *field = field_find(s, head, HTTP_NAME_HOST)
    cdef UriParts parts
    from_target[0] = False
    if (s.there >> HTTP_BUF_URI_RAW) & 1 and raw.len and head[raw.off] != 47:     # a path alone names no host
        uri_split(head + raw.off, raw.len, &parts)
        from_target[0] = parts.host_len != 0
        host.off = raw.off + parts.host_off
        host.len = parts.host_len
    if from_target[0]:
        return True
    if field == NULL:
        if s.version == 11:
            http_event(s, HTTP_EV_HOST_ODD)
        return False
    host.off = field.value_off
    host.len = field.value_len
    return True


cdef void host_bare(const uint8_t *head, HttpSpan *host) noexcept nogil:
    """Without white space around it and without its port."""
    cdef const uint8_t *mark
    while host.len and ascii_is_space(head[host.off]):
        host.off += 1
        host.len -= 1
    mark = <const uint8_t *>memchr(head + host.off, 93 if host.len and head[host.off] == 91 else 58, host.len)
    if mark != NULL:
        host.len = <uint32_t>(mark - head) - host.off + (mark[0] == 93)
    while host.len and ascii_is_space(head[host.off + host.len - 1]):
        host.len -= 1


cdef bint host_is_lower(const HttpMemory *memory, HttpSpan host) noexcept nogil:
    """Surely no capital in it, so that its lower-case form is where it stands."""
    if host.len > WIDE or memory.head.size - host.off < WIDE:
        return False
    return not wide_within(wide_load(memory.head.data + host.off), 65, 26) & wide_left(host.len)


cdef void host_make(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef uint8_t *head = r.memory.head.data
    cdef HttpSpan host
    cdef bint from_target
    cdef uint32_t made, i
    if not host_find(r, &host, &from_target):
        return
    http_set(s, HTTP_BUF_HOST_RAW, host.off, host.len)
    if not from_target:
        host_bare(head, &host)
    made = host.off
    if not host_is_lower(r.memory, host):
        made = derived_take(r, host.len)
        if made > HTTP_HEAD_MAX:
            return
        for i in range(host.len):
            head[made + i] = ascii_lower(head[host.off + i])
    while host.len and head[made + host.len - 1] == 46:
        host.len -= 1
    http_set(s, HTTP_BUF_HOST, made, host.len)


# Fields

cdef void field_make(HttpRun *r, HttpBuffer which, HttpName name) noexcept nogil:
    cdef const HttpField *field = field_find(r.side, r.memory.head.data, name) if name != HTTP_NAME_OTHER else NULL
    if field != NULL:
        http_set(r.side, which, field.value_off, field.value_len)


cdef inline bint field_left_out(const HttpSide *s, uint32_t i, HttpBuffer which) noexcept nogil:
    if s.field[i].flags & HTTP_FIELD_REPEATED:
        return True
    return which == HTTP_BUF_HEADER and s.named[<int>cookie_name(s)] == i + 1


cdef uint32_t lines_length(HttpRun *r, HttpBuffer which) noexcept nogil:
    """Bytes that the fields take in that buffer."""
    cdef const HttpField *field
    cdef uint32_t i, n = 0
    for i in range(r.side.field_count):
        field = &r.side.field[i]
        if not field_left_out(r.side, i, which):
            n += field.name_len + 2
            if which != HTTP_BUF_HEADER_NAMES:
                n += field.value_len + 2
    return n


cdef inline uint32_t bytes_put(uint8_t *head, uint32_t at, uint32_t from_, uint32_t n) noexcept nogil:
    memcpy(head + at, head + from_, n)
    return at + n


cdef inline uint32_t pair_put(uint8_t *head, uint32_t at, uint8_t a, uint8_t b) noexcept nogil:
    head[at] = a
    head[at + 1] = b
    return at + 2


cdef uint32_t lines_put(HttpRun *r, HttpBuffer which, uint32_t at) noexcept nogil:
    cdef uint8_t *head = r.memory.head.data
    cdef const HttpField *field
    cdef uint32_t i
    for i in range(r.side.field_count):
        field = &r.side.field[i]
        if field_left_out(r.side, i, which):
            continue
        at = bytes_put(head, at, field.name_off, field.name_len)
        if which != HTTP_BUF_HEADER_NAMES:
            at = pair_put(head, at, 58, 32)
            at = bytes_put(head, at, field.value_off, field.value_len)
        at = pair_put(head, at, 13, 10)
    return at


cdef uint32_t lines_plain(HttpRun *r) noexcept nogil:
    """The length of the fields where they stand in the head just as http.header has them; 0: they do not."""
    cdef HttpSide *s = r.side
    cdef const uint8_t *head = r.memory.head.data
    cdef const HttpField *field = &s.field[0]
    cdef const HttpField *end = field + s.field_count
    cdef uint32_t at = s.fields_off, value
    if s.named[<int>cookie_name(s)] or http_has_event(s, HTTP_EV_FIELD_REPEATED):
        return 0                 # some field is left out
    while field < end:
        value = at + field.name_len + 2
        if field.name_off != at or field.value_off != value or value + field.value_len + 2 > s.head_len:
            return 0
        at = value + field.value_len + 2
        if not pair_at(head, value - 2, 58, 32) or not pair_at(head, at - 2, 13, 10):
            return 0
        field += 1
    return at - s.fields_off


cdef void lines_make(HttpRun *r, HttpBuffer which) noexcept nogil:
    """header, header_names or start."""
    cdef HttpSide *s = r.side
    cdef uint8_t *head = r.memory.head.data
    cdef HttpSpan line = s.span[<int>HTTP_BUF_LINE]
    cdef uint32_t n = lines_plain(r) if which == HTTP_BUF_HEADER else 0, made, at
    if n:
        http_set(s, which, s.fields_off, n)
        return
    n = lines_length(r, which)
    if not n and which != HTTP_BUF_START:
        return
    if which == HTTP_BUF_HEADER_NAMES:
        n += 4
    elif which == HTTP_BUF_START:
        n += line.len + 4
    made = at = derived_take(r, n)
    if made > HTTP_HEAD_MAX:
        return
    if which == HTTP_BUF_START:
        at = bytes_put(head, at, line.off, line.len)
    if which != HTTP_BUF_HEADER:
        at = pair_put(head, at, 13, 10)
    at = lines_put(r, which, at)
    if which != HTTP_BUF_HEADER:
        pair_put(head, at, 13, 10)
    http_set(s, which, made, n)


cdef void buffer_make(HttpRun *r, HttpBuffer which) noexcept nogil:
    cdef HttpSide *s = r.side
    s.built |= <uint64_t>1 << which
    if which == HTTP_BUF_URI:
        uri_make(r)
    elif which == HTTP_BUF_HOST or which == HTTP_BUF_HOST_RAW:
        if s.direction == HTTP_REQUEST:
            s.built |= <uint64_t>1 << HTTP_BUF_HOST | <uint64_t>1 << HTTP_BUF_HOST_RAW
            host_make(r)
    elif which == HTTP_BUF_HEADER or which == HTTP_BUF_HEADER_NAMES or which == HTTP_BUF_START:
        lines_make(r, which)
    elif which == HTTP_BUF_HEADER_RAW:
        if s.head_len > s.fields_off:
            http_set(s, which, s.fields_off, s.head_len - s.fields_off)
    elif which == HTTP_BUF_COOKIE:
        field_make(r, which, cookie_name(s))
    else:
        field_make(r, which, <HttpName>field_buffers[<int>which])


cdef void http_buffer_make(HttpSide *s, HttpMemory *memory, HttpBuffer which) noexcept nogil:
    cdef HttpRun r
    if s.progress < http_buffer_progress(which) or not (s.there >> HTTP_BUF_LINE) & 1:
        return
    r.side = s
    r.memory = memory
    buffer_make(&r, which)
