"""The flow table and the streams: CPU nanoseconds a packet at 1,000 to 1,000,000 established connections.

    python -m bench.flows [--json FILE] [--largest 1000000]

Packets of random connections, in a table of twice as many, are tracked and taken into a stream: ACKs without data. What
it costs to bring the packet itself into the cache is part of it.
"""

import random
import struct

from bench.machine import resident
from bench.rounds import columns, median, parser_of, publish
from tigerfox.dataplane.stream import StreamProbe

NOW = 1_800_000_000
PACKETS = 2_000_000
RUNS = 5


def segment(number, reverse, flags, seq, ack):
    """A TCP segment without data between client ``number`` and one server."""
    ends = [(struct.pack("!I", 0x0a000000 + number), 40000), (bytes([192, 0, 2, 1]), 80)]
    (src, sport), (dst, dport) = reversed(ends) if reverse else ends
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + src + dst
    return head + struct.pack("!HHIIHHHH", sport, dport, seq, ack, 5 << 12 | flags, 65535, 0, 0)


def measure(flows):
    opening = [packet for number in range(flows)
               for packet in (segment(number, 0, 2, 999, 0), segment(number, 1, 18, 1999, 1000),
                              segment(number, 0, 16, 1000, 2000))]
    before = resident()
    probe = StreamProbe(flows=max(16, 2 * flows))
    probe.pound(opening, NOW, 1, 0)
    held = max(0, resident() - before)
    packets = [segment(number, 0, 16, 1000, 2000) for number in range(flows)]
    random.Random(1).shuffle(packets)
    found = [probe.pound(packets, NOW, max(1, PACKETS // flows), 0) for _ in range(RUNS)]
    return {"flows": flows, "ns": median(found), "least": round(min(found), 1), "bytes": held,
            "established": probe.flows.counters()["tcp_established"]}


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--largest", type=int, default=1_000_000)
    options = parser.parse_args()
    rows = [measure(flows) for flows in (1, 1000, 100_000, 1_000_000) if flows <= options.largest]
    publish("flows", {"rows": rows}, options, columns(rows, {"flows": "flows", "ns": "ns a packet", "least": "least"}))


if __name__ == "__main__":
    main()
