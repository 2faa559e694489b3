# What rules look at: the buffers of a message by their number. See httpbuffer.pyx.

from tigerfox.dataplane.app.httpmessage cimport HttpBuffer, HttpMemory, HttpProgress, HttpSide, HttpSpan

# The span of a buffer, made on first use; false where the message has no such buffer (yet).
cdef bint http_buffer(HttpSide *s, HttpMemory *memory, HttpBuffer which, HttpSpan *span) noexcept nogil

# From which progress on a buffer is whole (HTTP_BUF_BODY grows until HTTP_PROGRESS_COMPLETE).
cdef HttpProgress http_buffer_progress(HttpBuffer which) noexcept nogil
