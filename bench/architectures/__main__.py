"""Every earlier design, in memory and live, beside TigerFox's own; figures, tables and plots. As root, about 9 minutes.

    sudo python -m bench.architectures                    all of it, into bench/results and docs
    python -m bench.architectures --only memory --json -  one rig, figures to standard output, nothing else written
    python -m bench.architectures --only report           tables and plots again from the figures that are there
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from bench.machine import machine
from bench.packets import RULES

ROOT = Path(__file__).resolve().parent.parent.parent
FIGURES = ROOT / "bench" / "results" / "architectures.json"
LIVE_ROUNDS, LIVE_SECONDS = 2, 3
LIVE_RATES = (5_000, 20_000)


class Progress:
    """One line on a terminal that is written over; nothing elsewhere."""

    def __init__(self):
        self.begin = time.monotonic()

    def __call__(self, text):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{time.monotonic() - self.begin:5.0f} s  {text}")
            sys.stderr.flush()

    def end(self):
        self("done\n")


def made_traffic():
    """The mixed traffic that is used where no capture is given."""
    from bench.architectures import traffic
    from bench.architectures.port import Traffic

    with tempfile.TemporaryDirectory() as folder:
        made = str(Path(folder, "mixed.pcap"))
        traffic.write_capture(made)
        return Traffic(made)


def measure_memory(rules, captures, rounds, progress):
    from bench.architectures.measures import Memory
    from bench.architectures.port import Traffic

    result = Memory(rules, Traffic(captures[0]) if captures else made_traffic(), progress).everything(rounds)
    for path in captures[1:]:
        from bench.architectures.designs import DESIGNS

        other = Memory(rules, Traffic(path), progress)
        result.setdefault("captures", {})[Path(path).name] = other.full_load(DESIGNS, rounds, what=Path(path).name)
    return result


def measure_live(rules, rounds, progress, only=None):
    from bench.architectures import live
    from bench.architectures.designs import DESIGNS

    return {"rounds": live.bench(rules, DESIGNS, rounds, LIVE_SECONDS, LIVE_RATES, progress, only)}


def measure_afxdp(rules, rounds, progress):
    """The arms without a queue and what stands beside them, in a run of their own."""
    from bench.architectures.afxdp import BESIDE

    return {"machine": machine()} | measure_live(rules, rounds, progress, BESIDE)


def measure_faults(rules, progress):
    from bench.architectures import faults
    from bench.architectures.measures import Memory

    return {"machine": machine(), "memory": faults.in_memory(Memory(rules, made_traffic(), progress)),
            "live": faults.in_line(rules, LIVE_SECONDS, progress)}


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.architectures", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("memory", "live", "afxdp", "faults", "report"),
                        help="one rig; or, beside the figures that are there, the AF_XDP arms with what they are compared with, "
                        "or the documented faults")
    parser.add_argument("--rounds", type=int, default=5, help="of the in-memory rig (the live one has 2)")
    parser.add_argument("--live-rounds", type=int, default=LIVE_ROUNDS)
    parser.add_argument("--capture", action="append", default=[], metavar="FILE",
                        help="traffic of the in-memory rig; further ones are run at full load and checked as well")
    parser.add_argument("--note", default="", help="said beside the figures, on a busy machine for instance")
    parser.add_argument("--json", metavar="FILE", help="write the figures there (- standard output), and no page")
    chosen = parser.parse_args()
    if chosen.only != "report":
        figures = measure(chosen)
        text = json.dumps(figures, indent=1) + "\n"
        if chosen.json == "-":
            sys.stdout.write(text)
        else:
            Path(chosen.json or FIGURES).write_text(text)
    if not chosen.json and chosen.only in (None, "afxdp", "faults", "report"):
        from bench.architectures.report import write_page

        write_page(json.loads(FIGURES.read_text()))


def measure(chosen):
    """The figures of the rigs that were asked for, beside those of the other that are there."""
    from bench.architectures import build

    build.build()
    from bench.architectures.designs import RuleParts

    progress, rules, begin = Progress(), RuleParts(RULES), time.monotonic()
    kept = json.loads(FIGURES.read_text()) if chosen.only and not chosen.json and FIGURES.exists() else {}
    if chosen.only in ("afxdp", "faults"):
        part = measure_faults(rules, progress) if chosen.only == "faults" else measure_afxdp(rules, chosen.live_rounds, progress)
        progress.end()
        return kept | {chosen.only: part}
    figures = kept | {"bench": "architectures", "note": chosen.note, "rules": RULES.name, "machine": machine()}
    if chosen.only != "live":
        figures["memory"] = measure_memory(rules, chosen.capture, chosen.rounds, progress)
    if chosen.only != "memory":
        figures["live"] = measure_live(rules, chosen.live_rounds, progress)
        figures.pop("afxdp", None)
    if not chosen.only:
        figures["faults"] = measure_faults(rules, progress)
    progress.end()
    return figures | {"seconds": round(time.monotonic() - begin)}


if __name__ == "__main__":
    main()
