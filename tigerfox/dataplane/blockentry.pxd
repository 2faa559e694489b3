# One entry of the block table, its key, and the words that readers and writers agree on. See blocks.pyx for the design.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.hashing cimport hash40
from tigerfox.dataplane.packet cimport FlowTuple
from tigerfox.dataplane.shared cimport SharedHeader

cdef enum BlockScope:
    SCOPE_NONE = 0
    SCOPE_CONNECTION = 1         # both directions of a five-tuple
    SCOPE_SOURCE = 2             # packets from an address
    SCOPE_DESTINATION = 3        # packets to an address
    SCOPE_PAIR = 4               # packets between two addresses, either direction

cdef enum:
    BLOCK_NEVER = 0xffffffff     # expires: never

cdef struct BlockEntry:          # 64 bytes; all of it under the sequence in `word`
    uint64_t word                # low half: sequence; high half: expires (sequence even) or pid of the writer (odd)
    FlowTuple key                # canonical for its scope, the scope in `zero`
    uint32_t sid                 # of the cause
    uint32_t since               # Unix seconds of the cause
    uint32_t hits                # any process, plain increment
    uint32_t spare

cdef struct BlockState:          # 192 bytes, behind the header
    uint64_t buckets             # creator, then constant
    uint64_t capacity            # creator, then constant
    uint64_t spare[6]
    uint64_t used[8]             # gauge per scope; any process, atomic add; never less than what is live
    uint64_t inserted            # counters; any process, atomic add
    uint64_t prolonged
    uint64_t displaced
    uint64_t rejected
    uint64_t expired
    uint64_t removed
    uint64_t reclaimed
    uint64_t spare_counter

cdef struct BlockTable:          # of one process: pointers into the region, bound once, then constant
    SharedHeader *header
    BlockState *state
    uint16_t *tags
    BlockEntry *entries
    uint32_t buckets
    uint32_t reach               # buckets that a key may lie in, its home first
    bint writable                # else hits are not counted

cdef struct BlockProbe:          # a key on its way through the table
    FlowTuple key
    uint32_t home                # bucket
    uint16_t tag

cdef struct BlockAsk:            # one packet's keys in the scopes that are in use
    uint32_t count
    BlockProbe probes[4]

cdef enum:
    BLOCK_LINE = 64              # bytes of a tag line
    BLOCK_LINE_TAGS = 32         # 16-bit words in a tag line, the overflow count included
    BLOCK_BUCKET = 31            # entries of a bucket
    BLOCK_KEY = 40               # bytes

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    typedef uint16_t tf_lanes __attribute__((vector_size(16)));

    /* One bit per tag of a line that equals `tag`, the overflow count left out; tf_tag_place says which. No branch: on
       random keys a mispredicted loop over the words cost more than the comparison. */
    static inline uint64_t tf_tag_bits(const uint16_t *line, uint16_t tag) {
        tf_lanes v, bits = {0};
        uint64_t halves[2];
        for (int i = 0; i < 4; i++) {
            memcpy(&v, line + 8 * i, 16);
            bits |= (tf_lanes)(v == tag) & (uint16_t)(1 << i);
        }
        memcpy(halves, &bits, 16);
        return (halves[0] | halves[1] << 4) & ~(1ULL << 55);
    }
    static inline uint32_t tf_tag_place(int bit) { return (bit & 3) * 8 + (bit & 4) + (bit >> 4); }

    static inline int tf_same40(const void *a, const void *b) {
        uint64_t x[5], y[5];
        memcpy(x, a, 40);
        memcpy(y, b, 40);
        return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4])) == 0;
    }

    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "the key is put together as little-endian words"
    #endif

    /* The key under which `scope` finds this flow, in whole words: a key stored field by field and hashed at once waits for
       its own stores. The last word of a FlowTuple: sport 16, dport 16, proto 8, version 8, zero 16 bits. */
    static inline void tf_key_fill(void *key, int scope, const void *flow) {
        uint64_t f[5], k[5] = {0}, version, ports;
        memcpy(f, flow, 40);
        version = f[4] & 0x0000ff0000000000ULL;
        ports = scope == 1 ? f[4] & 0x000000ffffffffffULL : 0;
        if (scope == 2 || scope == 3) {
            k[0] = f[scope == 2 ? 0 : 2];
            k[1] = f[scope == 2 ? 1 : 3];
        } else {
            uint64_t a0 = __builtin_bswap64(f[0]), a1 = __builtin_bswap64(f[1]);
            uint64_t b0 = __builtin_bswap64(f[2]), b1 = __builtin_bswap64(f[3]);
            unsigned __int128 a = (unsigned __int128)a0 << 64 | a1, b = (unsigned __int128)b0 << 64 | b1;
            int turn = a > b || (a == b && (ports & 0xffff) > (ports >> 16 & 0xffff));
            uint64_t turned = (ports & 0xff00000000ULL) | (ports & 0xffff) << 16 | (ports >> 16 & 0xffff);
            k[0] = turn ? f[2] : f[0];
            k[1] = turn ? f[3] : f[1];
            k[2] = turn ? f[0] : f[2];
            k[3] = turn ? f[1] : f[3];
            ports = turn ? turned : ports;
        }
        k[4] = ports | version | (uint64_t)scope << 48;
        memcpy(key, k, 40);
    }
    """
    uint64_t tag_bits "tf_tag_bits"(const uint16_t *line, uint16_t tag) noexcept nogil
    uint32_t tag_place "tf_tag_place"(int bit) noexcept nogil
    bint key_same "tf_same40"(const FlowTuple *a, const FlowTuple *b) noexcept nogil
    void key_fill "tf_key_fill"(FlowTuple *key, int scope, const FlowTuple *flow) noexcept nogil    # BlockScope


# Words and keys

cdef inline uint64_t entry_word(uint32_t sequence, uint32_t value) noexcept nogil:
    return (<uint64_t>value << 32) | sequence


cdef inline uint32_t word_sequence(uint64_t word) noexcept nogil:
    return <uint32_t>word


cdef inline uint32_t word_value(uint64_t word) noexcept nogil:
    return <uint32_t>(word >> 32)


cdef inline bint word_live(uint64_t word, uint32_t now) noexcept nogil:
    return not word & 1 and (word_value(word) > now or word_value(word) == BLOCK_NEVER)


cdef inline void probe_fill(const BlockTable *t, int scope, const FlowTuple *flow, BlockProbe *p) noexcept nogil:
    key_fill(&p.key, scope, flow)
    probe_place(t, p)


cdef inline void probe_place(const BlockTable *t, BlockProbe *p) noexcept nogil:
    cdef uint64_t h = hash40(<const uint8_t *>&p.key, t.header.keys)
    p.home = <uint32_t>(((h >> 32) * t.buckets) >> 32)
    p.tag = <uint16_t>h if <uint16_t>h else 1


# Buckets

cdef inline uint16_t *tag_line(const BlockTable *t, uint32_t bucket) noexcept nogil:
    return t.tags + <size_t>bucket * BLOCK_LINE_TAGS


cdef inline uint32_t bucket_next(const BlockTable *t, uint32_t bucket) noexcept nogil:
    return bucket + 1 if bucket + 1 < t.buckets else 0


cdef inline uint16_t *tag_of(const BlockTable *t, uint32_t slot) noexcept nogil:
    return tag_line(t, slot // BLOCK_BUCKET) + slot % BLOCK_BUCKET
