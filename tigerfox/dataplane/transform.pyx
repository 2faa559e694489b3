"""Transforms of buffers before rules look at them.

Source: Suricata 7.0 user guide, chapter "Transformations". White space is blank, tab, LF, VT, FF and CR.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memmove

from tigerfox.dataplane.ascii cimport ascii_hex, ascii_is_space, ascii_lower
from tigerfox.dataplane.image cimport (
    TRANSFORM_COMPRESS_SPACE, TRANSFORM_DOTPREFIX, TRANSFORM_HEADER_LOWERCASE, TRANSFORM_LOWER, TRANSFORM_STRIP_PSEUDO,
    TRANSFORM_STRIP_SPACE, TRANSFORM_UPPER, TRANSFORM_URL_DECODE)


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


cdef uint32_t header_lowercase(const uint8_t *data, uint32_t n, uint8_t *out) noexcept nogil:
    """Names of fields in lower case: from a line's start to its first colon."""
    cdef uint32_t i
    cdef bint name = True
    for i in range(n):
        name = name and data[i] != 58
        out[i] = ascii_lower(data[i]) if name else data[i]
        name = name or data[i] == 10
    return n


cdef uint32_t strip_pseudo(const uint8_t *data, uint32_t n, uint8_t *out) noexcept nogil:
    """Leave out the lines that begin with a colon."""
    cdef uint32_t at = 0, made = 0, size
    cdef const uint8_t *end
    while at < n:
        end = <const uint8_t *>memchr(data + at, 10, n - at)
        size = <uint32_t>(end - data) + 1 - at if end != NULL else n - at
        if data[at] != 58:
            memmove(out + made, data + at, size)
            made += size
        at += size
    return made


cdef inline int base64_value(uint8_t c) noexcept nogil:
    if 65 <= c <= 90:
        return c - 65
    if 97 <= c <= 122:
        return c - 71
    if 48 <= c <= 57:
        return c + 4
    return 62 if c == 43 else 63 if c == 47 else -1


cdef uint32_t base64_bytes(const uint8_t *data, uint32_t n, uint8_t *out, uint32_t room) noexcept nogil:
    """Decode up to the first byte that is no digit (RFC 4648, 4); what is left of a group of four gives what it has."""
    cdef uint32_t i, made = 0, bits = 0, have = 0
    cdef int value
    for i in range(n):
        value = base64_value(data[i])
        if value < 0 or made == room:
            break
        bits = bits << 6 | <uint32_t>value
        have += 6
        if have >= 8:
            have -= 8
            out[made] = <uint8_t>(bits >> have)
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
    if kind == TRANSFORM_HEADER_LOWERCASE:
        return header_lowercase(data, n, out)
    if kind == TRANSFORM_STRIP_PSEUDO:
        return strip_pseudo(data, n, out)
    if kind == TRANSFORM_LOWER:
        for i in range(n):
            out[i] = ascii_lower(data[i])
    elif kind == TRANSFORM_UPPER:
        for i in range(n):
            out[i] = data[i] - 32 if 97 <= data[i] <= 122 else data[i]
    return n
