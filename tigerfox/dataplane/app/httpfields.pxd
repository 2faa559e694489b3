# Lines of a message head, and the table of its fields. See httpfields.pyx.

from libc.stdint cimport uint8_t, uint32_t

from tigerfox.dataplane.app.httpmessage cimport (
    HTTP_EV_FIELD_NAME_ODD, HTTP_NAME_COOKIE, HTTP_NAME_SET_COOKIE, HTTP_REQUEST, HttpField, HttpName, HttpRun, HttpSide,
    http_has_event)

cdef enum LineAnswer:
    LINE_MORE = 0
    LINE_WHOLE = 1               # side.line_off to side.line_end is its text
    LINE_FULL = 2                # the head's memory is full

# The next line of a head, from the input into `head`. CR alone ends the lines of a response.
cdef LineAnswer line_take(HttpRun *r) noexcept nogil

# Lines as header fields up to the empty one that ends them (LINE_WHOLE).
cdef LineAnswer fields_take(HttpRun *r) noexcept nogil
# A whole line as a header field, or as the continuation of one.
cdef void field_line(HttpRun *r) noexcept nogil
# No more fields come: the last one is closed, repeated ones are joined.
cdef void fields_finish(HttpRun *r) noexcept nogil

cdef inline HttpName cookie_name(const HttpSide *s) noexcept nogil:
    """The field that is the cookie of a message of this direction."""
    return HTTP_NAME_COOKIE if s.direction == HTTP_REQUEST else HTTP_NAME_SET_COOKIE

cdef const HttpField *field_search(const HttpSide *s, const uint8_t *head, HttpName name) noexcept nogil

cdef inline const HttpField *field_find(const HttpSide *s, const uint8_t *head, HttpName name) noexcept nogil:
    """The first field of that name, or NULL."""
    if s.named[<int>name]:
        return &s.field[s.named[<int>name] - 1]
    return field_search(s, head, name) if http_has_event(s, HTTP_EV_FIELD_NAME_ODD) else NULL

# n bytes at the derived end of `head`: the offset, or HTTP_HEAD_MAX + 1 (and an event) where there is no room.
cdef uint32_t derived_take(HttpRun *r, uint32_t n) noexcept nogil
