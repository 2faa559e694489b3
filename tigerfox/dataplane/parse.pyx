"""From bytes to a Packet: IPv4, IPv6 and what follows, by one bounds-checked cursor."""

# What it owns: nothing. It reads Packet.data up to caplen and writes the fields of packet.pxd marked `parse`.
#
# Layout: three lengths bound a packet. `caplen` bytes may be read; the packet had `wirelen`; the IP header announces
#     `ip_len`. In the code `end` is the packet's own end (ip_len, at most wirelen), and Cursor.end is end or caplen,
#     whichever is nearer. Bytes behind `end` (Ethernet padding) belong to nobody.
#
# Invariants: no byte is read but through cur_take or behind a check of caplen against a fixed header.
#     payload_off + payload_len <= wirelen. Unused bytes of the flow tuple are zero. PacketFlag bits of the caller are
#     overwritten: a source that knows a packet to be without IP (PACKET_BARE) does not send it here.
#     A header cut at `end` is malformed; one that goes on beyond caplen is R_HEADER_TRUNCATED; one cut by
#     the end of a first fragment is R_FRAG_TINY (RFC 1858, RFC 7112).
#     IPv4 total length 0, or IPv6 payload length 0, on a packet too large for the field is a GSO super-packet
#     (Linux BIG TCP): its length is wirelen. So it is with IPv6 payload length 0 before hop-by-hop options, where a
#     jumbo length may stand (RFC 2675): Linux takes all there is even if none does (ip6_rcv_core).
#     IPv4 in a middle fragment of an odd length is judged as it stands; Linux rounds it down to 8 bytes.
#     A tunnel in a tunnel is R_TUNNEL_DEPTH.
#     UDP: a length shorter than the IP payload is what the end host takes (RFC 9868 uses the rest), so it bounds the
#     payload; under 8 or over the packet is malformed. AH is followed in IPv6, where it is an extension header; in
#     IPv4 it is protocol 51. An IPv6 atomic fragment (RFC 6946) is a whole packet.
#
# Who may write what: parse_packet its Packet, parse_inner only `inner`.
#
# What happens when full or broken: the first fault is the answer, but reading goes on where that is safe, so that the
#     fields name the packet (dissect, alerts). At most EXTENSION_LIMIT IPv6 extension headers are followed.
#     Measured on one core: TCP over IPv4 7 ns, with timestamps 10, UDP over IPv6 7, with two extension headers 15.

from libc.string cimport memcpy, memset
from tigerfox.dataplane.packet cimport (
    FRAG_MORE, IPOPT_SEEN_ANY, IPOPT_SEEN_EOL, IPOPT_SEEN_ESEC, IPOPT_SEEN_LSRR, IPOPT_SEEN_NOP, IPOPT_SEEN_RR,
    IPOPT_SEEN_SATID, IPOPT_SEEN_SEC, IPOPT_SEEN_SSRR, IPOPT_SEEN_TS, PACKET_FRAGMENT, PACKET_INNER,
    PACKET_LATER_FRAGMENT, PACKET_PORTS, PACKET_TRUNCATED, PACKET_TUNNEL, VERDICT_UNSET, FlowTuple, Packet)
from tigerfox.dataplane.reason cimport *
from tigerfox.dataplane.wire cimport Cursor, cur_left, cur_take, load_be16, load_be32

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.reason import REASONS

cdef extern from *:
    """
    #define tf_likely(x) __builtin_expect(!!(x), 1)
    """
    bint likely "tf_likely"(bint x) noexcept nogil

cdef enum:
    EXTENSION_LIMIT = 8          # the six kinds of RFC 8200 with destination options twice, and one to spare

cdef enum Proto:                 # IANA protocol numbers
    PROTO_HOPOPTS = 0
    PROTO_ICMP = 1
    PROTO_IPIP = 4
    PROTO_TCP = 6
    PROTO_UDP = 17
    PROTO_IPV6 = 41
    PROTO_ROUTING = 43
    PROTO_FRAGMENT = 44
    PROTO_GRE = 47
    PROTO_AH = 51
    PROTO_ICMPV6 = 58
    PROTO_NONE = 59
    PROTO_DSTOPTS = 60
    PROTO_SCTP = 132

cdef enum:
    GRE_WCCP = 0x883e            # draft-wilson-wrec-wccp-v2
    GRE_ETHERNET = 0x6558        # RFC 1701, transparent Ethernet bridging
    GRE_ERSPAN = 0x88be          # draft-foschiano-erspan: type I, with a sequence number type II
    ERSPAN_CUT = 0x400           # T of type II: the mirror cut the frame
    ANY_LENGTH = 65575           # the longest packet that a header can announce


cdef inline uint32_t nearer(uint32_t a, uint32_t b) noexcept nogil:
    return a if a < b else b


cdef inline uint32_t offset_of(const Packet *p, const Cursor *c) noexcept nogil:
    return <uint32_t>(c.pos - p.data)


cdef inline Cursor cursor_at(const Packet *p, uint32_t offset, uint32_t end) noexcept nogil:
    """A cursor from `offset`, which is readable, to the packet's end or the last byte captured."""
    cdef Cursor c
    c.pos = p.data + offset
    c.end = p.data + nearer(end, p.caplen)
    return c


cdef inline Reason first_fault(Reason a, Reason b) noexcept nogil:
    """The first of two faults; but one that hides headers weighs more than one that hides nothing."""
    if a == R_NONE or (reason_class(b) == CLASS_UNPARSED and reason_class(a) == CLASS_MALFORMED):
        return b
    return a


cdef Reason header_short(const Packet *p, const Cursor *c, uint32_t need, uint32_t end,
                         Reason malformed) noexcept nogil:
    """Why `need` bytes at the cursor are not there."""
    if offset_of(p, c) + need <= end:
        return R_HEADER_TRUNCATED
    return R_FRAG_TINY if p.flags & PACKET_FRAGMENT else malformed


cdef inline void payload_rest(Packet *p, const Cursor *c, uint32_t end) noexcept nogil:
    """Everything from the cursor to the packet's end is payload."""
    p.payload_off = offset_of(p, c)
    p.payload_len = end - p.payload_off


cdef inline void packet_clear(Packet *p) noexcept nogil:
    memset(&p.flow, 0, sizeof(FlowTuple))
    p.payload_off = 0
    p.payload_len = 0
    memset(&p.ip_len, 0, <size_t>(<char *>&p.verdict - <char *>&p.ip_len))
    p.has_icmp_echo = 0


# Transport headers

cdef inline void ports_read(Packet *p, const uint8_t *head) noexcept nogil:
    p.flow.sport = load_be16(head)
    p.flow.dport = load_be16(head + 2)
    p.flags |= PACKET_PORTS


cdef Reason ports_only(Packet *p, Cursor *c, uint32_t need, uint32_t end, Reason malformed) noexcept nogil:
    """A header that is not there in full: the ports, if they are, and why."""
    cdef Reason why = header_short(p, c, need, end, malformed)
    cdef uint32_t left = cur_left(c)
    if left >= 4:
        ports_read(p, c.pos)
    if p.flow.proto == PROTO_TCP and left >= 14:
        p.tcp_flags = load_be16(c.pos + 12) & 0x1ff
    return why


cdef bint tcp_options_good(const uint8_t *options, uint32_t length) noexcept nogil:
    """Whether every option lies inside the header (RFC 9293, 3.1)."""
    cdef uint32_t i = 0
    while i < length and options[i] != 0:
        if options[i] == 1:
            i += 1
        elif i + 1 >= length or options[i + 1] < 2 or options[i + 1] > length - i:
            return False
        else:
            i += options[i + 1]
    return True


cdef inline Reason tcp_options(Packet *p, Cursor *c, uint32_t length, uint32_t end) noexcept nogil:
    cdef const uint8_t *options = cur_take(c, length)
    if options == NULL:
        return header_short(p, c, length, end, R_TCP_HLEN)
    payload_rest(p, c, end)
    if length == 12 and load_be32(options) == 0x0101080a:     # NOP NOP timestamps: nearly every segment
        return R_NONE
    return R_NONE if tcp_options_good(options, length) else R_TCP_OPTIONS


cdef inline Reason tcp_parse(Packet *p, Cursor *c, uint32_t end) noexcept nogil:
    cdef const uint8_t *head = cur_take(c, 20)
    cdef uint32_t length
    if head == NULL:
        return ports_only(p, c, 20, end, R_TCP_SHORT)
    ports_read(p, head)
    p.tcp_seq = load_be32(head + 4)
    p.tcp_ack = load_be32(head + 8)
    p.tcp_flags = load_be16(head + 12) & 0x1ff
    p.tcp_window = load_be16(head + 14)
    length = (head[12] >> 4) * 4
    if length < 20:
        return R_TCP_HLEN
    if length > 20:
        return tcp_options(p, c, length - 20, end)
    payload_rest(p, c, end)
    return R_NONE


cdef inline Reason udp_parse(Packet *p, Cursor *c, uint32_t end) noexcept nogil:
    cdef const uint8_t *head = cur_take(c, 8)
    cdef uint32_t length
    if head == NULL:
        return ports_only(p, c, 8, end, R_UDP_SHORT)
    ports_read(p, head)
    payload_rest(p, c, end)
    length = load_be16(head + 4)
    if length == p.payload_len + 8 or p.flags & PACKET_FRAGMENT and length >= 8:
        return R_NONE
    if length == 0 and end > 65535:                           # RFC 2675, and tunnels in BIG TCP
        return R_NONE
    if length < 8 or length > p.payload_len + 8:
        return R_UDP_LENGTH
    p.payload_len = length - 8
    return R_NONE


cdef inline bint icmp_has_id(const Packet *p) noexcept nogil:
    """Echo, timestamp, information and address mask messages (RFC 792, RFC 950); ICMPv6 echo (RFC 4443)."""
    if p.flow.proto == PROTO_ICMPV6:
        return p.icmp_type == 128 or p.icmp_type == 129
    return p.icmp_type == 0 or p.icmp_type == 8 or 13 <= p.icmp_type <= 18


cdef Reason icmp_parse(Packet *p, Cursor *c, uint32_t end) noexcept nogil:
    cdef const uint8_t *head
    if cur_left(c) >= 2:
        p.icmp_type = c.pos[0]
        p.icmp_code = c.pos[1]
    head = cur_take(c, 8)
    if head == NULL:
        return header_short(p, c, 8, end, R_ICMP_SHORT if p.flow.proto == PROTO_ICMP else R_ICMPV6_SHORT)
    if icmp_has_id(p):
        p.icmp_id = load_be16(head + 4)
        p.icmp_seq = load_be16(head + 6)
        p.has_icmp_echo = 1
    payload_rest(p, c, end)
    return R_NONE


cdef Reason sctp_parse(Packet *p, Cursor *c, uint32_t end) noexcept nogil:
    cdef const uint8_t *head = cur_take(c, 12)
    if head == NULL:
        return ports_only(p, c, 12, end, R_SCTP_SHORT)
    ports_read(p, head)
    payload_rest(p, c, end)
    return R_NONE


cdef Reason tunnel_found(Packet *p, Cursor *c, uint32_t end) noexcept nogil:
    """The rest is an IP packet; part of one is not, so a fragment is not looked into: defrag puts it together."""
    payload_rest(p, c, end)
    if not p.flags & PACKET_FRAGMENT and p.payload_len > 0:
        p.flags |= PACKET_TUNNEL
        p.inner_off = p.payload_off
        p.inner_len = p.payload_len
    return R_NONE


cdef Reason frame_found(Packet *p, Cursor *c, uint32_t end) noexcept nogil:
    """The rest is an Ethernet frame, with two VLAN tags at most; where it carries IP it is a tunnel."""
    cdef Cursor frame = c[0]
    cdef const uint8_t *head = cur_take(&frame, 14)
    cdef uint32_t tags = 0, kind
    payload_rest(p, c, end)
    if head == NULL:
        return R_HEADER_TRUNCATED if offset_of(p, c) + 14 <= end else R_NONE
    kind = load_be16(head + 12)
    while (kind == 0x8100 or kind == 0x88a8) and tags < 2:
        head = cur_take(&frame, 4)
        if head == NULL:
            return R_HEADER_TRUNCATED if offset_of(p, &frame) + 4 <= end else R_NONE
        kind = load_be16(head + 2)
        tags += 1
    if kind == 0x0800 or kind == 0x86dd:
        tunnel_found(p, &frame, end)
        payload_rest(p, c, end)
    return R_NONE


cdef Reason gre_other(Packet *p, Cursor *c, uint32_t end, uint32_t kind, uint32_t word) noexcept nogil:
    """What GRE carries besides IP: a frame, or anything, which is payload."""
    cdef const uint8_t *mirror
    if kind == GRE_ERSPAN and word & 0x1000 and not p.flags & PACKET_FRAGMENT:
        mirror = cur_take(c, 8)
        if mirror == NULL:
            return header_short(p, c, 8, end, R_GRE_SHORT)
        if not load_be16(mirror + 2) & ERSPAN_CUT:
            return frame_found(p, c, end)
    elif (kind == GRE_ETHERNET or kind == GRE_ERSPAN) and not p.flags & PACKET_FRAGMENT:
        return frame_found(p, c, end)
    payload_rest(p, c, end)
    return R_NONE


cdef Reason gre_parse(Packet *p, Cursor *c, uint32_t end) noexcept nogil:
    """RFC 2784, 2890. Version 1 (PPTP) and source routes, which Linux refuses, are payload.

    WCCP redirects are IP behind nothing (version 1) or four bytes (version 2), and Linux tells them apart likewise.
    """
    cdef const uint8_t *head = cur_take(c, 4)
    cdef uint32_t word, more, kind
    if head == NULL:
        return header_short(p, c, 4, end, R_GRE_SHORT)
    word = load_be16(head)
    if word & 0x4007:
        payload_rest(p, c, end)
        return R_NONE
    more = ((word >> 15 & 1) + (word >> 13 & 1) + (word >> 12 & 1)) * 4      # checksum, key, sequence number
    if cur_take(c, more) == NULL:
        return header_short(p, c, more, end, R_GRE_SHORT)
    kind = load_be16(head + 2)
    if kind == GRE_WCCP and word == 0 and cur_left(c) and c.pos[0] >> 4 != 4 and cur_take(c, 4) == NULL:
        return header_short(p, c, 4, end, R_GRE_SHORT)
    if kind == 0x0800 or kind == 0x86dd or (kind == GRE_WCCP and word == 0):
        return tunnel_found(p, c, end)
    return gre_other(p, c, end, kind, word)


cdef Reason transport_other(Packet *p, Cursor *c, uint32_t end) noexcept nogil:
    cdef uint8_t proto = p.flow.proto
    if proto == PROTO_ICMP or proto == PROTO_ICMPV6:
        return icmp_parse(p, c, end)
    if proto == PROTO_SCTP:
        return sctp_parse(p, c, end)
    if proto == PROTO_GRE:
        return gre_parse(p, c, end)
    if proto == PROTO_IPIP or proto == PROTO_IPV6:
        return tunnel_found(p, c, end)
    payload_rest(p, c, end)
    return R_NONE


cdef inline Reason transport_parse(Packet *p, Cursor *c, uint32_t end) noexcept nogil:
    p.l4_off = <uint16_t>offset_of(p, c)
    if likely(p.flow.proto == PROTO_TCP):
        return tcp_parse(p, c, end)
    if p.flow.proto == PROTO_UDP:
        return udp_parse(p, c, end)
    return transport_other(p, c, end)


# Fragments

cdef Reason fragment_check(const Packet *p, uint32_t before, uint32_t length) noexcept nogil:
    """`before`: bytes of the whole packet's headers that count against 65,535; `length`: of this fragment's data."""
    cdef uint32_t hidden = 0
    if p.flow.proto == PROTO_TCP:
        hidden = 20
    elif p.flow.proto == PROTO_SCTP:
        hidden = 12
    if 0 < p.frag_off < hidden:                   # RFC 3128: onto the header of the first
        return R_FRAG_TINY
    if length == 0 or (p.frag_bits & FRAG_MORE and length & 7):
        return R_FRAG_LENGTH
    return R_FRAG_OVERSIZE if before + p.frag_off + length > 65535 else R_NONE


cdef Reason fragment_parse(Packet *p, Cursor *c, uint32_t end, uint32_t before) noexcept nogil:
    """A fragment whose frag_off, frag_bits and protocol are set."""
    cdef Reason fault = fragment_check(p, before, end - offset_of(p, c))
    p.flags |= PACKET_FRAGMENT
    p.frag_data = <uint16_t>offset_of(p, c)
    if p.frag_off == 0:
        return first_fault(fault, transport_parse(p, c, end))
    p.flags |= PACKET_LATER_FRAGMENT
    payload_rest(p, c, end)
    return fault


# IPv4

cdef uint16_t ipv4_option_bit(uint8_t kind) noexcept nogil:
    if kind == 7:
        return IPOPT_SEEN_RR
    if kind == 68:
        return IPOPT_SEEN_TS
    if kind == 130:
        return IPOPT_SEEN_SEC
    if kind == 133:
        return IPOPT_SEEN_ESEC
    if kind == 131:
        return IPOPT_SEEN_LSRR
    if kind == 137:
        return IPOPT_SEEN_SSRR
    return IPOPT_SEEN_SATID if kind == 136 else 0


cdef Reason ipv4_options(Packet *p, const uint8_t *options, uint32_t length) noexcept nogil:
    """RFC 791, 3.1: end of list, no-operation, or kind and length."""
    cdef uint32_t i = 0
    p.ip_options = IPOPT_SEEN_ANY
    while i < length:
        if options[i] == 0:
            p.ip_options |= IPOPT_SEEN_EOL
            return R_NONE
        if options[i] == 1:
            p.ip_options |= IPOPT_SEEN_NOP
            i += 1
            continue
        if i + 1 >= length or options[i + 1] < 2 or options[i + 1] > length - i:
            return R_IPV4_OPTIONS
        p.ip_options |= ipv4_option_bit(options[i])
        i += options[i + 1]
    return R_NONE


cdef Reason ipv4_long_header(Packet *p, uint32_t header, uint32_t end) noexcept nogil:
    """A header with options."""
    cdef Cursor c = cursor_at(p, 20, end)
    cdef const uint8_t *options = cur_take(&c, header - 20)
    cdef Reason fault
    if options == NULL:
        return R_HEADER_TRUNCATED
    fault = ipv4_options(p, options, header - 20)
    if p.frag_off or p.frag_bits & FRAG_MORE:
        return first_fault(fault, fragment_parse(p, &c, end, header))
    return first_fault(fault, transport_parse(p, &c, end))


cdef inline Reason ipv4_body(Packet *p, uint32_t header, uint32_t end) noexcept nogil:
    cdef Cursor c
    if p.caplen < end:
        p.flags |= PACKET_TRUNCATED
    if header > 20:
        return ipv4_long_header(p, header, end)
    c = cursor_at(p, 20, end)
    if p.frag_off or p.frag_bits & FRAG_MORE:
        return fragment_parse(p, &c, end, 20)
    return transport_parse(p, &c, end)


cdef Reason ipv4_faulty(Packet *p, uint32_t header) noexcept nogil:
    """Lengths that contradict each other; the packet's real end bounds what is read nevertheless."""
    if header < 20 or header > p.wirelen:
        return R_IPV4_HLEN
    if p.ip_len >= header or p.ip_len == 0:
        ipv4_body(p, header, p.wirelen)
    return R_IPV4_LENGTH


cdef inline void ipv4_fields(Packet *p, const uint8_t *head) noexcept nogil:
    cdef uint32_t fragment = load_be16(head + 6)
    memcpy(p.flow.src, head + 12, 4)
    memcpy(p.flow.dst, head + 16, 4)
    p.flow.version = 4
    p.flow.proto = p.ip_proto = p.next_header = head[9]
    p.tos = head[1]
    p.ip_len = load_be16(head + 2)
    p.ip_id = load_be16(head + 4)
    p.frag_bits = <uint8_t>(fragment >> 13)               # FragBit has the wire's order
    p.frag_off = (fragment & 0x1fff) * 8
    p.ttl = head[8]


cdef inline Reason ipv4_parse(Packet *p) noexcept nogil:
    cdef uint32_t header
    if p.caplen < 20:
        return R_IP_SHORT if p.wirelen < 20 else R_HEADER_TRUNCATED
    ipv4_fields(p, p.data)
    header = (p.data[0] & 15) * 4
    if p.ip_len == 0 and p.wirelen > 65535:
        p.ip_len = p.wirelen
    if header < 20 or p.ip_len < header or p.ip_len > p.wirelen:
        return ipv4_faulty(p, header)
    return ipv4_body(p, header, p.ip_len)


# IPv6

cdef struct Chain:               # a walk along extension headers
    uint8_t next                 # what stands at the cursor
    uint8_t destinations         # destination options seen
    uint8_t seen                 # bits: 1 routing, 2 fragment, 4 AH
    uint8_t faults               # a Reason, or 0

cdef inline bint is_extension(uint8_t next) noexcept nogil:
    """Hop-by-hop options, routing, fragment, AH, destination options."""
    return next <= 60 and (<uint64_t>1 << next) & (
        <uint64_t>1 << PROTO_HOPOPTS | <uint64_t>1 << PROTO_ROUTING | <uint64_t>1 << PROTO_FRAGMENT
        | <uint64_t>1 << PROTO_AH | <uint64_t>1 << PROTO_DSTOPTS) != 0


cdef bint extension_repeated(Chain *chain, int place) noexcept nogil:
    """RFC 8200, 4.1: hop-by-hop options only first, destination options at most twice, others once."""
    cdef uint8_t bit
    if chain.next == PROTO_HOPOPTS:
        return place > 0
    if chain.next == PROTO_DSTOPTS:
        chain.destinations += 1
        return chain.destinations > 2
    bit = 1 if chain.next == PROTO_ROUTING else 2 if chain.next == PROTO_FRAGMENT else 4
    if chain.seen & bit:
        return True
    chain.seen |= bit
    return False


cdef Reason ipv6_fragment(Packet *p, Cursor *c, uint32_t end, Chain *chain) noexcept nogil:
    """RFC 8200, 4.5. Sets what the header says; the chain goes on only behind a first fragment."""
    cdef const uint8_t *head = cur_take(c, 8)
    cdef uint32_t word
    cdef Reason fault
    if head == NULL:
        return header_short(p, c, 8, end, R_IPV6_EXT_SHORT)
    word = load_be16(head + 2)
    chain.next = head[0]
    if p.flags & PACKET_FRAGMENT:                             # one inside a fragment, which is what counts here
        return R_NONE
    p.frag_off = word & 0xfff8
    p.frag_bits |= <uint8_t>(word & 1)
    p.ip_id = load_be32(head + 4)
    if word & 0xfff9:
        p.flags |= PACKET_FRAGMENT | (PACKET_LATER_FRAGMENT if p.frag_off else 0)
        p.flow.proto = chain.next
        p.frag_data = <uint16_t>offset_of(p, c)
        fault = fragment_check(p, offset_of(p, c) - 48, end - offset_of(p, c))
        chain.faults = first_fault(<Reason>chain.faults, fault)
    return R_NONE


cdef Reason extension_step(Packet *p, Cursor *c, uint32_t end, Chain *chain) noexcept nogil:
    """Move the cursor behind one extension header."""
    cdef uint32_t length
    if chain.next == PROTO_FRAGMENT:
        return ipv6_fragment(p, c, end, chain)
    if cur_left(c) < 2:
        return header_short(p, c, 2, end, R_IPV6_EXT_SHORT)
    length = (c.pos[1] + 2) * 4 if chain.next == PROTO_AH else (c.pos[1] + 1) * 8
    chain.next = c.pos[0]
    if cur_take(c, length) == NULL:
        return header_short(p, c, length, end, R_IPV6_EXT_SHORT)
    return R_NONE


cdef Reason ipv6_chain(Packet *p, Cursor *c, uint32_t end) noexcept nogil:
    """Follow the extension headers, then parse what they lead to."""
    cdef Chain chain
    cdef Reason fault
    cdef int place = 0
    chain.next = p.next_header
    chain.destinations = chain.seen = chain.faults = 0
    while is_extension(chain.next) and not p.flags & PACKET_LATER_FRAGMENT:
        if extension_repeated(&chain, place):
            chain.faults = first_fault(<Reason>chain.faults, R_IPV6_EXT_ORDER)
        p.flow.proto = p.ip_proto = chain.next
        if place == EXTENSION_LIMIT:
            return R_IPV6_EXT_LIMIT               # weighs more than a repetition: nothing is known behind it
        fault = extension_step(p, c, end, &chain)
        if fault != R_NONE:
            return first_fault(<Reason>chain.faults, fault)
        place += 1
    p.flow.proto = p.ip_proto = chain.next
    if p.flags & PACKET_LATER_FRAGMENT:
        payload_rest(p, c, end)
        return <Reason>chain.faults
    return first_fault(<Reason>chain.faults, transport_parse(p, c, end))


cdef inline Reason ipv6_body(Packet *p, uint32_t end) noexcept nogil:
    cdef Cursor c = cursor_at(p, 40, end)
    if p.caplen < end:
        p.flags |= PACKET_TRUNCATED
    if is_extension(p.next_header):
        return ipv6_chain(p, &c, end)
    return transport_parse(p, &c, end)


cdef inline void ipv6_fields(Packet *p, const uint8_t *head) noexcept nogil:
    memcpy(p.flow.src, head + 8, 16)
    memcpy(p.flow.dst, head + 24, 16)
    p.flow.version = 6
    p.flow.proto = p.ip_proto = p.next_header = head[6]
    p.tos = <uint8_t>(load_be16(head) >> 4)
    p.ip_len = load_be16(head + 4) + 40
    p.ttl = head[7]


cdef inline Reason ipv6_parse(Packet *p) noexcept nogil:
    if p.caplen < 40:
        return R_IP_SHORT if p.wirelen < 40 else R_HEADER_TRUNCATED
    ipv6_fields(p, p.data)
    if p.ip_len == 40 and (p.wirelen > ANY_LENGTH or p.next_header == PROTO_HOPOPTS):
        p.ip_len = p.wirelen
    if p.ip_len > p.wirelen:
        ipv6_body(p, p.wirelen)
        return R_IPV6_LENGTH
    return ipv6_body(p, p.ip_len)


# The stage

cdef Reason parse_packet(Packet *p) noexcept nogil:
    cdef uint8_t version
    packet_clear(p)
    if p.caplen == 0:
        return R_HEADER_TRUNCATED if p.wirelen else R_IP_SHORT
    version = p.data[0] >> 4
    if likely(version == 4):
        return ipv4_parse(p)
    if version == 6:
        return ipv6_parse(p)
    return R_IP_VERSION


cdef Reason parse_inner(const Packet *outer, Packet *inner) noexcept nogil:
    cdef Reason fault
    cdef uint32_t there = nearer(outer.caplen, outer.wirelen)
    inner.data = outer.data + nearer(outer.inner_off, there)
    inner.caplen = nearer(there - nearer(outer.inner_off, there), outer.inner_len)
    inner.wirelen = outer.inner_len
    inner.time_ns = outer.time_ns
    inner.number = outer.number
    inner.verdict = VERDICT_UNSET
    inner.match_count = 0
    fault = parse_packet(inner)
    inner.flags |= PACKET_INNER
    if inner.flags & PACKET_TUNNEL:
        fault = first_fault(fault, R_TUNNEL_DEPTH)
    return R_TUNNEL_INNER if reason_class(fault) == CLASS_MALFORMED else fault


cdef inline bint is_icmp_error(const Packet *p) noexcept nogil:
    """RFC 792: unreachable, source quench, redirect, time exceeded, parameter problem; RFC 4443: types below 128."""
    if p.flow.proto == PROTO_ICMPV6:
        return 1 <= p.icmp_type <= 4
    return p.flow.proto == PROTO_ICMP and (3 <= p.icmp_type <= 5 or p.icmp_type == 11 or p.icmp_type == 12)


cdef bint quoted_ports(FlowTuple *quoted, Cursor *c) noexcept nogil:
    """The eight bytes that every error quotes begin with the ports."""
    cdef const uint8_t *ports
    if quoted.proto == PROTO_TCP or quoted.proto == PROTO_UDP or quoted.proto == PROTO_SCTP:
        ports = cur_take(c, 4)
        if ports == NULL:
            return False
        quoted.sport, quoted.dport = load_be16(ports), load_be16(ports + 2)
    return True


cdef bint parse_quoted(const Packet *p, FlowTuple *quoted) noexcept nogil:
    cdef Cursor c = cursor_at(p, p.payload_off, p.payload_off + p.payload_len)
    cdef uint32_t fixed = 40 if p.flow.version == 6 else 20
    cdef const uint8_t *head
    if not is_icmp_error(p) or p.flags & PACKET_FRAGMENT or not p.l4_off + 8 <= p.payload_off <= p.caplen:
        return False
    head = cur_take(&c, fixed)
    memset(quoted, 0, sizeof(FlowTuple))
    if head == NULL or head[0] >> 4 != p.flow.version:
        return False
    quoted.version = p.flow.version
    if p.flow.version == 6:                       # behind extension headers the ports are not looked for
        memcpy(quoted.src, head + 8, 32)
        quoted.proto = head[6]
        return quoted_ports(quoted, &c)
    memcpy(quoted.src, head + 12, 4)
    memcpy(quoted.dst, head + 16, 4)
    quoted.proto = head[9]
    if load_be16(head + 6) & 0x1fff or (head[0] & 15) < 5 or cur_take(&c, (head[0] & 15) * 4 - 20) == NULL:
        return False
    return quoted_ports(quoted, &c)


# Public API

def parse_bytes(data, wirelen=None, *, bint inner=False):
    """Parse one packet from the first byte of its IP header on.

    ``data`` is any contiguous buffer and is read in place; ``wirelen`` the packet's length in bytes where ``data`` is
    only its beginning. Returns a dict of the fields of packet.pxd (addresses as 16 bytes) with ``reason``: the name of
    the answer. ``inner`` parses the packet inside a tunnel; ValueError where there is no tunnel.
    """
    cdef const uint8_t[::1] view = memoryview(data).cast("B")
    cdef Packet outer, packet
    cdef Reason answer
    memset(&outer, 0xaa, sizeof(Packet))
    memset(&packet, 0xaa, sizeof(Packet))
    outer.data = &view[0] if view.shape[0] else NULL
    outer.caplen = view.shape[0]
    outer.wirelen = view.shape[0] if wirelen is None else wirelen
    answer = parse_packet(&outer)
    if not inner:
        return _fields(&outer, answer)
    if not outer.flags & PACKET_TUNNEL:
        raise ValueError("no tunnel in this packet: pass inner=False")
    answer = parse_inner(&outer, &packet)
    return _fields(&packet, answer)


cdef dict _fields(const Packet *p, Reason answer):
    fields = dict(
        version=p.flow.version, src=p.flow.src[:16], dst=p.flow.dst[:16], proto=p.flow.proto, sport=p.flow.sport,
        dport=p.flow.dport, zero=p.flow.zero, payload_off=p.payload_off, payload_len=p.payload_len, ip_len=p.ip_len)
    fields.update(
        tcp_seq=p.tcp_seq, tcp_ack=p.tcp_ack, tcp_window=p.tcp_window, tcp_flags=p.tcp_flags, frag_off=p.frag_off,
        frag_bits=p.frag_bits, ip_id=p.ip_id, ip_options=p.ip_options, ip_proto=p.ip_proto, next_header=p.next_header)
    fields.update(
        icmp_type=p.icmp_type, icmp_code=p.icmp_code, icmp_id=p.icmp_id, icmp_seq=p.icmp_seq, ttl=p.ttl, tos=p.tos,
        has_icmp_echo=bool(p.has_icmp_echo), l4_off=p.l4_off, inner_off=p.inner_off, inner_len=p.inner_len,
        flags=p.flags, frag_data=p.frag_data, caplen=p.caplen, wirelen=p.wirelen, reason=REASONS[<int>answer][0])
    return fields
