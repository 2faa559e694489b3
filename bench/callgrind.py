"""Instructions a packet, by stage, counted by valgrind: a check against regressions that no clock and no neighbour disturbs.

A capture made here (50 connections, each with 20 HTTP requests and their answers, kept alive; with a handshake and an end) is
replayed by rules/bench-24-content.rules under callgrind; only Replay.run is counted. Every compiled module and every library has
a row of its own.

    python -m bench.callgrind [--json FILE] [--against bench/results/callgrind.json] [--slack 0.05]

With --against the figures are compared: exit 1 where all of it, or a stage of weight, takes that share more instructions than
stands there. Counts differ a little between compilers and processors (libhs and libc choose their code by what there is): compare on
one machine.
"""

import json
import re
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bench.filters import FEW, ROOT, need
from bench.rounds import columns, parser_of, publish
from tigerfox.errors import TigerFoxError

CONNECTIONS, REQUESTS = 50, 20
PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
REQUEST = b"GET /612.html?number=%d HTTP/1.1\r\nHost: www.example\r\nUser-Agent: fox/1.0\r\nAccept: */*\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nServer: fox\r\nContent-Type: text/html\r\nContent-Length: 610\r\n\r\n" + b"<p>fox</p>" * 61
FIN, SYN, PSH, ACK = 1, 2, 8, 16
WEIGHT = 0.02                        # stages with less than this share are not compared
PROGRAM = """
import sys
from tigerfox.control.rulefiles import compile_files
from tigerfox.offline.replay import Run
run = Run(sys.argv[1], compile_files([sys.argv[2]], {}, False, 600, "auto"))
while run._replay.run():
    run._reader.drain(8192)
counted = run._page.snapshot()
sys.stdout.write(f"{counted['packets']} {counted['dropped']}")
"""


class Talk:
    """One TCP connection, as records of a pcap; ``at`` is the time of the next packet in microseconds."""

    def __init__(self, number, records):
        self.ends = (struct.pack("!4s", bytes([198, 51, 100, number])), 20000 + number), (bytes([10, 71, 2, 2]), 80)
        self.seq = [1000, 5000]
        self.records = records

    def say(self, side, flags, data=b""):
        (source, sport), (target, dport) = self.ends if side == 0 else self.ends[::-1]
        acked = self.seq[1 - side] if flags & ACK else 0
        packet = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + len(data), 0, 0, 64, 6, 0, source, target)
        packet += struct.pack("!HHIIHHHH", sport, dport, self.seq[side], acked, 5 << 12 | flags, 65535, 0, 0) + data
        self.seq[side] += len(data) + (flags & (SYN | FIN) != 0)
        self.records.append(packet)


def write_capture(path):
    """The capture; how many packets are in it."""
    records = []
    talks = [Talk(number + 1, records) for number in range(CONNECTIONS)]
    for talk in talks:
        talk.say(0, SYN), talk.say(1, SYN | ACK), talk.say(0, ACK)
    for number in range(REQUESTS):
        for talk in talks:
            talk.say(0, PSH | ACK, REQUEST % number), talk.say(1, PSH | ACK, ANSWER), talk.say(0, ACK)
    for talk in talks:
        talk.say(0, FIN | ACK), talk.say(1, FIN | ACK), talk.say(0, ACK)
    with open(path, "wb") as stream:
        stream.write(PCAP_HEADER)
        for place, packet in enumerate(records):
            stream.write(struct.pack("<IIII", 1_800_000_000 + place // 1000, place % 1000, len(packet), len(packet)) + packet)
    return len(records)


def count(folder):
    """(packets, instructions by module) of the replay under callgrind."""
    need("valgrind")
    capture, out = Path(folder, "http.pcap"), Path(folder, "callgrind.out")
    packets = write_capture(capture)
    command = [sys.executable, "-c", PROGRAM, str(capture), str(FEW)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)     # the compiled rules are in the cache from here on
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--toggle-collect=*Replay_1run"]
    done = subprocess.run([*valgrind, *command], capture_output=True, text=True, cwd=ROOT)
    if done.returncode or done.stdout != f"{packets} 0":
        raise TigerFoxError(f"valgrind: {done.stdout} {done.stderr[-300:]}")
    return packets, by_module(out.read_text(errors="replace"))


def by_module(text):
    """Own instructions of each object file of a callgrind profile, by the name of its module."""
    names, found, module, skip = {}, Counter(), "", False
    for line in text.splitlines():
        if line.startswith("ob="):
            number, _, name = line[3:].partition(" ")
            module = names.setdefault(number, module_name(name))
        elif line.startswith("cob="):
            number, _, name = line[4:].partition(" ")
            names.setdefault(number, module_name(name))
        elif line.startswith("calls="):
            skip = True              # the next line is what the call cost, which its callee has counted
        elif cost := re.match(r"[+\-*]?\d* (\d+)$", line):
            found[module] += 0 if skip else int(cost[1])
            skip = False
    return found


def module_name(path):
    """What a row is called: `stream` of tigerfox/dataplane/stream.cpython-311-x86_64-linux-gnu.so, `libhs` of libhs.so.5."""
    return re.split(r"[.\-]", Path(path).name)[0]


def compare(figures, before, slack):
    """What takes more than it did, as lines of text."""
    old = {row["module"]: row["instructions"] for row in before["modules"]}
    worse = [f"all: {before['instructions']} to {figures['instructions']}"] * (
        figures["instructions"] > before["instructions"] * (1 + slack))
    for row in figures["modules"]:
        was = old.get(row["module"], 0)
        if row["share"] >= WEIGHT and row["instructions"] > was * (1 + 2 * slack):
            worse.append(f"{row['module']}: {was} to {row['instructions']}")
    return worse


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--against", metavar="FILE", help="earlier figures to compare with")
    parser.add_argument("--slack", type=float, default=0.05, help="share that all of it may take more; a stage twice that")
    chosen = parser.parse_args()
    before = json.loads(Path(chosen.against).read_text()) if chosen.against else None
    with tempfile.TemporaryDirectory() as folder:
        packets, found = count(folder)
    total = sum(found.values())
    rows = [{"module": name, "instructions": round(spent / packets, 1), "share": round(spent / total, 4)}
            for name, spent in found.most_common() if spent / total >= 0.001]
    figures = {"packets": packets, "rules": FEW.name, "instructions": round(total / packets, 1), "modules": rows}
    worse = compare(figures, before, chosen.slack) if before else []
    text = columns(rows, {"module": "module", "instructions": "instructions a packet", "share": "share"})
    lines = [text, f"all: {figures['instructions']}", *(f"worse: {line}" for line in worse)]
    publish("callgrind", figures, chosen, "\n".join(lines))
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
