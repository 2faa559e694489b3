# MD5 and SHA-1 as the hexadecimal text that rules name.

from libc.stdint cimport uint8_t, uint32_t

cdef void md5_hex(const uint8_t *data, uint32_t n, uint8_t *text) noexcept nogil         # 32 characters, lower case
cdef void sha1_hex_colons(const uint8_t *data, uint32_t n, uint8_t *text) noexcept nogil  # 59 characters, "aa:bb:.."
