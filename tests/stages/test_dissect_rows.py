"""``tigerfox dissect``: one JSON object per packet, on captures made here."""

import json
import struct

import pytest
from packets import fragment6, icmp, ipv4, ipv6, tcp, udp
from typer.testing import CliRunner

from tigerfox.cli import app

NULLS = dict.fromkeys(["v", "src", "dst", "proto", "sport", "dport", "tcp_flags", "ttl", "ip_len", "frag_off",
                       "more_frags", "payload_len", "icmp_type", "icmp_code", "error"])
V4 = NULLS | dict(v=4, src="10.0.0.1", dst="10.0.0.2", ttl=64, frag_off=0, more_frags=False)
V6 = NULLS | dict(v=6, src="2001:db8::1", dst="2001:db8::2", ttl=64, frag_off=0, more_frags=False)

ROWS = [
    ("TCP", ipv4(6, tcp(1, 80, b"abc", flags=0x102)),
     V4 | dict(proto=6, sport=1, dport=80, tcp_flags=0x102, ip_len=43, payload_len=3)),
    ("UDP in IPv6", ipv6(17, udp(1, 2)), V6 | dict(proto=17, sport=1, dport=2, ip_len=48, payload_len=0)),
    ("ICMP", ipv4(1, icmp(3, 1)), V4 | dict(proto=1, icmp_type=3, icmp_code=1, ip_len=28, payload_len=0)),
    ("ICMPv6", ipv6(58, icmp(128)), V6 | dict(proto=58, icmp_type=128, icmp_code=0, ip_len=48, payload_len=0)),
    ("later fragment", ipv4(1, bytes(8), offset=800, flags=1),
     V4 | dict(proto=1, frag_off=800, more_frags=True, ip_len=28, payload_len=8)),
    ("later IPv6 fragment", ipv6(44, fragment6(17, bytes(3), offset=8)),
     V6 | dict(proto=17, frag_off=8, ip_len=51, payload_len=3)),
    ("short TCP", ipv4(6, tcp(1, 80)[:10]), V4 | dict(proto=6, sport=1, dport=80, ip_len=30, error="tcp_short")),
    ("not IP at all", b"\x00\x01", NULLS | dict(error="ip_version")),
    ("nothing", b"", NULLS | dict(error="ip_short")),
]


def run(tmp_path, *packets, link=101, tail=b""):
    path = tmp_path / "in.pcap"
    records = b"".join(struct.pack("<IIII", 0, 0, len(data), len(data)) + data for data in packets)
    path.write_bytes(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, link) + records + tail)
    return CliRunner().invoke(app, ["dissect", str(path), "--json"], catch_exceptions=False)


@pytest.mark.parametrize("packet, row", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_rows(tmp_path, packet, row):
    done = run(tmp_path, packet)
    assert done.exit_code == 0 and done.stderr == ""
    assert json.loads(done.stdout) == {"n": 1} | row


def test_frame_without_ip(tmp_path):
    """An ARP frame keeps its number, between two that are IP."""
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    sound = bytes(12) + b"\x08\x00" + ipv4(17, udp(1, 2))
    rows = [json.loads(line) for line in run(tmp_path, sound, arp, sound, link=1).stdout.splitlines()]
    assert [row["v"] for row in rows] == [4, None, 4]
    assert rows[1] == {"n": 2} | NULLS


def test_more_lines_than_fit_the_buffer(tmp_path):
    done = run(tmp_path, *[ipv6(17, udp(port, 2)) for port in range(1000)])
    assert [json.loads(line)["sport"] for line in done.stdout.splitlines()] == list(range(1000))


def test_cut_capture_warns(tmp_path):
    done = run(tmp_path, ipv4(17, udp(1, 2)), tail=bytes(7))
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 1
    assert "cut short after packet 1" in done.stderr


def test_what_is_no_capture(tmp_path):
    from tigerfox.errors import CaptureError

    (tmp_path / "text").write_text("drop tcp any any -> any any\n" * 3)
    done = CliRunner().invoke(app, ["dissect", str(tmp_path / "text")])
    assert isinstance(done.exception, CaptureError) and done.exception.exit_code == 1
