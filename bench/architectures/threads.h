/* What the engines need of threads and the kernel: atomics, futex, clocks. All of it inline, none of it for the product. */
#ifndef TF_BENCH_THREADS_H
#define TF_BENCH_THREADS_H
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline uint32_t word_load(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void word_store(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline uint32_t word_add(uint32_t *p, uint32_t n) { return __atomic_add_fetch(p, n, __ATOMIC_SEQ_CST); }
static inline uint64_t long_add(uint64_t *p, uint64_t n) { return __atomic_fetch_add(p, n, __ATOMIC_RELAXED); }
static inline uint64_t long_load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void long_store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void full_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

static inline void cpu_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static inline uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static inline void sleep_ns(uint64_t ns) {
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

/* Sleep while *p is `seen`, at most `ns` (every wait of a bench ends by itself). */
static inline void word_wait(uint32_t *p, uint32_t seen, uint64_t ns) {
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    syscall(SYS_futex, p, FUTEX_WAIT_PRIVATE, seen, &t, NULL, 0);
}
static inline void word_wake(uint32_t *p, int how_many) { syscall(SYS_futex, p, FUTEX_WAKE_PRIVATE, how_many, NULL, NULL, 0); }

static inline void condition_init(pthread_cond_t *c) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* The mutex is held; waits at most `ns`. */
static inline void condition_wait(pthread_cond_t *c, pthread_mutex_t *m, uint64_t ns) {
    uint64_t end = now_ns() + ns;
    struct timespec t = {.tv_sec = (time_t)(end / 1000000000u), .tv_nsec = (long)(end % 1000000000u)};
    pthread_cond_timedwait(c, m, &t);
}

/* Dependent multiplications: rules that cost more than TigerFox's matcher does. */
static inline uint64_t work_turns(uint32_t turns, uint64_t x) {
    for (uint32_t i = 0; i < turns; i++) {
        x = x * 0x9e3779b97f4a7c15u + 1;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}
#endif
