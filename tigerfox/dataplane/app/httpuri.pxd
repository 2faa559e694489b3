# Request targets, split and normalised. See httpuri.pyx.

from libc.stdint cimport uint8_t, uint32_t

cdef struct UriParts:            # offsets into the target; an absent part has length 0 and, for query and fragment, has_* 0
    uint32_t host_off
    uint32_t host_len
    uint32_t path_off
    uint32_t path_len
    uint32_t query_off
    uint32_t query_len
    uint32_t fragment_off
    uint32_t fragment_len
    uint8_t has_query
    uint8_t has_fragment

cdef void uri_split(const uint8_t *raw, uint32_t n, UriParts *parts) noexcept nogil

# Is the target, of which `readable` bytes may be read, surely in normal form as it is?
cdef bint uri_is_normal(const uint8_t *raw, uint32_t n, uint32_t readable) noexcept nogil

# Writes path, query and fragment in normal form to `out`, which has room for n bytes; `odd` is set where the
# encoding is. Returns the length.
cdef uint32_t uri_normalise(const uint8_t *raw, uint32_t n, uint8_t *out, bint *odd) noexcept nogil
