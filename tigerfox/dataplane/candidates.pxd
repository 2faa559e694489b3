# Rules that have to be looked at in full: what scans and the header index name.
#
# What it owns: nothing; a list belongs to its worker.
# Layout: `count` rule numbers in `rules`, in any order and perhaps repeated until candidates_sort.
# Invariants: count <= SCAN_CANDIDATES. Rule numbers ascend in the order of decision.
# Who may write what: match and scan add, the top empties.
# What happens when full: repetitions are thrown out; then the rules that decide first stay, and the others are counted in
#     `cut`. From there on the list is in order.

from libc.stdint cimport uint32_t

cdef enum:
    SCAN_CANDIDATES = 1024       # rule numbers kept of one unit; the others are counted

cdef struct Candidates:          # rule numbers, ascending and unique after candidates_sort
    uint32_t count
    uint32_t cut                 # found no room
    uint32_t rules[SCAN_CANDIDATES]

cdef void candidates_sort(Candidates *c) noexcept nogil

# Add one to a list without room.
cdef void candidates_add_full(Candidates *c, uint32_t number) noexcept nogil


cdef inline void candidates_clear(Candidates *c) noexcept nogil:
    c.count = c.cut = 0


cdef inline void candidates_add(Candidates *c, uint32_t number) noexcept nogil:
    if c.count < SCAN_CANDIDATES:
        c.rules[c.count] = number
        c.count += 1
    else:
        candidates_add_full(c, number)
