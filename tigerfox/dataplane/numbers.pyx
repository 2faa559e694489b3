"""Numbers in a buffer: read, compared, calculated with, jumped by.

What it owns
    Nothing; the buffer and the variables are the caller's.

Layout
    A number is `count` bytes in either order, at most 8, or at most 23 digits of text as strtoull reads them: blanks and a
    sign before them count, what follows the digits is left alone. Text without a count goes as far as its digits.

Invariants
    No byte outside the buffer is read. `at` stays within 0..n. Arithmetic is that of unsigned 64-bit numbers; a number that
    counts bytes is a signed 32-bit one.

Who may write what
    `at` and the variable that a test names: number_jump, number_extract, number_math, when they hold.

What happens when full or broken
    A place outside the buffer, too many bytes, text without digits: the test does not hold, negated or not.

Source: Suricata 7.0 user guide, "Payload keywords": byte_test, byte_jump, byte_extract, byte_math.
"""

from libc.errno cimport ERANGE, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport strtoull
from libc.string cimport memcpy

from tigerfox.dataplane.image cimport (
    BYTES_AND, BYTES_AT_LEAST, BYTES_AT_MOST, BYTES_EQUAL, BYTES_LESS, BYTES_MORE, MATH_ADD, MATH_DIVIDE, MATH_LEFT,
    MATH_MULTIPLY, MATH_SUBTRACT, TEST_ALIGN, TEST_COUNT_VARIABLE, TEST_FROM_BEGINNING, TEST_FROM_END, TEST_LITTLE,
    TEST_NEGATED, TEST_OFFSET_VARIABLE, TEST_RELATIVE, TEST_VALUE_VARIABLE)

cdef extern from *:
    int trailing_zeros "__builtin_ctz"(uint32_t x) noexcept nogil

cdef enum:
    DIGITS = 23                  # of the largest number in octal, and a zero before it
    BYTES = 8

cdef struct Number:
    uint64_t value
    uint32_t place               # where it stands
    uint32_t used                # bytes of it


cdef inline bint text_read(Number *out, const uint8_t *data, uint32_t count, int base) noexcept nogil:
    cdef char text[DIGITS + 1]
    cdef char *end = NULL
    memcpy(text, data, count)
    text[count] = 0
    errno = 0
    out.value = strtoull(text, &end, base)
    out.used = <uint32_t>(end - text)
    return errno != ERANGE and out.used > 0


cdef inline void bytes_read(Number *out, const uint8_t *data, uint32_t count, bint little) noexcept nogil:
    cdef uint32_t i
    out.value, out.used = 0, count
    for i in range(count):
        out.value = out.value << 8 | data[count - 1 - i if little else i]


cdef bint number_read(Number *out, const Test *t, const uint8_t *data, uint32_t n, uint32_t at,
                      const uint64_t *values) noexcept nogil:
    """The number that a test speaks of; False where there is none."""
    cdef int64_t place = <int32_t>values[t.offset] if t.flags & TEST_OFFSET_VARIABLE else t.offset
    cdef int32_t count = <int32_t>values[t.count] if t.flags & TEST_COUNT_VARIABLE else t.count
    if t.flags & TEST_RELATIVE:
        place += at
        if place >= n:
            return False
    if place < 0 or count < 0 or place + count > n or n == 0:
        return False
    out.place = <uint32_t>place
    if t.base:
        if count == 0:
            count = <int32_t>(n - place) if n - place < DIGITS else DIGITS
        return count <= DIGITS and text_read(out, data + place, count, t.base)
    if count > BYTES:
        return False
    bytes_read(out, data + place, count, t.flags & TEST_LITTLE)
    return True


cdef inline uint64_t masked(const Test *t, uint64_t value) noexcept nogil:
    """What the mask leaves, moved down to its lowest bit."""
    return (value & t.mask) >> trailing_zeros(t.mask) if t.mask else value


cdef inline uint64_t operand(const Test *t, const uint64_t *values) noexcept nogil:
    return values[t.value] if t.flags & TEST_VALUE_VARIABLE else t.value


cdef bint number_test(const Test *t, const uint8_t *data, uint32_t n, uint32_t at, const uint64_t *values) noexcept nogil:
    cdef Number number
    cdef uint64_t value, other
    cdef bint holds
    if not number_read(&number, t, data, n, at, values):
        return False
    value, other = masked(t, number.value), operand(t, values)
    if t.op == BYTES_EQUAL:
        holds = value == other
    elif t.op == BYTES_LESS:
        holds = value < other
    elif t.op == BYTES_MORE:
        holds = value > other
    elif t.op == BYTES_AT_MOST:
        holds = value <= other
    elif t.op == BYTES_AT_LEAST:
        holds = value >= other
    elif t.op == BYTES_AND:
        holds = value & other != 0
    else:
        holds = value ^ other != 0
    return holds != (t.flags & TEST_NEGATED != 0)


cdef bint number_jump(const Test *t, const uint8_t *data, uint32_t n, uint32_t *at, const uint64_t *values) noexcept nogil:
    cdef Number number
    cdef uint64_t value
    cdef int64_t place
    if not number_read(&number, t, data, n, at[0], values):
        return False
    value = masked(t, number.value) * t.multiplier
    if t.flags & TEST_ALIGN:
        value = (value + 3) & ~<uint64_t>3
    value += <uint64_t><int64_t>t.depth
    if t.flags & TEST_FROM_BEGINNING:
        place = <int64_t>value
    elif t.flags & TEST_FROM_END:
        place = <int64_t>(value + n)
    else:
        place = <int64_t>(value + number.place + number.used)
    if place >= n:
        return False
    at[0] = <uint32_t>place if place > 0 else 0
    return True


cdef bint number_extract(const Test *t, const uint8_t *data, uint32_t n, uint32_t *at, uint64_t *values) noexcept nogil:
    cdef Number number
    cdef uint64_t value
    if not number_read(&number, t, data, n, at[0], values):
        return False
    value = number.value * t.multiplier
    if t.align and value % t.align:
        value += t.align - value % t.align
    at[0] = number.place + number.used
    values[t.target] = value
    return True


cdef bint number_math(const Test *t, const uint8_t *data, uint32_t n, uint32_t *at, uint64_t *values) noexcept nogil:
    cdef Number number
    cdef uint64_t value, other = operand(t, values)
    if not number_read(&number, t, data, n, at[0], values):
        return False
    value = number.value
    if t.op == MATH_ADD:
        value += other
    elif t.op == MATH_SUBTRACT:
        value -= other
    elif t.op == MATH_MULTIPLY:
        value *= other
    elif t.op == MATH_DIVIDE:
        if other == 0:
            return False
        value //= other
    elif other >= 64:
        value = 0
    else:
        value = value << other if t.op == MATH_LEFT else value >> other
    at[0] = number.place + number.used
    values[t.target] = masked(t, value)
    return True
