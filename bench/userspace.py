"""Nanoseconds a packet in user space, without the kernel: few rules against many.

A generated capture of mixed traffic (TCP, UDP and ICMP, a fifth of it IPv6) in memory goes through the stages of the
live worker (parse, blocks, match, verdict; class Replay), turn by turn under 24 header rules and under 10,000 header
rules plus a list of 100,000 prefixes. The traffic comes close to the many rules (their ports, addresses beside their
prefixes) and matches none, so that both sides do the same besides looking. Reported: median, and the median of the
ratios within a round.

    python -m bench.userspace [--rounds 15] [--json FILE]
"""

import ipaddress
import random
import struct
import tempfile
import time
from pathlib import Path

from bench.packets import RULES
from bench.rounds import interleave, median, parser_of, publish, ratio
from tigerfox._fast import Replay
from tigerfox.dataplane.blocks import Blocks
from tigerfox.dataplane.capture import Capture
from tigerfox.dataplane.image import CompiledRules
from tigerfox.dataplane.rates import Rates
from tigerfox.dataplane.stats import WorkerPage
from tigerfox.errors import TigerFoxError
from tigerfox.ruleset.check import load_rules
from tigerfox.ruleset.compile import compile_rules
from tigerfox.ruleset.variables import Variables

PACKETS = 20_000                 # a few MB: the second-level cache, as a worker's batches are in
REPEATS = 10                     # passes over the capture in one measurement
MANY_RULES, MANY_PREFIXES = 10_000, 100_000
GOAL = 1.3
SEED = 71
POLICIES = {"malformed": "drop", "unparsed": "drop", "no_verdict": "accept"}


def many_rules(generator, count=MANY_RULES):
    """``count`` rule lines over protocols, prefixes and ports; their addresses are in 60.0.0.0/8 and 2a10::/16."""
    lines = ["drop ip $LISTED any -> any any (msg:\"listed\"; block: none; sid:1;)"]
    for sid in range(2, count + 1):
        kind, port = generator.randrange(5), generator.randrange(1, 65536)
        source = f"60.{generator.randrange(256)}.{generator.randrange(256)}.0/24"
        if kind == 0:
            head = f"drop tcp {source} any -> any {port}"
        elif kind == 1:
            head = f"alert udp {source} any -> any [{port}:{min(port + generator.randrange(50), 65535)}]"
        elif kind == 2:
            head = f"drop tcp any any -> {source} {port}"
        elif kind == 3:
            head = f"alert tcp 2a10:{generator.randrange(65536):x}::/32 any -> any {port}"
        else:
            head = f"drop ip {source} any -> 60.{generator.randrange(256)}.0.0/16 any"
        lines.append(f"{head} (msg:\"rule {sid}\"; sid:{sid};)")
    return lines


def prefixes(generator, count=MANY_PREFIXES):
    """``count`` prefixes: /24 to /32 with an even third byte in 61.0.0.0/8 to 95.0.0.0/8, a tenth IPv6 in 2a20::/16."""
    found = set()
    while len(found) < count:
        if len(found) % 10:
            value = generator.randrange(61, 96) << 24 | generator.randrange(1 << 24) & ~0x100
            found.add(ipaddress.ip_network((value, generator.choice((24, 24, 24, 28, 32))), strict=False))
        else:
            value = 0x2A20 << 112 | generator.getrandbits(48) << 64 & ~(1 << 80)
            found.add(ipaddress.ip_network((value, generator.choice((48, 56, 64))), strict=False))
    return sorted(map(str, found))


def build_images(folder):
    """The images of the two rule sets, by name."""
    generator = random.Random(SEED)
    Path(folder, "many.rules").write_text("\n".join(many_rules(generator)) + "\n")
    Path(folder, "listed.txt").write_text("\n".join(prefixes(generator)) + "\n")
    variables = Variables.from_options([f"LISTED=@{folder}/listed.txt"])
    return {"few": compile_rules(load_rules([RULES]).rules).image,
            "many": compile_rules(load_rules([Path(folder, "many.rules")], variables).rules).image}


def address4(generator):
    """An address beside the listed ones or anywhere in private space."""
    if generator.random() < 0.5:
        return (generator.randrange(61, 96) << 24 | generator.getrandbits(24) | 0x100).to_bytes(4, "big")
    return (0x0A << 24 | generator.getrandbits(24)).to_bytes(4, "big")


def transport(generator):
    """Protocol number and bytes of a transport header with some payload."""
    target = generator.choice((80, 443, 8080, generator.randrange(30_000, 60_000)))
    ports = struct.pack(">HH", generator.randrange(1024, 65536), target)
    kind = generator.random()
    if kind < 0.7:
        numbers = struct.pack(">II", generator.getrandbits(32), generator.getrandbits(32))
        return 6, ports + numbers + struct.pack(">BBHHH", 0x50, 0x10, 65535, 0, 0) + bytes(6)
    if kind < 0.95:
        return 17, ports + struct.pack(">HH", 40, 0) + bytes(32)
    return 1, struct.pack(">BBHHH", 8, 0, 0, 7, 1) + bytes(32)


def packet(generator):
    """An Ethernet frame."""
    proto, data = transport(generator)
    if generator.random() < 0.2 and proto != 1:
        source = (0x2A20 << 112 | generator.getrandbits(112) | 1 << 80).to_bytes(16, "big")
        target = bytes.fromhex("fd71") + bytes(13) + b"\1"
        return bytes(12) + b"\x86\xdd" + struct.pack(">IHBB", 0x60000000, len(data), proto, 64) + source + target + data
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(data), generator.getrandbits(16), 0x4000, 64, proto, 0)
    return bytes(12) + b"\x08\x00" + header + address4(generator) + bytes((10, 0, 0, 1)) + data


def write_capture(path):
    """Write the pcap."""
    generator = random.Random(SEED + 1)
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number in range(PACKETS):
            frame = packet(generator)
            seconds, microseconds = 1_700_000_000 + number // 10_000, number % 10_000 * 100
            file.write(struct.pack("<IIII", seconds, microseconds, len(frame), len(frame)) + frame)


def measure(path, tables, rules):
    """Nanoseconds a packet over REPEATS passes."""
    page, blocks, rates = tables
    before, spent = page.snapshot(), 0
    for _ in range(REPEATS):
        replay = Replay(Capture(path), page, blocks, rates, rules, POLICIES)
        begin = time.perf_counter_ns()
        while replay.run():
            continue
        spent += time.perf_counter_ns() - begin
    after = page.snapshot()
    judged = after["packets"] - before["packets"]
    if judged != PACKETS * REPEATS or after["dropped"] or after["alerts"]:
        raise TigerFoxError(f"{judged} packets judged, {after['dropped']} dropped, {after['alerts']} alerts: "
                            "the traffic should match nothing")
    return spent / judged


def bench(rounds):
    """Figures of all rounds by name."""
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        path = str(Path(folder, "mix.pcap"))
        write_capture(path)
        rules = {name: CompiledRules.from_buffer(image, 1) for name, image in build_images(folder).items()}
        tables = WorkerPage.create(None), Blocks.create(None), Rates.create(None)
        return interleave(list(rules), rounds, lambda name: measure(path, tables, rules[name]), warm=1)


def main():
    chosen = parser_of(__doc__, 15).parse_args()
    figures = bench(chosen.rounds)
    few, many = (median(figures[name]) for name in ("few", "many"))
    between = ratio(figures["many"], figures["few"])
    publish("userspace", {"rules": MANY_RULES, "prefixes": MANY_PREFIXES, "ns_per_packet_few": few, "ns_per_packet_many": many,
                          "ratio": between, "goal": GOAL}, chosen,
            f"24 rules                            {few:8.1f} ns/packet\n"
            f"10,000 rules, 100,000 prefixes      {many:8.1f} ns/packet\n"
            f"ratio {between:.3f} (goal <= {GOAL}), {chosen.rounds} rounds")


if __name__ == "__main__":
    main()
