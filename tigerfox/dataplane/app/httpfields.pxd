# Lines of a message head, and the table of its fields. See httpfields.pyx.

from libc.stdint cimport uint8_t, uint32_t

from tigerfox.dataplane.app.httpmessage cimport HTTP_EV_FIELD_NAME_ODD, HttpField, HttpRun, HttpSide, http_has_event

cdef enum LineAnswer:
    LINE_MORE = 0
    LINE_WHOLE = 1               # side.line_off to side.line_end is its text
    LINE_FULL = 2                # the head's memory is full

# The next line of a head, from the input into `head`. CR alone ends the lines of a response.
cdef LineAnswer line_take(HttpRun *r) noexcept nogil

# A whole line as a header field, or as the continuation of one.
cdef void field_line(HttpRun *r) noexcept nogil
# No more fields come: the last one is closed, repeated ones are joined.
cdef void fields_finish(HttpRun *r) noexcept nogil

cdef const HttpField *field_search(const HttpSide *s, const uint8_t *head, const char *name, uint32_t n) noexcept nogil

cdef inline const HttpField *field_find(const HttpSide *s, const uint8_t *head, const char *name, uint32_t n) noexcept nogil:
    """The field with that name (lower case), or NULL. Most messages lack most names, and their lengths tell."""
    if not s.name_sizes >> (n & 31) & 1 and not http_has_event(s, HTTP_EV_FIELD_NAME_ODD):
        return NULL
    return field_search(s, head, name, n)

# n bytes at the derived end of `head`: the offset, or HTTP_HEAD_MAX + 1 (and an event) where there is no room.
cdef uint32_t derived_take(HttpRun *r, uint32_t n) noexcept nogil
