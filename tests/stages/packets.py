"""Packets as bytes, from the outside in: ``ipv4(6, tcp(1, 80))``. Every length can be set wrong on purpose."""

import struct

SRC4, DST4 = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
SRC6, DST6 = bytes.fromhex("20010db8" + "00" * 11 + "01"), bytes.fromhex("20010db8" + "00" * 11 + "02")


def ipv4(proto, data=b"", *, options=b"", total=None, ihl=None, ident=0, flags=0, offset=0, ttl=64, tos=0, version=4):
    """``offset`` in bytes; ``flags``: 4 reserved, 2 don't fragment, 1 more fragments."""
    length = 20 + len(options)
    first = version << 4 | (length // 4 if ihl is None else ihl)
    total = length + len(data) if total is None else total
    head = struct.pack("!BBHHHBBH", first, tos, total, ident, flags << 13 | offset // 8, ttl, proto, 0)
    return head + SRC4 + DST4 + options + data


def ipv6(next_header, data=b"", *, length=None, hops=64, traffic_class=0):
    length = len(data) if length is None else length
    return struct.pack("!IHBB", 6 << 28 | traffic_class << 20, length, next_header, hops) + SRC6 + DST6 + data


def extension(next_header, data=b"", *, size=8, length=None):
    """Hop-by-hop, routing or destination options of ``size`` bytes before ``data``."""
    return bytes([next_header, size // 8 - 1 if length is None else length]) + bytes(size - 2) + data


def fragment6(next_header, data=b"", *, offset=0, more=False, ident=7):
    return struct.pack("!BBHI", next_header, 0, offset | more, ident) + data


def ah(next_header, data=b"", *, size=24):
    return bytes([next_header, size // 4 - 2]) + bytes(size - 2) + data


def tcp(sport, dport, data=b"", *, flags=0x18, options=b"", seq=1, ack=2, window=512, words=None):
    words = 5 + len(options) // 4 if words is None else words
    return struct.pack("!HHIIHHHH", sport, dport, seq, ack, words << 12 | flags, window, 0, 0) + options + data


def udp(sport, dport, data=b"", *, length=None):
    return struct.pack("!HHHH", sport, dport, 8 + len(data) if length is None else length, 0) + data


def icmp(kind, code=0, ident=0, seq=0, data=b""):
    return struct.pack("!BBHHH", kind, code, 0, ident, seq) + data


def ones_sum(data):
    """The sum of 16-bit words in ones' complement (RFC 1071); 0xFFFF where it holds its own checksum."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def sctp(sport, dport, data=b""):
    return struct.pack("!HHII", sport, dport, 0, 0) + data


def frame(kind, data=b""):
    """Ethernet; ``kind``: its EtherType."""
    return bytes(12) + struct.pack("!H", kind) + data


def frame_tag(kind, data=b""):
    """A VLAN tag, behind an EtherType that says so."""
    return struct.pack("!HH", 7, kind) + data


def gre(protocol, data=b"", *, word=0):
    return struct.pack("!HH", word, protocol) + bytes(4 * bin(word & 0xb000).count("1")) + data
