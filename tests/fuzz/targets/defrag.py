"""A pile of fragments: (how many bytes, 2; seconds since the last, 1; bytes missing at the end, 1; packet)."""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "stages"))
from guarded import Guarded  # noqa: E402
from packets import extension, fragment6, ipv4, ipv6, tcp, udp  # noqa: E402

from tigerfox.dataplane.defrag import Reassembly  # noqa: E402

MEMORY = Guarded(16)
WORDS = [b"\x20\0", b"\0\1", b"\x20\1", b"\x1f\xff", b"\0\x08", b"\0\x09", b"\x2c"]


def framed(packets):
    return b"".join(len(one).to_bytes(2, "big") + b"\0\0" + one for one in packets)


def seeds():
    chance, found = random.Random(6), []
    for kind, data in ((17, udp(5, 53, bytes(range(56)))), (6, tcp(5, 80, bytes(range(44)))), (253, bytes(64))):
        spans = [(at, min(at + 16, len(data))) for at in range(0, len(data), 16)]
        four = [ipv4(kind, data[a:b], offset=a, flags=int(b < len(data)), ident=5) for a, b in spans]
        six = [ipv6(44, fragment6(kind, data[a:b], offset=a, more=b < len(data), ident=5)) for a, b in spans]
        six[1] = ipv6(60, extension(44, fragment6(kind, data[16:32], offset=16, more=True, ident=5)))
        for one in (four, six):
            found.append(framed(one))
            found.append(framed(chance.sample(one, len(one)) + one[:2]))
    return found


def check(data):
    data, made, now, count = bytes(data), Reassembly(), 1, 0
    while len(data) > 4 and count < 64:
        size = int.from_bytes(data[:2], "big")
        packet, now, missing = data[4:4 + size], now + data[2] // 8, data[3]
        data, count = data[4 + size:], count + 1
        if packet:
            try:
                reason, whole = made.add(MEMORY.at_the_end(packet), now, len(packet) + missing)
            except ValueError:
                continue
            assert whole is None or len(whole) <= 65535, (reason, len(whole))
    assert made.counts["used"] <= count
