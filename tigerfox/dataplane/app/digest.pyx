"""MD5 (RFC 1321) of a JA3 string and SHA-1 (RFC 3174) of a certificate: names for things, not protection."""

# What it owns: MD5's table of constants, filled once at import, then constant.
#
# Layout: both hashes eat 64-byte blocks; the last one or two are built on the stack (`block_last`), MD5 with its length
#     in little-endian order, SHA-1 in big-endian.
#
# Invariants: reads [data, data + n) and nothing else. No allocation, no library: libcrypto's interface allocates a
#     context for each digest, may be missing or forbid MD5 (FIPS mode), and would be the data plane's only
#     dependency, for a hash that is taken once per connection over some 300 bytes.
#
# Who may write what: the caller's text.
#
# What happens when full or broken: nothing can be; any n is within what both hashes allow.

from libc.math cimport fabs, floor, sin
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset
from tigerfox.dataplane.wire cimport load_be32, store_be32

cdef uint32_t MD5_SINES[64]
cdef uint8_t MD5_TURNS[16]
MD5_TURNS[:] = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21]

cdef int _place
for _place in range(64):
    MD5_SINES[_place] = <uint32_t>floor(fabs(sin(<double>(_place + 1))) * 4294967296.0)       # RFC 1321, 3.4


cdef inline uint32_t turn(uint32_t word, uint32_t by) noexcept nogil:
    return word << by | word >> (32 - by)


cdef inline uint32_t load_le32(const uint8_t *p) noexcept nogil:
    return <uint32_t>p[0] | <uint32_t>p[1] << 8 | <uint32_t>p[2] << 16 | <uint32_t>p[3] << 24


cdef inline void store_le32(uint8_t *p, uint32_t word) noexcept nogil:
    p[0] = <uint8_t>word
    p[1] = <uint8_t>(word >> 8)
    p[2] = <uint8_t>(word >> 16)
    p[3] = <uint8_t>(word >> 24)


cdef inline uint32_t md5_mix(int step, uint32_t b, uint32_t c, uint32_t d) noexcept nogil:
    if step < 16:
        return b & c | ~b & d
    if step < 32:
        return d & b | ~d & c
    return b ^ c ^ d if step < 48 else c ^ (b | ~d)


cdef inline int md5_word(int step) noexcept nogil:
    if step < 16:
        return step
    if step < 32:
        return (5 * step + 1) & 15
    return (3 * step + 5) & 15 if step < 48 else (7 * step) & 15


cdef void md5_block(uint32_t *state, const uint8_t *block) noexcept nogil:
    cdef uint32_t a = state[0], b = state[1], c = state[2], d = state[3], sum
    cdef int step
    for step in range(64):
        sum = a + md5_mix(step, b, c, d) + MD5_SINES[step] + load_le32(block + 4 * md5_word(step))
        a, d, c = d, c, b
        b += turn(sum, MD5_TURNS[step // 16 * 4 + (step & 3)])
    state[0] += a
    state[1] += b
    state[2] += c
    state[3] += d


cdef void sha1_block(uint32_t *state, const uint8_t *block) noexcept nogil:
    cdef uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], sum
    cdef uint32_t words[80]
    cdef int step
    for step in range(80):
        if step < 16:
            words[step] = load_be32(block + 4 * step)
        else:
            words[step] = turn(words[step - 3] ^ words[step - 8] ^ words[step - 14] ^ words[step - 16], 1)
        if step < 20:
            sum = (b & c | ~b & d) + 0x5a827999U
        elif step < 40:
            sum = (b ^ c ^ d) + 0x6ed9eba1U
        elif step < 60:
            sum = (b & c | b & d | c & d) + 0x8f1bbcdcU
        else:
            sum = (b ^ c ^ d) + 0xca62c1d6U
        sum += turn(a, 5) + e + words[step]
        e, d, c, b, a = d, c, turn(b, 30), a, sum
    state[0] += a
    state[1] += b
    state[2] += c
    state[3] += d
    state[4] += e


cdef uint32_t block_last(const uint8_t *rest, uint32_t n, uint8_t *block) noexcept nogil:
    """Put the last bytes, the stop bit and zeros into block; answer where the 64-bit length goes."""
    cdef uint32_t place = 56 if n < 56 else 120
    memset(block, 0, 128)
    if n:
        memcpy(block, rest, n)
    block[n] = 0x80
    return place


cdef inline void hex_put(uint8_t *text, uint8_t byte) noexcept nogil:
    cdef uint8_t high = byte >> 4, low = byte & 15
    text[0] = high + (48 if high < 10 else 87)
    text[1] = low + (48 if low < 10 else 87)


cdef void md5_hex(const uint8_t *data, uint32_t n, uint8_t *text) noexcept nogil:
    cdef uint32_t state[4]
    cdef uint32_t at = 0, place
    cdef uint8_t block[128]
    state[0], state[1], state[2], state[3] = 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476
    while n - at >= 64:
        md5_block(state, data + at)
        at += 64
    place = block_last(data + at, n - at, block)
    store_le32(block + place, n << 3)
    store_le32(block + place + 4, n >> 29)
    md5_block(state, block)
    if place > 64:
        md5_block(state, block + 64)
    for place in range(4):
        store_le32(block + 4 * place, state[place])
    for place in range(16):
        hex_put(text + 2 * place, block[place])


cdef void sha1_hex_colons(const uint8_t *data, uint32_t n, uint8_t *text) noexcept nogil:
    cdef uint32_t state[5]
    cdef uint32_t at = 0, place
    cdef uint8_t block[128]
    state[0], state[1], state[2], state[3], state[4] = 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0
    while n - at >= 64:
        sha1_block(state, data + at)
        at += 64
    place = block_last(data + at, n - at, block)
    store_be32(block + place, n >> 29)
    store_be32(block + place + 4, n << 3)
    sha1_block(state, block)
    if place > 64:
        sha1_block(state, block + 64)
    for place in range(5):
        store_be32(block + 4 * place, state[place])
    for place in range(20):
        hex_put(text + 3 * place, block[place])
        if place < 19:
            text[3 * place + 2] = 58


# Public API

def digest(bytes data, str kind):
    """The text a rule compares with: ``kind`` is "md5" (JA3, RFC 1321) or "sha1" (certificate fingerprint, RFC 3174)."""
    cdef uint8_t text[59]
    if kind == "md5":
        md5_hex(<const uint8_t *>data, <uint32_t>len(data), text)
        return (<char *>text)[:32].decode()
    if kind == "sha1":
        sha1_hex_colons(<const uint8_t *>data, <uint32_t>len(data), text)
        return (<char *>text)[:59].decode()
    raise ValueError(f"no digest {kind!r}: write md5 or sha1")
