"""One TCP connection, any segments: what is inspected is the text that was sent, in order, and stays in its window.

The first two bytes choose the sequence numbers and the depth; then records of segments.py.
"""

import random

from segments import Sender, records

from tigerfox.dataplane.stream import ANSWERS, StreamProbe

TEXT = random.Random(1).randbytes(1 << 18)
WINDOW = 131072
ISNS = ((1000, 5000), (2**32 - 4, 2**31 - 3), (2**32 - 100_000, 2**32 - 1), (0, 0x7fffffff))
DEPTHS = (0, 0, 0, 1, 100, 70_000)


def text(seq, size):
    """The byte of a sequence number is always the same."""
    at = seq % len(TEXT)
    return (TEXT[at:] + TEXT)[:size] if at + size > len(TEXT) else TEXT[at:at + size]


def seeds():
    chance = random.Random(8)
    in_order = bytes((0, 0)) + bytes((0, 0, 8, 200)) * 6 + bytes((1, 0, 0, 0)) * 2
    swapped = bytes((1, 0)) + bytes((0, 100, 4, 100, 0, 0, 4, 100)) * 3 + bytes((10, 0, 0, 0))
    return [in_order, swapped] + [bytes((n % 4, n % 6)) + chance.randbytes(80) for n in range(30)]


def check(data):
    if len(data) < 2:
        return
    data = bytes(data)
    sender, depth = Sender(ISNS[data[0] & 3]), DEPTHS[data[1] % len(DEPTHS)]
    probe, end = StreamProbe(depth, midstream=bool(data[0] & 4)), [0, 0]
    for packet in sender.handshake() if not data[0] & 8 else ():
        probe.take(packet)
    for number, record in enumerate(records(data[2:])):
        side, packet = sender.packet(record, lambda side, seq, size: text(seq, size))
        found = probe.take(packet, 1 + number * (1000 if data[0] & 16 and number % 16 == 0 else 0.01))
        if found is not None:
            looked_at(found, sender, end, data[0] & 12)


def looked_at(found, sender, end, odd):
    assert found["answer"] in ANSWERS
    fresh, side = found["fresh"], found["side"]
    assert len(found["held"]) <= WINDOW and len(found["runs"]) <= 32
    assert all(start < stop for start, stop in found["runs"])
    assert all(one[1] < other[0] for one, other in zip(found["runs"], found["runs"][1:], strict=False)), found["runs"]
    if found["answer"] != "new":
        return
    assert fresh and found["held"].endswith(fresh)
    if all(sender.plain) and not odd:
        assert found["at"] == end[side] or found["at"] > end[side] and found["lost"] + found["skipped"], (found["at"], end)
        assert fresh == text(sender.isn[side] + 1 + found["at"], len(fresh))
    end[side] = found["at"] + len(fresh)
