# A literal in bytes. See search.pyx.

from libc.stdint cimport uint8_t, uint32_t

# Where the literal first lies whole in n bytes, or NULL. `rare` is the offset in the literal of the byte that is looked for
# first: below `length`, which is at least 1. The second takes letters (ASCII) as equal in either case; its literal is in
# lower case.
cdef const uint8_t *literal_find(const uint8_t *data, uint32_t n, const uint8_t *literal, uint32_t length,
                                 uint32_t rare) noexcept nogil
cdef const uint8_t *literal_find_nocase(const uint8_t *data, uint32_t n, const uint8_t *literal, uint32_t length,
                                        uint32_t rare) noexcept nogil
cdef bint literal_same_nocase(const uint8_t *data, const uint8_t *literal, uint32_t length) noexcept nogil
