"""Request targets of HTTP, split into their parts and brought into the normal form that rules expect."""

# What it owns: one table of 65,536 bytes, made when the module is loaded: the nearest single byte of a code point
#     (Windows code page 1252, else the base letter of its compatibility decomposition, else a question mark).
#
# Layout: a target is [scheme://authority] path [?query] [#fragment]. The normal form is path, query and fragment,
#     as Suricata's http.uri has them with libhtp's personality IDS.
#
# Invariants: the output is never longer than the input, and every step reads and writes forward in one pass, so the work
#     is in proportion to the length. Path: percent-encoding and %u decoded, also encoded separators; backslash becomes
#     slash; runs of slashes become one; UTF-8, overlong forms included, becomes single bytes, what is none becomes
#     a question mark; then . and .. segments are removed (RFC 3986, 5.2.4). Letters keep their case. Query: percent-encoding
#     decoded, %u and plus signs left alone. Fragment: untouched. An invalid escape stays as it is; NUL ends nothing.
#
# Who may write what: the caller's output only.
#
# What happens when full or broken: the caller gives room for as many bytes as the target has; that is always enough.

import unicodedata

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcpy, memset

from tigerfox.dataplane.ascii cimport ascii_hex
from tigerfox.dataplane.wide cimport WIDE, Wide, wide_bits, wide_equal, wide_left, wide_load

cdef uint8_t nearest_byte[65536]


cdef inline uint8_t single_byte(uint32_t point) noexcept nogil:
    return nearest_byte[point] if point < 65536 else 63


# Splitting

cdef uint32_t part_end(const uint8_t *raw, uint32_t at, uint32_t n, bint slash_ends, bint query_ends) noexcept nogil:
    while at < n and raw[at] != 35 and not (query_ends and raw[at] == 63) and not (slash_ends and raw[at] == 47):
        at += 1
    return at


cdef void host_split(const uint8_t *raw, uint32_t at, uint32_t end, UriParts *parts) noexcept nogil:
    """The host of an authority: without credentials and port."""
    cdef const uint8_t *mark = <const uint8_t *>memchr(raw + at, 64, end - at)
    cdef uint8_t closing = 58
    if mark != NULL:
        at = <uint32_t>(mark - raw) + 1
    if at < end and raw[at] == 91:
        closing = 93
    mark = <const uint8_t *>memchr(raw + at, closing, end - at)
    if mark != NULL:
        end = <uint32_t>(mark - raw) + (closing == 93)
    parts.host_off = at
    parts.host_len = end - at


cdef void uri_split(const uint8_t *raw, uint32_t n, UriParts *parts) noexcept nogil:
    cdef const uint8_t *colon = NULL
    cdef uint32_t at = 0, end
    memset(parts, 0, sizeof(UriParts))
    if n and raw[0] != 47:
        colon = <const uint8_t *>memchr(raw, 58, n)
    if colon != NULL:
        at = <uint32_t>(colon - raw) + 1
        if at + 2 < n and raw[at] == 47 and raw[at + 1] == 47 and raw[at + 2] != 47:
            end = part_end(raw, at + 2, n, True, True)
            host_split(raw, at + 2, end, parts)
            at = end
    parts.path_off = at
    end = part_end(raw, at, n, False, True)
    parts.path_len = end - at
    if end < n and raw[end] == 63:
        parts.has_query = 1
        parts.query_off = end + 1
        end = part_end(raw, end, n, False, False)
        parts.query_len = end - parts.query_off
    if end < n:
        parts.has_fragment = 1
        parts.fragment_off = end + 1
        parts.fragment_len = n - end - 1


# Decoding

cdef int hex_pair(const uint8_t *at) noexcept nogil:
    cdef int high = ascii_hex(at[0]), low = ascii_hex(at[1])
    return -1 if high < 0 or low < 0 else high * 16 + low


cdef uint32_t escape_read(const uint8_t *at, uint32_t left, bint wide, uint8_t *c, bint *odd) noexcept nogil:
    """The byte that the escape at `at` stands for; the bytes it takes, 1 and a percent sign where it is none."""
    cdef int high, low
    c[0] = 37
    if wide and left > 2 and (at[1] | 32) == 117:
        odd[0] = True
        high = hex_pair(at + 2) if left > 5 else -1
        low = hex_pair(at + 4) if left > 5 else -1
        if high < 0 or low < 0:
            return 1
        c[0] = single_byte(high * 256 + low)
        return 6
    high = hex_pair(at + 1) if left > 2 else -1
    if high < 0:
        odd[0] = True
        return 1
    if high == 0:
        odd[0] = True
    c[0] = <uint8_t>high
    return 3


cdef uint32_t path_decode(const uint8_t *raw, uint32_t n, uint8_t *out, bint *odd) noexcept nogil:
    cdef uint32_t at = 0, made = 0
    cdef uint8_t c
    while at < n:
        c = raw[at]
        if c == 37:
            at += escape_read(raw + at, n - at, True, &c, odd)
        else:
            at += 1
        if c == 92:
            c = 47
        if c == 47 and made and out[made - 1] == 47:
            continue
        out[made] = c
        made += 1
    return made


cdef uint32_t query_decode(const uint8_t *raw, uint32_t n, uint8_t *out, bint *odd) noexcept nogil:
    cdef uint32_t at = 0, made = 0
    cdef uint8_t c
    while at < n:
        c = raw[at]
        if c == 37:
            at += escape_read(raw + at, n - at, False, &c, odd)
        else:
            at += 1
        out[made] = c
        made += 1
    return made


# UTF-8

cdef inline uint32_t utf8_length(uint8_t lead) noexcept nogil:
    if lead < 0x80:
        return 1
    if 0xc0 <= lead <= 0xdf:
        return 2
    if 0xe0 <= lead <= 0xef:
        return 3
    return 4 if 0xf0 <= lead <= 0xf4 else 0


cdef uint32_t utf8_read(const uint8_t *at, uint32_t left, uint32_t *point) noexcept nogil:
    """One character, overlong forms included: the bytes read; `point` above 0x10ffff where they are none."""
    cdef uint32_t need = utf8_length(at[0]), i
    point[0] = 0x110000
    if need < 2:
        if need:
            point[0] = at[0]
        return 1
    cdef uint32_t made = at[0] & (0xff >> (need + 1))
    for i in range(1, need):
        if i >= left or (at[i] & 0xc0) != 0x80:
            return i
        made = made << 6 | (at[i] & 0x3f)
    point[0] = made
    return need


cdef uint32_t path_narrow(uint8_t *path, uint32_t n, bint *odd) noexcept nogil:
    """UTF-8 to single bytes, in place."""
    cdef uint32_t at = 0, made = 0, point = 0, taken
    while at < n and path[at] < 0x80:
        at += 1
    made = at
    while at < n:
        taken = utf8_read(path + at, n - at, &point)
        if point > 0x10ffff or (taken == 2 and point < 0x80) or (taken == 3 and point < 0x800):
            odd[0] = True
        at += taken
        path[made] = 63 if point > 0x10ffff else single_byte(point)
        made += 1
    return made


# Dot segments

cdef inline uint32_t segment_drop(const uint8_t *path, uint32_t made) noexcept nogil:
    """The length of the output without its last segment."""
    while made:
        made -= 1
        if path[made] == 47:
            break
    return made


cdef inline uint32_t dots_at(const uint8_t *path, uint32_t at, uint32_t n) noexcept nogil:
    """1 or 2 where a segment of that many dots begins at `at`, else 0."""
    cdef uint32_t dots = 0
    while at + dots < n and path[at + dots] == 46:
        dots += 1
    if at + dots < n and path[at + dots] != 47:
        return 0
    return dots if dots <= 2 else 0


cdef uint32_t path_undot(uint8_t *path, uint32_t n) noexcept nogil:
    """RFC 3986, 5.2.4, in place."""
    cdef uint32_t at = 0, made = 0, dots
    while at < n:
        if path[at] != 47:
            dots = dots_at(path, at, n)
            if dots:
                at += dots + 1
                continue
        else:
            dots = dots_at(path, at + 1, n)
            if dots:
                if dots == 2:
                    made = segment_drop(path, made)
                at += dots + 1
                if at >= n:
                    path[made] = 47
                    made += 1
                continue
        while True:
            path[made] = path[at]
            made += 1
            at += 1
            if at >= n or path[at] == 47:
                break
    return made


cdef bint uri_is_normal(const uint8_t *raw, uint32_t n, uint32_t readable) noexcept nogil:
    """A path with no escape, no backslash, nothing above 127, and no slash or dot behind a slash; nor in what follows it."""
    cdef uint32_t at = 0, slashes, odd, behind = 0
    cdef Wide some
    if n == 0 or raw[0] != 47 or readable < WIDE or n > readable - WIDE:
        return False
    while at < n:
        some = wide_load(raw + at)
        slashes = wide_equal(some, 47)
        behind |= slashes << 1
        odd = wide_bits(some) | wide_equal(some, 37) | wide_equal(some, 92) | behind & (slashes | wide_equal(some, 46))
        if odd & wide_left(n - at):
            return False
        behind >>= WIDE
        at += WIDE
    return True


cdef uint32_t uri_normalise(const uint8_t *raw, uint32_t n, uint8_t *out, bint *odd) noexcept nogil:
    cdef UriParts parts
    cdef uint32_t made
    uri_split(raw, n, &parts)
    made = path_decode(raw + parts.path_off, parts.path_len, out, odd)
    made = path_narrow(out, made, odd)
    made = path_undot(out, made)
    if parts.has_query:
        out[made] = 63
        made += 1 + query_decode(raw + parts.query_off, parts.query_len, out + made + 1, odd)
    if parts.has_fragment:
        out[made] = 35
        memcpy(out + made + 1, raw + parts.fragment_off, parts.fragment_len)
        made += 1 + parts.fragment_len
    return made


def fill_nearest():
    """Fill the table of nearest bytes; called once, when the module is loaded."""
    cdef int point
    cdef bytes own, bases
    memset(nearest_byte, 63, sizeof(nearest_byte))
    for point in range(256):
        nearest_byte[point] = point
    for first, end in ((0x100, 0x3400), (0xa000, 0xac00), (0xf900, 0x10000)):      # what lies between has no such letters
        chars = [chr(point) for point in range(first, end)]
        own = "".join(chars).encode("cp1252", "replace")
        decomposed = unicodedata.normalize("NFKD", "\n".join(chars)).split("\n")
        bases = "".join([letters[0] for letters in decomposed]).encode("ascii", "replace")
        for point in range(first, end):
            nearest_byte[point] = own[point - first] if own[point - first] != 63 else bases[point - first]


fill_nearest()


# Public API

def normalise(bytes target):
    """
    The normal form of a request target as rules see it in http.uri, and whether its encoding is odd.

    :param target: as it stands in the request line
    :return: (bytes, bool)
    Source: RFC 3986 5.2.4; Suricata 7, libhtp personality IDS, http.uri
    """
    cdef bint odd = False
    cdef bytearray out = bytearray(len(target) + 1)
    cdef uint8_t *room = out
    cdef const uint8_t *raw = target
    made = uri_normalise(raw, <uint32_t>len(target), room, &odd)
    return bytes(out[:made]), bool(odd)
