"""Prefix tables: built at load from address sets, read on the hot path.

What it owns
    Nothing at run time: a table is three arrays inside a rule set image. The builder's memory lives until build() returns.

Layout
    Both families begin with a root of 65,536 slots for the first 16 bits; most slots hold the answer.

    IPv4, ranges (Zec, Rizzo and Mikuc, "DXR", CCR 2012): a slot leads to the chunk of its /16, where the starts of all
    ranges but the first stand side by side, so that the search stays in a cache line or two:

        root[bits 0-15] ── leaf bit ──▶ class
                └─ place ─▶ | count 16 | start 1 .. start count, 16 each | padding to 32 | class 0 .. class count, 32 each |

    IPv6, a multiway trie compressed by population counts (Asai and Ohara, "Poptrie", SIGCOMM 2015): nodes of 64 children, 24
    bytes each; equal neighbouring leaves are stored once:

        root[bits 0-15] ── leaf bit ──▶ class
                └─ node ─▶ { inner, leaf_starts, first_leaf, first_child } ─ 6 bits ─▶ node or leaf ...

    A leaf is not a prefix but an equivalence class: all addresses that lie in exactly the same address sets. A list of
    100,000 prefixes that one rule names makes two classes, and ranges merge where neighbours agree.

    Why two: for 90,000 random IPv4 prefixes beside 10,000 rules the trie took 4.2 MB and four dependent loads, root and
    chunks take 1.5 MB and three, and two prefetched lines hold the usual chunk. IPv6 ranges would need starts of 14 bytes.
    Measured by bench/userspace.py, 10,000 rules and 100,000 prefixes against 24 rules: 1.30 to 1.49 times the time with the
    trie alone, 1.12 to 1.22 with chunks and a batch read before it is judged.

Invariants
    Every root slot and every node child leads to a class within 19 strides. Class 0 is "in no set".

Who may write what
    build() writes, at load, in one process; afterwards nobody.

What happens when full or broken
    Classes and nodes are counted in 31 bits; build() raises OverflowError beyond. image.pyx checks every index of a
    table it binds, so a damaged image is refused and never walked.
"""

import random

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort, realloc

cdef extern from *:
    ctypedef unsigned long long key128 "unsigned __int128"

cdef enum:
    KEY_BITS = 128

cdef struct Edge:                # an address set begins or ends here
    key128 key
    uint32_t owner

cdef struct Growing:             # a vector that grows at load
    uint8_t *data
    size_t used                  # items
    size_t room
    size_t item


cdef int grow(Growing *v, size_t more) except -1:
    cdef size_t room = v.room
    cdef uint8_t *data
    if v.used + more <= room:
        return 0
    while room < v.used + more:
        room = room * 2 if room else 1024
    data = <uint8_t *>realloc(v.data, room * v.item)
    if data == NULL:
        raise MemoryError()
    v.data = data
    v.room = room
    return 0


cdef class Vector:
    """A growing C array; `take` returns its bytes."""
    cdef Growing v

    def __cinit__(self, size_t item):
        self.v.item = item

    def __dealloc__(self):
        free(self.v.data)

    cdef void *extend(self, size_t count) except NULL:
        grow(&self.v, count if count else 1)
        cdef void *place = self.v.data + self.v.used * self.v.item
        self.v.used += count
        return place

    cdef bytes take(self):
        return PyBytes_FromStringAndSize(<char *>self.v.data, self.v.used * self.v.item)


cdef int edge_order(const void *a, const void *b) noexcept nogil:
    cdef key128 x = (<const Edge *>a).key
    cdef key128 y = (<const Edge *>b).key
    return (x > y) - (x < y)


cdef key128 key_from(object number, int width) except? 0:
    """The integer as the top `width` bits of a key."""
    cdef uint64_t high, low
    number <<= KEY_BITS - width
    high = number >> 64
    low = number & 0xffffffffffffffff
    return (<key128>high << 64) | low


cdef class ActiveSets:
    """The sets that hold at the sweep's place: a doubly linked list over their numbers, head at `count`."""
    cdef uint32_t *next
    cdef uint32_t *before
    cdef uint8_t *present
    cdef uint32_t count

    def __cinit__(self, uint32_t count):
        cdef uint32_t i
        self.count = count
        self.next = <uint32_t *>malloc((count + 1) * sizeof(uint32_t))
        self.before = <uint32_t *>malloc((count + 1) * sizeof(uint32_t))
        self.present = <uint8_t *>malloc(count + 1)
        if self.next == NULL or self.before == NULL or self.present == NULL:
            raise MemoryError()
        self.next[count] = self.before[count] = count
        for i in range(count):
            self.present[i] = 0

    def __dealloc__(self):
        free(self.next)
        free(self.before)
        free(self.present)

    cdef void toggle(self, uint32_t one) noexcept:
        if self.present[one]:
            self.next[self.before[one]] = self.next[one]
            self.before[self.next[one]] = self.before[one]
        else:
            self.next[one] = self.next[self.count]
            self.before[one] = self.count
            self.before[self.next[one]] = one
            self.next[self.count] = one
        self.present[one] ^= 1


cdef class Classes:
    """Equivalence classes over one or more key spaces that share their sets.

    ``Classes(count)`` for sets numbered 0 to count-1; ``sweep(width, sets)`` once per space. Two points are in one class when
    they lie in the same sets. A set's identity in the running hash is a random 128-bit number (Zobrist 1970), so classes are
    told apart without comparing memberships; two different memberships agree with probability 2^-128.
    """
    cdef readonly uint32_t set_count
    cdef list _marks
    cdef dict _numbers
    cdef Vector _members          # pairs (set, class), classes ascending

    def __init__(self, uint32_t set_count):
        self.set_count = set_count
        source = random.SystemRandom()
        self._marks = [source.getrandbits(128) for _ in range(set_count)]
        self._numbers = {0: 0}
        self._members = Vector(2 * sizeof(uint32_t))

    @property
    def count(self):
        """Classes so far; class 0 is in no set."""
        return len(self._numbers)

    def sweep(self, int width, list sets):
        """Return the Spans of one space of ``width``-bit integers; ``sets[i]`` is a sequence of disjoint (first, last)."""
        cdef Vector edges = Vector(sizeof(Edge))
        cdef Edge *edge
        cdef uint32_t owner = 0
        cdef object top = (<object>1 << width) - 1
        for intervals in sets:
            for first, last in intervals:
                edge = <Edge *>edges.extend(1)
                edge.key, edge.owner = key_from(first, width), owner
                if last != top:
                    edge = <Edge *>edges.extend(1)
                    edge.key, edge.owner = key_from(last + 1, width), owner
            owner += 1
        if edges.v.used:
            qsort(edges.v.data, edges.v.used, sizeof(Edge), edge_order)
        return self._spans(edges)

    cdef Spans _spans(self, Vector edges):
        cdef Spans spans = Spans()
        cdef ActiveSets active = ActiveSets(self.set_count)
        cdef Edge *edge = <Edge *>edges.v.data
        cdef size_t i = 0, n = edges.v.used
        cdef key128 here = 0
        state = 0
        while True:
            while i < n and edge[i].key == here:
                state ^= <object>self._marks[edge[i].owner]
                active.toggle(edge[i].owner)
                i += 1
            spans.add(here, self._class_of(state, active))
            if i == n:
                return spans
            here = edge[i].key

    cdef uint32_t _class_of(self, object state, ActiveSets active) except? 0xffffffff:
        cdef uint32_t number, one
        cdef uint32_t *pair
        found = self._numbers.get(state)
        if found is not None:
            return found
        number = len(self._numbers)
        if number >= <uint32_t>PREFIX_LEAF:
            raise OverflowError("more than 2^31 address classes")
        self._numbers[state] = number
        one = active.next[active.count]
        while one != active.count:
            pair = <uint32_t *>self._members.extend(1)
            pair[0], pair[1] = one, number
            one = active.next[one]
        return number

    def memberships(self):
        """For each set the list of (first class, last class) that it is made of, ascending."""
        cdef list result = [[] for _ in range(self.set_count)]
        cdef uint32_t *pair = <uint32_t *>self._members.v.data
        cdef size_t i
        for i in range(self._members.v.used):
            runs = <list>result[pair[2 * i]]
            first = last = pair[2 * i + 1]
            if runs and runs[len(runs) - 1][1] == last - 1:
                first = runs.pop()[0]
            runs.append((first, last))
        return result


cdef class Spans:
    """A key space cut into spans: span i runs from starts[i] to the key before starts[i + 1], all of one class."""
    cdef Vector starts            # key128
    cdef Vector classes           # uint32_t

    def __cinit__(self):
        self.starts = Vector(sizeof(key128))
        self.classes = Vector(sizeof(uint32_t))

    cdef int add(self, key128 start, uint32_t number) except -1:
        cdef size_t n = self.classes.v.used
        if n and (<uint32_t *>self.classes.v.data)[n - 1] == number:
            return 0
        (<key128 *>self.starts.extend(1))[0] = start
        (<uint32_t *>self.classes.extend(1))[0] = number
        return 0

    def __len__(self):
        return self.classes.v.used

    def flat(self, int width):
        """The class of every integer of ``width`` bits (at most 16), as bytes of uint16."""
        cdef bytearray out = bytearray(2 << width)
        cdef uint8_t[:] view = out
        cdef key128 *starts = <key128 *>self.starts.v.data
        cdef uint32_t *classes = <uint32_t *>self.classes.v.data
        cdef size_t span = 0, i, n = self.classes.v.used
        for i in range(<size_t>1 << width):
            while span + 1 < n and starts[span + 1] <= (<key128>i << (KEY_BITS - width)):
                span += 1
            if classes[span] > 0xffff:
                raise OverflowError("more than 65,535 port classes")
            (<unsigned short *>&view[2 * i])[0] = classes[span]
        return bytes(out)


cdef class SpanReader:
    """The spans of one address family, to be searched by key."""
    cdef key128 *starts
    cdef uint32_t *classes
    cdef size_t count

    cdef int read(self, Spans spans) except -1:
        self.starts = <key128 *>spans.starts.v.data
        self.classes = <uint32_t *>spans.classes.v.data
        self.count = spans.classes.v.used
        return 0

    cdef size_t span_at(self, key128 key, size_t low) noexcept:
        """The span that holds `key`, searched from span `low` on."""
        cdef size_t high = self.count - 1, middle
        while low < high:
            middle = (low + high + 1) // 2
            if self.starts[middle] <= key:
                low = middle
            else:
                high = middle - 1
        return low

    cdef bint uniform(self, size_t span, key128 block, int bits) noexcept:
        """Whether the block of 2^(128-bits) keys from `block` lies in one span."""
        cdef key128 last = block + ((<key128>1 << (KEY_BITS - bits)) - 1) if bits < KEY_BITS else block
        return span + 1 == self.count or self.starts[span + 1] > last


cdef class ChunkBuilder(SpanReader):
    """Builds root and chunks over the spans of IPv4."""
    cdef Vector words

    cdef uint32_t fill(self, size_t span, size_t behind) except? 0xffffffff:
        """Write the chunk of the spans from `span` up to `behind`; returns its place."""
        cdef uint32_t place = self.words.v.used, count = behind - span - 1, i
        if place + 2 * <uint64_t>count + 2 >= <uint32_t>PREFIX_LEAF:
            raise OverflowError("more than 2^31 words of address ranges")
        cdef uint32_t *chunk = <uint32_t *>self.words.extend(((count + 2) >> 1) + count + 1)
        cdef uint16_t *halves = <uint16_t *>chunk
        chunk[(count + 1) >> 1] = 0              # the padding
        halves[0] = <uint16_t>count
        chunk[(count + 2) >> 1] = self.classes[span]
        for i in range(1, count + 1):
            halves[i] = <uint16_t>(self.starts[span + i] >> (KEY_BITS - 32))
            chunk[((count + 2) >> 1) + i] = self.classes[span + i]
        return place

    def build(self, Spans spans):
        """Return (root, chunks) as bytes."""
        cdef bytearray root = bytearray(PREFIX_ROOT_SLOTS * 4)
        cdef uint8_t[:] view = root
        cdef uint32_t *slots = <uint32_t *>&view[0]
        cdef size_t i, at = 0, behind
        cdef key128 block
        self.read(spans)
        self.words = Vector(sizeof(uint32_t))
        for i in range(<size_t>PREFIX_ROOT_SLOTS):
            block = <key128>i << (KEY_BITS - PREFIX_ROOT_BITS)
            at = self.span_at(block, at)
            if self.uniform(at, block, PREFIX_ROOT_BITS):
                slots[i] = self.classes[at] | <uint32_t>PREFIX_LEAF
            else:
                behind = self.span_at(block + ((<key128>1 << (KEY_BITS - PREFIX_ROOT_BITS)) - 1), at) + 1
                slots[i] = self.fill(at, behind)
        return bytes(root), self.words.take()


cdef class TrieBuilder(SpanReader):
    """Builds root, nodes and leaves over the spans of IPv6."""
    cdef Vector nodes
    cdef Vector leaves

    cdef int fill(self, uint32_t index, key128 block, int bits, size_t span) except -1:
        """Write node `index`, which covers the block at depth `bits`; its children lie six bits deeper."""
        cdef uint64_t inner = 0, leaf_starts = 0
        cdef int child, depth = bits + PREFIX_STRIDE, shift = KEY_BITS - depth
        cdef key128 step = (<key128>1 << shift) if shift >= 0 else 0
        cdef uint32_t first_leaf = self.leaves.v.used, first_child
        cdef uint32_t last_class = 0xffffffff
        cdef key128 begin
        cdef size_t at = span
        cdef PrefixNode *node
        for child in range(64):
            begin = block + step * child if shift >= 0 else block + (<key128>child >> -shift)
            at = self.span_at(begin, at)
            if not self.uniform(at, begin, depth if depth < KEY_BITS else KEY_BITS):
                inner |= <uint64_t>1 << child
            elif self.classes[at] != last_class:
                last_class = self.classes[at]
                leaf_starts |= <uint64_t>1 << child
                (<uint32_t *>self.leaves.extend(1))[0] = last_class
        first_child = self.nodes.v.used
        self.nodes.extend(popcount64(inner))
        node = &(<PrefixNode *>self.nodes.v.data)[index]
        node.inner, node.leaf_starts, node.first_leaf, node.first_child = inner, leaf_starts, first_leaf, first_child
        at = span
        for child in range(64):
            if inner >> child & 1:
                begin = block + step * child
                at = self.span_at(begin, at)
                self.fill(first_child, begin, depth, at)
                first_child += 1
        return 0

    def build(self, Spans spans):
        """Return (root, nodes, leaves) as bytes."""
        cdef bytearray root = bytearray(PREFIX_ROOT_SLOTS * 4)
        cdef uint8_t[:] view = root
        cdef uint32_t *slots = <uint32_t *>&view[0]
        cdef uint32_t node
        cdef size_t i, at = 0
        cdef key128 block
        self.read(spans)
        self.nodes = Vector(sizeof(PrefixNode))
        self.leaves = Vector(sizeof(uint32_t))
        for i in range(<size_t>PREFIX_ROOT_SLOTS):
            block = <key128>i << (KEY_BITS - PREFIX_ROOT_BITS)
            at = self.span_at(block, at)
            if self.uniform(at, block, PREFIX_ROOT_BITS):
                slots[i] = self.classes[at] | <uint32_t>PREFIX_LEAF
            else:
                node = self.nodes.v.used
                self.nodes.extend(1)
                self.fill(node, block, PREFIX_ROOT_BITS, at)
                slots[i] = node
        return bytes(root), self.nodes.take(), self.leaves.take()


# Public API

def build_v4(Spans spans):
    """Return the range table over ``spans`` as two byte strings: root, chunks."""
    return ChunkBuilder().build(spans)


def build_v6(Spans spans):
    """Return the prefix table over ``spans`` as three byte strings: root, nodes, leaves."""
    return TrieBuilder().build(spans)


cdef class Prefixes:
    """A table of one family held by Python, for tests and benches: ``Prefixes(width, sets)``, width 32 or 128 bits."""
    cdef RangeTable ranges
    cdef PrefixTable trie
    cdef tuple _parts
    cdef int _width

    def __init__(self, int width, list sets):
        spans = Classes(len(sets)).sweep(width, sets)
        self._width = width
        self._parts = build_v4(spans) if width == 32 else build_v6(spans)
        if width == 32:
            self.ranges.root = <const uint32_t *><const char *><bytes>self._parts[0]
            self.ranges.chunks = <const uint32_t *><const char *><bytes>self._parts[1]
        else:
            self.trie.root = <const uint32_t *><const char *><bytes>self._parts[0]
            self.trie.nodes = <const PrefixNode *><const char *><bytes>self._parts[1]
            self.trie.leaves = <const uint32_t *><const char *><bytes>self._parts[2]

    @property
    def size(self):
        """Bytes of the table."""
        return sum(map(len, self._parts))

    def lookup(self, bytes address):
        """Class of an address of 4 or 16 bytes, as the table's width has it."""
        if len(address) * 8 != self._width:
            raise ValueError(f"an address of {self._width} bits is needed")
        if self._width == 32:
            return prefix_class_v4(&self.ranges, <const uint8_t *><const char *>address)
        return prefix_class_v6(&self.trie, <const uint8_t *><const char *>address)
