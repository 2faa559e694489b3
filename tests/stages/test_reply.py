"""What reject answers, packet by packet: numbers, checksums, and whom it never answers."""

import socket
import struct

import dpkt
import pytest
from packets import ones_sum

from tigerfox.dataplane.reply import reply_packets

SRC, DST, BOTH = 2, 3, 4         # RuleAction: reject to the source, to the destination, to both
FIN, SYN, RST, PUSH, ACK = 1, 2, 4, 8, 16
A, B = "192.0.2.1", "198.51.100.2"
A6, B6 = "2001:db8::1", "2001:db8::2"


def ip4(proto, data, src=A, dst=B, offset=0, more=0):
    made = dpkt.ip.IP(src=socket.inet_aton(src), dst=socket.inet_aton(dst), p=proto, data=data)
    made.offset, made.mf = offset, more
    made.len = 20 + len(bytes(data))
    return bytes(made)


def ip6(proto, data, src=A6, dst=B6):
    data = bytes(data)
    return struct.pack(">IHBB", 6 << 28, len(data), proto, 64) + socket.inet_pton(10, src) + socket.inet_pton(10, dst) + data


def tcp(flags, seq=1000, ack=0, payload=b""):
    return dpkt.tcp.TCP(sport=4000, dport=80, seq=seq, ack=ack, flags=flags, data=payload)


def udp():
    return dpkt.udp.UDP(sport=4000, dport=53, ulen=13, data=b"hello")


def opened(data):
    """(source, destination, protocol, payload) of a reply whose IP header and checksums hold."""
    if data[0] >> 4 == 4:
        assert ones_sum(data[:20]) == 0xFFFF and struct.unpack_from(">H", data, 2)[0] == len(data)
        source, target, proto, payload = data[12:16], data[16:20], data[9], data[20:]
        family = socket.AF_INET
    else:
        assert struct.unpack_from(">H", data, 4)[0] == len(data) - 40
        source, target, proto, payload = data[8:24], data[24:40], data[6], data[40:]
        family = socket.AF_INET6
    pseudo = b"" if proto == 1 else source + target + struct.pack(">II", len(payload), proto)
    assert ones_sum(pseudo + payload) == 0xFFFF
    return socket.inet_ntop(family, source), socket.inet_ntop(family, target), proto, payload


RESETS = [
    ("SYN", tcp(SYN), SRC, (80, 4000, 0, 1001, RST | ACK)),
    ("SYN with data", tcp(SYN, payload=b"abc"), SRC, (80, 4000, 0, 1004, RST | ACK)),
    ("FIN without ACK", tcp(FIN), SRC, (80, 4000, 0, 1001, RST | ACK)),
    ("data with ACK", tcp(ACK | PUSH, ack=777, payload=b"abc"), SRC, (80, 4000, 777, 0, RST)),
    ("numbers that wrap", tcp(SYN, seq=0xFFFFFFFF), SRC, (80, 4000, 0, 0, RST | ACK)),
    ("to the destination", tcp(ACK, ack=777, payload=b"abc"), DST, (4000, 80, 1000, 777, RST | ACK)),
    ("to the destination, no ACK", tcp(SYN), DST, (4000, 80, 1000, 0, RST)),
]


@pytest.mark.parametrize("wrap, src, dst", [(ip4, A, B), (ip6, A6, B6)], ids=["v4", "v6"])
@pytest.mark.parametrize("segment, action, expected", [row[1:] for row in RESETS], ids=[row[0] for row in RESETS])
def test_reset_continues_the_numbers(wrap, src, dst, segment, action, expected):
    reply, = reply_packets(wrap(6, segment), action)
    source, target, proto, payload = opened(reply)
    assert (source, target) == ((dst, src) if action == SRC else (src, dst))
    answer = dpkt.tcp.TCP(payload)
    assert (proto, len(payload)) == (6, 20)
    assert (answer.sport, answer.dport, answer.seq, answer.ack, answer.flags) == expected


def test_both_sides_get_a_reset_source_first():
    replies = [opened(one)[:2] for one in reply_packets(ip4(6, tcp(ACK, ack=5)), BOTH)]
    assert replies == [(B, A), (A, B)]


@pytest.mark.parametrize("data, source, kind, code", [(ip4(17, udp()), B, 3, 13), (ip6(17, udp()), B6, 1, 1)], ids=["v4", "v6"])
def test_other_protocols_get_an_unreachable_that_quotes_them(data, source, kind, code):
    reply, = reply_packets(data, BOTH)
    found, _, proto, payload = opened(reply)
    assert (found, proto) == (source, 1 if kind == 3 else 58)
    assert (payload[0], payload[1], payload[4:8]) == (kind, code, bytes(4))
    assert payload[8:] == data


def test_quote_ends_at_the_limit_of_the_family():
    big = dpkt.udp.UDP(sport=1, dport=2, ulen=8 + 1300, data=bytes(1300))
    assert len(reply_packets(ip4(17, big), SRC)[0]) == 576
    assert len(reply_packets(ip6(17, big), SRC)[0]) == 1280


SILENT = [
    ("reset", ip4(6, tcp(RST)), SRC),
    ("reset with ACK", ip6(6, tcp(RST | ACK)), BOTH),
    ("ICMP error", ip4(1, bytes((3, 1)) + bytes(30)), SRC),
    ("ICMP redirect", ip4(1, bytes((5, 1)) + bytes(30)), SRC),
    ("ICMP time exceeded", ip4(1, bytes((11, 0)) + bytes(30)), SRC),
    ("ICMPv6 error", ip6(58, bytes((1, 0)) + bytes(46)), SRC),
    ("ICMPv6 redirect", ip6(58, bytes((137, 0)) + bytes(38)), SRC),
    ("later fragment", ip4(17, bytes(24), offset=64), SRC),
    ("to multicast", ip4(17, udp(), dst="224.0.0.251"), SRC),
    ("to broadcast", ip4(17, udp(), dst="255.255.255.255"), SRC),
    ("to IPv6 multicast", ip6(17, udp(), dst="ff02::fb"), SRC),
    ("from nowhere", ip4(17, udp(), src="0.0.0.0"), SRC),
    ("from multicast", ip4(17, udp(), src="239.1.1.1"), SRC),
    ("from the unspecified address", ip6(17, udp(), src="::"), SRC),
    ("unreachable to the destination", ip4(17, udp()), DST),
    ("not a packet", b"nonsense", BOTH),
]


@pytest.mark.parametrize("data, action", [row[1:] for row in SILENT], ids=[row[0] for row in SILENT])
def test_no_answer_to_what_must_not_be_answered(data, action):
    assert reply_packets(data, action) == []


def test_echo_request_is_answered():
    assert len(reply_packets(ip4(1, bytes((8, 0)) + bytes(30)), SRC)) == 1
    assert len(reply_packets(ip6(58, bytes((128, 0)) + bytes(30)), SRC)) == 1
