# HTTP/1.x: the stage that takes the bytes of a connection. See http.pyx.

from libc.stdint cimport uint8_t, uint32_t

from tigerfox.dataplane.app.httpinflate cimport InflatePool
from tigerfox.dataplane.app.httpmessage cimport HttpAnswer, HttpDirection, HttpFlow, HttpMemory

cdef enum HttpProbe:
    HTTP_PROBE_MORE = 0
    HTTP_PROBE_YES = 1
    HTTP_PROBE_NO = 2

# Do the first bytes of a direction read as HTTP/1.x?
cdef HttpProbe http_probe(HttpDirection direction, const uint8_t *data, uint32_t n) noexcept nogil

# A new connection. The memory of a direction must keep its size for the life of the flow.
cdef void http_flow_init(HttpFlow *flow, uint32_t request_head_size, uint32_t response_head_size) noexcept nogil

# In-order bytes of one direction, up to the first answer that is not HTTP_MORE; `taken` says how many were used.
# Buffers stay as they are until the next call for this direction; call again with the rest.
cdef HttpAnswer http_feed(HttpFlow *flow, HttpDirection direction, HttpMemory *memory, InflatePool *pool,
                          const uint8_t *data, uint32_t n, uint32_t *taken) noexcept nogil

# The last response will be fed once more from its beginning, since its memory is gone: as if it had not begun.
cdef void response_again(HttpFlow *flow) noexcept nogil

# The direction ends here.
cdef HttpAnswer http_close(HttpFlow *flow, HttpDirection direction, HttpMemory *memory, InflatePool *pool) noexcept nogil

# A direction is given up: its decoder goes back to the pool.
cdef void http_forget(HttpFlow *flow, HttpDirection direction, InflatePool *pool) noexcept nogil

# The flow goes away: its decoders go back to the pool.
cdef void http_release(HttpFlow *flow, InflatePool *pool) noexcept nogil
