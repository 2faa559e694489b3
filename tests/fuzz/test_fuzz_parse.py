"""Any bytes, at any lengths: the parser and the capture reader stay inside them, and what they say is consistent.

The bytes end where a page without access begins, so one byte read too far ends the process.
"""

import io
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "stages"), str(Path(__file__).resolve().parent)]
from guarded import PAGE  # noqa: E402
from packets import ah, extension, fragment6, gre, icmp, ipv4, ipv6, sctp, tcp, udp  # noqa: E402

from tigerfox.dataplane.parse import parse_bytes  # noqa: E402
from tigerfox.dataplane.reason import REASONS  # noqa: E402
from tigerfox.offline.dissect import dissect  # noqa: E402

FRAGMENT, LATER, PORTS, TUNNEL, TRUNCATED = 1, 2, 4, 8, 32
NAMES = {name for name, _, _ in REASONS}
MALFORMED = {name for name, group, _ in REASONS if group == "malformed"}

SEEDS = [
    ipv4(6, tcp(1, 2, b"abc", options=bytes.fromhex("0101080a0000000100000002"))),
    ipv4(17, udp(1, 2, b"abc"), options=bytes.fromhex("0703040144040500")), ipv4(1, icmp(8)), ipv4(132, sctp(1, 2)),
    ipv4(17, bytes(16), offset=8), ipv4(6, tcp(1, 2), flags=1), ipv4(47, gre(0x0800, ipv4(6, tcp(1, 2)), word=0xb000)),
    ipv4(41, ipv6(58, icmp(128))), ipv6(6, tcp(1, 2)), ipv6(4, ipv4(17, udp(1, 2))),
    ipv6(0, extension(43, extension(60, extension(44, fragment6(51, ah(17, udp(1, 2)), more=True))))),
    ipv6(60, extension(60) * 9 + extension(6, tcp(1, 2))), ipv4(6, tcp(1, 2), total=0),
    ipv4(17, udp(1, 2)[:7]), ipv4(132, sctp(1, 2)[:11]), ipv4(1, icmp(8)[:7]), ipv6(58, icmp(128)[:7]),
    ipv4(47, gre(0x0800, word=0x2000)[:5]),
]


def consistent(fields):
    """What holds of every answer."""
    assert fields["reason"] in NAMES
    assert fields["payload_off"] + fields["payload_len"] <= fields["wirelen"]
    assert fields["payload_off"] <= fields["caplen"]
    assert fields["l4_off"] <= fields["caplen"]
    assert fields["zero"] == 0
    assert fields["version"] in (0, 4, 6)
    if fields["version"] == 4:
        assert fields["src"][4:] == fields["dst"][4:] == bytes(12)
    if not fields["flags"] & PORTS:
        assert fields["sport"] == fields["dport"] == 0
    if fields["flags"] & LATER:
        assert fields["flags"] & FRAGMENT and not fields["flags"] & (PORTS | TUNNEL)
    if fields["flags"] & TUNNEL:
        assert 0 < fields["inner_len"] and fields["inner_off"] + fields["inner_len"] <= fields["wirelen"]
    if fields["reason"] == "none":
        assert fields["payload_off"] > 0 and fields["payload_off"] + fields["payload_len"] <= fields["ip_len"]
        assert bool(fields["flags"] & TRUNCATED) == (fields["caplen"] < fields["ip_len"])


def parse_guarded(data, wirelen):
    view = PAGE.at_the_end(data)
    fields = parse_bytes(view, wirelen)
    consistent(fields)
    if fields["flags"] & TUNNEL:
        consistent(parse_bytes(view, wirelen, inner=True))
    return fields


@st.composite
def mutated(draw):
    """A sound packet with some bytes replaced, cut or prolonged."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)[:draw(st.integers(0, 200))] + draw(st.binary(max_size=20))


@settings(max_examples=3000, deadline=None)
@given(st.one_of(mutated(), st.binary(max_size=300)), st.integers(0, 2000))
@example(b"", 0)
@example(b"\x45", 0)
def test_stays_inside(data, missing):
    parse_guarded(data, len(data) + missing)


@settings(max_examples=1500, deadline=None)
@given(mutated(), st.data())
def test_copying_less_never_hides_a_sound_packet_as_malformed(data, draw):
    """What is sound in full is sound, or truncated, when only its beginning was copied; never malformed."""
    if parse_guarded(data, len(data))["reason"] != "none":
        return
    part = parse_guarded(data[:draw.draw(st.integers(0, len(data)))], len(data))
    assert part["reason"] in ("none", "header_truncated")


def test_many_random_changes():
    """The same by plain random changes, many more of them, with lengths that lie."""
    chance = random.Random(20)
    met = set()
    for _ in range(40_000):
        data = bytearray(chance.choice(SEEDS))
        for _ in range(chance.randrange(5)):
            data[chance.randrange(min(len(data), 80))] = chance.choice((0, 1, 4, 6, 44, 60, 255, chance.randrange(256)))
        data = bytes(data)[:chance.randrange(len(data) + 1)] if chance.random() < 0.5 else bytes(data)
        met.add(parse_guarded(data, len(data) + chance.choice((0, 0, 0, 1, 9, 70_000)))["reason"])
    reachable = MALFORMED - {"tunnel_inner"} | {"none", "header_truncated", "fragment_tiny", "ipv6_extension_limit"}
    assert met >= reachable, f"never met: {reachable - met}"


def test_the_guard_is_there():
    """One byte behind the packet ends the process: without that, the tests above would show nothing."""
    program = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
from test_fuzz_parse import PAGE
view = PAGE.at_the_end(b"abc")
address = ctypes.addressof(ctypes.c_char.from_buffer(view))
print(ctypes.string_at(address, 3), flush=True)
ctypes.string_at(address, 4)
"""
    done = subprocess.run([sys.executable, "-c", program, str(Path(__file__).parent)], capture_output=True, check=False)
    assert done.stdout == b"b'abc'\n"
    assert done.returncode != 0


def test_a_capture_of_changed_packets(tmp_path):
    """The whole way from a file: every packet gets a row."""
    chance = random.Random(21)
    out = io.BytesIO()
    body = b""
    for _ in range(3000):
        data = bytearray(chance.choice(SEEDS))
        data[chance.randrange(len(data))] = chance.randrange(256)
        body += struct.pack("<IIII", 0, 0, len(data), len(data) + chance.randrange(2)) + bytes(data)
    (tmp_path / "changed.pcap").write_bytes(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101) + body)
    dissect(tmp_path / "changed.pcap", out)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [row["n"] for row in rows] == list(range(1, 3001))
    assert {row["error"] for row in rows} <= NAMES | {None}
