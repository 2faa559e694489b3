"""The version line of SSH (RFC 4253, 4.2): `SSH-protoversion-softwareversion SP comments CR LF`.

What it owns
    Nothing; the state lies with the flow, the line in the caller's buffer.

Layout
    bytes ─▶ line, into the buffer ─▶ "SSH-" in front? ─no─▶ the next line; a server may greet before it

Invariants
    The answer does not depend on how the bytes were cut. A line ends with LF; a CR before it is no part of it.
    `software` ends before the first blank, as in Suricata 7.

Who may write what
    The state and the buffer: this parser.

What happens when full or broken
    Of a line beyond SSH_LINE the beginning counts. More than SSH_LINES lines before it, or a line without both parts, is
    another protocol. What follows the line (keys, then ciphertext) is not read.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memset

from tigerfox.dataplane.app.buffer cimport (
    APP_COMPLETE, APP_NEED_MORE, APP_NOT_THIS, PROBE_MORE, PROBE_NO, PROBE_YES, AppSpan, buffer_room)

cdef enum:
    MARK = 4                     # bytes of "SSH-"
    LF = 10
    CR = 13
    BLANK = 32
    HYPHEN = 45


cdef inline void line_keep(SshState *s, AppBuffer *b, const uint8_t *data, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if s.have >= SSH_LINE or buffer_room(b) == 0:
            return
        b.data[b.used] = data[i]
        b.used += 1
        s.have += 1


cdef inline uint32_t place_of(const uint8_t *line, uint32_t first, uint32_t n, uint8_t byte) noexcept nogil:
    """Where a byte stands, n where it does not."""
    cdef const uint8_t *found = <const uint8_t *>memchr(line + first, byte, n - first)
    return <uint32_t>(found - line) if found != NULL else n


cdef AppAnswer line_read(SshState *s, AppBuffer *b) noexcept nogil:
    """A whole line: the version line, or one that goes before it."""
    cdef const uint8_t *line = b.data
    cdef uint32_t n = s.have, proto
    while n and line[n - 1] == CR:
        n -= 1
    if n < MARK or memcmp(line, b"SSH-", MARK) != 0:
        s.have = b.used = 0
        s.lines += 1
        return APP_NEED_MORE if s.lines < SSH_LINES else APP_NOT_THIS
    proto = place_of(line, MARK, n, HYPHEN)
    if proto == MARK or proto >= n:
        return APP_NOT_THIS
    s.proto = AppSpan(MARK, proto - MARK)
    s.software = AppSpan(proto + 1, place_of(line, proto + 1, n, BLANK) - proto - 1)
    s.whole = 1
    return APP_COMPLETE


cdef AppAnswer ssh_feed(SshState *s, AppBuffer *b, const uint8_t *data, uint32_t n) noexcept nogil:
    cdef AppAnswer answer = APP_NEED_MORE
    cdef uint32_t at = 0, end
    b.used = s.have = min(s.have, <uint32_t>SSH_LINE)
    if b.size < SSH_LINE or s.whole:
        return APP_COMPLETE if s.whole else APP_NOT_THIS
    while at < n and answer == APP_NEED_MORE:
        end = place_of(data, at, n, LF)
        line_keep(s, b, data + at, end - at)
        at = end + 1
        if end < n:
            answer = line_read(s, b)
    return answer


cdef AppProbe ssh_probe(const uint8_t *data, uint32_t n) noexcept nogil:
    if memcmp(data, b"SSH-", min(n, <uint32_t>MARK)) != 0:
        return PROBE_NO
    return PROBE_YES if n >= MARK else PROBE_MORE

# Public API


def feed(pieces):
    """Feed one direction in pieces: (answer as a number of AppAnswer, proto, software); for tests."""
    cdef SshState state
    cdef AppBuffer buffer
    cdef bytearray store = bytearray(SSH_LINE)
    cdef AppAnswer answer = APP_NEED_MORE
    memset(&state, 0, sizeof(SshState))
    buffer.data, buffer.size, buffer.used = store, SSH_LINE, 0
    for piece in pieces:
        if answer == APP_NEED_MORE:
            answer = ssh_feed(&state, &buffer, <const uint8_t *><const char *><bytes>piece, <uint32_t>len(piece))
    proto, software = ((state.proto.off, state.proto.len), (state.software.off, state.software.len))
    return <int>answer, *(bytes(store[first:first + n]) for first, n in (proto, software))
