# The seeded hash of everything an attacker can choose.
#
# NH (Black, Halevi, Krawczyk, Krovetz, Rogaway: UMAC, CRYPTO 1999): sum of (x[i] + k[i]) * (x[i+1] + k[i+1]) over 64-bit
# words, in 128 bits. For equal lengths and secret random keys no choice of inputs collides with more than about 2^-64;
# the final mix only spreads the bits. Keys: six words, random per table, in the header of the shared memory.

from libc.stdint cimport uint8_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint64_t tf_hash40(const uint8_t *p, const uint64_t *k) {
        uint64_t x[5];
        unsigned __int128 sum;
        uint64_t h;
        memcpy(x, p, 40);
        sum = (unsigned __int128)(x[0] + k[0]) * (x[1] + k[1]);
        sum += (unsigned __int128)(x[2] + k[2]) * (x[3] + k[3]);
        sum += (unsigned __int128)(x[4] + k[4]) * k[5];
        h = (uint64_t)sum ^ (uint64_t)(sum >> 64);
        h ^= h >> 32;
        h *= 0xd6e8feb86659fd93ULL;
        h ^= h >> 32;
        return h;
    }
    /* The same of a FlowTuple whose ends were put in order: both directions of a connection have one hash. */
    static inline uint64_t tf_hash_ends(const uint8_t *p, const uint64_t *k) {
        uint64_t x[5], y[5];
        uint32_t ports;
        int swap;
        memcpy(x, p, 40);
        ports = (uint32_t)x[4];
        swap = x[0] != x[2] ? x[0] > x[2] : x[1] != x[3] ? x[1] > x[3] : (uint16_t)ports > ports >> 16;
        y[0] = swap ? x[2] : x[0];
        y[1] = swap ? x[3] : x[1];
        y[2] = swap ? x[0] : x[2];
        y[3] = swap ? x[1] : x[3];
        y[4] = swap ? (x[4] & ~(uint64_t)0xffffffff) | (ports << 16 | ports >> 16) : x[4];
        return tf_hash40((const uint8_t *)y, k);
    }
    """
    uint64_t hash40 "tf_hash40"(const uint8_t *forty_bytes, const uint64_t *six_keys) noexcept nogil
    uint64_t hash_ends "tf_hash_ends"(const uint8_t *forty_bytes, const uint64_t *six_keys) noexcept nogil
