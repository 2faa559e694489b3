"""Packets a second of `replay` over real HTTP traffic, with few content rules and with many, beside Suricata 7.

wrk and an HTTP server (nginx, else Python's) talk between namespaces until a capture of the wanted size is there: keep-alive and
short connections, several sizes, both directions. Each arm reads that capture alone on one core, turn by turn; what the same arm takes
for a capture of one packet is taken off, so that loading rules does not count. Both get the same rules and variables, by which every rule
looks at the traffic in both directions; Suricata gets the configuration of the live benches (bench/filters.py) and one thread for packets
(`--runmode single`). By the clock and by CPU time: medians, and ratios within a round.

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

from bench.filters import FEW, ROOT, SURICATA, end, many_rules, need, rule_text, variables
from bench.machine import memory_folder
from bench.rounds import columns, interleave, median, parser_of, publish, ratio
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
                    lab.client.run(*load, "-d", "1s")
                    lab.client.run(*load, "-d", "1s", "-H", "Connection: close")
                there = packets_of(path, *there)
        finally:
            end(dump)
    return packets_of(path, *there)[0]


def tigerfox(path, rules):
    """The command of our arm."""
    return [sys.executable, "-m", "tigerfox", "replay", path, "--lenient", *variables(), *(part for file in rules for part in ("--rules", file))]


def suricata(path, rules, folder):
    """The command of Suricata's arm."""
    Path(folder, "suricata.rules").write_text("".join(map(rule_text, rules)), errors="surrogateescape")
    Path(folder, "suricata.yaml").write_text(SURICATA.format(folder=folder))
    return ["suricata", "-c", f"{folder}/suricata.yaml", "-S", f"{folder}/suricata.rules", "-r", path, "-l", folder, "-k", "none",
            "--runmode", "single", "--simulate-ips"]


def spent(command):
    """Seconds by the clock and of CPU time that a command takes on the first CPU."""
    with tempfile.TemporaryFile("w+") as said:
        begin = time.perf_counter()
        process = subprocess.Popen(["taskset", "-c", "0", *map(str, command)], stdout=said, stderr=said, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        clock = time.perf_counter() - begin
        if status:
            said.seek(0)
            raise TigerFoxError(f"{command[0]}: {said.read().strip()[-300:]}")
    return clock, usage.ru_utime + usage.ru_stime


def arms(many):
    """Every arm: name -> function of path and folder that gives the command."""
    sets = {"24 content rules": [FEW], **({"many rules": many} if many else {})}
    found = {}
    for name, rules in sets.items():
        found[f"TigerFox, {name}"] = lambda path, folder, rules=rules: tigerfox(path, rules)
        if shutil.which("suricata"):
            found[f"Suricata, {name}"] = lambda path, folder, rules=rules: suricata(path, rules, folder)
    return found


def measure(command, path, empty, folder, packets):
    """One turn of one arm: packets a second and a CPU second, start-up taken off."""
    whole, start = (spent(command(capture, folder)) for capture in (path, empty))
    return {"packets_per_second": packets / (whole[0] - start[0]), "packets_per_cpu_second": packets / (whole[1] - start[1])}


def bench(path, packets, many, rounds):
    """Rows, an arm each: medians, and ratios to Suricata with the same rules."""
    with tempfile.TemporaryDirectory() as folder:
        empty = str(Path(folder, "empty.pcap"))
        Path(empty).write_bytes(PCAP_HEADER + struct.pack("<IIII", 0, 0, 60, 60) + bytes(60))      # Suricata wants one packet
        commands = arms(many)
        found = interleave(list(commands), rounds, lambda name: measure(commands[name], path, empty, folder, packets), warm=1)
    rows = []
    for name, turns in found.items():
        peer = found.get(name.replace("TigerFox", "Suricata"), [])
        row = {"arm": name}
        for key in ("packets_per_second", "packets_per_cpu_second"):
            mine, its = [turn[key] for turn in turns], [turn[key] for turn in peer]
            row |= {key: median(mine, 0), f"{key}_to_suricata": ratio(mine, its, 2)}
        rows.append(row)
    return rows


def main():
    parser = parser_of(__doc__, 3)
    parser.add_argument("--packets", type=int, default=500_000)
    parser.add_argument("--rules", action="append", default=[], metavar="FILE", help="the many rules")
    parser.add_argument("--capture", metavar="FILE", help="read this pcap instead of one made now")
    chosen = parser.parse_args()
    many = [str(Path(file).resolve()) for file in chosen.rules or filter(None, [many_rules()])]
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        path = chosen.capture or str(Path(folder, "http.pcap"))
        packets = packets_of(path)[0] if chosen.capture else record(path, chosen.packets)
        size = Path(path).stat().st_size
        rows = bench(path, packets, many, chosen.rounds)
    heads = {"arm": "arm", "packets_per_second": "packets/s", "packets_per_second_to_suricata": "÷ Suricata",
             "packets_per_cpu_second": "packets/CPU s", "packets_per_cpu_second_to_suricata": "÷ Suricata"}
    publish("replay", {"packets": packets, "bytes": size, "rules": [Path(file).name for file in many], "arms": rows}, chosen,
            "\n".join([f"{packets:,} packets, {size / 1e6:,.0f} MB", columns(rows, heads)]))


if __name__ == "__main__":
    main()
