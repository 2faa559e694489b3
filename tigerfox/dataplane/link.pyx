"""From a link-layer frame to the IP packet in it."""

# What it owns: nothing. It moves Packet.data over the link-layer header.
#
# Layout: every link type ends in an ethertype, a PPP protocol, an address family, or directly in IP. Ethertypes go
#     through one loop, because VLAN tags, PPPoE and MPLS nest.
#
# Invariants: data only moves forward, by at most caplen. What is not IP stays as it is and is PACKET_BARE. IP that
#     the host behind the link would not take as IP (802.3 with LLC/SNAP) is bare as well.
#
# Who may write what: link_strip writes data, caplen, wirelen and flags of its Packet.
#
# What happens when full or broken: a frame shorter than its headers, or with more than LINK_TAGS nested ones, is bare.

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from tigerfox.dataplane.packet cimport PACKET_BARE, Packet
from tigerfox.dataplane.wire cimport load_be16, load_be32

cdef extern from *:
    uint32_t __builtin_bswap32(uint32_t v) noexcept nogil

cdef enum:
    LINK_TAGS = 16

cdef enum Link:                  # LINKTYPE numbers, tcpdump.org/linktypes.html
    LINK_NULL = 0
    LINK_ETHERNET = 1
    LINK_PPP = 9
    LINK_RAW_BSD = 12            # DLT_RAW as files of several systems have it
    LINK_RAW_OPENBSD = 14
    LINK_PPP_HDLC = 50
    LINK_RAW = 101
    LINK_LOOP = 108
    LINK_COOKED = 113
    LINK_IPV4 = 228
    LINK_IPV6 = 229
    LINK_COOKED2 = 276

cdef enum EtherType:
    ETHER_IPV4 = 0x0800
    ETHER_IPV6 = 0x86dd
    ETHER_VLAN = 0x8100
    ETHER_PPPOE = 0x8864
    ETHER_QINQ = 0x88a8
    ETHER_QINQ_OLD1 = 0x9100
    ETHER_QINQ_OLD2 = 0x9200
    ETHER_QINQ_OLD3 = 0x9300
    ETHER_MPLS = 0x8847
    ETHER_MPLS_UPPER = 0x8848
    ETHER_NONE = 0               # no ethertype: not IP


cdef bint skip(Packet *p, uint32_t n) noexcept nogil:
    """Move n bytes forward; False where the frame is shorter."""
    if p.caplen < n:
        return False
    p.data += n
    p.caplen -= n
    p.wirelen -= n
    return True


cdef uint16_t ppp_protocol(Packet *p) noexcept nogil:
    """RFC 1661, 1662: optional address and control, then one byte (if odd) or two. Answers an ethertype."""
    cdef uint32_t protocol
    if p.caplen >= 2 and p.data[0] == 0xff and p.data[1] == 0x03:
        skip(p, 2)
    if p.caplen < 2:
        return ETHER_NONE
    protocol = p.data[0]
    if protocol & 1:
        skip(p, 1)
    else:
        protocol = load_be16(p.data)
        skip(p, 2)
    if protocol == 0x21:
        return ETHER_IPV4
    if protocol == 0x57:
        return ETHER_IPV6
    return ETHER_MPLS if protocol == 0x281 else ETHER_NONE


cdef uint16_t pppoe_session(Packet *p) noexcept nogil:
    """RFC 2516: six bytes, code 0 is session data, the last two are the length."""
    cdef uint32_t length
    if p.caplen < 6 or p.data[1] != 0:
        return ETHER_NONE
    length = load_be16(p.data + 4)
    skip(p, 6)
    if length < p.wirelen:
        p.wirelen = length
        p.caplen = length if length < p.caplen else p.caplen
    return ppp_protocol(p)


cdef uint16_t mpls_payload(Packet *p) noexcept nogil:
    """RFC 3032: labels down to the bottom of the stack; the payload's first nibble tells IP (RFC 4928)."""
    cdef uint32_t label = 0
    while not label & 0x100:
        if p.caplen < 5:
            return ETHER_NONE
        label = load_be32(p.data)
        skip(p, 4)
    if p.data[0] >> 4 == 4:
        return ETHER_IPV4
    return ETHER_IPV6 if p.data[0] >> 4 == 6 else ETHER_NONE


cdef bint ether_payload(Packet *p, uint16_t kind) noexcept nogil:
    """Follow nested headers behind an ethertype; True when IP is reached."""
    cdef int depth
    for depth in range(LINK_TAGS):
        if kind == ETHER_IPV4 or kind == ETHER_IPV6:
            return True
        if kind in (ETHER_VLAN, ETHER_QINQ, ETHER_QINQ_OLD1, ETHER_QINQ_OLD2, ETHER_QINQ_OLD3):
            if not skip(p, 4):
                return False
            kind = load_be16(p.data - 2)
        elif kind == ETHER_PPPOE:
            kind = pppoe_session(p)
        elif kind == ETHER_MPLS or kind == ETHER_MPLS_UPPER:
            kind = mpls_payload(p)
        else:
            return False
    return False


cdef bint family_payload(Packet *p) noexcept nogil:
    """The loopback header is the writer's AF_ number in the writer's byte order; the numbers for IPv6 differ."""
    cdef uint32_t family
    if p.caplen < 4:
        return False
    family = load_be32(p.data)
    if family > 0xffff:
        family = __builtin_bswap32(family)
    skip(p, 4)
    return family in (2, 10, 23, 24, 28, 30)


cdef bint link_payload(uint16_t link, Packet *p) noexcept nogil:
    if link == LINK_ETHERNET:
        return skip(p, 14) and ether_payload(p, load_be16(p.data - 2))
    if link == LINK_COOKED:
        return skip(p, 16) and ether_payload(p, load_be16(p.data - 2))
    if link == LINK_COOKED2:
        return skip(p, 20) and ether_payload(p, load_be16(p.data - 20))
    if link == LINK_NULL or link == LINK_LOOP:
        return family_payload(p)
    if link == LINK_PPP or link == LINK_PPP_HDLC:
        return ether_payload(p, ppp_protocol(p))
    return True


cdef bint link_known(uint16_t link) noexcept nogil:
    return link in (LINK_NULL, LINK_ETHERNET, LINK_PPP, LINK_RAW_BSD, LINK_RAW_OPENBSD, LINK_PPP_HDLC, LINK_RAW,
                    LINK_LOOP, LINK_COOKED, LINK_IPV4, LINK_IPV6, LINK_COOKED2)


cdef void link_strip(uint16_t link, Packet *p) noexcept nogil:
    cdef const uint8_t *data = p.data
    cdef uint32_t caplen = p.caplen
    cdef uint32_t wirelen = p.wirelen
    p.flags = 0
    if not link_payload(link, p):
        p.flags = PACKET_BARE
        p.data = data
        p.caplen = caplen
        p.wirelen = wirelen


# Public API

LINK_NAMES = {
    0: "null/loopback", 1: "Ethernet", 9: "PPP", 10: "FDDI", 12: "raw IP", 14: "raw IP", 50: "PPP in HDLC framing",
    51: "PPPoE", 101: "raw IP", 104: "Cisco HDLC", 105: "IEEE 802.11", 107: "Frame Relay", 108: "OpenBSD loopback",
    113: "Linux cooked", 127: "IEEE 802.11 with radiotap", 129: "ARCNET", 147: "private use", 178: "Juniper ATM",
    192: "per-packet information", 195: "IEEE 802.15.4", 226: "Solaris IPNET", 227: "CAN", 228: "raw IPv4",
    229: "raw IPv6", 239: "NFLOG", 249: "USB", 253: "netlink", 258: "PKTAP", 276: "Linux cooked v2",
    281: "Broadcom tag", 285: "DSA tag",
}
"""Names for messages, of link types that are read and of some that are not."""


def link_name(number):
    """Return a link type's name with its number, as messages show it."""
    return f"{number} ({LINK_NAMES.get(number, 'unknown')})"


def link_supported(number):
    """Return whether packets of this LINKTYPE number are read."""
    return 0 <= number <= 0xffff and link_known(number)
