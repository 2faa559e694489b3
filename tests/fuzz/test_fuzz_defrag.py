"""However a packet is cut, shuffled and repeated, it gets the verdict of the whole."""

import random
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))
from packets import extension, fragment6, ipv4, ipv6, sctp, tcp, udp  # noqa: E402

from tigerfox._fast import Replay  # noqa: E402
from tigerfox.dataplane.blocks import Blocks  # noqa: E402
from tigerfox.dataplane.capture import Capture  # noqa: E402
from tigerfox.dataplane.defrag import Reassembly  # noqa: E402
from tigerfox.dataplane.image import CompiledRules  # noqa: E402
from tigerfox.dataplane.rates import Rates  # noqa: E402
from tigerfox.dataplane.reason import reason_number  # noqa: E402
from tigerfox.dataplane.stats import WorkerPage  # noqa: E402
from tigerfox.ruleset.check import load_rules  # noqa: E402
from tigerfox.ruleset.compile import compile_rules  # noqa: E402

OPEN = {"malformed": "accept", "unparsed": "accept", "no_verdict": "drop"}
CLOSED = OPEN | {"unparsed": "drop"}
RULES = """\
drop udp any any -> any 53 (dsize:>200; block: none; sid:1;)
drop tcp any any -> any 80 (flags:S; block: none; sid:2;)
drop sctp any any -> any 9 (block: none; sid:3;)
alert ip any any -> any any (ip_proto:17; fragoffset:0; sid:4;)
pass udp any 7 -> any 53 (sid:5;)
drop udp any any -> any 4242 (block: none; sid:6;)
"""
HEADERS = {6: 60, 17: 8, 132: 12}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.rules"
    path.write_text(RULES)
    return CompiledRules.from_buffer(compile_rules(load_rules([path]).rules).image, 1)


@st.composite
def datagrams(draw):
    """Protocol and data of a datagram, and in which family it travels."""
    kind = draw(st.sampled_from((6, 17, 132, 4)))
    payload = bytes(draw(st.integers(0, 900)))
    sport, dport = draw(st.sampled_from((7, 4000))), draw(st.sampled_from((53, 80, 9, 4242)))
    data = {6: tcp(sport, dport, payload, flags=draw(st.sampled_from((2, 16)))), 17: udp(sport, dport, payload),
            132: sctp(sport, dport, payload), 4: ipv4(17, udp(sport, dport, payload))}[kind]
    return kind, data, draw(st.booleans())


def cut(dice, data, first):
    """Random (start, end) of fragments; the first has at least ``first`` bytes."""
    places = [place for place in range(8, len(data), 8) if place >= first]
    chosen = sorted(dice.sample(places, min(len(places), dice.randrange(1, 30)))) if places else []
    return list(zip([0, *chosen], [*chosen, len(data)], strict=True))


def fragments(kind, data, in6, spans):
    if in6:
        return [ipv6(44, fragment6(kind, data[a:b], offset=a, more=b < len(data), ident=5)) for a, b in spans]
    return [ipv4(kind, data[a:b], offset=a, flags=int(b < len(data)), ident=5) for a, b in spans]


def judged(folder, packets, image, policies):
    """(stopping sids of the packets, reasons' counts)."""
    path = folder / "fuzz.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
                     + b"".join(struct.pack("<IIII", 1_700_000_000, 0, len(one), len(one)) + one for one in packets))
    page = WorkerPage.create(None)
    reader = page.reader()
    replay = Replay(Capture(str(path)), page, Blocks.create(None, 64), Rates.create(None, 64), image, policies)
    while replay.run():
        pass
    return {event.sid for event in reader.drain(1 << 16) if event.kind == 2}, page.snapshot()


@settings(max_examples=300, deadline=None)
@given(datagrams(), st.integers(0, 1 << 30), st.booleans())
def test_verdict_of_the_parts_is_that_of_the_whole(image, tmp_path_factory, datagram, seed, tiny):
    kind, data, in6 = datagram
    dice = random.Random(seed)
    spans = cut(dice, data, 0 if tiny else HEADERS.get(kind, 24))
    parts = fragments(kind, data, in6, spans)
    folder = tmp_path_factory.getbasetemp()
    policies = OPEN if tiny else CLOSED
    order = parts + (dice.choices(parts[:-1], k=dice.randrange(5)) if len(parts) > 1 else [])
    dice.shuffle(order)
    whole = judged(folder, [ipv6(kind, data) if in6 else ipv4(kind, data)], image, policies)[0]
    sids, counts = judged(folder, order, image, policies)
    assert sids == whole
    if len(parts) > 1:
        assert counts["fragments_completed"] >= 1 or sids
        assert counts["reasons"][reason_number("fragment_overlap")] == 0


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 30), st.booleans())
def test_any_pile_of_fragments_comes_out_as_the_first_copies(seed, in6):
    """Against a model: a byte map that the first copy fills, two ends or an IPv6 overlap end it."""
    dice = random.Random(seed)
    made, model, end, dead = Reassembly(), {}, None, False
    for _ in range(dice.randrange(1, 40)):
        start = dice.randrange(0, 10) * 8
        size = dice.randrange(1, 5) * 8
        last = start + size == 96 or dice.random() < 0.02
        if start == 0 and last:
            continue
        data = dice.choice((bytes(range(start, start + size)),) * 6 + (dice.randbytes(size),))
        reason, came = made.add(fragments(253, bytes(start) + data + bytes(not last), in6, [(start, start + size)])[0])
        places = range(start, start + size)
        if dead:
            assert reason == dead
            continue
        highest = max(model, default=-1) + 1
        if end is not None and (start + size > end or last and start + size != end) or last and highest > start + size:
            dead = "fragment_end"
            assert reason == dead
            continue
        end = start + size if last else end
        there = [place for place in places if place in model]
        differs = any(model[place] != data[place - start] for place in there)
        if there and in6 and (differs or len(there) < size):
            dead = "fragment_overlap"
            assert reason == dead
            continue
        assert reason == ("fragment_overlap" if differs else "none")
        model = {place: data[place - start] for place in places} | model
        if end is not None and len(model) == end:
            assert came[-end:] == bytes(model[place] for place in range(end))
            made, model, end = Reassembly(), {}, None
        else:
            assert came is None


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=120), max_size=12), st.integers(4, 6), st.data())
def test_nonsense_does_no_harm(pieces, version, data):
    made = Reassembly()
    for piece in pieces:
        packet = bytearray(ipv4(17, piece, flags=data.draw(st.integers(0, 7)), offset=8 * data.draw(st.integers(0, 8191))) if version == 4
                           else ipv6(0, extension(44, fragment6(17, piece, offset=8 * data.draw(st.integers(0, 8191)), more=data.draw(st.booleans())))))
        for _ in range(data.draw(st.integers(0, 3))):
            packet[data.draw(st.integers(1, len(packet) - 1))] = data.draw(st.integers(0, 255))
        try:
            made.add(bytes(packet), data.draw(st.integers(0, 200)), data.draw(st.integers(len(packet), len(packet) + 100)))
        except ValueError:
            continue
    assert made.counts["used"] <= 12
