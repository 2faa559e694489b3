# Loads, stores and exchanges on memory that other processes write at the same time (GCC's __atomic builtins).
#
# A reader under a sequence: load_acquire the sequence, copy, fence_acquire, load_relaxed the sequence again.
# A writer: exchange the sequence to odd, fence_release, write, store_release the next even sequence.

from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    static inline uint64_t tf_load_acquire(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline uint64_t tf_load_relaxed(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
    static inline uint32_t tf_load_relaxed32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
    static inline uint16_t tf_load_relaxed16(const uint16_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
    static inline void tf_store_release(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline void tf_store_relaxed(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
    static inline void tf_store_relaxed32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
    static inline void tf_store_relaxed16(uint16_t *p, uint16_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
    static inline int tf_exchange_if(uint64_t *p, uint64_t expected, uint64_t wanted) {
        return __atomic_compare_exchange_n(p, &expected, wanted, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    static inline void tf_add(uint64_t *p, uint64_t n) { __atomic_fetch_add(p, n, __ATOMIC_RELAXED); }
    static inline void tf_add16(uint16_t *p, uint16_t n) { __atomic_fetch_add(p, n, __ATOMIC_RELAXED); }
    static inline void tf_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
    static inline void tf_fence_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
    static inline void tf_fence_full(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    static inline void tf_prefetch(const void *p) { __builtin_prefetch(p, 0, 3); }
    static inline int tf_lowest_bit(uint64_t v) { return __builtin_ctzll(v); }
    """
    uint64_t load_acquire "tf_load_acquire"(const uint64_t *p) noexcept nogil
    uint64_t load_relaxed "tf_load_relaxed"(const uint64_t *p) noexcept nogil
    uint32_t load_relaxed32 "tf_load_relaxed32"(const uint32_t *p) noexcept nogil
    uint16_t load_relaxed16 "tf_load_relaxed16"(const uint16_t *p) noexcept nogil
    void store_release "tf_store_release"(uint64_t *p, uint64_t v) noexcept nogil
    void store_relaxed "tf_store_relaxed"(uint64_t *p, uint64_t v) noexcept nogil
    void store_relaxed32 "tf_store_relaxed32"(uint32_t *p, uint32_t v) noexcept nogil
    void store_relaxed16 "tf_store_relaxed16"(uint16_t *p, uint16_t v) noexcept nogil
    int exchange_if "tf_exchange_if"(uint64_t *p, uint64_t expected, uint64_t wanted) noexcept nogil   # 1: exchanged
    void atomic_add "tf_add"(uint64_t *p, uint64_t n) noexcept nogil
    void atomic_add16 "tf_add16"(uint16_t *p, uint16_t n) noexcept nogil
    void fence_acquire "tf_fence_acquire"() noexcept nogil
    void fence_release "tf_fence_release"() noexcept nogil
    void fence_full "tf_fence_full"() noexcept nogil
    void prefetch "tf_prefetch"(const void *p) noexcept nogil
    int lowest_bit "tf_lowest_bit"(uint64_t v) noexcept nogil         # of a word that is not 0
