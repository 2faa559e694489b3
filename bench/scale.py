"""What a packet costs in user space, and how much memory stands behind it, as the tables grow; goal P5 beside it.

rules     24 to 100,000 header rules, beside a list of 100,000 prefixes
prefixes  100 to 1,000,000 prefixes in one list that one of 24 rules names
blocks    1,000 to 1,000,000 blocked sources: a look-up that finds nothing, as nearly all do, and one that finds its entry
flows     1 to 1,000,000 established connections (bench/flows.py)

For rules and prefixes: parse, block table, match and verdict of bench/userspace.py's traffic. Memory is the compiled rule set,
or what the table made this process grow by.

    python -m bench.scale [--rounds 3] [--largest 1000000] [--json FILE]
"""

import tempfile
from pathlib import Path

from bench import flows as flow_bench
from bench.blocks import flows, nanoseconds, shuffled
from bench.machine import resident
from bench.matchers import compiled, listed
from bench.rounds import columns, interleave, median, parser_of, publish
from bench.userspace import measure, write_capture
from tigerfox.dataplane.blockbulk import insert_packed
from tigerfox.dataplane.blocks import Blocks
from tigerfox.dataplane.rates import Rates
from tigerfox.dataplane.stats import WorkerPage

RULES = (24, 100, 1_000, 10_000, 100_000)
PREFIXES = (100, 1_000, 10_000, 100_000, 1_000_000)
BLOCKS = (1_000, 10_000, 100_000, 1_000_000)
FLOWS = (1, 1_000, 10_000, 100_000, 1_000_000)


def matching(folder, sets, rounds):
    """A row for each {size: (CompiledRules, seconds, bytes)}."""
    capture = str(Path(folder, "mix.pcap"))
    tables = WorkerPage.create(None), Blocks.create(None), Rates.create(None)
    found = interleave(list(sets), rounds, lambda size: measure(capture, tables, sets[size][0]), warm=1)
    return [{"size": size, "ns": median(found[size]), "bytes": sets[size][2], "compile_s": sets[size][1]} for size in sets]


def rules_and_prefixes(rounds, largest):
    """Rows of the two curves of the matcher."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        write_capture(str(Path(folder, "mix.pcap")))
        variables = listed(folder)
        rules = matching(folder, {size: compiled(folder, variables, size) for size in RULES if size <= largest}, rounds)
        prefixes = {size: compiled(folder, listed(folder, size), 24) for size in PREFIXES if size <= largest}
        return rules, matching(folder, prefixes, rounds)


def blocks(size):
    """A row: nanoseconds of a look-up in batches, and what the table holds."""
    there, absent = flows(size, 1), flows(max(size, 100_000), 2)
    before = resident()
    table = Blocks.create(None, max(size + size // 20, 1024))
    insert_packed(table, "source", there)
    held = resident() - before
    return {"size": size, "ns": nanoseconds(table, absent, True)[0], "hit_ns": nanoseconds(table, shuffled(there, 3), True)[0],
            "bytes": held}


def connections(size):
    """A row of bench/flows.py, and what its tables hold."""
    row = flow_bench.measure(size)
    return {"size": size, "ns": row["ns"], "bytes": row["bytes"]}


def main():
    parser = parser_of(__doc__, 3)
    parser.add_argument("--largest", type=int, default=1_000_000)
    chosen = parser.parse_args()
    rules, prefixes = rules_and_prefixes(chosen.rounds, chosen.largest)
    curves = {"rules": rules, "prefixes": prefixes, "blocks": [blocks(size) for size in BLOCKS if size <= chosen.largest],
              "flows": [connections(size) for size in FLOWS if size <= chosen.largest]}
    lines = []
    for name, rows in curves.items():
        shown = [row | {"megabytes": round((row["bytes"]) / 1e6, 1)} for row in rows]
        heads = {"size": name, "ns": "ns", "hit_ns": "ns when found", "megabytes": "MB", "compile_s": "compiled in s"}
        lines += [columns(shown, {key: head for key, head in heads.items() if key in shown[0]}), ""]
    publish("scale", {"curves": curves}, chosen, "\n".join(lines))


if __name__ == "__main__":
    main()
