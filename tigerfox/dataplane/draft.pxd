# Where an HTTP message is read: in the worker's draft, or in the session's own memory. See draft.pyx.

from libc.stdint cimport uint8_t, uint64_t
from tigerfox.dataplane.app.httpmessage cimport HTTP_PROGRESS_COMPLETE, HTTP_STEP_AFTER, HttpSide
from tigerfox.dataplane.scene cimport Scene

# Before bytes of the stream are fed that begin at `offset`, the first of them `first`: set s.memory. False: what was read before
# of a message that goes on is gone; nothing more of this side can be read.
cdef bint draft_open(Scene *s, uint8_t first, uint64_t offset) noexcept nogil

# Behind them, at stream offset `end`; the last message that was begun in them began at `begun`.
cdef void draft_close(Scene *s, uint64_t begun, uint64_t end) noexcept nogil


# Whether the next byte begins another message, unless it turns out to be more of a response.
cdef inline bint message_over(const HttpSide *h) noexcept nogil:
    return h.transaction == 0 or h.step == HTTP_STEP_AFTER and h.progress == HTTP_PROGRESS_COMPLETE
