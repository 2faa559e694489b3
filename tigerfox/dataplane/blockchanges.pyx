"""What changed in the block table since the last look, for the process that mirrors it into the kernel."""

# What it owns
#   One 64-bit word a slot: what the entry's word was when it was told last, 0 for nothing told. Private to the process.
#
# Layout
#   A record is 48 bytes: | slot 32 | expires 32, 0: gone | key 40 |. What is gone has a key of zeros.
#
# Invariants
#   An entry's word changes with every change of the entry: its low half counts, its high half is the end. So comparing
#   words finds all that was inserted, prolonged, removed and replaced, and reads nothing else of an entry.
#   `count` is read before the words: what is inserted meanwhile raises it later, and the next look finds it.
#
# Who may write what
#   Nobody writes the table here.
#
# What happens when full or broken
#   An entry that changes while it is read is left for the next look; its writer raises `count` when it is done. One that a dead
#   process had claimed stays as it was told until the supervisor's sweep takes it back, and is gone then.
#
# Measured: a look at a table for a million entries costs 0.15 ms with none in it, 8 ms with 100,000, unchanged.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from tigerfox.dataplane.atomic cimport load_acquire
from tigerfox.dataplane.blockentry cimport (BLOCK_BUCKET, BLOCK_LINE_TAGS, BlockEntry, BlockState, BlockTable, tag_bits,
                                            tag_line, word_value)
from tigerfox.dataplane.blocks cimport Blocks, blocks_read
from tigerfox.dataplane.packet cimport FlowTuple

cdef enum:
    SLICE = 1024                 # buckets looked at in one call

cdef struct Change:
    uint32_t slot
    uint32_t expires
    FlowTuple key


cdef inline bint _told(BlockTable *t, uint64_t *word_told, uint32_t slot, Change *change) noexcept nogil:
    """Fill `change` when the slot is not as it was told."""
    cdef BlockEntry copy
    cdef uint64_t word = load_acquire(&t.entries[slot].word)
    if word & 1 or word == word_told[0]:
        return True
    change.slot = slot
    change.expires = 0
    if word_value(word) and blocks_read(t, slot, &copy):
        word_told[0] = copy.word
        change.expires = word_value(copy.word)
        change.key = copy.key
        return False
    if word_value(word) or word_told[0] == 0:
        return True
    word_told[0] = 0
    memset(&change.key, 0, sizeof(FlowTuple))
    return False


# Public API

RECORD = sizeof(Change)


cdef class BlockChanges:
    """Changes of the table ``blocks``, told once each; the first look tells all entries."""

    cdef Blocks blocks
    cdef uint64_t *told
    cdef uint8_t *touched        # by bucket: entries of it have been told
    cdef Change *changes

    def __cinit__(self, Blocks blocks):
        cdef size_t buckets = blocks.table.buckets
        self.blocks = blocks
        self.told = <uint64_t *>calloc(buckets * BLOCK_BUCKET, sizeof(uint64_t))
        self.touched = <uint8_t *>calloc(buckets, 1)
        self.changes = <Change *>calloc(SLICE * BLOCK_BUCKET, sizeof(Change))
        if self.told == NULL or self.touched == NULL or self.changes == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.told)
        free(self.touched)
        free(self.changes)

    def count(self):
        """Return a number that is another one after every change."""
        cdef BlockState *s = self.blocks.table.state
        return s.inserted + s.prolonged + s.displaced + s.expired + s.removed + s.reclaimed

    def slices(self):
        """Yield the changes since the last look as bytes, some buckets at a time: records of slot, expires, key."""
        cdef uint32_t first, count
        for first in range(0, self.blocks.table.buckets, SLICE):
            with nogil:
                count = self._look(first)
            if count:
                yield (<uint8_t *>self.changes)[:count * sizeof(Change)]

    cdef uint32_t _look(self, uint32_t first) noexcept nogil:
        cdef BlockTable *t = &self.blocks.table
        cdef uint32_t last = first + SLICE if first + SLICE < t.buckets else t.buckets
        cdef uint32_t bucket, slot, count = 0
        cdef uint16_t[BLOCK_LINE_TAGS] none
        cdef uint64_t empty
        memset(none, 0, sizeof(none))
        empty = tag_bits(none, 0)
        for bucket in range(first, last):
            if not self.touched[bucket] and tag_bits(tag_line(t, bucket), 0) == empty:
                continue
            self.touched[bucket] = 1
            for slot in range(bucket * BLOCK_BUCKET, bucket * BLOCK_BUCKET + BLOCK_BUCKET):
                count += not _told(t, self.told + slot, slot, self.changes + count)
        return count
