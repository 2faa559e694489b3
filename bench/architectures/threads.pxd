# Threads, atomics, futex and clocks: threads.h.

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "threads.h" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_barrier_t:
        pass
    int pthread_create(pthread_t *thread, const void *attributes, void *(*run)(void *) noexcept nogil, void *argument)
    int pthread_join(pthread_t thread, void **result)
    int pthread_mutex_init(pthread_mutex_t *m, const void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *m)
    int pthread_mutex_lock(pthread_mutex_t *m)
    int pthread_mutex_unlock(pthread_mutex_t *m)
    int pthread_cond_destroy(pthread_cond_t *c)
    int pthread_cond_signal(pthread_cond_t *c)
    int pthread_cond_broadcast(pthread_cond_t *c)
    int pthread_barrier_init(pthread_barrier_t *b, const void *attributes, unsigned int count)
    int pthread_barrier_wait(pthread_barrier_t *b)
    int pthread_barrier_destroy(pthread_barrier_t *b)
    int sched_yield()
    uint32_t word_load(const uint32_t *p)
    void word_store(uint32_t *p, uint32_t v)
    uint32_t word_add(uint32_t *p, uint32_t n)          # the sum
    uint64_t long_add(uint64_t *p, uint64_t n)          # what was there before
    uint64_t long_load(const uint64_t *p)
    void long_store(uint64_t *p, uint64_t v)
    void full_fence()
    void cpu_pause()
    uint64_t now_ns()
    void sleep_ns(uint64_t ns)
    void word_wait(uint32_t *p, uint32_t seen, uint64_t ns)
    void word_wake(uint32_t *p, int how_many)
    void condition_init(pthread_cond_t *c)
    void condition_wait(pthread_cond_t *c, pthread_mutex_t *m, uint64_t ns)
    uint64_t work_turns(uint32_t turns, uint64_t x)
