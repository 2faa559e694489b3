# Reading what came from the wire: one bounds check, loads by memcpy.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <string.h>
    #include <stdint.h>
    static inline uint16_t tf_load_be16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return __builtin_bswap16(v); }
    static inline uint32_t tf_load_be32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
    static inline uint64_t tf_load_be64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return __builtin_bswap64(v); }
    static inline void tf_store_be16(uint8_t *p, uint16_t v) { v = __builtin_bswap16(v); memcpy(p, &v, 2); }
    static inline void tf_store_be32(uint8_t *p, uint32_t v) { v = __builtin_bswap32(v); memcpy(p, &v, 4); }
    """
    uint16_t load_be16 "tf_load_be16"(const uint8_t *p) noexcept nogil
    uint32_t load_be32 "tf_load_be32"(const uint8_t *p) noexcept nogil
    uint64_t load_be64 "tf_load_be64"(const uint8_t *p) noexcept nogil
    void store_be16 "tf_store_be16"(uint8_t *p, uint16_t v) noexcept nogil
    void store_be32 "tf_store_be32"(uint8_t *p, uint32_t v) noexcept nogil


cdef struct Cursor:
    const uint8_t *pos
    const uint8_t *end


cdef inline uint32_t cur_left(const Cursor *c) noexcept nogil:
    return <uint32_t>(c.end - c.pos)


cdef inline const uint8_t *cur_take(Cursor *c, uint32_t n) noexcept nogil:
    """Return the next n bytes and move behind them, or NULL and stay where fewer are left."""
    cdef const uint8_t *here = c.pos
    if cur_left(c) < n:
        return NULL
    c.pos = here + n
    return here
