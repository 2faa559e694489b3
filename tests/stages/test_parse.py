"""The parser, by table: description, packet, what must come out."""

import pytest
from packets import (DST4, DST6, SRC4, SRC6, ah, extension, fragment6, frame, frame_tag, gre, icmp, ipv4, ipv6, sctp, tcp, udp)

from tigerfox.dataplane.parse import parse_bytes

FRAGMENT, LATER, PORTS, TUNNEL, INNER, TRUNCATED = 1, 2, 4, 8, 16, 32
TIMES = bytes.fromhex("0101080a0000000100000002")

SOUND = [
    ("TCP over IPv4", ipv4(6, tcp(1234, 80, b"abc", flags=0x112, seq=5, ack=6, window=7), ttl=9, tos=0xb8, ident=77),
     dict(version=4, src=SRC4 + bytes(12), dst=DST4 + bytes(12), proto=6, ip_proto=6, next_header=6, sport=1234,
     dport=80, zero=0, tcp_flags=0x112, tcp_seq=5, tcp_ack=6, tcp_window=7, ttl=9, tos=0xb8, ip_id=77, ip_len=43,
     l4_off=20, payload_off=40, payload_len=3, flags=PORTS, ip_options=0)),
    ("TCP with timestamps", ipv4(6, tcp(1, 2, b"abcd", options=TIMES)), dict(payload_off=52, payload_len=4)),
    ("TCP SYN options, end of list", ipv4(6, tcp(1, 2, options=bytes.fromhex("020405b403030700"))),
     dict(payload_len=0)),
    ("what follows the end of the TCP option list is padding", ipv4(6, tcp(1, 2, options=b"\x00\xff\xff\xff")), dict()),
    ("Ethernet padding is not payload", ipv4(6, tcp(1, 2)) + bytes(6), dict(payload_len=0, ip_len=40, flags=PORTS)),
    ("don't fragment", ipv4(6, tcp(1, 2), flags=2), dict(frag_bits=2, frag_off=0, flags=PORTS)),
    ("reserved fragment bit", ipv4(6, tcp(1, 2), flags=4), dict(frag_bits=4)),
    ("UDP over IPv4", ipv4(17, udp(53, 4000, b"xy")),
     dict(proto=17, sport=53, dport=4000, payload_off=28, payload_len=2)),
    ("UDP shorter than IP says", ipv4(17, udp(1, 2, b"abcdef", length=10)), dict(payload_len=2)),
    ("ICMP echo", ipv4(1, icmp(8, 0, 11, 12, b"zz")),
     dict(icmp_type=8, icmp_code=0, icmp_id=11, icmp_seq=12, has_icmp_echo=True, payload_len=2, sport=0, flags=0)),
    ("ICMP timestamp has an id", ipv4(1, icmp(13, 0, 3, 4)), dict(icmp_id=3, icmp_seq=4, has_icmp_echo=True)),
    ("ICMP unreachable has none", ipv4(1, icmp(3, 1, 11, 12)),
     dict(icmp_type=3, icmp_code=1, icmp_id=0, has_icmp_echo=False)),
    ("SCTP", ipv4(132, sctp(7, 8, b"data")), dict(proto=132, sport=7, dport=8, payload_off=32, payload_len=4)),
    ("ESP is a number", ipv4(50, b"opaque"), dict(proto=50, payload_off=20, payload_len=6, flags=0)),
    ("AH in IPv4 is a number", ipv4(51, ah(6, tcp(1, 2))), dict(proto=51, sport=0, flags=0)),
    ("record route, no-op, end", ipv4(6, tcp(1, 2), options=bytes.fromhex("070304 01 00 000000")),
     dict(ip_options=512 | 1 | 4 | 2, l4_off=28, sport=1)),
    ("timestamp, security, loose route", ipv4(17, udp(1, 2), options=bytes.fromhex("44040500 820300 830304 0000")),
     dict(ip_options=512 | 8 | 16 | 64 | 2)),
    ("extended security, strict route, stream id",
     ipv4(17, udp(1, 2), options=bytes.fromhex("850300 890304 88040001 0000")),
     dict(ip_options=512 | 32 | 128 | 256 | 2)),
    ("TCP over IPv6", ipv6(6, tcp(1, 2, b"abc"), hops=3, traffic_class=0x2e),
     dict(version=6, src=SRC6, dst=DST6, proto=6, next_header=6, ip_proto=6, ttl=3, tos=0x2e, ip_len=63, l4_off=40,
     payload_off=60, payload_len=3, sport=1, dport=2)),
    ("ICMPv6 echo", ipv6(58, icmp(128, 0, 5, 6)), dict(icmp_type=128, icmp_id=5, icmp_seq=6, has_icmp_echo=True)),
    ("ICMPv6 neighbour solicitation", ipv6(58, icmp(135, 0, 5, 6)),
     dict(icmp_type=135, icmp_id=0, has_icmp_echo=False)),
    ("hop-by-hop, destination, routing, AH, destination",
     ipv6(0, extension(60, extension(43, extension(51, ah(60, extension(17, udp(5, 6, b"!"), size=16)))))),
     dict(proto=17, ip_proto=17, next_header=0, sport=5, payload_len=1, l4_off=40 + 8 * 3 + 24 + 16)),
    ("no next header", ipv6(59, b"rest"), dict(proto=59, flags=0)),
    ("mobility header is a number", ipv6(135, bytes(8)), dict(proto=135)),
    ("first IPv4 fragment", ipv4(17, udp(1, 2, bytes(16), length=2000), flags=1),
     dict(flags=FRAGMENT | PORTS, frag_bits=1, frag_off=0, sport=1, payload_len=16)),
    ("later IPv4 fragment has no ports", ipv4(17, bytes(16), offset=1480),
     dict(flags=FRAGMENT | LATER, frag_off=1480, sport=0, payload_off=20, payload_len=16)),
    ("first IPv6 fragment", ipv6(44, fragment6(6, tcp(1, 2, bytes(4)), more=True)),
     dict(flags=FRAGMENT | PORTS, frag_bits=1, ip_id=7, proto=6, next_header=44, payload_len=4)),
    ("later IPv6 fragment", ipv6(44, fragment6(6, bytes(9), offset=1440)),
     dict(flags=FRAGMENT | LATER, frag_off=1440, proto=6, sport=0, payload_off=48, payload_len=9)),
    ("later IPv6 fragment of destination options", ipv6(44, fragment6(60, bytes(8), offset=8)),
     dict(flags=FRAGMENT | LATER, proto=60)),
    ("atomic IPv6 fragment is whole", ipv6(44, fragment6(17, udp(1, 2, b"x"))), dict(flags=PORTS, sport=1, ip_id=7)),
    ("IP in IP", ipv4(4, ipv4(6, tcp(1, 2))), dict(flags=TUNNEL, inner_off=20, inner_len=40, proto=4)),
    ("6in4", ipv4(41, ipv6(17, udp(1, 2))), dict(flags=TUNNEL, inner_off=20, inner_len=48)),
    ("4in6", ipv6(4, ipv4(17, udp(1, 2))), dict(flags=TUNNEL, inner_off=40, inner_len=28)),
    ("GRE", ipv4(47, gre(0x0800, ipv4(17, udp(1, 2)))), dict(flags=TUNNEL, inner_off=24, inner_len=28)),
    ("GRE with checksum, key and sequence", ipv4(47, gre(0x86dd, ipv6(17, udp(1, 2)), word=0xb000)),
     dict(flags=TUNNEL, inner_off=36, inner_len=48)),
    ("GRE that carries a frame of no IP", ipv4(47, gre(0x6558, bytes(40))), dict(flags=0, payload_off=24)),
    ("GRE that carries IP in Ethernet", ipv4(47, gre(0x6558, frame(0x0800, ipv4(17, udp(1, 2))))),
     dict(flags=TUNNEL, payload_off=24, inner_off=38, inner_len=28)),
    ("two VLAN tags in Ethernet in GRE",
     ipv4(47, gre(0x6558, frame(0x88a8, frame_tag(0x8100, frame_tag(0x86dd, ipv6(17, udp(1, 2))))))),
     dict(flags=TUNNEL, inner_off=46, inner_len=48)),
    ("three tags are payload",
     ipv4(47, gre(0x6558, frame(0x8100, frame_tag(0x8100, frame_tag(0x8100, frame_tag(0x0800, ipv4(17, udp(1, 2)))))))),
     dict(flags=0, inner_len=0)),
    ("a frame of 13 bytes is payload", ipv4(47, gre(0x6558, bytes(13))), dict(flags=0, payload_len=13)),
    ("ERSPAN type I", ipv4(47, gre(0x88be, frame(0x0800, ipv4(17, udp(1, 2))))), dict(flags=TUNNEL, inner_off=38, inner_len=28)),
    ("ERSPAN type II", ipv4(47, gre(0x88be, bytes(8) + frame(0x0800, ipv4(17, udp(1, 2))), word=0x1000)),
     dict(flags=TUNNEL, inner_off=50, inner_len=28)),
    ("ERSPAN that cut the frame",
     ipv4(47, gre(0x88be, b"\x10\0\x04\0" + bytes(4) + frame(0x0800, ipv4(17, udp(1, 2))[:24]), word=0x1000)),
     dict(flags=0, payload_off=36)),
    ("first fragment of Ethernet in GRE", ipv4(47, gre(0x6558, frame(0x0800, ipv4(17, udp(1, 2, bytes(2))))), flags=1),
     dict(flags=FRAGMENT, inner_len=0)),
    ("GRE version 1", ipv4(47, gre(0x880b, bytes(40), word=0x2001)), dict(flags=0)),
    ("first fragment of a tunnel packet", ipv4(4, bytes(24), flags=1), dict(flags=FRAGMENT, inner_len=0)),
    ("later fragment of a tunnel packet", ipv4(4, bytes(24), offset=24), dict(flags=FRAGMENT | LATER)),
    ("GRE with WCCP version 1", ipv4(47, gre(0x883e, ipv4(6, tcp(1, 2)))), dict(flags=TUNNEL, inner_off=24)),
    ("GRE with WCCP version 2", ipv4(47, gre(0x883e, bytes(4) + ipv4(6, tcp(1, 2)))), dict(flags=TUNNEL, inner_off=28)),
    ("no WCCP where GRE has options", ipv4(47, gre(0x883e, ipv4(6, tcp(1, 2)), word=0x2000)), dict(flags=0)),
    ("hop-by-hop options and no length: all that is there, as Linux takes it",
     ipv6(0, extension(6, tcp(1, 2, b"abc")), length=0), dict(proto=6, flags=PORTS, dport=2, payload_len=3)),
]

FAULTS = [
    ("nothing", b"", dict(reason="ip_short", version=0)),
    ("19 bytes", ipv4(6)[:19], dict(reason="ip_short", version=0)),
    ("39 bytes of IPv6", ipv6(6)[:39], dict(reason="ip_short", version=0)),
    ("version 5", ipv4(6, tcp(1, 2), version=5), dict(reason="ip_version", version=0)),
    ("header of 16 bytes", ipv4(6, tcp(1, 2), ihl=4),
     dict(reason="ipv4_header_length", version=4, src=SRC4 + bytes(12))),
    ("header over the packet", ipv4(6, ihl=6, total=20), dict(reason="ipv4_header_length")),
    ("total length under the header", ipv4(6, tcp(1, 2), total=19), dict(reason="ipv4_length", sport=0)),
    ("total length 0", ipv4(6, tcp(1, 2), total=0), dict(reason="ipv4_length", sport=1)),
    ("total length over the packet: fields are there", ipv4(6, tcp(1, 2, b"x"), total=99),
     dict(reason="ipv4_length", sport=1, dport=2, payload_len=1, ip_len=99)),
    ("option of length 0", ipv4(6, tcp(1, 2), options=b"\x44\x00\x00\x00"),
     dict(reason="ipv4_options", ip_options=512, sport=1)),
    ("option over the header", ipv4(6, tcp(1, 2), options=b"\x01\x01\x07\x03"),
     dict(reason="ipv4_options", ip_options=516)),
    ("option without length", ipv4(6, tcp(1, 2), options=b"\x01\x01\x01\x07"), dict(reason="ipv4_options")),
    ("IPv6 payload over the packet", ipv6(17, udp(1, 2), length=9), dict(reason="ipv6_length", sport=1, payload_len=0)),
    ("extension header over the packet", ipv6(60, extension(6, size=8, length=1)),
     dict(reason="ipv6_extension_short", proto=60)),
    ("AH over the packet", ipv6(51, b"\x06\x04" + bytes(14)), dict(reason="ipv6_extension_short")),
    ("fragment header over the packet", ipv6(44, bytes(7)), dict(reason="ipv6_extension_short")),
    ("hop-by-hop in second place", ipv6(60, extension(0, extension(17, udp(1, 2)))),
     dict(reason="ipv6_extension_order", sport=1)),
    ("two routing headers", ipv6(43, extension(43, extension(17, udp(1, 2)))), dict(reason="ipv6_extension_order")),
    ("two fragment headers", ipv6(44, fragment6(44, fragment6(17, udp(1, 2)))), dict(reason="ipv6_extension_order")),
    ("three destination options", ipv6(60, extension(60, extension(60, extension(17, udp(1, 2))))),
     dict(reason="ipv6_extension_order")),
    ("IPv4 middle fragment of 9 bytes", ipv4(17, bytes(9), flags=1, offset=8), dict(reason="fragment_length")),
    ("IPv6 middle fragment of 9 bytes", ipv6(44, fragment6(17, bytes(9), offset=8, more=True)),
     dict(reason="fragment_length")),
    ("fragment without data", ipv4(17, offset=8), dict(reason="fragment_length")),
    ("ping of death", ipv4(1, bytes(40), offset=65512), dict(reason="fragment_oversize", flags=FRAGMENT | LATER)),
    ("ends at 65,535 bytes", ipv4(1, bytes(3), offset=65512), dict(reason="none")),
    ("ends at 65,536 bytes", ipv4(1, bytes(4), offset=65512), dict(reason="fragment_oversize")),
    ("IPv6 ping of death", ipv6(44, fragment6(58, bytes(16), offset=65528)), dict(reason="fragment_oversize")),
    ("TCP of 19 bytes", ipv4(6, tcp(1, 2)[:19]), dict(reason="tcp_short", sport=1, dport=2, payload_len=0)),
    ("TCP of 3 bytes", ipv4(6, tcp(1, 2)[:3]), dict(reason="tcp_short", sport=0, flags=0)),
    ("TCP header of 16 bytes", ipv4(6, tcp(1, 2, words=4)), dict(reason="tcp_header_length", sport=1)),
    ("TCP header over the packet", ipv4(6, tcp(1, 2, words=6)), dict(reason="tcp_header_length", sport=1)),
    ("TCP option over the header", ipv4(6, tcp(1, 2, b"x", options=b"\x01\x01\x02\x04")),
     dict(reason="tcp_options", payload_len=1)),
    ("TCP option of length 1", ipv4(6, tcp(1, 2, options=b"\x02\x01\x00\x00")), dict(reason="tcp_options")),
    ("TCP option without length", ipv4(6, tcp(1, 2, options=b"\x01\x01\x01\x02")), dict(reason="tcp_options")),
    ("UDP of 7 bytes", ipv4(17, udp(1, 2)[:7]), dict(reason="udp_short", sport=1)),
    ("UDP length 7", ipv4(17, udp(1, 2, length=7)), dict(reason="udp_length")),
    ("UDP length 0", ipv6(17, udp(1, 2, length=0)), dict(reason="udp_length")),
    ("UDP length over the packet", ipv6(17, udp(1, 2, b"abc", length=12)), dict(reason="udp_length", sport=1)),
    ("ICMP of 7 bytes", ipv4(1, icmp(8)[:7]), dict(reason="icmp_short", icmp_type=8)),
    ("ICMPv6 of 7 bytes", ipv6(58, icmp(128)[:7]), dict(reason="icmpv6_short", icmp_type=128)),
    ("SCTP of 11 bytes", ipv4(132, sctp(1, 2)[:11]), dict(reason="sctp_short", sport=1)),
    ("GRE of 3 bytes", ipv4(47, bytes(3)), dict(reason="gre_short")),
    ("GRE without its key", ipv4(47, gre(0x0800, word=0x2000)[:4]), dict(reason="gre_short")),
    ("eight extension headers", ipv6(60, extension(60) * 7 + extension(17, udp(1, 2))),
     dict(reason="ipv6_extension_order", sport=1)),
    ("nine extension headers", ipv6(60, extension(60) * 8 + extension(17, udp(1, 2))),
     dict(reason="ipv6_extension_limit", sport=0)),
    ("first fragment hides the TCP flags", ipv4(6, tcp(1, 2)[:8], flags=1),
     dict(reason="fragment_tiny", sport=1, flags=FRAGMENT | PORTS)),
    ("first fragment hides TCP options", ipv4(6, tcp(1, 2, options=TIMES)[:24], flags=1), dict(reason="fragment_tiny")),
    ("first fragment of an odd length, which Linux cuts to 8 bytes", ipv4(6, tcp(1, 2)[:15], flags=1),
     dict(reason="fragment_tiny", sport=1)),
    ("later fragment over the TCP flags, of an odd length", ipv4(6, bytes(17), offset=8, flags=1),
     dict(reason="fragment_tiny")),
    ("a header hidden behind a repeated one",
     ipv6(60, extension(60, extension(60, extension(44, fragment6(6, tcp(1, 2)[:8], more=True))))),
     dict(reason="fragment_tiny", sport=1)),
    ("later fragment over the TCP flags", ipv4(6, bytes(16), offset=8), dict(reason="fragment_tiny")),
    ("the same in IPv6", ipv6(44, fragment6(6, bytes(16), offset=16)), dict(reason="fragment_tiny")),
    ("behind the TCP header", ipv4(6, bytes(16), offset=24), dict(reason="none")),
    ("later fragment over the SCTP header", ipv4(132, bytes(16), offset=8), dict(reason="fragment_tiny")),
    ("first IPv6 fragment without the transport header", ipv6(44, fragment6(60, extension(6), more=True)),
     dict(reason="fragment_tiny")),
    ("first IPv6 fragment that cuts an extension header", ipv6(44, fragment6(60, extension(6, length=5), more=True)),
     dict(reason="fragment_tiny")),
]


def check(packet, expected, wirelen=None):
    fields = parse_bytes(packet, wirelen)
    expected = {"reason": "none"} | expected
    assert {key: fields[key] for key in expected} == expected


@pytest.mark.parametrize("packet, expected", [row[1:] for row in SOUND], ids=[row[0] for row in SOUND])
def test_sound(packet, expected):
    check(packet, expected)


@pytest.mark.parametrize("packet, expected", [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_faulty(packet, expected):
    check(packet, expected)


CUT = [
    ("nothing of 60 bytes", ipv4(6, tcp(1, 2, bytes(20))), 0, dict(reason="header_truncated", version=0)),
    ("part of the IPv4 header", ipv4(6, tcp(1, 2)), 19, dict(reason="header_truncated", version=0)),
    ("part of the IPv6 header", ipv6(6, tcp(1, 2)), 39, dict(reason="header_truncated", version=0)),
    ("part of the options", ipv4(6, tcp(1, 2), options=bytes(8)), 24, dict(reason="header_truncated", version=4)),
    ("part of the TCP header", ipv4(6, tcp(1, 2)), 30,
     dict(reason="header_truncated", sport=1, flags=PORTS | TRUNCATED)),
    ("part of the TCP options", ipv4(6, tcp(1, 2, options=TIMES)), 44, dict(reason="header_truncated", tcp_flags=0x18)),
    ("the whole TCP header", ipv4(6, tcp(1, 2, bytes(99))), 40, dict(payload_len=99, flags=PORTS | TRUNCATED)),
    ("a header cut by the packet itself", ipv4(6, tcp(1, 2)[:12]), 25, dict(reason="tcp_short")),
    ("part of an extension header", ipv6(60, extension(17, udp(1, 2), size=64)), 60,
     dict(reason="header_truncated", proto=60)),
    ("part of a first fragment's UDP header", ipv4(17, udp(1, 2, bytes(8)), flags=1), 24,
     dict(reason="header_truncated", sport=1)),
    ("part of a GRE header", ipv4(47, gre(0x0800, bytes(20), word=0x2000)), 26, dict(reason="header_truncated")),
]


@pytest.mark.parametrize("packet, caplen, expected", [row[1:] for row in CUT], ids=[row[0] for row in CUT])
def test_captured_in_part(packet, caplen, expected):
    check(packet[:caplen], expected, wirelen=len(packet))


SUPER = [
    ("IPv4", ipv4(6, tcp(1, 2), total=0), 80000, dict(ip_len=80000, payload_len=80000 - 40)),
    ("IPv6", ipv6(6, tcp(1, 2), length=0), 80000, dict(ip_len=80000, payload_len=80000 - 60)),
    ("IPv6 with a jumbo payload option", ipv6(0, extension(6, tcp(1, 2)), length=0), 80000,
     dict(payload_len=80000 - 68)),
    ("VXLAN in IPv4", ipv4(17, udp(1, 4789, length=0), total=0), 80000, dict(payload_len=80000 - 28)),
    ("not that large", ipv4(6, tcp(1, 2), total=0), 65535, dict(reason="ipv4_length")),
    ("IPv6 not that large", ipv6(6, tcp(1, 2), length=0), 65575, dict(reason="tcp_short", ip_len=40)),
]


@pytest.mark.parametrize("packet, wirelen, expected", [row[1:] for row in SUPER], ids=[row[0] for row in SUPER])
def test_super_packet(packet, wirelen, expected):
    check(packet, expected, wirelen=wirelen)


def test_every_kind_of_extension_header_once():
    chain = extension(60, extension(43, extension(44, fragment6(51, ah(60, extension(17, udp(1, 2)))))))
    check(ipv6(0, chain), dict(sport=1, proto=17, flags=PORTS))


def inner(packet):
    return parse_bytes(packet, inner=True)


def test_inner_packet():
    fields = inner(ipv4(47, gre(0x86dd, ipv6(17, udp(7, 8, b"abc")), word=0x2000)))
    assert (fields["version"], fields["sport"], fields["payload_len"], fields["reason"]) == (6, 7, 3, "none")
    assert fields["flags"] == INNER | PORTS
    assert fields["wirelen"] == 51


def test_inner_packet_malformed():
    assert inner(ipv4(4, ipv4(6, tcp(1, 2)[:10])))["reason"] == "tunnel_inner"


def test_inner_packet_beyond_the_copy():
    packet = ipv4(4, ipv4(6, tcp(1, 2)))
    assert parse_bytes(packet[:45], len(packet), inner=True)["reason"] == "header_truncated"
    assert parse_bytes(packet[:20], len(packet), inner=True)["reason"] == "header_truncated"


def test_no_tunnel():
    with pytest.raises(ValueError, match="no tunnel"):
        inner(ipv4(6, tcp(1, 2)))


@pytest.mark.parametrize("packet", [ipv4(4, ipv4(4, ipv4(17, udp(1, 2)))), ipv6(4, ipv4(41, ipv6(6, tcp(1, 2)))),
                                    ipv4(4, ipv4(47, gre(0x0800, ipv4(1, icmp(8))), options=b"\x44\x01\0\0"))])
def test_tunnel_in_a_tunnel_cannot_be_judged(packet):
    assert inner(packet)["flags"] == INNER | TUNNEL
    assert inner(packet)["reason"] == "tunnel_depth"
