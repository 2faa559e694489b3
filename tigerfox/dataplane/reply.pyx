"""What `reject` sends: a TCP RST or an ICMP "administratively prohibited", from raw sockets.

What it owns
    Nothing; the sockets are the supervisor's, the reply is built on the stack.

Layout
    RST:  IP header 20 or 40 | TCP header 20
    ICMP: IP header 20 or 40 | ICMP header 8 | the packet that is refused, as much of it as was copied, up to the limit
    that RFC 1812 (576 bytes) and RFC 4443 (1280 bytes) set

Invariants
    Nothing is ever sent in answer to an RST, an ICMP error or redirect, a fragment other than the first, or a packet
    from or to an address that is not one host's (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e). A reply comes from
    the address that the packet was for, so that it finds its connection. It carries the mark of the sockets, by which
    the chain lets it pass. The RST follows RFC 9293 section 3.10.7.1: sequence number from the acknowledgement of the
    refused segment when it has one, else 0 and an acknowledgement of all that it occupies. To the destination it
    continues the sender's numbers. ICMP: type 3 code 13 (RFC 1812 section 5.2.7.1: what a router filters
    administratively), ICMPv6 type 1 code 1 (RFC 4443 section 3.1). An ICMP error goes to the source only: to the
    destination it would speak of a packet that it never sent.

Who may write what
    The worker its own count of replies in ReplySockets.

What happens when full or broken
    A worker answers at most REPLIES_PER_SECOND packets a second, so that forged sources cannot make it a reflector (RFC
    1812, 4.3.2.8). Beyond that, or where the socket would block or is not there, the reply is lost: -1, which the top
    counts. The packet is dropped all the same.
"""

import socket

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset
from tigerfox.dataplane.checksum cimport fold, pseudo_sum, sum_words, tcp_seal
from tigerfox.dataplane.image cimport ACTION_REJECT_BOTH, ACTION_REJECT_DST, ACTION_REJECT_SRC
from tigerfox.dataplane.packet cimport PACKET_LATER_FRAGMENT, PACKET_PORTS, PACKET_INNER
from tigerfox.dataplane.parse cimport parse_packet
from tigerfox.dataplane.reason cimport R_NONE
from tigerfox.dataplane.tcp cimport PROTO_TCP
from tigerfox.dataplane.wire cimport store_be16, store_be32

from tigerfox.errors import from_errno

cdef extern from * nogil:
    """
    #include <netinet/in.h>
    #include <sys/socket.h>
    """
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in:
        unsigned short sin_family
        in_addr sin_addr
    struct sockaddr_in6:
        unsigned short sin6_family
        in6_addr sin6_addr
    int AF_INET, AF_INET6, MSG_DONTWAIT, MSG_NOSIGNAL
    ssize_t sendto(int fd, const void *data, size_t length, int flags, const void *to, unsigned int to_length)

cdef enum:
    REPLIES_PER_SECOND = 1000    # as Linux's icmp_msgs_per_sec was for long
    PROTO_ICMP = 1
    PROTO_ICMPV6 = 58
    TCP_FIN = 0x01
    TCP_SYN = 0x02
    TCP_RST = 0x04
    TCP_ACK = 0x10
    TCP_SIZE = 20
    ICMP_SIZE = 8
    REPLY_TTL = 64
    LIMIT_V4 = 576
    LIMIT_V6 = 1280

# ---- whom to answer


cdef inline bint address_single(const uint8_t *address, int version) noexcept nogil:
    """Whether the address can be one host's: not unspecified, multicast, broadcast."""
    cdef int i
    if version == 4:
        return address[0] != 0 and address[0] < 224
    if address[0] == 0xff:
        return False
    for i in range(16):
        if address[i]:
            return True
    return False


cdef inline bint icmp_answerable(const Packet *p) noexcept nogil:
    """Not an ICMP error or redirect, v4 types 3, 4, 5, 11, 12; ICMPv6 below 128 and 137."""
    if p.flow.proto == PROTO_ICMP and p.flow.version == 4:
        return not (3 <= p.icmp_type <= 5 or p.icmp_type == 11 or p.icmp_type == 12)
    if p.flow.proto == PROTO_ICMPV6 and p.flow.version == 6:
        return p.icmp_type >= 128 and p.icmp_type != 137
    return True


cdef inline bint answerable(const Packet *p) noexcept nogil:
    if p.flags & (PACKET_LATER_FRAGMENT | PACKET_INNER):
        return False
    if not address_single(p.flow.src, p.flow.version) or not address_single(p.flow.dst, p.flow.version):
        return False
    if p.flow.proto == PROTO_TCP:
        return p.flags & PACKET_PORTS and not p.tcp_flags & TCP_RST
    return icmp_answerable(p)

# ---- building


cdef uint32_t ip_write(uint8_t *out, const Packet *p, bint to_source, int proto, uint32_t length) noexcept nogil:
    """Write the IP header of a reply whose payload has `length` bytes; returns its size."""
    cdef const uint8_t *sender = &p.flow.dst[0]
    cdef const uint8_t *receiver = &p.flow.src[0]
    if not to_source:
        sender, receiver = receiver, sender
    if p.flow.version == 4:
        memset(out, 0, 20)
        out[0], out[6], out[8], out[9] = 0x45, 0x40, REPLY_TTL, <uint8_t>proto
        store_be16(out + 2, <uint16_t>(20 + length))
        memcpy(out + 12, sender, 4)
        memcpy(out + 16, receiver, 4)
        store_be16(out + 10, fold(sum_words(out, 20, 0)))
        return 20
    memset(out, 0, 8)
    out[0], out[6], out[7] = 0x60, <uint8_t>proto, REPLY_TTL
    store_be16(out + 4, <uint16_t>length)
    memcpy(out + 8, sender, 16)
    memcpy(out + 24, receiver, 16)
    return 40


cdef uint32_t reset_build(const Packet *p, bint to_source, uint8_t *out) noexcept nogil:
    cdef uint32_t ip_size = ip_write(out, p, to_source, PROTO_TCP, TCP_SIZE)
    cdef uint8_t *tcp = out + ip_size
    cdef bint has_ack = (p.tcp_flags & TCP_ACK) != 0
    cdef uint32_t occupied = p.payload_len + ((p.tcp_flags & TCP_SYN) != 0) + ((p.tcp_flags & TCP_FIN) != 0)
    memset(tcp, 0, TCP_SIZE)
    store_be16(tcp, p.flow.dport if to_source else p.flow.sport)
    store_be16(tcp + 2, p.flow.sport if to_source else p.flow.dport)
    tcp[12] = TCP_SIZE // 4 << 4
    if not to_source:
        store_be32(tcp + 4, p.tcp_seq)
        store_be32(tcp + 8, p.tcp_ack if has_ack else 0)
        tcp[13] = TCP_RST | TCP_ACK if has_ack else TCP_RST
    elif has_ack:
        store_be32(tcp + 4, p.tcp_ack)
        tcp[13] = TCP_RST
    else:
        store_be32(tcp + 8, p.tcp_seq + occupied)
        tcp[13] = TCP_RST | TCP_ACK
    tcp_seal(out, ip_size, TCP_SIZE)
    return ip_size + TCP_SIZE


cdef uint32_t unreachable_build(const Packet *p, uint8_t *out) noexcept nogil:
    cdef bint v4 = p.flow.version == 4
    cdef uint32_t room = (LIMIT_V4 - 20 if v4 else LIMIT_V6 - 40) - ICMP_SIZE
    cdef uint32_t quoted = p.caplen if p.caplen < p.ip_len else p.ip_len
    cdef int proto = PROTO_ICMP if v4 else PROTO_ICMPV6
    if quoted > room:
        quoted = room
    cdef uint32_t ip_size = ip_write(out, p, True, proto, ICMP_SIZE + quoted)
    cdef uint8_t *icmp = out + ip_size
    cdef uint32_t start = 0 if v4 else pseudo_sum(out, ip_size, proto, ICMP_SIZE + quoted)
    memset(icmp, 0, ICMP_SIZE)
    icmp[0], icmp[1] = 3 if v4 else 1, 13 if v4 else 1
    memcpy(icmp + ICMP_SIZE, p.data, quoted)
    store_be16(icmp + 2, fold(sum_words(icmp, ICMP_SIZE + quoted, start)))
    return ip_size + ICMP_SIZE + quoted


cdef uint32_t reply_build(const Packet *p, bint to_source, uint8_t *out) noexcept nogil:
    """Write the reply in one direction into `out` (LIMIT_V6 bytes); its length, or 0 when there is nothing to send."""
    if not answerable(p):
        return 0
    if p.flow.proto == PROTO_TCP:
        return reset_build(p, to_source, out)
    return unreachable_build(p, out) if to_source else 0

# ---- sending


cdef inline bint reply_allowed(ReplySockets *s, uint32_t now) noexcept nogil:
    if s.second != now:
        s.second, s.sent = now, 0
    s.sent += s.sent <= REPLIES_PER_SECOND
    return s.sent <= REPLIES_PER_SECOND


cdef int reply_send(ReplySockets *s, const Packet *p, int action, uint32_t now) noexcept nogil:
    cdef int to_source = 0, to_destination = 0
    if not reply_allowed(s, now):
        return -1
    if action == ACTION_REJECT_SRC or action == ACTION_REJECT_BOTH:
        to_source = direction_send(s, p, True)
    if action == ACTION_REJECT_DST or action == ACTION_REJECT_BOTH:
        to_destination = direction_send(s, p, False)
    if to_source < 0 or to_destination < 0:
        return -1
    return to_source or to_destination


cdef int direction_send(const ReplySockets *s, const Packet *p, bint to_source) noexcept nogil:
    cdef uint8_t[LIMIT_V6] out
    cdef uint32_t length = reply_build(p, to_source, out)
    cdef ssize_t sent
    if length == 0:
        return 0
    if p.flow.version == 4:
        sent = send_v4(s.v4, out, length)
    else:
        sent = send_v6(s.v6, out, length)
    return 1 if sent == <ssize_t>length else -1


cdef inline ssize_t send_v4(int fd, const uint8_t *out, uint32_t length) noexcept nogil:
    cdef sockaddr_in to
    memset(&to, 0, sizeof(to))
    to.sin_family = <unsigned short>AF_INET
    memcpy(&to.sin_addr, out + 16, 4)
    return sendto(fd, out, length, MSG_DONTWAIT | MSG_NOSIGNAL, &to, sizeof(to))


cdef inline ssize_t send_v6(int fd, const uint8_t *out, uint32_t length) noexcept nogil:
    cdef sockaddr_in6 to
    memset(&to, 0, sizeof(to))
    to.sin6_family = <unsigned short>AF_INET6
    memcpy(&to.sin6_addr, out + 24, 16)
    return sendto(fd, out, length, MSG_DONTWAIT | MSG_NOSIGNAL, &to, sizeof(to))

# ---- Public API


def open_reply_sockets(unsigned int mark=0):
    """Open the raw sockets for replies and return their descriptors (v4, v6); close them with os.close.

    ``mark`` is the packet mark of every reply, by which the chain lets it pass (0: none). Protocol IPPROTO_RAW means
    that the header is included (raw(7), IPV6_HDRINCL). Raises PrivilegeError without CAP_NET_RAW or CAP_NET_ADMIN,
    KernelError where a family is missing.
    """
    opened = []
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            one = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
            opened.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    except OSError as error:
        for one in opened:
            one.close()
        raise from_errno(error.errno, "open the sockets for reject replies",
                         "They need CAP_NET_RAW and CAP_NET_ADMIN: run with sudo.") from None
    return tuple(one.detach() for one in opened)


def reply_packets(bytes data, int action):
    """Return the IP packets, none to two, that would answer the IP packet ``data`` under RuleAction ``action``."""
    cdef Packet p
    cdef uint8_t[LIMIT_V6] out
    cdef uint32_t length
    memset(&p, 0, sizeof(Packet))
    p.data, p.caplen, p.wirelen = <const uint8_t *><const char *>data, <uint32_t>len(data), <uint32_t>len(data)
    if parse_packet(&p) != R_NONE:
        return []
    replies = []
    for to_source, one_sided in ((True, ACTION_REJECT_SRC), (False, ACTION_REJECT_DST)):
        length = reply_build(&p, to_source, out) if action == <int>one_sided or action == <int>ACTION_REJECT_BOTH else 0
        if length:
            replies.append(out[:length])
    return replies
