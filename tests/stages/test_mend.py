"""A keep-alive probe written again with another byte: only that byte and the checksum change, and the checksum holds."""

import random
import socket
import struct

import pytest
from packets import ones_sum

from tigerfox.dataplane.mend import mended_packet

A4, B4 = socket.inet_pton(socket.AF_INET, "192.0.2.1"), socket.inet_pton(socket.AF_INET, "198.51.100.2")
A6, B6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1"), socket.inet_pton(socket.AF_INET6, "2001:db8:ffff::fffe")
OPTIONS = {0: b"", 12: struct.pack("!HBBII", 0x0101, 8, 10, 0xFFFFFFFF, 7), 40: b"\x01" * 40}
PSH, ACK = 8, 16


def segment(payload, options=b"", seq=0xFFFFFFF0, flags=PSH | ACK, total=0xBEEF):
    return struct.pack("!HHIIBBHHH", 40000, 80, seq, 0x80000001, 5 + len(options) // 4 << 4, flags, 501, total, 0) + options + payload


def ip4(data, options=b"", more=0, offset=0):
    size = 20 + len(options)
    head = struct.pack("!BBHHHBBH", 0x40 | size // 4, 0x10, size + len(data), 7, more << 13 | offset, 63, 6, 0)
    head += A4 + B4 + options
    return head[:10] + struct.pack("!H", ~ones_sum(head) & 0xFFFF) + head[12:] + data


def ip6(data, extension=b""):
    return struct.pack("!IHBB", 6 << 28, len(extension) + len(data), 60 if extension else 6, 63) + A6 + B6 + extension + data


def holds(packet):
    """Whether the checksum of the segment is right, by the pseudo header of RFC 9293 and RFC 8200."""
    tcp = packet[20:] if packet[0] >> 4 == 4 else packet[40:]
    pseudo = packet[12:20] + struct.pack("!BBH", 0, 6, len(tcp)) if packet[0] >> 4 == 4 else packet[8:40] + struct.pack("!II", len(tcp), 6)
    return ones_sum(pseudo + tcp) == 0xFFFF


@pytest.mark.parametrize("wrap", [ip4, ip6], ids=["v4", "v6"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=["no options", "timestamps", "all options"])
@pytest.mark.parametrize("payload", [b"\0", b"\xff", b"ab", b"abc"], ids=["0", "255", "even", "odd"])
def test_only_the_byte_and_the_checksum_change(wrap, options, payload):
    generator = random.Random(5)
    packet = wrap(segment(payload, options))
    at = len(packet) - len(payload)
    place = at - 20 - len(options) + 16                           # of the checksum
    for byte in (0, 1, 0x7F, 0x80, 0xFF, *generator.sample(range(256), 16)):
        found = mended_packet(packet, byte)
        assert found[at:] == bytes([byte]) + payload[1:]
        assert found[:place] + packet[place:place + 2] + found[place + 2:at] == packet[:at]
        assert holds(found)


@pytest.mark.parametrize("total", [0, 0x1234, 0xFFFF])
def test_the_checksum_is_not_adjusted(total):
    """What a packet of segmentation offload has in its place is not the sum over the segment."""
    assert mended_packet(ip4(segment(b"x", total=total)), 0x41) == mended_packet(ip4(segment(b"x")), 0x41)


REFUSED = [
    ("no payload", ip4(segment(b""))),
    ("IPv4 options", ip4(segment(b"x"), b"\x83\x07\x04" + B4 + b"\0")),
    ("extension header", ip6(segment(b"x"), bytes([6, 0, 1, 4, 0, 0, 0, 0]))),
    ("more behind it", ip4(segment(b"x")) + bytes(5)),
    ("too long", ip4(segment(bytes(70)))),
    ("a fragment", ip4(segment(b"x" * 12), more=1)),
    ("no TCP", ip4(segment(b"x")).replace(b"\x3f\x06", b"\x3f\x11", 1)),
    ("cut", ip4(segment(b"xyz"))[:-1]),
]


@pytest.mark.parametrize("packet", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_not_plain_is_not_written_again(packet):
    assert mended_packet(packet, 0x41) is None
