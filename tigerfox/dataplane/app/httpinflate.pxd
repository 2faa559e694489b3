# Decoders of encoded bodies: a pool of them, allocated once. See httpinflate.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from tigerfox.dataplane.app.buffer cimport AppBuffer

cdef enum Coding:
    CODING_NONE = 0
    CODING_GZIP = 1
    CODING_DEFLATE = 2

cdef enum InflateNote:           # bits of what inflate_feed answers
    INFLATE_FALSE = 1            # not encoded as announced
    INFLATE_BROKEN = 2           # an error behind the first output
    INFLATE_TRAILING = 4         # bytes behind the end
    INFLATE_BOMB = 8             # the bound on work
    INFLATE_FULL = 16            # the output is full; nothing more is decoded
    INFLATE_LOST = 32            # the handle is of another pool

cdef struct InflatePool:
    uint64_t epoch               # set at start: another one for every process
    uint32_t slots
    uint32_t used
    uint32_t next                # where the search for a free slot begins
    void *memory

# Allocates all that the pool will ever use (about 150 KB a slot); NULL when there is no memory.
cdef InflatePool *inflate_pool_new(uint32_t slots, uint64_t epoch) noexcept nogil
cdef void inflate_pool_free(InflatePool *pool) noexcept nogil

# A handle for `layers` decoders in the order of decoding; 0 when all slots are taken.
cdef uint32_t inflate_open(InflatePool *pool, const uint8_t *coding, uint32_t layers) noexcept nogil
cdef void inflate_close(InflatePool *pool, uint32_t handle) noexcept nogil

# Decodes all of data behind out.used, at most to out.size. InflateNote bits.
cdef uint32_t inflate_feed(InflatePool *pool, uint32_t handle, const uint8_t *data, uint32_t n, AppBuffer *out) noexcept nogil
