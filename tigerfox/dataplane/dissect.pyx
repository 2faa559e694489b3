"""Packets as JSON lines: what the parser found in each."""

# What it owns: one buffer of text, filled with whole lines and handed to the caller as bytes.
#
# Layout: a line per packet, keys in a fixed order; every value is a number, true, false, null, an address or a
#     reason's name, so nothing needs escaping. A line takes at most LINE_MAX bytes.
#
# Invariants: a field is null unless the bytes it stands for were there and apply to the packet.
#
# Who may write what: one thread, its own buffer.
#
# What happens when full or broken: the buffer is handed out when less than a line's room is left.

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport snprintf
from tigerfox.dataplane.capture cimport Capture
from tigerfox.dataplane.packet cimport FRAG_MORE, PACKET_BARE, PACKET_LATER_FRAGMENT, PACKET_PORTS, Packet
from tigerfox.dataplane.parse cimport parse_packet
from tigerfox.dataplane.reason cimport R_COUNT, R_NONE, Reason

from tigerfox.dataplane.reason import REASONS

cdef extern from "arpa/inet.h":
    const char *inet_ntop(int family, const void *source, char *target, uint32_t size) noexcept nogil
    enum: AF_INET
    enum: AF_INET6

cdef enum:
    LINE_MAX = 768
    TEXT_ROOM = 65536

cdef const char *reason_names[<int>R_COUNT]
cdef list reason_bytes = [row[0].encode() for row in REASONS]     # keeps the names alive
for _number in range(<int>R_COUNT):
    reason_names[_number] = reason_bytes[_number]


cdef struct Text:
    char *at
    char *end


cdef void put_number(Text *t, const char *key, long long value, bint known) noexcept nogil:
    if known:
        t.at += snprintf(t.at, t.end - t.at, b', "%s": %lld', key, value)
    else:
        t.at += snprintf(t.at, t.end - t.at, b', "%s": null', key)


cdef void put_word(Text *t, const char *key, const char *word, const char *quote) noexcept nogil:
    t.at += snprintf(t.at, t.end - t.at, b', "%s": %s%s%s', key, quote, word, quote)


cdef void put_address(Text *t, const char *key, const Packet *p, const uint8_t *address) noexcept nogil:
    cdef char text[64]
    if p.flow.version == 0:
        put_word(t, key, b"null", b"")
        return
    inet_ntop(AF_INET if p.flow.version == 4 else AF_INET6, address, text, sizeof(text))
    put_word(t, key, text, b'"')


cdef bint transport_has(const Packet *p, uint8_t proto, uint32_t bytes_needed) noexcept nogil:
    """Whether the packet has a header of `proto` of which that many bytes could be read."""
    cdef uint32_t end = p.l4_off + bytes_needed
    return (p.flow.version and p.flow.proto == proto and p.l4_off and not p.flags & PACKET_LATER_FRAGMENT
            and end <= p.caplen and end <= p.wirelen and (end <= p.ip_len or p.ip_len == 0))


cdef void put_packet(Text *t, const Packet *p, Reason fault) noexcept nogil:
    cdef bint ip = p.flow.version != 0
    cdef bint ports = p.flags & PACKET_PORTS != 0
    cdef bint icmp = transport_has(p, 1, 2) or transport_has(p, 58, 2)
    t.at += snprintf(t.at, t.end - t.at, b'{"n": %llu', <unsigned long long>p.number)
    put_number(t, b"v", p.flow.version, ip)
    put_address(t, b"src", p, p.flow.src)
    put_address(t, b"dst", p, p.flow.dst)
    put_number(t, b"proto", p.flow.proto, ip)
    put_number(t, b"sport", p.flow.sport, ports)
    put_number(t, b"dport", p.flow.dport, ports)
    put_number(t, b"tcp_flags", p.tcp_flags, transport_has(p, 6, 14))
    put_number(t, b"ttl", p.ttl, ip)
    put_number(t, b"ip_len", p.ip_len, ip)
    put_number(t, b"frag_off", p.frag_off, ip)
    put_word(t, b"more_frags", b"null" if not ip else b"true" if p.frag_bits & FRAG_MORE else b"false", b"")
    put_number(t, b"payload_len", p.payload_len, p.payload_off != 0)
    put_number(t, b"icmp_type", p.icmp_type, icmp)
    put_number(t, b"icmp_code", p.icmp_code, icmp)
    if fault == R_NONE:
        put_word(t, b"error", b"null}\n", b"")
    else:
        put_word(t, b"error", reason_names[<int>fault], b'"')
        t.at += snprintf(t.at, t.end - t.at, b"}\n")


cdef bint put_next(Text *t, Capture capture) noexcept nogil:
    """Write the next packet's line; False at the end."""
    cdef Packet p
    cdef Reason fault
    if capture.capture_next(&p) != 1:
        return False
    fault = R_NONE
    if p.flags & PACKET_BARE:
        put_bare(t, &p)
        return True
    fault = parse_packet(&p)
    put_packet(t, &p, fault)
    return True


cdef void put_bare(Text *t, Packet *p) noexcept nogil:
    """A packet without IP: its number, all else null."""
    p.flow.version = 0
    p.caplen = p.payload_off = 0
    p.flags = 0
    p.l4_off = 0
    put_packet(t, p, R_NONE)


# Public API

def lines(Capture capture not None):
    """Yield the packets of a capture as JSON lines, many lines in each bytes object."""
    cdef char room[TEXT_ROOM]
    cdef Text text
    cdef bint more = True
    while more:
        text.at = room
        text.end = room + TEXT_ROOM
        with nogil:
            while more and text.end - text.at >= LINE_MAX:
                more = put_next(&text, capture)
        yield PyBytes_FromStringAndSize(room, text.at - room)
