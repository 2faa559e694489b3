# Numbers in a buffer: byte_test, byte_jump, byte_extract, byte_math. See numbers.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from tigerfox.dataplane.image cimport Test

# Does the test hold in n bytes? `at` is where the match before ended, and moves where the test says so; `values` are the
# rule's variables (RULE_VARIABLES).
cdef bint number_test(const Test *t, const uint8_t *data, uint32_t n, uint32_t at, const uint64_t *values) noexcept nogil
cdef bint number_jump(const Test *t, const uint8_t *data, uint32_t n, uint32_t *at, const uint64_t *values) noexcept nogil
cdef bint number_extract(const Test *t, const uint8_t *data, uint32_t n, uint32_t *at, uint64_t *values) noexcept nogil
cdef bint number_math(const Test *t, const uint8_t *data, uint32_t n, uint32_t *at, uint64_t *values) noexcept nogil
