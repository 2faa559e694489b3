"""Every bench, one after the other; figures to bench/results/NAME.json, to the terminal and to docs/figures.

    sudo python -m bench [--rounds N] [http packets ...]
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
BENCHES = {
    "http": "HTTP requests a second and latency, beside references, Suricata and others (root, about 5 minutes)",
    "connections": "new connections a second, a request on each (root, about 2 minutes)",
    "bulk": "one bulk TCP stream in Gbit/s, with and without segmentation offload (root, about 3 minutes)",
    "latency": "time from a packet's arrival in the queue to its verdict at half load (root, about 2 minutes)",
    "packets": "64-byte UDP packets a second on one core, against the batched accept-all (root, about 3 minutes)",
    "userspace": "nanoseconds a packet in user space, few rules against many (some seconds)",
    "scale": "nanoseconds a packet and memory: rules, prefixes, blocks and flows up to a million (about 3 minutes)",
    "matchers": "the matcher at 24 to 100,000 rules, beside a linear scan and bit vectors (about a minute)",
    "flows": "nanoseconds a packet in the flow table and the streams, 1 to 1,000,000 connections (about a minute)",
    "ruleset": "5,000 rules: seconds to compile and to load, size, memory of a worker that judges by them (root, about a minute)",
    "replay": "packets a second of replay over real HTTP traffic, beside Suricata where it is installed (root, some minutes)",
    "fanout": "how evenly 200 connections of one client are dealt out to 8 queues (root, about a minute)",
    "offload": "requests a second beside a flood of blocked sources, dropped in the kernel or not (root, about 3 minutes)",
    "inspectors": "Python inspectors: beside a NetfilterQueue script, what they cost the line, bad ones (root, about 5 minutes)",
    "blocks": "the block table: look-ups, import, inserts while two processes read (some seconds)",
    "callgrind": "instructions a packet, by stage, under valgrind (some minutes)",
}

WITHOUT_ROUNDS = ("flows", "blocks", "callgrind")


def main():
    listing = "\n".join(f"  {name:<12}{what}" for name, what in BENCHES.items())
    parser = argparse.ArgumentParser(prog="python -m bench", description=f"{__doc__}\n{listing}",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones; all where none is named")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of every bench that has them, instead of its own number")
    chosen = parser.parse_args()
    names = chosen.names or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        parser.error(f"no bench {unknown[0]}; there are {', '.join(BENCHES)}")
    RESULTS.mkdir(exist_ok=True)
    failed = 0
    for name in names:
        sys.stdout.write(f"== {name}: {BENCHES[name]}\n")
        sys.stdout.flush()
        command = [sys.executable, "-m", f"bench.{name}", "--json", str(RESULTS / f"{name}.json")]
        command += ["--rounds", str(chosen.rounds)] if chosen.rounds and name not in WITHOUT_ROUNDS else []
        began = time.monotonic()
        failed += subprocess.run(command, cwd=ROOT, check=False).returncode != 0
        sys.stdout.write(f"({time.monotonic() - began:.0f} s)\n\n")
    failed += subprocess.run([sys.executable, "-m", "bench.report"], cwd=ROOT, check=False).returncode != 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
