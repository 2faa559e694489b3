"""The matcher at 24 to 100,000 header rules, beside a linear scan and bit vectors (bench/reference/matchers.c).

TigerFox's figure is the whole of user space: parse, block table, match and verdict of bench/userspace.py's traffic, with a list of
100,000 prefixes beside the rules. The other two are the matching alone.

    python -m bench.matchers [--rounds 5] [--json FILE]
"""

import json
import random
import subprocess
import tempfile
import time
from pathlib import Path

from bench.rounds import interleave, median, parser_of, publish
from bench.userspace import MANY_PREFIXES, SEED, many_rules, measure, prefixes, write_capture
from tigerfox.dataplane.blocks import Blocks
from tigerfox.dataplane.image import CompiledRules
from tigerfox.dataplane.rates import Rates
from tigerfox.dataplane.stats import WorkerPage
from tigerfox.ruleset.check import load_rules
from tigerfox.ruleset.compile import compile_rules
from tigerfox.ruleset.variables import Variables

SIZES = (24, 1_000, 10_000, 100_000)


def others(folder):
    """The reference program's figures, by number of rules."""
    program = Path(folder, "matchers")
    source = Path(__file__).parent / "reference" / "matchers.c"
    subprocess.run(["cc", "-O3", "-march=native", "-o", program, source], check=True)
    said = subprocess.run([program, *map(str, SIZES)], check=True, capture_output=True, text=True).stdout
    return {row["rules"]: row for row in map(json.loads, said.splitlines())}


def compiled(folder, variables, count):
    """(CompiledRules, seconds to compile, bytes) of ``count`` rules."""
    path = Path(folder, f"{count}.rules")
    path.write_text("\n".join(many_rules(random.Random(SEED), count)) + "\n")
    began = time.monotonic()
    image = compile_rules(load_rules([path], variables).rules).image
    return CompiledRules.from_buffer(image, 1), round(time.monotonic() - began, 2), len(image)


def listed(folder, count=MANY_PREFIXES):
    """The variable LISTED: a list of ``count`` prefixes."""
    Path(folder, "listed.txt").write_text("\n".join(prefixes(random.Random(SEED), count)) + "\n")
    return Variables.from_options([f"LISTED=@{folder}/listed.txt"])


def bench(rounds):
    """One row for each number of rules."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        capture = str(Path(folder, "mix.pcap"))
        write_capture(capture)
        variables = listed(folder)
        sets = {count: compiled(folder, variables, count) for count in SIZES}
        tables = WorkerPage.create(None), Blocks.create(None), Rates.create(None)
        spent = interleave(list(SIZES), rounds, lambda count: measure(capture, tables, sets[count][0]))
        rows = others(folder)
    return [rows[count] | {"tigerfox_ns": median(spent[count]), "tigerfox_bytes": sets[count][2],
                           "compile_s": sets[count][1]} for count in SIZES]


def main():
    chosen = parser_of(__doc__, 5).parse_args()
    rows = bench(chosen.rounds)
    lines = [f"{'rules':>8}{'scan':>12}{'bit vectors':>14}{'':>10}{'TigerFox, all':>16}{'':>10}{'compiled in':>13}"]
    lines += [f"{row['rules']:>8,}{row['scan_ns']:>9,} ns{row['vectors_ns']:>11,} ns{row['vectors_bytes'] / 1e6:>7.1f} MB"
              f"{row['tigerfox_ns']:>13} ns{row['tigerfox_bytes'] / 1e6:>7.1f} MB{row['compile_s']:>11} s" for row in rows]
    publish("matchers", {"rows": rows}, chosen, "\n".join(lines))


if __name__ == "__main__":
    main()
