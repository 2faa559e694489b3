# What rules look at: the buffers of a message by their number. See httpbuffer.pyx.

from libc.stdint cimport uint64_t

from tigerfox.dataplane.app.httpmessage cimport HTTP_BUF_BODY, HttpBuffer, HttpMemory, HttpProgress, HttpSide, HttpSpan

# Makes the span of a buffer where the message has come far enough.
cdef void http_buffer_make(HttpSide *s, HttpMemory *memory, HttpBuffer which) noexcept nogil

cdef inline bint http_buffer(HttpSide *s, HttpMemory *memory, HttpBuffer which, HttpSpan *span) noexcept nogil:
    """The span of a buffer, made on first use; false where the message has no such buffer (yet)."""
    if which == HTTP_BUF_BODY:
        span.off = 0
        span.len = s.body_len
        return s.body_total != 0
    if not (s.built >> which) & 1:
        http_buffer_make(s, memory, which)
    span[0] = s.span[<int>which]
    return (s.there >> which) & 1

# From which progress on a buffer is whole (HTTP_BUF_BODY grows until HTTP_PROGRESS_COMPLETE).
cdef HttpProgress http_buffer_progress(HttpBuffer which) noexcept nogil
