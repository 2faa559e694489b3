# Sixteen bytes at once: which of them are one byte, or below one.
#
# What it owns: nothing.
# Layout: bit n of an answer is byte n of memory. The vectors are GCC's and clang's; SSE2 brings the bits together, other
#     processors and the debug build (so that the tests see both) do it lane by lane.
# Invariants: sixteen bytes are read or written, aligned or not: the caller knows that they are there.
# Who may write what: wide_store the sixteen bytes at `to`.
# What happens when full or broken: there is always an answer.

from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    WIDE = 16                    # bytes

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined __SSE2__ && !defined TF_DEBUG
    #define WIDE_SSE2
    #include <emmintrin.h>
    #endif

    typedef uint8_t Wide __attribute__((vector_size(16)));

    static inline Wide wide_load(const uint8_t *from) { Wide v; memcpy(&v, from, sizeof v); return v; }
    static inline void wide_store(uint8_t *to, Wide v) { memcpy(to, &v, sizeof v); }

    static inline uint32_t wide_bits(Wide lanes) {
    #ifdef WIDE_SSE2
        return (uint32_t)_mm_movemask_epi8((__m128i)lanes);
    #else
        uint32_t bits = 0;
        for (int i = 0; i < 16; i++) bits |= (uint32_t)(lanes[i] >> 7) << i;
        return bits;
    #endif
    }

    static inline uint32_t wide_equal(Wide v, uint8_t byte) { return wide_bits((Wide)(v == (Wide){} + byte)); }
    static inline uint32_t wide_below(Wide v, uint8_t byte) { return wide_bits((Wide)(v < (Wide){} + byte)); }
    static inline uint32_t wide_within(Wide v, uint8_t low, uint8_t count) { return wide_below(v - low, count); }
    static inline uint32_t wide_first(uint32_t bits) { return (uint32_t)__builtin_ctz(bits); }
    """
    ctypedef struct Wide:
        pass
    Wide wide_load(const uint8_t *from_)
    void wide_store(uint8_t *to, Wide v)
    uint32_t wide_bits(Wide lanes)                   # lanes whose upper bit is set
    uint32_t wide_equal(Wide v, uint8_t byte)
    uint32_t wide_below(Wide v, uint8_t byte)        # unsigned
    uint32_t wide_within(Wide v, uint8_t low, uint8_t count)     # low to low + count - 1
    uint32_t wide_first(uint32_t bits)               # the lowest bit set; bits are not 0


cdef inline uint32_t wide_left(uint32_t left) noexcept nogil:
    """The bits of the first `left` bytes."""
    return (<uint32_t>1 << left) - 1 if left < 16 else <uint32_t>0xffff
