# The version line of one direction of an SSH connection. See ssh.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from tigerfox.dataplane.app.buffer cimport AppAnswer, AppBuffer, AppProbe, AppSpan

cdef enum:
    SSH_LINE = 255               # bytes of a version line (RFC 4253, 4.2); what is longer is read up to here
    SSH_LINES = 64               # lines that a server may send before it

cdef struct SshState:            # one direction; all zero at its start; no pointers
    uint16_t have                # bytes of the line that were kept
    uint8_t lines                # before the version line
    uint8_t whole                # the spans are set
    AppSpan proto                # "2.0"
    AppSpan software             # up to the first blank

# In-order bytes: APP_COMPLETE once the version line is there, APP_NOT_THIS where there is none.
cdef AppAnswer ssh_feed(SshState *s, AppBuffer *b, const uint8_t *data, uint32_t n) noexcept nogil
cdef AppProbe ssh_probe(const uint8_t *data, uint32_t n) noexcept nogil
