# The body of a TLS hello, and the fingerprint taken of it.

from libc.stdint cimport uint32_t
from tigerfox.dataplane.app.buffer cimport AppBuffer
from tigerfox.dataplane.app.tlsstate cimport TlsState

cdef bint hello_read(TlsState *s, AppBuffer *b, uint32_t off, uint32_t n, bint server) noexcept nogil
