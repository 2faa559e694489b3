# What the application parsers share: their answers, and the memory they write text into.
#
# What it owns: nothing. The caller gives the bytes behind AppBuffer.data; a flow keeps `used` beside its parser's state
#     and puts the pointer in again for each call, so state and text can lie in shared memory.
# Layout: text is appended; a span names a piece of it by offset.
# Invariants: nothing is written at or behind `size`. `used` is not trusted: larger than `size`, it means full.
# Who may write what: the parser that was given the buffer.
# What happens when full or broken: an append answers False and writes nothing; the parser answers APP_LIMIT.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

cdef enum AppAnswer:
    APP_NEED_MORE = 0            # nothing is wrong; feed the bytes that follow
    APP_COMPLETE = 1             # DNS: one message was read; TLS: encrypted from here on
    APP_NOT_THIS = 2             # another protocol
    APP_BROKEN = 3               # this protocol, wrongly spoken; the state's `fault` names it
    APP_LIMIT = 4                # a bound was reached; the state's `fault` names it

cdef enum AppProbe:
    PROBE_NO = 0
    PROBE_YES = 1
    PROBE_MORE = 2               # too few bytes to tell

cdef struct AppSpan:
    uint32_t off
    uint32_t len                 # 0: absent

cdef struct AppBuffer:
    uint8_t *data                # set by the caller for every call
    uint32_t size
    uint32_t used


cdef inline uint32_t buffer_room(const AppBuffer *b) noexcept nogil:
    return b.size - b.used if b.used <= b.size else 0


cdef inline bint buffer_put(AppBuffer *b, const uint8_t *source, uint32_t n) noexcept nogil:
    """Append n bytes, or answer False and append nothing."""
    if buffer_room(b) < n:
        return False
    memcpy(b.data + b.used, source, n)
    b.used += n
    return True


cdef inline bint buffer_byte(AppBuffer *b, uint8_t byte) noexcept nogil:
    return buffer_put(b, &byte, 1)


cdef inline bint buffer_number(AppBuffer *b, uint32_t value) noexcept nogil:
    """Append value in decimal."""
    cdef uint8_t digits[10]
    cdef uint32_t at = 10
    while True:
        at -= 1
        digits[at] = <uint8_t>(48 + value % 10)
        value //= 10
        if value == 0:
            break
    return buffer_put(b, digits + at, 10 - at)


cdef inline AppSpan span_from(const AppBuffer *b, uint32_t start) noexcept nogil:
    """What was appended since `used` was `start`."""
    cdef AppSpan span
    span.off = start
    span.len = b.used - start
    return span


cdef inline bint span_inside(const AppBuffer *b, uint32_t off, uint32_t n) noexcept nogil:
    """May these bytes be read? Offsets that come from shared memory are asked before they are used."""
    return b.used <= b.size and off <= b.used and n <= b.used - off
