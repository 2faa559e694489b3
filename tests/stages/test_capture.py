"""The capture reader: formats, link types, and files that are cut or lie."""

import struct
import subprocess
import sys

import dpkt
import pytest
from packets import ipv4, ipv6, tcp, udp

from tigerfox.dataplane.capture import Capture
from tigerfox.errors import CaptureError

IP4 = ipv4(17, udp(1, 2, b"four"))
IP6 = ipv6(6, tcp(3, 4, b"six"))
MAC = bytes(12)
SECOND = 1_000_000_000


def pcap(*frames, order="<", magic=0xa1b2c3d4, link=1, extra=b""):
    """``frames``: bytes, or (seconds, fraction, wirelen, bytes)."""
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for frame in frames:
        seconds, fraction, wirelen, data = frame if isinstance(frame, tuple) else (1, 2, len(frame), frame)
        out += struct.pack(order + "IIII", seconds, fraction, len(data), wirelen) + extra + data
    return out


def block(kind, body, order="<"):
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, 12 + len(body)) + body + struct.pack(order + "I", 12 + len(body))


def section(order="<", version=1):
    return block(0x0a0d0d0a, struct.pack(order + "IHHq", 0x1a2b3c4d, version, 0, -1), order)


def option(code, value, order="<"):
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(link=1, snaplen=0, options=b"", order="<"):
    return block(1, struct.pack(order + "HHI", link, 0, snaplen) + options, order)


def enhanced(data, ticks=0, number=0, wirelen=None, order="<", caplen=None):
    caplen = len(data) if caplen is None else caplen
    wirelen = len(data) if wirelen is None else wirelen
    return block(6, struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xffffffff, caplen, wirelen) + data,
                 order)


def old_packet(data, ticks, number=0):
    return block(2, struct.pack("<HHIIII", number, 0, ticks >> 32, ticks & 0xffffffff, len(data), len(data)) + data)


def simple(data, wirelen=None):
    return block(3, struct.pack("<I", len(data) if wirelen is None else wirelen) + data)


@pytest.fixture
def opened(tmp_path):
    def write_and_open(content):
        path = tmp_path / "capture"
        path.write_bytes(content)
        return Capture(path)
    return write_and_open


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic, extra, ns", [(0xa1b2c3d4, 0, 2000), (0xa1b23c4d, 0, 2), (0xa1b2cd34, 8, 2000)])
def test_pcap_variants(opened, order, magic, extra, ns):
    content = pcap(MAC + b"\x08\x00" + IP4, (7, 2, 1500, MAC + b"\x86\xdd" + IP6), order=order, magic=magic,
                   extra=bytes(extra))
    assert list(opened(content)) == [
        (1, SECOND + ns, IP4, len(IP4), False), (2, 7 * SECOND + ns, IP6, 1500 - 14, False)]


def ether(kind, data):
    return struct.pack("!H", kind) + data


def pppoe(protocol, data, code=0, length=None):
    body = protocol + data
    return b"\x11" + bytes([code]) + b"\0\1" + struct.pack("!H", len(body) if length is None else length) + body


LINKS = [
    ("Ethernet", 1, MAC + ether(0x0800, IP4), IP4),
    ("Ethernet, length of the frame check sequence in the link type", 0x30000001, MAC + ether(0x0800, IP4), IP4),
    ("VLAN", 1, MAC + ether(0x8100, ether(5, ether(0x86dd, IP6))), IP6),
    ("QinQ", 1, MAC + ether(0x88a8, ether(5, ether(0x8100, ether(6, ether(0x0800, IP4))))), IP4),
    ("three tags of older kinds", 1,
     MAC + ether(0x9100, bytes(2) + ether(0x9200, bytes(2) + ether(0x9300, bytes(2) + ether(0x0800, IP4)))), IP4),
    ("PPPoE", 1, MAC + ether(0x8864, pppoe(b"\x00\x21", IP4)), IP4),
    ("PPPoE in a VLAN, then padding", 1, MAC + ether(0x8100, ether(5, ether(0x8864, pppoe(b"\x57", IP6) + bytes(9)))),
     IP6),
    ("MPLS, two labels", 1, MAC + ether(0x8847, bytes.fromhex("00010040 00011140") + IP4), IP4),
    ("raw IP", 101, IP4, IP4),
    ("raw IP of BSD", 12, IP6, IP6),
    ("raw IP of OpenBSD", 14, IP4, IP4),
    ("raw IPv4", 228, IP4, IP4),
    ("raw IPv6", 229, IP6, IP6),
    ("Linux cooked", 113, bytes(14) + ether(0x0800, IP4), IP4),
    ("Linux cooked with VLAN", 113, bytes(14) + ether(0x8100, ether(5, ether(0x0800, IP4))), IP4),
    ("Linux cooked v2", 276, ether(0x86dd, bytes(18)) + IP6, IP6),
    ("null, little-endian", 0, struct.pack("<I", 2) + IP4, IP4),
    ("null, big-endian", 0, struct.pack(">I", 30) + IP6, IP6),
    ("loopback", 108, struct.pack(">I", 24) + IP6, IP6),
    ("PPP", 9, b"\x00\x21" + IP4, IP4),
    ("PPP with address and control", 9, b"\xff\x03\x00\x57" + IP6, IP6),
    ("PPP in HDLC framing, short protocol", 50, b"\xff\x03\x21" + IP4, IP4),
]

BARE = [
    ("ARP", 1, MAC + ether(0x0806, bytes(28))),
    ("802.3 with SNAP", 1, MAC + ether(36, b"\xaa\xaa\x03\0\0\0\x08\x00" + IP4)),
    ("13 bytes", 1, bytes(13)),
    ("VLAN without a type", 1, MAC + ether(0x8100, b"\0\5\x08")),
    ("seventeen tags", 1, MAC + ether(0x8100, b"\0\5" + b"\x81\0\0\5" * 16) + ether(0x0800, IP4)),
    ("PPPoE discovery", 1, MAC + ether(0x8864, pppoe(b"\x00\x21", IP4, code=9))),
    ("PPPoE of five bytes", 1, MAC + ether(0x8864, bytes(5))),
    ("PPPoE of length 1", 1, MAC + ether(0x8864, pppoe(b"\x00\x21", IP4, length=1))),
    ("MPLS without a bottom", 1, MAC + ether(0x8847, bytes(12))),
    ("MPLS with Ethernet in it", 1, MAC + ether(0x8847, bytes.fromhex("00010140 00") + bytes(20))),
    ("PPP control protocol", 9, b"\xc0\x21" + bytes(8)),
    ("PPP of one byte", 9, b"\x00"),
    ("PPP of nothing", 9, b""),
    ("null of another family", 0, struct.pack("<I", 7) + IP4),
    ("null of three bytes", 0, bytes(3)),
    ("cooked of 15 bytes", 113, bytes(15)),
    ("cooked v2 of 19 bytes", 276, bytes(19)),
]


@pytest.mark.parametrize("link, frame, packet", [row[1:] for row in LINKS], ids=[row[0] for row in LINKS])
def test_link_types(opened, link, frame, packet):
    ((_, _, data, wirelen, bare),) = opened(pcap(frame, link=link))
    assert (data, wirelen, bare) == (packet, len(packet), False)


@pytest.mark.parametrize("link, frame", [row[1:] for row in BARE], ids=[row[0] for row in BARE])
def test_frames_without_ip(opened, link, frame):
    """They are handed out as they came, and counted."""
    assert [row[2:] for row in opened(pcap(frame, frame, link=link))] == [(frame, len(frame), True)] * 2
    assert [row[0] for row in opened(pcap(frame, frame, link=link))] == [1, 2]


def test_raw_ip_in_part(opened):
    ((_, _, data, wirelen, _),) = opened(pcap((0, 0, 1400, IP4[:20]), link=101))
    assert (data, wirelen) == (IP4[:20], 1400)


def test_wirelen_under_caplen(opened):
    ((_, _, data, wirelen, _),) = opened(pcap((0, 0, 5, IP4), link=101))
    assert (data, wirelen) == (IP4, len(IP4))


def test_same_packets_as_dpkt(opened, tmp_path):
    frames = [(float(i), MAC + b"\x08\x00" + ipv4(17, udp(i, 2, bytes(i)))) for i in range(200)]
    with open(tmp_path / "dpkt.pcap", "wb") as file:
        writer = dpkt.pcap.Writer(file)
        for time, frame in frames:
            writer.writepkt(frame, time)
    got = [(ns / SECOND, data) for _, ns, data, _, _ in Capture(tmp_path / "dpkt.pcap")]
    assert got == [(time, frame[14:]) for time, frame in frames]


def test_pcapng_sections_and_interfaces(opened):
    nanoseconds, milliseconds = option(9, b"\x09"), option(9, b"\x03", ">")
    content = b"".join([
        section(), interface(1, options=option(2, b"eth0") + option(0, b"")), interface(101, options=nanoseconds),
        block(4, bytes(8)), enhanced(MAC + b"\x08\x00" + IP4, 5_000_001),
        enhanced(IP6, 6 * SECOND + 1, number=1, wirelen=900),
        section(">"), interface(228, options=milliseconds, order=">"), enhanced(IP4, 7001, order=">")])
    assert list(opened(content)) == [
        (1, 5 * SECOND + 1000, IP4, len(IP4), False),
        (2, 6 * SECOND + 1, IP6, 900, False),
        (3, 7 * SECOND + 1_000_000, IP4, len(IP4), False)]


def test_pcapng_simple_and_old_blocks(opened):
    blocks = [interface(101, snaplen=len(IP4)), simple(IP4), simple(IP4, wirelen=2000), old_packet(IP6, 3_000_000)]
    assert list(opened(section() + b"".join(blocks))) == [
        (1, 0, IP4, len(IP4), False), (2, 0, IP4, 2000, False), (3, 3 * SECOND, IP6, len(IP6), False)]


TIMES = [
    ("microseconds by default", b"", 1_500_000, 1_500_000_000),
    ("milliseconds", option(9, b"\x03"), 1500, 1_500_000_000),
    ("picoseconds", option(9, b"\x0c"), 1_500_000_000_123, 1_500_000_000),
    ("2^-10", option(9, b"\x8a"), 1536, 1_500_000_000),
    ("2^-40", option(9, b"\xa8"), 3 << 39, 1_500_000_000),
    ("an offset", option(14, struct.pack("<q", 100)), 1_500_000, 101_500_000_000),
    ("a negative offset", option(14, struct.pack("<q", -1)), 1_500_000, 500_000_000),
    ("2^-64", option(9, b"\xc0"), 3 << 62, 750_000_000),
    ("2^-127", option(9, b"\xff"), 1 << 63, 0),
    ("10^-127", option(9, b"\x7f"), 1 << 63, 0),
]


@pytest.mark.parametrize("options, ticks, ns", [row[1:] for row in TIMES], ids=[row[0] for row in TIMES])
def test_pcapng_times(opened, options, ticks, ns):
    ((_, got, _, _, _),) = opened(section() + interface(101, options=options) + enhanced(IP4, ticks))
    assert got == ns


def test_pcapng_offset_of_the_other_order(opened):
    described = interface(101, options=option(14, struct.pack(">q", -(1 << 32)), ">"), order=">")
    ((_, ns, _, _, _),) = opened(section(">") + described + enhanced(IP4, (1 << 33) * 10**6, order=">"))
    assert ns == (1 << 32) * SECOND


def test_more_interfaces_than_are_kept(opened):
    capture = opened(section() + interface(101) * 1030 + enhanced(IP4, number=1023) + enhanced(IP4, number=1029))
    assert [row[4] for row in capture] == [False, True]
    assert "1 packets" in capture.unread


def test_one_interface_of_an_unknown_link_type(opened):
    packets = enhanced(b"frame", number=0) + enhanced(IP4, number=1)
    capture = opened(section() + interface(105) + interface(101) + packets)
    assert [(row[0], row[4]) for row in capture] == [(1, True), (2, False)]
    assert "1 packets are of a link type that is not read" in capture.unread


CUTS = [
    ("in a record header", pcap(IP4, IP4, link=101)[:-len(IP4) - 3], 1, "record header"),
    ("in a packet", pcap(IP4, IP4, link=101)[:-3], 1, "inside a packet"),
    ("record of 4 GiB", pcap(IP4, link=101) + struct.pack("<IIII", 0, 0, 0xffffffff, 60) + bytes(99), 1,
     "inside a packet"),
    ("in a block", (section() + interface(101) + enhanced(IP4) + enhanced(IP4))[:-5], 1, "block"),
    ("in a block's head", section() + interface(101) + enhanced(IP4) + bytes(11), 1, "block"),
    ("block of length 0", section() + interface(101) + enhanced(IP4) + struct.pack("<II", 6, 0) + bytes(40), 1,
     "block"),
    ("block of 4 GiB", section() + interface(101) + enhanced(IP4) + struct.pack("<II", 6, 0xfffffffc) + bytes(40), 1,
     "block"),
    ("block of odd length", section() + interface(101) + enhanced(IP4) + struct.pack("<II", 6, 41) + bytes(40), 1,
     "block"),
    ("captured length over its block", section() + interface(101) + enhanced(IP4) + enhanced(IP4, caplen=999), 1,
     "block"),
    ("packet block too short", section() + interface(101) + enhanced(IP4) + block(6, bytes(8)), 1, "block"),
    ("simple block too short", section() + interface(101) + enhanced(IP4) + block(3, b""), 1, "block"),
    ("interface block too short", section() + interface(101) + enhanced(IP4) + block(1, bytes(4)), 1, "block"),
    ("interface that is not there", section() + interface(101) + enhanced(IP4) + enhanced(IP4, number=1), 1,
     "not described"),
    ("simple packet before any interface", section() + simple(IP4), 0, "not described"),
    ("interfaces end with their section", section() + interface(101) + enhanced(IP4) + section() + enhanced(IP4), 1,
     "not described"),
    ("second section of version 2", section() + interface(101) + enhanced(IP4) + section(version=2), 1, "section"),
    ("second section without byte order", section() + interface(101) + enhanced(IP4) + block(0x0a0d0d0a, bytes(16)),
     1, "section"),
]


@pytest.mark.parametrize("content, packets, words", [row[1:] for row in CUTS], ids=[row[0] for row in CUTS])
def test_cut(opened, content, packets, words):
    """What comes before the cut is read; the message says where it is; reading on gives nothing."""
    capture = opened(content)
    assert len(list(capture)) == packets
    assert f"after packet {packets}," in capture.cut and words in capture.cut
    assert list(capture) == []


def test_whole_captures_are_not_cut(opened):
    capture = opened(pcap(IP4, link=101))
    assert len(list(capture)) == 1 and capture.cut is None and capture.unread is None


BLOCKS = [section(), interface(101, options=option(9, b"\x09")), enhanced(IP4), old_packet(IP6, 1), simple(IP4)]


@pytest.mark.parametrize("content", [pcap(IP4, IP6, link=101), b"".join(BLOCKS)], ids=["pcap", "pcapng"])
def test_every_prefix_and_every_byte_changed(opened, content):
    """No prefix and no changed byte makes it hand out more than the file holds."""
    variants = [content[:n] for n in range(len(content))]
    variants += [content[:i] + bytes([value]) + content[i + 1:] for i in range(len(content)) for value in (0, 255)]
    for variant in variants:
        try:
            rows = list(opened(variant))
        except CaptureError:
            continue
        assert sum(len(row[2]) for row in rows) <= len(variant)
        assert all(row[3] >= len(row[2]) for row in rows)


REFUSED = [
    ("empty file", b"", "not a capture"),
    ("text", b"drop tcp any any -> any any" * 9, "not a capture"),
    ("23 bytes", pcap()[:23], "not a capture"),
    ("802.11", pcap(link=105), r"105 \(IEEE 802.11\)"),
    ("unknown link type", pcap(link=65000), r"65000 \(unknown\)"),
    ("reserved bits", pcap(link=0x00300001), "link type"),
    ("pcapng of 802.11 only", section() + interface(105) + enhanced(b""), "105"),
    ("pcapng of version 2", section(version=2), "version 1"),
]


@pytest.mark.parametrize("content, words", [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused(opened, content, words):
    with pytest.raises(CaptureError, match=words):
        opened(content)


def test_no_such_file(tmp_path):
    with pytest.raises(CaptureError, match="No such file"):
        Capture(tmp_path / "none")
    with pytest.raises(CaptureError, match="directory"):
        Capture(tmp_path)


def test_from_a_pipe():
    """A capture that comes through a pipe cannot be mapped and is read to its end."""
    program = "from tigerfox.dataplane.capture import Capture; print(len(list(Capture('/dev/stdin'))))"
    done = subprocess.run([sys.executable, "-c", program], input=pcap(*[IP4] * 5000, link=101),
                          stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"5000\n"
