# Longest-prefix match: from an address to its equivalence class. See prefixes.pyx for design and measurements.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.atomic cimport prefetch
from tigerfox.dataplane.wire cimport load_be32, load_be64

cdef extern from *:
    int popcount64 "__builtin_popcountll"(uint64_t x) noexcept nogil

cdef enum:
    PREFIX_ROOT_BITS = 16
    PREFIX_ROOT_SLOTS = 65536
    PREFIX_STRIDE = 6
    PREFIX_LEAF = 0x80000000     # in a root slot: the other bits are a class, not a place

cdef struct RangeTable:          # IPv4; read-only, inside a rule set image
    const uint32_t *root         # [65536]
    const uint32_t *chunks       # words: see prefixes.pyx

cdef struct PrefixNode:          # 24 bytes; covers 6 bits of the address
    uint64_t inner               # bit i: child i is a node
    uint64_t leaf_starts         # bit i: a run of equal leaves starts at child i
    uint32_t first_leaf
    uint32_t first_child

cdef struct PrefixTable:         # IPv6; read-only, inside a rule set image
    const uint32_t *root         # [65536]
    const PrefixNode *nodes
    const uint32_t *leaves


cdef inline uint32_t prefix_descend(const PrefixTable *t, uint32_t node, uint64_t high, uint64_t low) noexcept nogil:
    """Follow the six-bit strides from bit 16 on; at most 19 of them, as the builder never goes deeper."""
    cdef const PrefixNode *n
    cdef uint64_t bit, upto
    cdef uint64_t bits = high << PREFIX_ROOT_BITS
    cdef int offset = PREFIX_ROOT_BITS
    while True:
        n = &t.nodes[node]
        bit = <uint64_t>1 << (bits >> 58)
        upto = (bit << 1) - 1
        if not n.inner & bit:
            return t.leaves[n.first_leaf + popcount64(n.leaf_starts & upto) - 1]
        node = n.first_child + popcount64(n.inner & upto) - 1
        offset += PREFIX_STRIDE
        if offset == 64:
            bits = low
        else:
            bits <<= PREFIX_STRIDE


cdef inline uint32_t chunk_class(const uint32_t *chunk, uint32_t low) noexcept nogil:
    """Class of the address whose lower half is `low`: how many starts are not above it, counted without a branch."""
    cdef const uint16_t *halves = <const uint16_t *>chunk
    cdef const uint16_t *starts = halves + 1
    cdef uint32_t count = halves[0], left = count, place = 0, half
    while left > 1:
        half = left >> 1
        place += half if starts[place + half - 1] <= low else 0
        left -= half
    place += 1 if left and starts[place] <= low else 0
    return chunk[((count + 2) >> 1) + place]


cdef inline uint32_t prefix_class_v4(const RangeTable *t, const uint8_t *address) noexcept nogil:
    """Class of the IPv4 address at `address` (four bytes, network order)."""
    cdef uint32_t key = load_be32(address)
    cdef uint32_t slot = t.root[key >> 16]
    if slot & PREFIX_LEAF:
        return slot & ~<uint32_t>PREFIX_LEAF
    return chunk_class(t.chunks + slot, key & 0xffff)


cdef inline void range_near(const RangeTable *t, const uint8_t *address) noexcept nogil:
    """Ask memory for the chunk of an IPv4 address: two lines hold the usual one."""
    cdef uint32_t slot = t.root[load_be32(address) >> 16]
    if not slot & PREFIX_LEAF:
        prefetch(t.chunks + slot)
        prefetch(t.chunks + slot + 16)


cdef inline void prefix_near(const PrefixTable *t, const uint8_t *address) noexcept nogil:
    """Ask memory for the first node of an IPv6 address."""
    cdef uint32_t slot = t.root[load_be32(address) >> 16]
    if not slot & PREFIX_LEAF:
        prefetch(&t.nodes[slot])


cdef inline uint32_t prefix_class_v6(const PrefixTable *t, const uint8_t *address) noexcept nogil:
    """Class of the IPv6 address at `address` (16 bytes, network order)."""
    cdef uint64_t high = load_be64(address)
    cdef uint32_t slot = t.root[high >> 48]
    if slot & PREFIX_LEAF:
        return slot & ~<uint32_t>PREFIX_LEAF
    return prefix_descend(t, slot, high, load_be64(address + 8))
