# A bounded queue between threads, with a lock or without one. See box.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from bench.architectures.threads cimport pthread_cond_t, pthread_mutex_t

cdef enum BoxKind:
    BOX_LOCKED = 0               # mutex and condition variable, any number of writers and readers
    BOX_RING = 1                 # lock-free, one writer, one reader

cdef struct Bell:                # what a ring's reader sleeps on; one for all rings that it reads
    uint32_t rung
    uint32_t sleeping
    uint8_t apart[56]

cdef struct Box:
    BoxKind kind
    uint8_t *items
    size_t item_size
    uint64_t room                # items
    uint64_t mask                # of places; a power of two minus 1
    uint32_t closed
    pthread_mutex_t mutex
    pthread_cond_t filled
    pthread_cond_t emptied
    Bell *bell
    uint8_t apart[64]
    uint64_t head                # next to read: the reader
    uint8_t apart_too[64]
    uint64_t tail                # next to write: the writer

cdef int box_make(Box *b, BoxKind kind, uint64_t room, size_t item_size, Bell *bell) noexcept nogil      # 0, or ENOMEM
cdef void box_free(Box *b) noexcept nogil
cdef int box_put(Box *b, const void *items, int count, bint wait) noexcept nogil                         # how many found room
cdef int box_take(Box *b, void *items, int most, uint64_t wait_ns) noexcept nogil                        # how many; 0: none in time
cdef bint box_over(Box *b) noexcept nogil                                                                # closed and empty
cdef void box_close(Box *b) noexcept nogil
cdef uint64_t bell_wait(Bell *bell, Box **boxes, int count, int turns, uint64_t wait_ns) noexcept nogil    # turns that it spun
