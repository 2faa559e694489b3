# First lines of HTTP messages. See httpline.pyx.

from libc.stdint cimport uint8_t, uint32_t

from tigerfox.dataplane.app.httpmessage cimport HttpRun, HttpSide

cdef enum LineLook:
    LOOK_MORE = 0
    LOOK_YES = 1
    LOOK_NO = 2

# Does a response begin here? "http" in any case, behind white space and NULs.
cdef LineLook status_look(const uint8_t *data, uint32_t n) noexcept nogil
# Does a request begin here? A known method, or any token line that ends in HTTP/x.y.
cdef LineLook request_look(const uint8_t *data, uint32_t n) noexcept nogil

# Take the line side.line_off..line_end apart into spans.
cdef void request_line_read(HttpRun *r) noexcept nogil
cdef void status_line_read(HttpRun *r) noexcept nogil

cdef bint line_is_blank(const uint8_t *line, uint32_t n) noexcept nogil
