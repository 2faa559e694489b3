"""A bounded queue from thread to thread, with a lock or without one.

What it owns
    `room` items of one size, copied in and copied out, as the std::queue of the documents does.

Layout
    A ring of a power of two places; `tail - head` items lie in it. A locked box keeps both under its mutex. In a lock-free
    one the writer alone moves `tail`, the reader alone `head`, each in a cache line of its own.

Invariants
    An item is taken once, in the order of its box. What was put before box_close is still taken.

Who may write what
    Locked: any thread, under the mutex. Ring: see above. Bell.rung: writers; Bell.sleeping: the reader.

What happens when full or broken
    box_put takes what there is room for, or waits for the reader where asked to. Every sleep ends after TICK_NS and looks again.
"""

from libc.errno cimport ENOMEM
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from bench.architectures.threads cimport *

cdef enum:
    TICK_NS = 100_000_000
    PAUSES_BEFORE_YIELD = 64


cdef int box_make(Box *b, BoxKind kind, uint64_t room, size_t item_size, Bell *bell) noexcept nogil:
    cdef uint64_t places = 1
    while places < room:
        places <<= 1
    memset(b, 0, sizeof(Box))
    b.kind, b.room, b.mask, b.item_size, b.bell = kind, room, places - 1, item_size, bell
    b.items = <uint8_t *>calloc(places, item_size)
    if b.items == NULL:
        return ENOMEM
    memset(b.items, 1, places * item_size)       # touch every page now, not in the run
    pthread_mutex_init(&b.mutex, NULL)
    condition_init(&b.filled)
    condition_init(&b.emptied)
    return 0


cdef void box_free(Box *b) noexcept nogil:
    if b.items != NULL:
        pthread_cond_destroy(&b.filled)
        pthread_cond_destroy(&b.emptied)
        pthread_mutex_destroy(&b.mutex)
        free(b.items)
        b.items = NULL


cdef inline void items_in(Box *b, uint64_t at, const uint8_t *items, uint64_t count) noexcept nogil:
    cdef uint64_t i
    for i in range(count):
        memcpy(b.items + ((at + i) & b.mask) * b.item_size, items + i * b.item_size, b.item_size)


cdef inline void items_out(Box *b, uint64_t at, uint8_t *items, uint64_t count) noexcept nogil:
    cdef uint64_t i
    for i in range(count):
        memcpy(items + i * b.item_size, b.items + ((at + i) & b.mask) * b.item_size, b.item_size)


cdef int box_put(Box *b, const void *items, int count, bint wait) noexcept nogil:
    cdef int done = 0
    if b.kind == BOX_LOCKED:
        return locked_put(b, <const uint8_t *>items, count, wait)
    while True:
        done += ring_put(b, <const uint8_t *>items + done * b.item_size, count - done)
        if done == count or not wait:
            return done
        sched_yield()


cdef int locked_put(Box *b, const uint8_t *items, int count, bint wait) noexcept nogil:
    cdef uint64_t free_places, n
    cdef int done = 0
    pthread_mutex_lock(&b.mutex)
    while done < count:
        free_places = b.room - (b.tail - b.head)
        n = <uint64_t>(count - done)
        n = n if n < free_places else free_places
        items_in(b, b.tail, items + done * b.item_size, n)
        b.tail += n
        done += <int>n
        if n:
            pthread_cond_signal(&b.filled)
        elif not wait:
            break
        else:
            condition_wait(&b.emptied, &b.mutex, TICK_NS)
    pthread_mutex_unlock(&b.mutex)
    return done


cdef inline int ring_put(Box *b, const uint8_t *items, int count) noexcept nogil:
    cdef uint64_t free_places = b.room - (b.tail - long_load(&b.head)), n = <uint64_t>count
    n = n if n < free_places else free_places
    if n == 0:
        return 0
    items_in(b, b.tail, items, n)
    long_store(&b.tail, b.tail + n)
    bell_ring(b.bell)
    return <int>n


cdef inline void bell_ring(Bell *bell) noexcept nogil:
    full_fence()
    if word_load(&bell.sleeping):
        word_add(&bell.rung, 1)
        word_wake(&bell.rung, 1)


cdef int box_take(Box *b, void *items, int most, uint64_t wait_ns) noexcept nogil:
    """For a ring `wait_ns` does not count: its reader waits by bell_wait."""
    cdef uint64_t n
    if b.kind == BOX_LOCKED:
        return locked_take(b, <uint8_t *>items, most, wait_ns)
    n = long_load(&b.tail) - b.head
    n = n if n < <uint64_t>most else <uint64_t>most
    items_out(b, b.head, <uint8_t *>items, n)
    long_store(&b.head, b.head + n)
    return <int>n


cdef int locked_take(Box *b, uint8_t *items, int most, uint64_t wait_ns) noexcept nogil:
    cdef uint64_t n
    pthread_mutex_lock(&b.mutex)
    if b.tail == b.head and not b.closed and wait_ns:
        condition_wait(&b.filled, &b.mutex, wait_ns if wait_ns < TICK_NS else TICK_NS)
    n = b.tail - b.head
    n = n if n < <uint64_t>most else <uint64_t>most
    items_out(b, b.head, items, n)
    b.head += n
    if n:
        pthread_cond_signal(&b.emptied)
    pthread_mutex_unlock(&b.mutex)
    return <int>n


cdef bint box_over(Box *b) noexcept nogil:
    return word_load(&b.closed) and long_load(&b.tail) == long_load(&b.head)


cdef void box_close(Box *b) noexcept nogil:
    pthread_mutex_lock(&b.mutex)
    word_store(&b.closed, 1)
    pthread_cond_broadcast(&b.filled)
    pthread_mutex_unlock(&b.mutex)
    if b.bell != NULL:
        bell_ring(b.bell)


cdef inline bint boxes_empty(Box **boxes, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        if long_load(&boxes[i].tail) != long_load(&boxes[i].head) or word_load(&boxes[i].closed):
            return False
    return True


cdef uint64_t bell_wait(Bell *bell, Box **boxes, int count, int turns, uint64_t wait_ns) noexcept nogil:
    """Look up to `turns` times, then sleep until one of the boxes has something, at most `wait_ns`."""
    cdef uint32_t rung
    cdef uint64_t spun = 0
    while spun < <uint64_t>turns and boxes_empty(boxes, count):
        spun += 1
        cpu_pause()
        if spun % PAUSES_BEFORE_YIELD == 0:
            sched_yield()
    if spun < <uint64_t>turns:
        return spun
    rung = word_load(&bell.rung)
    word_store(&bell.sleeping, 1)
    full_fence()
    if boxes_empty(boxes, count):
        word_wait(&bell.rung, rung, wait_ns if wait_ns < TICK_NS else TICK_NS)
    word_store(&bell.sleeping, 0)
    return spun
