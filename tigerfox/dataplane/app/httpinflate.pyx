"""Decoders of encoded HTTP bodies: gzip and deflate in up to two layers, bounded in memory, output and work."""

# What it owns: pools. A pool is one allocation at start: slots of two layers, each with a z_stream, the memory that zlib
#     asks for (a bump allocator; window and state, once) and a buffer for its output.
#
# Layout: pool [ slot [ layer | layer ] | slot ... ]. Data goes into layer 0, its output into layer 1 or to the caller.
#     A handle is slot + 1 in its lower half and the slot's generation in its upper half.
#
# Invariants: nothing is allocated after the start. zlib's state is full of pointers, so it is private to its process: this
#     is the one part of a flow that a successor does not inherit. The flow keeps handle and epoch; another
#     epoch, or another generation, means that the decoder is gone, which is INFLATE_LOST and not a guess.
#     What a layer made does not depend on how its input was cut.
#
# Who may write what: the worker that made the pool.
#
# What happens when full or broken: servers announce one encoding and send another, and browsers cope, so a layer that fails
#     within its first LAYER_HEAD bytes and before any output tries the other encodings and in the end hands the bytes on
#     as they are. An error behind output ends the layer; what was made stays. A gzip header with unknown flags is skipped by
#     its length. Several gzip members are one body. Work (bytes made by a layer that another layer reads) ends at
#     BOMB_LIMIT, the last layer ends when the output is full.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

cdef extern from "zlib.h" nogil:
    ctypedef void *(*alloc_func)(void *opaque, unsigned int items, unsigned int size) noexcept nogil
    ctypedef void (*free_func)(void *opaque, void *address) noexcept nogil
    ctypedef struct z_stream:
        uint8_t *next_in
        unsigned int avail_in
        unsigned long total_in
        uint8_t *next_out
        unsigned int avail_out
        alloc_func zalloc
        free_func zfree
        void *opaque
    int inflateInit2(z_stream *stream, int window_bits)
    int inflateReset2(z_stream *stream, int window_bits)
    int inflate(z_stream *stream, int flush)
    int Z_OK, Z_STREAM_END, Z_BUF_ERROR, Z_SYNC_FLUSH

cdef enum:
    LAYER_MEMORY = 56 * 1024     # zlib 1.2 asks for 7 KB of state and 32 KB of window
    LAYER_OUTPUT = 16 * 1024
    LAYER_HEAD = 512             # input kept until the first output, for another try
    HEADER_MORE = 0xffffffff
    BOMB_LIMIT = 1 << 20         # libhtp: compression-bomb-limit
    BITS_AUTO = 15 + 32          # zlib and gzip headers
    BITS_RAW = -15

cdef enum LayerState:
    LAYER_OPEN = 0
    LAYER_PASS = 1               # hands on what comes
    LAYER_MEMBER = 2             # a gzip member ended; another may follow
    LAYER_ENDED = 3
    LAYER_BROKEN = 5
    LAYER_WAIT = 4               # for the end of a gzip header whose flags zlib does not take

cdef struct Layer:
    z_stream z
    uint32_t memory_used
    uint32_t head_len
    uint8_t coding
    uint8_t state
    uint8_t attempt
    uint8_t wrapped              # reads headers (BITS_AUTO)
    uint8_t made                 # anything came out yet
    uint8_t later                # not the first member
    uint8_t guess                # raw deflate where gzip was announced: its output is taken back when it fails early
    uint8_t head[LAYER_HEAD]
    uint8_t memory[LAYER_MEMORY]
    uint8_t output[LAYER_OUTPUT]

cdef struct Slot:
    uint32_t generation
    uint32_t layers
    uint32_t work
    uint32_t notes
    uint32_t start               # out.used before the first output
    uint8_t taken
    uint8_t begun
    AppBuffer *out
    Layer layer[2]


cdef void *layer_alloc(void *opaque, unsigned int items, unsigned int size) noexcept nogil:
    cdef Layer *layer = <Layer *>opaque
    cdef uint64_t need = (<uint64_t>items * size + 15) & ~<uint64_t>15
    if need > LAYER_MEMORY - layer.memory_used:
        return NULL
    layer.memory_used += <uint32_t>need
    return layer.memory + layer.memory_used - need


cdef void layer_free(void *opaque, void *address) noexcept nogil:
    """Nothing: a layer's memory is given back as a whole, with the pool."""


cdef bint layer_init(Layer *layer) noexcept nogil:
    layer.z.opaque = layer
    layer.z.zalloc = layer_alloc
    layer.z.zfree = layer_free
    return inflateInit2(&layer.z, BITS_AUTO) == Z_OK


cdef void layer_begin(Layer *layer, uint8_t coding) noexcept nogil:
    layer.coding = coding
    layer.state = LAYER_OPEN
    layer.attempt = layer.made = layer.later = layer.guess = 0
    layer.head_len = 0
    layer.wrapped = coding == CODING_GZIP
    inflateReset2(&layer.z, BITS_AUTO if layer.wrapped else BITS_RAW)


# Second tries

cdef uint32_t gzip_header_length(const uint8_t *data, uint32_t n) noexcept nogil:
    """Bytes of a gzip header whose flags zlib does not take; 0 where there is none, HEADER_MORE until it is whole."""
    cdef uint32_t at = 10
    if data[0] != 0x1f or (n > 1 and data[1] != 0x8b):
        return 0
    if n < 12:
        return HEADER_MORE
    if data[3] & 24:
        while at < n and data[at]:
            at += 1
        return at + 1 if at < n else HEADER_MORE
    return 12 if data[3] & 2 else 10


cdef uint32_t layer_retry(Layer *layer, uint32_t skip) noexcept nogil:
    """Set the layer up for its next try; the bytes of its head to leave out."""
    layer.attempt += 1
    if layer.attempt == 1 and layer.coding == CODING_DEFLATE:
        layer.wrapped = 1
        inflateReset2(&layer.z, BITS_AUTO)
        return 0
    if layer.attempt == 1 or (layer.attempt == 2 and skip and layer.coding == CODING_DEFLATE):
        layer.wrapped = 0
        inflateReset2(&layer.z, BITS_RAW)
        return skip
    layer.state = LAYER_PASS
    return 0


# Running

cdef void slot_emit(Slot *slot, uint32_t depth, const uint8_t *data, uint32_t n) noexcept nogil:
    """What layer `depth` made: into the next one, or into the output."""
    cdef uint32_t room
    if depth + 1 < slot.layers:
        slot.work += n
        if slot.work > BOMB_LIMIT:
            slot.notes |= INFLATE_BOMB
        else:
            layer_push(slot, depth + 1, data, n, 0)
        return
    room = slot.out.size - slot.out.used
    if n > room:
        slot.notes |= INFLATE_FULL
        n = room
    memcpy(slot.out.data + slot.out.used, data, n)
    slot.out.used += n


cdef int layer_step(Slot *slot, uint32_t depth) noexcept nogil:
    """One call of inflate and its output handed on: zlib's answer."""
    cdef Layer *layer = &slot.layer[depth]
    cdef uint32_t made
    cdef int answer
    layer.z.next_out = layer.output
    layer.z.avail_out = LAYER_OUTPUT
    answer = inflate(&layer.z, Z_SYNC_FLUSH)
    made = LAYER_OUTPUT - layer.z.avail_out
    if made:
        layer.made = 1
        slot_emit(slot, depth, layer.output, made)
    return answer


cdef void layer_again(Slot *slot, uint32_t depth, const uint8_t *data, uint32_t n) noexcept nogil:
    """Another try with the bytes kept, and n more."""
    cdef Layer *layer = &slot.layer[depth]
    cdef uint8_t kept[LAYER_HEAD]
    cdef uint32_t kept_len = layer.head_len
    cdef uint32_t skip = gzip_header_length(layer.head, kept_len)
    if layer.attempt == (layer.coding == CODING_DEFLATE) and skip == HEADER_MORE and kept_len < LAYER_HEAD:
        layer.state = LAYER_WAIT
        return
    layer.state = LAYER_OPEN
    memcpy(kept, layer.head, kept_len)
    skip = layer_retry(layer, 0 if skip == HEADER_MORE else skip)
    layer.guess = layer.state == LAYER_OPEN and not layer.wrapped and not skip and depth + 1 == slot.layers
    layer.head_len = 0
    layer_push(slot, depth, kept, kept_len, skip)
    layer_push(slot, depth, data, n, 0)


cdef void layer_fail(Slot *slot, uint32_t depth, const uint8_t *data, uint32_t n) noexcept nogil:
    """After an error: another try, or the end."""
    cdef Layer *layer = &slot.layer[depth]
    if layer.guess and layer.z.total_in <= LAYER_HEAD:
        slot.out.used = slot.start
        layer.made = layer.guess = 0
    if layer.made or layer.later or layer.z.total_in > LAYER_HEAD:
        layer.state = LAYER_BROKEN
        slot.notes |= INFLATE_TRAILING if layer.later else INFLATE_BROKEN
        return
    slot.notes |= INFLATE_FALSE
    layer_again(slot, depth, data, n)


cdef void layer_end(Slot *slot, uint32_t depth) noexcept nogil:
    cdef Layer *layer = &slot.layer[depth]
    layer.state = LAYER_MEMBER if layer.wrapped else LAYER_ENDED


cdef uint32_t layer_run(Slot *slot, uint32_t depth, const uint8_t *data, uint32_t n, uint32_t kept) noexcept nogil:
    """Inflate n bytes, `kept` of them in the layer's head for a second try; how many are done with."""
    cdef Layer *layer = &slot.layer[depth]
    cdef int answer = Z_OK
    layer.z.next_in = <uint8_t *>data
    layer.z.avail_in = n
    while not slot.notes & (INFLATE_FULL | INFLATE_BOMB):
        answer = layer_step(slot, depth)
        if answer != Z_OK or (not layer.z.avail_in and layer.z.avail_out):
            break
    if slot.notes & (INFLATE_FULL | INFLATE_BOMB):
        return n                     # what stands behind the bound, an error too, is not looked at, however the bytes were cut
    if answer == Z_STREAM_END:
        layer_end(slot, depth)
        return n - layer.z.avail_in
    if answer != Z_OK and answer != Z_BUF_ERROR:
        layer_fail(slot, depth, data + kept, n - kept)
    return n


cdef uint32_t member_take(Slot *slot, uint32_t depth, const uint8_t *data, uint32_t n) noexcept nogil:
    """Bytes behind a gzip member: another one, or nothing of interest."""
    cdef Layer *layer = &slot.layer[depth]
    if data[0] != 0x1f:
        layer.state = LAYER_ENDED
        slot.notes |= INFLATE_TRAILING
        return n
    layer.later = 1
    layer.state = LAYER_OPEN
    inflateReset2(&layer.z, BITS_AUTO)
    return layer_run(slot, depth, data, n, 0)


cdef uint32_t head_keep(Layer *layer, const uint8_t *data, uint32_t n) noexcept nogil:
    """Bytes for another try, as many as there is room for."""
    n = min(n, LAYER_HEAD - layer.head_len)
    memcpy(layer.head + layer.head_len, data, n)
    layer.head_len += n
    return n


cdef uint32_t layer_open_take(Slot *slot, uint32_t depth, const uint8_t *data, uint32_t n, uint32_t skip) noexcept nogil:
    cdef Layer *layer = &slot.layer[depth]
    cdef uint32_t kept
    if (layer.made and not layer.guess) or layer.later:
        return layer_run(slot, depth, data, n, 0)
    kept = head_keep(layer, data, n)
    if layer.state == LAYER_WAIT:
        layer_again(slot, depth, data + kept, n - kept)
        return n
    return skip + layer_run(slot, depth, data + skip, n - skip, max(kept, skip) - skip)


cdef void layer_push(Slot *slot, uint32_t depth, const uint8_t *data, uint32_t n, uint32_t skip) noexcept nogil:
    """Bytes into layer `depth`; the first `skip` of them are kept for another try, but not decoded."""
    cdef Layer *layer = &slot.layer[depth]
    cdef uint32_t done
    while n and not slot.notes & (INFLATE_FULL | INFLATE_BOMB):
        done = n
        if layer.state == LAYER_PASS:
            slot_emit(slot, depth, data, n)
        elif layer.state == LAYER_MEMBER:
            done = member_take(slot, depth, data, n)
        elif layer.state == LAYER_ENDED:
            slot.notes |= INFLATE_TRAILING
        elif layer.state == LAYER_BROKEN:
            return
        else:
            done = layer_open_take(slot, depth, data, n, skip)
        data += done
        n -= done
        skip = 0


# The pool

cdef InflatePool *inflate_pool_new(uint32_t slots, uint64_t epoch) noexcept nogil:
    cdef InflatePool *pool = <InflatePool *>calloc(1, sizeof(InflatePool))
    cdef uint32_t i, depth
    if pool == NULL:
        return NULL
    pool.slots = slots
    pool.epoch = epoch
    pool.memory = calloc(slots + 1, sizeof(Slot))
    if pool.memory == NULL:
        free(pool)
        return NULL
    for i in range(slots):
        for depth in range(2):
            if not layer_init(&(<Slot *>pool.memory)[i].layer[depth]):
                inflate_pool_free(pool)
                return NULL
    return pool


cdef void inflate_pool_free(InflatePool *pool) noexcept nogil:
    if pool != NULL:
        free(pool.memory)
        free(pool)


cdef Slot *slot_of(InflatePool *pool, uint32_t handle) noexcept nogil:
    cdef uint32_t index = (handle & 0xffff) - 1
    cdef Slot *slot
    if index >= pool.slots:
        return NULL
    slot = &(<Slot *>pool.memory)[index]
    return slot if slot.taken and slot.generation == handle >> 16 else NULL


cdef uint32_t inflate_open(InflatePool *pool, const uint8_t *coding, uint32_t layers) noexcept nogil:
    cdef Slot *slot = NULL
    cdef uint32_t i, depth
    if pool.used == pool.slots:
        return 0
    for i in range(pool.slots):
        slot = &(<Slot *>pool.memory)[pool.next]
        pool.next = pool.next + 1 if pool.next + 1 < pool.slots else 0
        if not slot.taken:
            break
    pool.used += 1
    slot.taken = 1
    slot.generation = (slot.generation + 1) & 0xffff
    slot.layers = layers
    slot.work = slot.notes = slot.begun = 0
    for depth in range(layers):
        layer_begin(&slot.layer[depth], coding[depth])
    return <uint32_t>(slot - <Slot *>pool.memory) + 1 | slot.generation << 16


cdef void inflate_close(InflatePool *pool, uint32_t handle) noexcept nogil:
    cdef Slot *slot = slot_of(pool, handle)
    if slot != NULL:
        slot.taken = 0
        pool.used -= 1


cdef uint32_t inflate_feed(InflatePool *pool, uint32_t handle, const uint8_t *data, uint32_t n, AppBuffer *out) noexcept nogil:
    cdef Slot *slot = slot_of(pool, handle)
    if slot == NULL:
        return INFLATE_LOST
    slot.out = out
    if not slot.begun:
        slot.begun = 1
        slot.start = out.used
    layer_push(slot, 0, data, n, 0)
    return slot.notes
