# What `reject` sends: a TCP RST or an ICMP unreachable. See reply.pyx.

from libc.stdint cimport uint32_t
from tigerfox.dataplane.packet cimport Packet

cdef struct ReplySockets:        # raw sockets, opened by the supervisor; -1: none
    int v4
    int v6
    uint32_t second              # worker: Unix second that `sent` counts in
    uint32_t sent                # worker: replies of that second

# Answer p as RuleAction `action` says; `now` in Unix seconds. 1 sent, 0 nothing to send (an RST, an ICMP error), -1 could
# not be sent, or over the second's limit.
cdef int reply_send(ReplySockets *s, const Packet *p, int action, uint32_t now) noexcept nogil
