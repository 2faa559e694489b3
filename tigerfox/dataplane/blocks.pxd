# The connection-block table: who is blocked, until when, and why. See blocks.pyx for layout and protocol.

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.packet cimport FlowTuple
from tigerfox.dataplane.reason cimport Reason
from tigerfox.dataplane.shared cimport Region
from tigerfox.dataplane.blockentry cimport (BLOCK_NEVER, BlockAsk, BlockEntry, BlockProbe, BlockScope, BlockTable, SCOPE_CONNECTION,
                                            SCOPE_DESTINATION, SCOPE_NONE, SCOPE_PAIR, SCOPE_SOURCE)

# R_NONE, or the R_BLOCKED_* of the first scope that holds; `now` in Unix seconds; *sid gets the cause. Any process, no lock.
cdef Reason blocks_lookup(BlockTable *t, const FlowTuple *flow, uint32_t now, uint32_t *sid) noexcept nogil

# Block what `scope` takes from `flow` until `expires` (Unix seconds). 1 inserted, 2 prolonged, 0 refused. Any process.
cdef int blocks_insert(BlockTable *t, BlockScope scope, const FlowTuple *flow, uint32_t now, uint32_t expires,
                       uint32_t sid) noexcept nogil

# The same for an entry that is already made up: canonical key, expires in the word's upper half, sid, since, hits.
cdef int blocks_put(BlockTable *t, const BlockEntry *wanted, uint32_t now) noexcept nogil

# Copy what slot holds, all from one moment; 0 when it holds nothing. Slots run from 0 to 31 * buckets - 1.
cdef bint blocks_read(BlockTable *t, uint32_t slot, BlockEntry *copy) noexcept nogil

# Take the key of `scope` out of the table; returns how many entries went. Any process.
cdef int blocks_remove(BlockTable *t, BlockScope scope, const FlowTuple *flow) noexcept nogil

# Free what has expired, and what a dead process had claimed, in `count` slots from `first` on; returns how many. The supervisor.
cdef uint32_t blocks_sweep(BlockTable *t, uint32_t now, uint32_t first, uint32_t count) noexcept nogil

# The same look-up in three steps, for a batch: ask for all, near for all, answer for all, and the waits for memory overlap.
# `ask` belongs to the caller and holds from blocks_ask to blocks_answer.
cdef void blocks_ask(BlockTable *t, const FlowTuple *flow, BlockAsk *ask) noexcept nogil
cdef void blocks_near(BlockTable *t, const BlockAsk *ask) noexcept nogil
cdef Reason blocks_answer(BlockTable *t, const BlockAsk *ask, uint32_t now, uint32_t *sid) noexcept nogil

cdef class Blocks:
    """Python's hold on a block table: opened from a file or anonymous."""
    cdef Region region
    cdef BlockTable table
