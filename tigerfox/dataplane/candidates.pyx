"""Lists of candidate rules: sorted, without repetitions. See candidates.pxd."""

from libc.stdint cimport uint32_t
from libc.string cimport memmove


cdef void candidates_sort(Candidates *c) noexcept nogil:
    """Ascending and unique; Shell's method with Ciura's gaps: lists are short, and nearly sorted as a rule."""
    cdef uint32_t[8] gaps
    cdef uint32_t gap, i, at, number, kept = 0
    if c.count < 2:
        return
    gaps[:] = [701, 301, 132, 57, 23, 10, 4, 1]
    for step in range(8):
        gap = gaps[step]
        for i in range(gap, c.count):
            number, at = c.rules[i], i
            while at >= gap and c.rules[at - gap] > number:
                c.rules[at] = c.rules[at - gap]
                at -= gap
            c.rules[at] = number
    for i in range(c.count):
        if kept == 0 or c.rules[kept - 1] != c.rules[i]:
            c.rules[kept] = c.rules[i]
            kept += 1
    c.count = kept


cdef void candidates_insert(Candidates *c, uint32_t number) noexcept nogil:
    """Put a number into a full list in order; the last one falls out."""
    cdef uint32_t low = 0, high = c.count, middle
    while low < high:
        middle = (low + high) >> 1
        if c.rules[middle] < number:
            low = middle + 1
        else:
            high = middle
    if low < c.count and c.rules[low] == number:
        return
    c.cut += 1
    if low < c.count:
        memmove(&c.rules[low + 1], &c.rules[low], (c.count - 1 - low) * sizeof(uint32_t))
        c.rules[low] = number


cdef void candidates_add_full(Candidates *c, uint32_t number) noexcept nogil:
    if c.cut == 0:
        candidates_sort(c)
    if c.count < SCAN_CANDIDATES:
        c.rules[c.count] = number
        c.count += 1
    else:
        candidates_insert(c, number)


# Public API


def collected(numbers):
    """Return (numbers, cut) of a list to which ``numbers`` were added, in order."""
    cdef Candidates c
    candidates_clear(&c)
    for number in numbers:
        candidates_add(&c, number)
    candidates_sort(&c)
    return [c.rules[i] for i in range(c.count)], c.cut
