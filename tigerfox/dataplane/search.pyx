"""A literal in bytes: memchr for its rarest byte (the compiler chooses it), then the comparison.

memchr looks at 32 bytes an instruction, so a byte that traffic seldom has makes the search as fast as memory. Bytes that an
attacker fills with the rare byte cost one comparison each: after PATIENCE of them libc's memmem, linear at worst, goes on;
without case the comparisons stay, each ended by its first difference.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp

from tigerfox.dataplane.ascii cimport ascii_lower

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <string.h>
    void *memmem(const void *haystack, size_t n, const void *needle, size_t length);
    """
    const void *memmem(const void *haystack, size_t n, const void *needle, size_t length) noexcept nogil

cdef enum:
    PATIENCE = 32                # hits of the rare byte alone


cdef const uint8_t *literal_find(const uint8_t *data, uint32_t n, const uint8_t *literal, uint32_t length,
                                 uint32_t rare) noexcept nogil:
    cdef const uint8_t *at
    cdef const uint8_t *last
    cdef int misses = 0
    if n < length:
        return NULL
    at, last = data + rare, data + (n - length) + rare
    while misses < PATIENCE:
        at = <const uint8_t *>memchr(at, literal[rare], last - at + 1)
        if at == NULL:
            return NULL
        if memcmp(at - rare, literal, length) == 0:
            return at - rare
        if at == last:
            return NULL
        at += 1
        misses += 1
    return <const uint8_t *>memmem(at - rare, data + n - (at - rare), literal, length)


cdef bint literal_same_nocase(const uint8_t *data, const uint8_t *literal, uint32_t length) noexcept nogil:
    cdef uint32_t i
    for i in range(length):
        if ascii_lower(data[i]) != literal[i]:
            return False
    return True


cdef inline const uint8_t *byte_next(const uint8_t *from_, const uint8_t *end, uint8_t byte) noexcept nogil:
    """Where a byte next stands; `end` where it does not."""
    cdef const uint8_t *found = <const uint8_t *>memchr(from_, byte, end - from_) if from_ < end else NULL
    return end if found == NULL else found


cdef const uint8_t *literal_find_nocase(const uint8_t *data, uint32_t n, const uint8_t *literal, uint32_t length,
                                        uint32_t rare) noexcept nogil:
    """Two searches side by side, one for each case of the rare byte; each goes on only when the other has passed it."""
    cdef const uint8_t *end
    cdef const uint8_t *lower
    cdef const uint8_t *upper
    cdef uint8_t byte, other
    if n < length:
        return NULL
    end = data + (n - length) + rare + 1
    byte = literal[rare]
    other = byte - 32 if 97 <= byte <= 122 else byte
    lower = byte_next(data + rare, end, byte)
    upper = byte_next(data + rare, end, other) if other != byte else end
    while lower < end or upper < end:
        if lower < upper:
            if literal_same_nocase(lower - rare, literal, length):
                return lower - rare
            lower = byte_next(lower + 1, end, byte)
        else:
            if literal_same_nocase(upper - rare, literal, length):
                return upper - rare
            upper = byte_next(upper + 1, end, other)
    return NULL


# Public API


def find(const uint8_t[::1] data, const uint8_t[::1] literal, uint32_t rare, bint nocase=False):
    """Return where ``literal`` first stands in ``data``, -1 for nowhere; ``rare`` is an index of the literal."""
    cdef const uint8_t *start = &data[0] if data.shape[0] else <const uint8_t *>b""
    cdef const uint8_t *found
    if not literal.shape[0] or rare >= literal.shape[0]:
        raise ValueError("a literal has at least one byte, and `rare` names one of them")
    if nocase:
        found = literal_find_nocase(start, data.shape[0], &literal[0], literal.shape[0], rare)
    else:
        found = literal_find(start, data.shape[0], &literal[0], literal.shape[0], rare)
    return -1 if found == NULL else found - start
