# Letters, digits and white space of ASCII, whatever the locale.
#
# What it owns: nothing.
# Layout: one byte in, one answer out; all inline.
# Invariants: bytes of 128 and more are none of these.
# Who may write what: nothing is written.
# What happens when full or broken: every byte has an answer.

from libc.stdint cimport uint8_t


cdef inline bint ascii_is_space(uint8_t byte) noexcept nogil:
    """Blank, tab, LF, VT, FF or CR."""
    return byte == 32 or 9 <= byte <= 13


cdef inline uint8_t ascii_lower(uint8_t byte) noexcept nogil:
    return byte + 32 if 65 <= byte <= 90 else byte


cdef inline int ascii_hex(uint8_t byte) noexcept nogil:
    """The value of a hexadecimal digit, or -1."""
    if 48 <= byte <= 57:
        return byte - 48
    byte |= 32
    return byte - 87 if 97 <= byte <= 102 else -1
