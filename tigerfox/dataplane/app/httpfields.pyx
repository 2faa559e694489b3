"""Lines of an HTTP message head, and the table of its fields: folding, repetition, odd line ends."""

# What it owns: nothing; it writes the two ends of the lent `head` and HttpSide's line, field and table members.
#
# Layout: raw lines from the bottom up, derived values from the top down (httpmessage.pxd). A field is four 16-bit
#     numbers; a value that was folded, or joined from several fields of one name, lies in the derived part.
#
#     A line of fields is plain that is there in one piece, ends with CR LF, has no other byte below 14, and continues no
#     field. Such lines, nearly all, are copied and looked at sixteen bytes at a time (fields_plain); what is made of them,
#     and when, is what field_line would make.
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
from libc.string cimport memchr, memcpy, memset

from tigerfox.dataplane.app.httpmessage cimport *
from tigerfox.dataplane.wide cimport WIDE, Wide, wide_below, wide_equal, wide_first, wide_load, wide_store

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


cdef bint name_good(const uint8_t *name, uint32_t n) noexcept nogil:
    cdef uint32_t i
    cdef uint8_t good = n != 0
    for i in range(n):
        good &= token_byte[name[i]]
    return good


cdef enum:
    NAME_MAX = 24
    NAME_SLOTS = 64

cdef struct KnownName:
    char text[NAME_MAX]
    char fold[NAME_MAX]          # 32 where the text has a letter: a byte or-ed with it is that letter in lower case
    uint32_t n

cdef KnownName known_names[HTTP_NAME_COUNT]
cdef uint8_t name_slots[NAME_SLOTS]      # HttpName by name_slot


cdef inline uint32_t name_slot(const uint8_t *name, uint32_t n) noexcept nogil:
    return (n * 2 + (name[0] & 31) * 5 + (name[n - 1] & 31)) & (NAME_SLOTS - 1)


def fill_names():
    """Fill the table of known names; called once, when the module is loaded."""
    cdef bytes name
    cdef uint32_t slot, place, i
    names = [b"host", b"user-agent", b"cookie", b"set-cookie", b"content-type", b"content-length", b"content-encoding",
             b"transfer-encoding", b"referer", b"accept", b"accept-language", b"accept-encoding", b"connection", b"server",
             b"location"]
    for place, name in enumerate(names, HTTP_NAME_HOST):
        known_names[place].n = <uint32_t>len(name)
        for i in range(known_names[place].n):
            known_names[place].text[i] = name[i]
            known_names[place].fold[i] = 32 if chr(name[i]).isalpha() else 0
        slot = name_slot(name, <uint32_t>len(name))
        if name_slots[slot]:
            raise AssertionError(f"{name} and {names[name_slots[slot] - 1]} share a slot of name_slots")
        name_slots[slot] = <uint8_t>place


fill_names()


cdef inline uint64_t word_at(const void *at) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, at, 8)
    return word


cdef inline uint32_t half_at(const void *at) noexcept nogil:
    cdef uint32_t half
    memcpy(&half, at, 4)
    return half


cdef inline bint name_is(const uint8_t *name, uint32_t n, const KnownName *known) noexcept nogil:
    """Word by word, the last one over what is before it; known names have four bytes or more."""
    cdef uint32_t at = 0
    if n != known.n:
        return False
    if n < 8:
        return ((half_at(name) | half_at(known.fold)) == half_at(known.text)
                and (half_at(name + n - 4) | half_at(known.fold + n - 4)) == half_at(known.text + n - 4))
    while at + 8 < n:
        if (word_at(name + at) | word_at(known.fold + at)) != word_at(known.text + at):
            return False
        at += 8
    return (word_at(name + n - 8) | word_at(known.fold + n - 8)) == word_at(known.text + n - 8)


cdef inline HttpName name_known(const uint8_t *name, uint32_t n) noexcept nogil:
    cdef uint8_t found = name_slots[name_slot(name, n)] if n else 0
    return <HttpName>found if found and name_is(name, n, &known_names[found]) else HTTP_NAME_OTHER


# The table

cdef void field_chain(HttpSide *s, HttpField *old, uint32_t index) noexcept nogil:
    """A field behind the last of those of the same name, whose first is `old`."""
    http_event(s, HTTP_EV_FIELD_REPEATED)
    while old.flags & HTTP_FIELD_LEADS:
        old = &s.field[old.next]
    old.flags |= HTTP_FIELD_LEADS
    old.next = <uint8_t>index
    s.field[index].flags |= HTTP_FIELD_REPEATED


cdef void other_link(HttpSide *s, const uint8_t *head, uint32_t index) noexcept nogil:
    """Chain a field whose name is not a known one behind those of the same name."""
    cdef const HttpField *new = &s.field[index]
    cdef HttpField *old
    cdef uint32_t i, k
    for i in range(index):
        old = &s.field[i]
        if old.name_len != new.name_len or old.flags & HTTP_FIELD_REPEATED:
            continue
        k = 0
        while k < new.name_len and ascii_lower(head[old.name_off + k]) == ascii_lower(head[new.name_off + k]):
            k += 1
        if k == new.name_len:
            field_chain(s, old, index)
            return


cdef inline void field_link(HttpSide *s, const uint8_t *head, HttpName name, uint32_t index) noexcept nogil:
    cdef uint8_t *first = &s.named[<int>name]
    if name == HTTP_NAME_OTHER:
        other_link(s, head, index)
    elif first[0]:
        field_chain(s, &s.field[first[0] - 1], index)
    else:
        first[0] = <uint8_t>(index + 1)


cdef inline void field_add(HttpRun *r, HttpName known, uint32_t name, uint32_t name_end, uint32_t value,
                           uint32_t value_end) noexcept nogil:
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
    field_link(s, r.memory.head.data, known, s.field_count)
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
    cdef HttpName known = HTTP_NAME_OTHER
    cdef uint32_t name_end = off, value = off
    if colon == NULL:
        http_event(s, HTTP_EV_FIELD_NO_COLON)
    else:
        name_end = <uint32_t>(colon - head)
        value = name_end + 1
        while name_end > off and ascii_is_space(head[name_end - 1]):
            name_end -= 1
            http_event(s, HTTP_EV_FIELD_NAME_ODD)
        if not name_good(head + off, name_end - off):
            http_event(s, HTTP_EV_FIELD_NAME_ODD)
        known = name_known(head + off, name_end - off)
    if colon != NULL or s.direction == HTTP_RESPONSE:
        while value < end and http_is_lws(head[value]):
            value += 1
        value_trim(s, head, value, &end)
    field_add(r, known, off, name_end, value, end)


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


cdef inline bint head_ends(HttpRun *r) noexcept nogil:
    """An empty line; or white space and LF alone, which a LF may follow that belongs to it."""
    cdef HttpSide *s = r.side
    if s.line_end == s.line_off:
        return True
    if s.line_end != s.line_off + 1 or not s.lf or not http_is_lws(r.memory.head.data[s.line_off]):
        return False
    s.skip_lf = 1
    return True


cdef uint32_t plain_copy(const uint8_t *from_, uint32_t left, uint8_t *to, uint32_t *colon) noexcept nogil:
    """A plain line and its first colon, copied from `left` bytes of input: its length without CR LF; 0: it is not plain."""
    cdef uint8_t last[WIDE]
    cdef uint32_t at = 0, bits
    cdef Wide some
    colon[0] = 0
    if http_is_lws(from_[0]):
        return 0
    while at < left:
        if at + WIDE <= left:
            some = wide_load(from_ + at)
        else:
            memset(last, 0, WIDE)
            memcpy(last, from_ + at, left - at)
            some = wide_load(last)
        wide_store(to + at, some)
        bits = wide_equal(some, 58)
        if bits and not colon[0]:
            colon[0] = at + wide_first(bits)
        bits = wide_below(some, 14)
        if bits:
            at += wide_first(bits)
            colon[0] = colon[0] if colon[0] < at else 0
            return at if at + 2 <= left and pair_at(from_, at, CR, LF) else 0
        at += WIDE
    return 0


cdef inline void plain_split(HttpRun *r, uint32_t off, uint32_t end, uint32_t colon) noexcept nogil:
    """A field that is one plain line; `colon` is where its first one stands in the head, 0 where that is not known."""
    cdef const uint8_t *head = r.memory.head.data
    cdef uint32_t value = colon + 1
    cdef HttpName known = name_known(head + off, colon - off) if colon else HTTP_NAME_OTHER
    if known == HTTP_NAME_OTHER and not (colon and name_good(head + off, colon - off)):
        field_split(r, off, end)
        return
    while value < end and head[value] == 32:
        value += 1
    while r.side.direction == HTTP_REQUEST and end > value and head[end - 1] == 32:
        end -= 1
    field_add(r, known, off, colon, value, end)


cdef inline void fields_kept(HttpRun *r, const uint8_t *pos, uint32_t off, uint32_t end, bint opened) noexcept nogil:
    """Plain lines were taken up to `pos`; the last one stands from `off` to `end` and is an open field, or empty."""
    cdef HttpSide *s = r.side
    r.pos = pos
    s.head_len = end + 2
    s.lf = s.field_folded = 0
    s.field_open = opened
    s.field_off = off
    s.field_end = end
    s.line_off = s.head_len if opened else off
    s.line_end = end


cdef bint fields_plain(HttpRun *r) noexcept nogil:
    """As many plain fields as follow; True behind the empty line that ends them. The last one stays open, as after field_line."""
    cdef HttpSide *s = r.side
    cdef uint8_t *head = r.memory.head.data
    cdef uint32_t at = s.head_len, off = s.field_off, end = s.field_end, room = s.head_top - at, left, n, colon = 0, found = 0
    cdef const uint8_t *pos = r.pos
    cdef bint opened = s.field_open, ended = False
    if at != s.line_off or s.cr or opened and s.field_folded or room < WIDE:
        return False
    left = min(http_left(r), room - WIDE)        # what is copied beyond a line's end has room, too
    while left >= 2 and not ended:
        ended = pair_at(pos, 0, CR, LF)
        n = 0 if ended else plain_copy(pos, left, head + at, &found)
        if not ended and not n:
            break
        if opened:
            plain_split(r, off, end, colon)
        opened = not ended
        off = at
        end = at + n
        colon = at + found if found else 0
        head[end] = CR
        head[end + 1] = LF
        at = end + 2
        pos += n + 2
        left -= n + 2
    if pos != r.pos:
        fields_kept(r, pos, off, end, opened)
    return ended


cdef LineAnswer fields_take(HttpRun *r) noexcept nogil:
    cdef HttpSide *s = r.side
    cdef LineAnswer answer
    while r.pos < r.end:
        if fields_plain(r):
            return LINE_WHOLE
        answer = line_take(r)
        if answer != LINE_WHOLE or head_ends(r):
            return answer
        field_line(r)
        s.line_off = s.head_len
    return LINE_MORE


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


cdef const HttpField *field_search(const HttpSide *s, const uint8_t *head, HttpName name) noexcept nogil:
    """Among names with NULs in them; the others are known by `named`."""
    cdef const KnownName *known = &known_names[<int>name]
    cdef uint32_t i
    for i in range(s.field_count):
        if s.field[i].name_len > known.n and name_same(head + s.field[i].name_off, s.field[i].name_len, known.text, known.n):
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
        if i + 1 == s.named[<int>HTTP_NAME_CONTENT_LENGTH]:
            lengths_compare(r, field)
        else:
            field_join(r, field)
