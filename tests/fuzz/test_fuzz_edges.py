"""Every place where bytes of others come in: damaged at random, they are refused or read, and nothing else happens.

Each test makes few tries; TIGERFOX_FUZZ_SECONDS makes it go on for so long, with other seeds. What was found stands
beside it as a test of its own. A build with sanitizers (TF_SANITIZE=1) shows what a plain one survives by chance.
"""

import json
import os
import random
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

for _folder in ("stages", "ruleset"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / _folder))
from packets import ipv4, ipv6, tcp, udp  # noqa: E402
from test_queue import Wire, attribute, header, message, packet, refusal  # noqa: E402

from tigerfox import config  # noqa: E402
from tigerfox.dataplane.blockbulk import copy_blocks  # noqa: E402
from tigerfox.dataplane.blocks import Blocks  # noqa: E402
from tigerfox.dataplane.capture import Capture  # noqa: E402
from tigerfox.dataplane.image import CompiledRules  # noqa: E402
from tigerfox.dataplane.match import matches  # noqa: E402
from tigerfox.dataplane.rates import Rates  # noqa: E402
from tigerfox.dataplane.stats import WorkerPage  # noqa: E402
from tigerfox.errors import CaptureError, ConfigError, SharedMemoryError, TigerFoxError  # noqa: E402
from tigerfox.offline.dissect import dissect  # noqa: E402
from tigerfox.ruleset.check import load_rules  # noqa: E402
from tigerfox.ruleset.compile import compile_rules  # noqa: E402
from tigerfox.telemetry.eve import Writer  # noqa: E402

SECONDS = float(os.environ.get("TIGERFOX_FUZZ_SECONDS", "0"))
INTERESTING = (0, 1, 2, 3, 4, 0x7f, 0x80, 0xfe, 0xff)
PACKETS = [ipv4(6, tcp(1, 80)), ipv4(17, udp(5, 53, b"abc")), ipv6(6, tcp(9, 443)), ipv4(17, bytes(16), offset=8)]
RULES = """\
drop tcp $EXTERNAL_NET any -> $HOME_NET [23,80:90,!85] (msg:"a \\"quoted\\" one"; flags:S,12; block:source, 1h; sid:1; rev:2;)
alert udp [10.0.0.0/8,!10.1.0.0/16,2001:db8::/32] any <> any 53 (msg:"b"; dsize:10<>20; threshold: type both, track by_src, count 3, seconds 60; sid:2;)
pass icmp any any -> any any (itype:8; icode:>0; ttl:<5; metadata:a b, c d; reference:cve,2024-1; sid:3;)
reject ip any any -> any any (ip_proto:!tcp; ipopts:lsrr; fragbits:M+; fragoffset:>0; sameip; priority:3; sid:4;)
"""


def tries(count):
    """Seeds: ``count`` of them, or as many as there is time for."""
    first, end, done = time.time_ns() if SECONDS else 0, time.monotonic() + SECONDS, 0
    while done < count or time.monotonic() < end:
        yield first + done
        done += 1
    sys.stderr.write(f"{done} tries\n" if SECONDS else "")


def damaged(chance, data, most=8):
    """``data`` with some bytes changed, words replaced, parts cut or doubled."""
    data = bytearray(data)
    for _ in range(chance.randint(1, most)):
        kind, at = chance.random(), chance.randrange(len(data) or 1)
        if kind < 0.5 and data:
            data[at] = chance.choice(INTERESTING) if chance.random() < 0.5 else chance.randrange(256)
        elif kind < 0.8:
            size = chance.choice((2, 4, 8))
            word = chance.choice((0, 1, 0x7fffffff, 0xffffffff, 1 << 31, 1 << 63, (1 << 64) - 1, chance.getrandbits(64)))
            data[at:at + size] = (word & (1 << 8 * size) - 1).to_bytes(size, chance.choice(("little", "big")))
        elif kind < 0.9:
            del data[at:at + chance.randrange(40)]
        else:
            data[at:at] = data[at:at + chance.randrange(40)]
    return bytes(data)


def test_queue_messages():
    wire = Wire()
    seeds = [packet(1), packet(7, bytes(100), attribute(13, struct.pack(">I", 1500))), message(header(6)), refusal(),
             packet(2, PACKETS[0]), message(header(3), attribute(4, bytes(16)), attribute(10, bytes(64)))]
    for seed in tries(3000):
        chance = random.Random(seed)
        sent = [damaged(chance, chance.choice(seeds)) or b"\0" for _ in range(chance.randint(1, 8))]
        for kind, _, wirelen, data, _ in wire.take(*sent):
            assert kind in ("packet", "error", "truncated", "bad", "uncopied", "settled")
            assert data is None or len(data) <= wirelen or kind == "bad"
        wire.sent()


def test_rule_files(tmp_path):
    path = tmp_path / "one.rules"
    for seed in tries(500):
        path.write_bytes(damaged(random.Random(seed), RULES.encode()))
        try:
            found = load_rules([path], lenient=True)
        except TigerFoxError:
            continue
        compile_rules(found.rules)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "all.rules"
    path.write_text(RULES)
    return compile_rules(load_rules([path]).rules).image


def damaged_image(chance, image):
    """Damage the header or the sections, which are sparse: half of the changes go where something stands."""
    data = bytearray(image)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data)) if chance.random() < 0.4 else chance.randrange(min(len(data), 4096))
        size = chance.choice((1, 2, 4, 8))
        word = chance.choice((0, 1, 0xff, 0xffff, 0xffffffff, chance.getrandbits(64), chance.randrange(64)))
        if at + size <= len(data):
            data[at:at + size] = (word & (1 << 8 * size) - 1).to_bytes(size, "little")
    return bytes(data)


def test_rule_set_images(image):
    bound = 0
    for seed in tries(300):
        chance = random.Random(seed)
        try:
            rules = CompiledRules.from_buffer(damaged_image(chance, image))
        except SharedMemoryError:
            continue
        bound += 1
        for one in PACKETS:
            numbers, _ = matches(rules, one)
            assert all(number < rules.rule_count for number in numbers)
    assert bound


def pcap():
    records = b"".join(struct.pack("<IIII", 1, 2, len(one), len(one)) + one for one in PACKETS)
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + records


def pcapng():
    def block(kind, body):
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, 12 + len(body)) + body + struct.pack("<I", 12 + len(body))

    made = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    made += block(1, struct.pack("<HHI", 101, 0, 0) + struct.pack("<HHB3xHHQ", 9, 1, 0x86, 14, 8, 5) + bytes(4))
    for one in PACKETS:
        made += block(6, struct.pack("<IIIII", 0, 1, 2, len(one), len(one)) + one)
        made += block(3, struct.pack("<I", len(one)) + one) + block(2, struct.pack("<HHIIII", 0, 0, 1, 2, len(one), len(one)) + one)
    return made


@pytest.mark.parametrize("made", [pcap, pcapng])
def test_captures(tmp_path, made):
    path, whole = tmp_path / "one", made()
    for seed in tries(1500):
        chance = random.Random(seed)
        data = damaged(chance, whole)
        if made is pcap and len(data) > 24:      # any link type
            data = data[:20] + struct.pack("<I", chance.choice((0, 1, 9, 12, 50, 101, 108, 113, 228, 276))) + data[24:]
        path.write_bytes(data)
        try:
            found = list(Capture(path))
        except CaptureError:
            continue
        assert [row[0] for row in found] == list(range(1, len(found) + 1))
        with open(os.devnull, "wb") as sink:
            dissect(path, sink)


@pytest.fixture
def pages(tmp_path):
    """The shared files of an instance, filled, as bytes by name."""
    blocks = Blocks.create(str(tmp_path / "blocks"), 200)
    for number in range(150):
        blocks.insert(("source", "pair", "connection")[number % 3], f"10.0.0.{number}", "10.1.0.1", 1, 2, 6)
    rates = Rates.create(str(tmp_path / "rates"), 64)
    for number in range(80):
        rates.count("both", "by_src", 3, 60, number % 3, bytes([10, 0, 0, number]), bytes(4))
    page = WorkerPage.create(str(tmp_path / "page"), 3, 64)
    page.push(1, "10.0.0.1", "10.0.0.2", 100, rule=0)
    return {name: (tmp_path / name).read_bytes() for name in ("blocks", "rates", "page")}


def use_blocks(path):
    blocks = Blocks.open(path, writable=True)
    list(blocks.entries())
    blocks.lookup("10.0.0.7", "10.1.0.1", 1, 2, 6)
    blocks.insert("source", "10.0.0.9")
    blocks.remove("pair", "10.0.0.1", "10.1.0.1")
    copy_blocks(blocks, Blocks.create(None, 100))
    blocks.sweep()
    blocks.flush()
    blocks.counters()


def use_rates(path):
    rates = Rates.open(path, writable=True)
    for number in range(20):
        rates.count("threshold", "by_both", 3, 60, number % 3, bytes([10, 0, 0, number]), bytes(4))
    rates.counters()


def use_page(path):
    page = WorkerPage.open(path)
    write = Writer(lambda generation: [])
    page.snapshot()
    for event in page.reader().drain():
        json.loads(write.line(event))


@pytest.mark.parametrize(("name", "use"), [("blocks", use_blocks), ("rates", use_rates), ("page", use_page)])
def test_shared_files(tmp_path, pages, name, use):
    path = tmp_path / "damaged"
    for seed in tries(200):
        chance = random.Random(seed)
        data = bytearray(pages[name])
        for _ in range(chance.randint(1, 40)):
            at = chance.randrange(len(data)) if chance.random() < 0.9 else chance.randrange(512)
            data[at] = chance.choice(INTERESTING)
        path.write_bytes(data)
        try:
            use(str(path))
        except SharedMemoryError:
            continue


def test_event_of_an_unknown_reason(tmp_path):
    """A worker's page is the worker's: nonsense in it does not end the writer of events."""
    page = WorkerPage.create(None, 0, 16)
    page.push(2, "10.0.0.1", "10.0.0.2", reason=250, time_ns=(1 << 64) - 1)
    event, = page.reader().drain()
    assert json.loads(Writer(lambda generation: []).line(event))["drop"]["reason"] == "250"


def test_configuration(tmp_path):
    whole = config.render(config.Config()).encode()
    path = tmp_path / "tigerfox.toml"
    for seed in tries(150):
        path.write_bytes(damaged(random.Random(seed), whole))
        try:
            config.render(config.load(str(path)))
        except ConfigError:
            continue
