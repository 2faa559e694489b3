"""Transforms of buffers before rules look at them.

Source: Suricata 7.0 user guide, chapter "Transformations". White space is blank, tab, LF, VT, FF and CR.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memmove

from tigerfox.dataplane.ascii cimport ascii_hex, ascii_is_space, ascii_lower
from tigerfox.dataplane.image cimport (
    TRANSFORM_COMPRESS_SPACE, TRANSFORM_DOTPREFIX, TRANSFORM_LOWER, TRANSFORM_STRIP_SPACE, TRANSFORM_UPPER,
    TRANSFORM_URL_DECODE)


cdef uint32_t dot_prefix(const uint8_t *data, uint32_t n, uint8_t *out, uint32_t room) noexcept nogil:
    if room == 0:
        return 0
    n = n if n < room else room - 1
    memmove(out + 1, data, n)
    out[0] = 46
    return n + 1


cdef uint32_t drop_space(const uint8_t *data, uint32_t n, uint8_t *out, bint keep_first) noexcept nogil:
    """Leave white space out, or all but the first of each run."""
    cdef uint32_t i, made = 0
    cdef bint before = False, space
    for i in range(n):
        space = ascii_is_space(data[i])
        if not space or keep_first and not before:
            out[made] = data[i]
            made += 1
        before = space
    return made


cdef uint32_t url_decode(const uint8_t *data, uint32_t n, uint8_t *out) noexcept nogil:
    """A plus sign is a blank, %XX a byte; what is neither stays."""
    cdef uint32_t i = 0, made = 0
    cdef int high, low
    while i < n:
        high = ascii_hex(data[i + 1]) if data[i] == 37 and i + 2 < n else -1
        low = ascii_hex(data[i + 2]) if high >= 0 else -1
        if low >= 0:
            out[made] = <uint8_t>(high << 4 | low)
            i += 3
        else:
            out[made] = 32 if data[i] == 43 else data[i]
            i += 1
        made += 1
    return made


cdef uint32_t transform_bytes(Transform kind, const uint8_t *data, uint32_t n, uint8_t *out, uint32_t room) noexcept nogil:
    cdef uint32_t i
    n = n if n < room else room
    if kind == TRANSFORM_DOTPREFIX:
        return dot_prefix(data, n, out, room)
    if kind == TRANSFORM_STRIP_SPACE or kind == TRANSFORM_COMPRESS_SPACE:
        return drop_space(data, n, out, kind == TRANSFORM_COMPRESS_SPACE)
    if kind == TRANSFORM_URL_DECODE:
        return url_decode(data, n, out)
    if kind == TRANSFORM_LOWER:
        for i in range(n):
            out[i] = ascii_lower(data[i])
    elif kind == TRANSFORM_UPPER:
        for i in range(n):
            out[i] = data[i] - 32 if 97 <= data[i] <= 122 else data[i]
    return n
