# What each TCP packet does to its connection's state. See tcp.pyx.

from libc.stdint cimport uint32_t
from libc.string cimport memcmp
from tigerfox.dataplane.flowentry cimport Flow, FlowSide
from tigerfox.dataplane.packet cimport Packet

cdef enum:
    PROTO_TCP = 6
    TCP_FIN = 1
    TCP_SYN = 2
    TCP_RST = 4
    TCP_PSH = 8
    TCP_ACK = 16
    TCP_URG = 32
    TCP_LOW_PORTS = 1024         # below: ports of servers (RFC 6335)

# A flow's first packet, and every further one; they set Flow.state, Flow.flags, Flow.tcp.
cdef void tcp_first(Flow *f, FlowSide side, const Packet *p, bint midstream) noexcept nogil
cdef void tcp_next(Flow *f, FlowSide side, const Packet *p) noexcept nogil

# Whether a SYN-ACK answers a SYN that the flow had not taken for its beginning; and the flow from that SYN on.
cdef bint tcp_reopens(const Flow *f, FlowSide side, const Packet *p) noexcept nogil
cdef void tcp_reopen(Flow *f, uint32_t isn) noexcept nogil


cdef inline bint tcp_of_server(const Packet *p) noexcept nogil:
    """Whether the first packet seen of a connection comes from its server, as far as it shows: a SYN-ACK, an HTTP status line, or
    a low port."""
    if p.tcp_flags & TCP_SYN:
        return p.tcp_flags & (TCP_ACK | TCP_RST) == TCP_ACK
    if p.payload_len >= 7 and p.payload_off + 7 <= p.caplen and memcmp(p.data + p.payload_off, b"HTTP/1.", 7) == 0:
        return True
    return p.flow.sport < TCP_LOW_PORTS <= p.flow.dport
