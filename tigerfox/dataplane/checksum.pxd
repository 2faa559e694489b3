# The Internet checksum (RFC 1071), for packets that are built here and those that are changed.

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from tigerfox.dataplane.tcp cimport PROTO_TCP
from tigerfox.dataplane.wire cimport load_be16, store_be16


cdef inline uint32_t sum_words(const uint8_t *data, uint32_t length, uint32_t total) noexcept nogil:
    """Add 16-bit words for an Internet checksum; at most 64 KiB, so 32 bits hold the carries."""
    cdef uint32_t i
    for i in range(0, length & ~<uint32_t>1, 2):
        total += load_be16(data + i)
    if length & 1:
        total += <uint32_t>data[length - 1] << 8
    return total


cdef inline uint16_t fold(uint32_t total) noexcept nogil:
    total = (total & 0xffff) + (total >> 16)
    return <uint16_t>~((total & 0xffff) + (total >> 16))


cdef inline uint32_t pseudo_sum(const uint8_t *ip, uint32_t ip_size, int proto, uint32_t length) noexcept nogil:
    """The sum over the pseudo header: both addresses, which end the IP header (20 or 40 bytes), protocol and length."""
    cdef uint32_t addresses = 8 if ip_size == 20 else 32
    return sum_words(ip + ip_size - addresses, addresses, <uint32_t>proto + length)


cdef inline void tcp_seal(uint8_t *ip, uint32_t ip_size, uint32_t length) noexcept nogil:
    """Write the checksum of a TCP segment of `length` bytes, header and all, behind an IP header of 20 or 40."""
    store_be16(ip + ip_size + 16, 0)
    store_be16(ip + ip_size + 16, fold(sum_words(ip + ip_size, length, pseudo_sum(ip, ip_size, PROTO_TCP, length))))
