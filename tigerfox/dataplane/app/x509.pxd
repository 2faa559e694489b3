# What rules can see of one certificate.

from libc.stdint cimport int64_t, uint8_t, uint32_t
from tigerfox.dataplane.app.buffer cimport AppBuffer, AppSpan

cdef enum X509Fault:
    X509_NONE = 0
    X509_LENGTH = 1              # a length that leaves its parent, or one that DER does not have
    X509_TAG = 2                 # another element than RFC 5280 has in this place
    X509_DATE = 3
    X509_ROOM = 4                # the text did not fit into the buffer

cdef struct X509Text:            # written by x509_read, spans of the caller's buffer
    AppSpan subject              # "C=US, O=Example, CN=example.org"
    AppSpan issuer
    AppSpan serial               # "0A:1B:.."
    int64_t not_before           # Unix time, seconds
    int64_t not_after

cdef X509Fault x509_read(const uint8_t *der, uint32_t n, AppBuffer *text, X509Text *out) noexcept nogil
