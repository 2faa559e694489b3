# TLS up to the point where it is encrypted: hellos and certificates.

from libc.stdint cimport uint8_t, uint32_t
from tigerfox.dataplane.app.buffer cimport AppAnswer, AppBuffer, AppProbe
from tigerfox.dataplane.app.tlsstate cimport TlsState

cdef AppProbe tls_probe(const uint8_t *data, uint32_t n) noexcept nogil
cdef AppAnswer tls_feed(TlsState *s, AppBuffer *b, const uint8_t *data, uint32_t n) noexcept nogil
