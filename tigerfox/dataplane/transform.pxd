# Bytes of a buffer in another form. See transform.pyx.

from libc.stdint cimport uint8_t, uint32_t
from tigerfox.dataplane.image cimport Transform

# Write what `kind` makes of n bytes to `out`, at most `room` bytes; returns how many. `data` may be `out` itself.
cdef uint32_t transform_bytes(Transform kind, const uint8_t *data, uint32_t n, uint8_t *out, uint32_t room) noexcept nogil

# Write what n digits of Base64 stand for to `out`, at most `room` bytes; returns how many.
cdef uint32_t base64_bytes(const uint8_t *data, uint32_t n, uint8_t *out, uint32_t room) noexcept nogil
