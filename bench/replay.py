"""Packets a second of `replay` over real HTTP traffic, with few content rules and with many, beside Suricata 7.

wrk and an HTTP server (nginx, else Python's) talk between namespaces until a capture of the wanted size is there: keep-alive and
short connections, several sizes, both directions. Each arm reads that capture alone on one core, turn by turn; the time of the same
arm over a capture of one packet is taken off, so that loading rules does not count. Reported: medians, and ratios within a round.

    python -m bench.replay [--packets 500000] [--rules FILE ...] [--rounds 3] [--json FILE]

`--rules` names the many rules, loaded leniently; without it they are the Emerging Threats rules of the corpus beside the project,
where that is there. Suricata takes part where it is installed.
"""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.filters import FEW, ROOT, end, many_rules, need, rule_text
from bench.rounds import interleave, median, parser_of, publish, ratio
from bench.topology import SERVER4, Topology
from bench.web import server
from tigerfox.errors import TigerFoxError

SIZES = (200, 4_000, 40_000)         # bytes of the pages
PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


def packets_of(path, count=0, at=24):
    """(packets of a pcap as tcpdump writes it, offset behind the last); goes on from what it said before."""
    with open(path, "rb") as capture:
        size = os.fstat(capture.fileno()).st_size
        while at + 16 <= size:
            capture.seek(at + 8)
            behind = at + 16 + struct.unpack("<I", capture.read(4))[0]
            if behind > size:
                break
            count, at = count + 1, behind
    return count, at


def record(path, wanted):
    """Record HTTP traffic of at least ``wanted`` packets to ``path``; returns how many there are."""
    need("wrk", "tcpdump")
    with Topology("tfr", gso=False) as lab, server(lab, SIZES, keepalive=200):
        dump = lab.firewall.popen("tcpdump", "-i", "to1", "-w", path, "-B", "65536", "-s", "0", "-U", "-Z", "root", "tcp",
                                  stderr=subprocess.DEVNULL)
        try:
            time.sleep(1.0)
            there = 0, 24
            while there[0] < wanted:
                for size in SIZES:
                    load = ["wrk", "-t", "1", "-c", "20", f"http://{SERVER4}/{size}.html"]
                    lab.client.run(*load, "-d", "2s")
                    lab.client.run(*load, "-d", "1s", "-H", "Connection: close")
                there = packets_of(path, *there)
        finally:
            end(dump)
    return packets_of(path, *there)[0]


def tigerfox(path, rules):
    """The command of our arm."""
    return [sys.executable, "-m", "tigerfox", "replay", path, "--lenient", *(part for file in rules for part in ("--rules", file))]


def suricata(path, rules, folder):
    """The command of Suricata's arm."""
    joined = Path(folder, "suricata.rules")
    joined.write_text("".join(map(rule_text, rules)), errors="surrogateescape")
    return ["suricata", "-r", path, "-S", str(joined), "-l", folder, "-k", "none", "--runmode", "single", "--simulate-ips"]


def seconds(command):
    """Seconds that a command takes on the first CPU."""
    begin = time.perf_counter()
    done = subprocess.run(["taskset", "-c", "0", *map(str, command)], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise TigerFoxError(f"{command[0]}: {done.stderr.strip()[-300:]}")
    return time.perf_counter() - begin


def arms(many):
    """(name, function of path and folder that gives the command) of every arm."""
    sets = {"24 content rules": [FEW], **({"many rules": many} if many else {})}
    found = []
    for name, rules in sets.items():
        found.append((f"TigerFox, {name}", lambda path, folder, rules=rules: tigerfox(path, rules)))
        if shutil.which("suricata"):
            found.append((f"Suricata, {name}", lambda path, folder, rules=rules: suricata(path, rules, folder)))
    return found


def bench(path, packets, many, rounds):
    """Packets a second of every arm, a list by name."""
    with tempfile.TemporaryDirectory() as folder:
        empty = str(Path(folder, "empty.pcap"))
        Path(empty).write_bytes(PCAP_HEADER + struct.pack("<IIII", 0, 0, 60, 60) + bytes(60))      # Suricata wants one packet
        commands = dict(arms(many))
        return interleave(list(commands), rounds, lambda name: packets / (
            seconds(commands[name](path, folder)) - seconds(commands[name](empty, folder))), warm=1)


def main():
    parser = parser_of(__doc__, 3)
    parser.add_argument("--packets", type=int, default=500_000)
    parser.add_argument("--rules", action="append", default=[], metavar="FILE", help="the many rules")
    chosen = parser.parse_args()
    many = [str(Path(file).resolve()) for file in chosen.rules or filter(None, [many_rules()])]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "http.pcap"))
        packets = record(path, chosen.packets)
        size = Path(path).stat().st_size
        figures = bench(path, packets, many, chosen.rounds)
    medians = {name: median(found, 0) for name, found in figures.items()}
    peers = {name: name.replace("TigerFox", "Suricata") for name in figures if name.startswith("TigerFox")}
    ratios = {name: ratio(figures[name], figures[peer], 2) for name, peer in peers.items() if peer in figures}
    lines = [f"{name:32}{figure:12,} packets/s" + (f"   {ratios[name]:.2f} x Suricata" if name in ratios else "")
             for name, figure in medians.items()]
    publish("replay", {"packets": packets, "bytes": size, "rules": [Path(file).name for file in many],
                       "packets_per_second": medians, "ratio_to_suricata": ratios}, chosen, "\n".join([f"{packets:,} packets, {size / 1e6:,.0f} MB", *lines]))


if __name__ == "__main__":
    main()
