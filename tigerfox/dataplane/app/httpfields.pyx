"""Lines of an HTTP message head, and the table of its fields: folding, repetition, odd line ends."""

# What it owns: nothing; it writes the two ends of the lent `head` and HttpSide's line, field and table members.
#
# Layout: raw lines from the bottom up, derived values from the top down (httpmessage.pxd). A field is four 16-bit
#     numbers; a value that was folded, or joined from several fields of one name, lies in the derived part.
#
# Invariants: a byte is looked at once, a table of HTTP_FIELDS bounds the search for a name. The result does not depend on how
#     the bytes were cut: where a byte decides what the one before meant (CR), the line waits for it; where a line may
#     be judged without waiting it is (a head must be whole with its last byte, before that segment passes).
#     As Suricata (libhtp) has it: a folded value keeps the white space of its continuation; fields of one name are joined by
#     ", " in the place of the first; for Content-Length the first one counts; a line without a colon is a field without name.
#
# Who may write what: these functions the members named above.
#
# What happens when full or broken: `head` full ends the message (HTTP_EV_HEAD_FULL). A table or derived part that is full
#     costs only what is derived: the raw bytes are still there, and an event says so.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from tigerfox.dataplane.app.httpmessage cimport *

cdef enum:
    CR = 13
    LF = 10


# Lines

cdef bint head_add(HttpRun *r, uint32_t n) noexcept nogil:
    """n bytes from the input to the raw end of the head; False when not all have room: the others stay."""
    cdef HttpSide *s = r.side
    cdef uint32_t size = min(n, s.head_top - s.head_len)
    memcpy(r.memory.head.data + s.head_len, r.pos, size)
    s.head_len += size
    r.pos += size
    if size < n:
        http_event(s, HTTP_EV_HEAD_FULL)
    return size == n


cdef LineAnswer line_whole(HttpSide *s, const uint8_t *head) noexcept nogil:
    """The bytes up to head_len are a line that ends with LF."""
    s.line_end = s.head_len - 1
    s.lf = 1
    if s.line_end > s.line_off and head[s.line_end - 1] == CR:
        s.line_end -= 1
        s.lf = 0
    else:
        http_event(s, HTTP_EV_LINE_END_ODD)
    s.cr = 0
    return LINE_WHOLE


cdef LineAnswer line_cut(HttpSide *s) noexcept nogil:
    """The line ended with the CR before the byte at hand."""
    http_event(s, HTTP_EV_LINE_END_ODD)
    s.line_end = s.head_len - 1
    s.cr = s.lf = 0
    return LINE_WHOLE


cdef bint cr_ends(const HttpSide *s, uint8_t c) noexcept nogil:
    """Does the CR before c end the line? In the fields neither one of several nor one that is alone in its line does."""
    if s.progress == HTTP_PROGRESS_NONE:
        return True
    return c != CR and s.head_len - s.line_off > 1


cdef LineAnswer line_slow(HttpRun *r) noexcept nogil:
    """Byte by byte, for lines of a response with a CR that no LF follows."""
    cdef HttpSide *s = r.side
    cdef uint8_t c
    while r.pos < r.end:
        c = r.pos[0]
        if s.cr and c != LF:
            if cr_ends(s, c):
                return line_cut(s)
            s.cr = 0
        if not head_add(r, 1):
            return LINE_FULL
        if c == LF:
            return line_whole(s, r.memory.head.data)
        if c == CR:
            if s.lf and s.head_len == s.line_off + 1 and s.progress >= HTTP_PROGRESS_LINE:
                s.line_off = s.head_len        # LF CR is one line end
            else:
                s.cr = 1
        s.lf = 0
    return LINE_MORE


cdef LineAnswer line_take(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef uint32_t n = http_left(r)
    cdef const uint8_t *lf = <const uint8_t *>memchr(r.pos, LF, n)
    cdef const uint8_t *cr
    if lf != NULL:
        n = <uint32_t>(lf - r.pos) + 1
    if s.direction == HTTP_RESPONSE:
        cr = <const uint8_t *>memchr(r.pos, CR, n)
        if s.cr or (cr != NULL and (lf == NULL or cr + 1 != lf)):
            return line_slow(r)
        if n:
            s.lf = 0
    if not head_add(r, n):
        return LINE_FULL
    return LINE_MORE if lf == NULL else line_whole(s, r.memory.head.data)


# Derived bytes

cdef uint32_t derived_take(HttpRun *r, uint32_t n) noexcept nogil:
    cdef HttpSide *s = r.side
    if n > s.head_top - s.head_len:
        http_event(s, HTTP_EV_DERIVED_FULL)
        return HTTP_HEAD_MAX + 1
    s.head_top -= n
    return s.head_top


cdef void field_unfold(HttpRun *r, uint32_t *off, uint32_t *end) noexcept nogil:
    """Replace the lines off..end by their text without line ends."""
    cdef uint8_t *head = r.memory.head.data
    cdef uint32_t made = derived_take(r, end[0] - off[0]), at, n = 0
    if made > HTTP_HEAD_MAX:
        return
    for at in range(off[0], end[0]):
        if head[at] != CR and head[at] != LF:
            head[made + n] = head[at]
            n += 1
    off[0] = made
    end[0] = made + n


# Fields

cdef uint8_t token_byte[256]


def fill_tokens():
    """Fill the table of bytes that a field name may have (RFC 9110, 5.6.2); called once, when the module is loaded."""
    for c in b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ":
        token_byte[<int>c] = 1


fill_tokens()


cdef void name_check(HttpSide *s, const uint8_t *name, uint32_t n) noexcept nogil:
    cdef uint32_t i
    cdef uint8_t good = n != 0
    for i in range(n):
        good &= token_byte[name[i]]
    if not good:
        http_event(s, HTTP_EV_FIELD_NAME_ODD)


cdef void field_link(HttpSide *s, const uint8_t *head, uint32_t index) noexcept nogil:
    """Chain the field behind the last of the same name."""
    cdef HttpField *new = &s.field[index]
    cdef HttpField *old
    cdef uint32_t i, k
    for i in range(index):
        old = &s.field[i]
        if old.name_len != new.name_len or old.flags & HTTP_FIELD_REPEATED:
            continue
        k = 0
        while k < new.name_len and ascii_lower(head[old.name_off + k]) == ascii_lower(head[new.name_off + k]):
            k += 1
        if k < new.name_len:
            continue
        http_event(s, HTTP_EV_FIELD_REPEATED)
        while old.flags & HTTP_FIELD_LEADS:
            old = &s.field[old.next]
        old.flags |= HTTP_FIELD_LEADS
        old.next = <uint8_t>index
        new.flags |= HTTP_FIELD_REPEATED
        return


cdef void field_add(HttpRun *r, uint32_t name, uint32_t name_end, uint32_t value, uint32_t value_end) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef HttpField *field
    if s.field_count == HTTP_FIELDS:
        http_event(s, HTTP_EV_FIELDS_FULL)
        return
    field = &s.field[s.field_count]
    field.name_off = name
    field.name_len = name_end - name
    field.value_off = value
    field.value_len = value_end - value
    field.flags = field.next = 0
    s.name_sizes |= <uint32_t>1 << (field.name_len & 31)
    field_link(s, r.memory.head.data, s.field_count)
    s.field_count += 1


cdef void value_trim(HttpSide *s, const uint8_t *head, uint32_t value, uint32_t *end) noexcept nogil:
    """A request's value ends at a NUL and before white space; a response's goes to the end of its line."""
    cdef const uint8_t *nul = <const uint8_t *>memchr(head + value, 0, end[0] - value)
    if nul != NULL:
        http_event(s, HTTP_EV_FIELD_NUL)
        if s.direction == HTTP_REQUEST:
            end[0] = <uint32_t>(nul - head)
    if s.direction == HTTP_REQUEST:
        while end[0] > value and http_is_lws(head[end[0] - 1]):
            end[0] -= 1


cdef void field_split(HttpRun *r, uint32_t off, uint32_t end) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef const uint8_t *head = r.memory.head.data
    cdef const uint8_t *colon = <const uint8_t *>memchr(head + off, 58, end - off)
    cdef uint32_t name_end = off, value = off
    if colon == NULL:
        http_event(s, HTTP_EV_FIELD_NO_COLON)
    else:
        name_end = <uint32_t>(colon - head)
        value = name_end + 1
        while name_end > off and ascii_is_space(head[name_end - 1]):
            name_end -= 1
            http_event(s, HTTP_EV_FIELD_NAME_ODD)
        name_check(s, head + off, name_end - off)
    if colon != NULL or s.direction == HTTP_RESPONSE:
        while value < end and http_is_lws(head[value]):
            value += 1
        value_trim(s, head, value, &end)
    field_add(r, off, name_end, value, end)


cdef void field_close(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef uint32_t off = s.field_off, end = s.field_end
    if not s.field_open:
        return
    s.field_open = 0
    if s.field_folded:
        field_unfold(r, &off, &end)
    field_split(r, off, end)


cdef bint field_continues(HttpRun *r) noexcept nogil:
    """Is the line at hand part of the field before it? One with a colon is not, in HTTP/1.1 responses (libhtp)."""
    cdef HttpSide *s = r.side
    cdef const uint8_t *head = r.memory.head.data
    if not http_is_lws(head[s.line_off]) and head[s.line_off] != 0:
        return False
    if not s.field_open:
        http_event(s, HTTP_EV_FOLDING_ODD)
        return False
    if s.direction == HTTP_REQUEST or s.version != 11:
        return True
    if memchr(head + s.line_off, 58, s.line_end - s.line_off) == NULL:
        return True
    if memchr(head + s.field_off, 58, s.field_end - s.field_off) == NULL:
        return True
    http_event(s, HTTP_EV_FOLDING_ODD)
    s.line_off += 1
    return False


cdef void field_line(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    if field_continues(r):
        s.field_folded = 1
        s.field_end = s.line_end
        return
    field_close(r)
    s.field_open = 1
    s.field_folded = 0
    s.field_off = s.line_off
    s.field_end = s.line_end


cdef bint name_same(const uint8_t *name, uint32_t size, const char *wanted, uint32_t n) noexcept nogil:
    """Is it the wanted name, NULs in it passed over, as some browsers do?"""
    cdef uint32_t i, k = 0
    for i in range(size):
        if name[i] == 0:
            continue
        if k == n or ascii_lower(name[i]) != <uint8_t>wanted[k]:
            return False
        k += 1
    return k == n


cdef const HttpField *field_search(const HttpSide *s, const uint8_t *head, const char *name, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(s.field_count):
        if s.field[i].name_len == n and http_same(head + s.field[i].name_off, name, n):
            return &s.field[i]
    if http_has_event(s, HTTP_EV_FIELD_NAME_ODD):
        for i in range(s.field_count):
            if s.field[i].name_len > n and name_same(head + s.field[i].name_off, s.field[i].name_len, name, n):
                return &s.field[i]
    return NULL


# Joining

cdef uint32_t joined_length(const HttpSide *s, const HttpField *field) noexcept nogil:
    cdef uint32_t n = field.value_len
    while field.flags & HTTP_FIELD_LEADS:
        field = &s.field[field.next]
        n += 2 + field.value_len
    return n


cdef void field_join(HttpRun *r, HttpField *first) noexcept nogil:
    """The values of all fields of this name, with a comma and a space between them, as the first one's value."""
    cdef HttpSide *s = r.side
    cdef uint8_t *head = r.memory.head.data
    cdef uint32_t n = joined_length(s, first)
    cdef uint32_t made = derived_take(r, n), at = made
    cdef const HttpField *field = first
    if made > HTTP_HEAD_MAX:
        return
    while True:
        memcpy(head + at, head + field.value_off, field.value_len)
        at += field.value_len
        if not field.flags & HTTP_FIELD_LEADS:
            break
        head[at] = 44
        head[at + 1] = 32
        at += 2
        field = &s.field[field.next]
    first.value_off = made
    first.value_len = n
    first.flags &= <uint8_t>~HTTP_FIELD_LEADS      # a trailer may add to it once more


cdef bint field_equal(const HttpField *a, const HttpField *b, const uint8_t *head) noexcept nogil:
    cdef uint32_t i
    if a.value_len != b.value_len:
        return False
    for i in range(a.value_len):
        if head[a.value_off + i] != head[b.value_off + i]:
            return False
    return True


cdef void lengths_compare(HttpRun *r, const HttpField *first) noexcept nogil:
    """Content-Length more than once: the first one counts."""
    cdef HttpSide *s = r.side
    cdef const HttpField *field = first
    while field.flags & HTTP_FIELD_LEADS:
        field = &s.field[field.next]
        if not field_equal(first, field, r.memory.head.data):
            http_event(s, HTTP_EV_LENGTH_AMBIGUOUS)


cdef void fields_finish(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef HttpField *field
    cdef uint32_t i
    field_close(r)
    if not http_has_event(s, HTTP_EV_FIELD_REPEATED):
        return
    for i in range(s.field_count):
        field = &s.field[i]
        if not field.flags & HTTP_FIELD_LEADS or field.flags & HTTP_FIELD_REPEATED:
            continue
        if field.name_len == 14 and http_same(r.memory.head.data + field.name_off, b"content-length", 14):
            lengths_compare(r, field)
        else:
            field_join(r, field)
