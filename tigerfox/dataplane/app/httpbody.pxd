# Bodies of HTTP messages. See httpbody.pyx.

from libc.stdint cimport uint8_t, uint32_t

from tigerfox.dataplane.app.httpmessage cimport HttpRun

cdef enum BodyAnswer:
    BODY_MORE = 0                # everything was taken
    BODY_NEXT = 1                # another step goes on
    BODY_WHOLE = 2

# From the fields: how long is the body, and how is it encoded? Sets side.step; BODY_WHOLE where there is none.
cdef BodyAnswer body_decide(HttpRun *r) noexcept nogil
# One of the steps LENGTH, CLOSE and CHUNK_*.
cdef BodyAnswer body_step(HttpRun *r) noexcept nogil
# n bytes of body as they came.
cdef void body_add(HttpRun *r, const uint8_t *data, uint32_t n) noexcept nogil
# The decoder, if there is one, goes back to the pool.
cdef void body_release(HttpRun *r) noexcept nogil
