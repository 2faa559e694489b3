"""The block table in figures: look-ups among a million entries, import of a million lines, inserts while two processes read.

    python -m bench.blocks [--json FILE] [--entries 1000000]

Look-ups take random keys, far more of them than a cache holds, in a compiled loop: "batch" as a worker that asks for 64 packets
at once (blocks_ask, blocks_near, blocks_answer), "single" one after the other. Figures are medians of several turns.
"""

import os
import random
import signal
import tempfile
import time

from bench.machine import memory_folder
from bench.rounds import median, parser_of, publish
from tigerfox.dataplane.blockbulk import insert_packed, lookup_packed, read_blocks
from tigerfox.dataplane.blocks import Blocks

TURNS = 7
READERS = 2
GOALS = {"lookup_ns": 60, "import_s": 2.0, "inserts_per_s": 100_000}
SCOPES = ("connection", "source", "destination", "pair")


def flows(count, seed):
    """FlowTuples of random IPv4 TCP packets, as bytes; no two calls with different seeds share addresses to speak of."""
    chooser = random.Random(seed)
    raw = chooser.randbytes(12 * count)
    made = bytearray(40 * count)
    for place in range(4):
        made[place::40] = raw[place::12]
        made[16 + place :: 40] = raw[4 + place :: 12]
        made[32 + place :: 40] = raw[8 + place :: 12]
    made[36::40] = bytes([6]) * count
    made[37::40] = bytes([4]) * count
    return bytes(made)


def shuffled(packed, seed):
    """The same flows in another order."""
    each = [packed[place : place + 40] for place in range(0, len(packed), 40)]
    random.Random(seed).shuffle(each)
    return b"".join(each)


def nanoseconds(blocks, asked, batched):
    """Median nanoseconds of one look-up, and how many of the flows are blocked."""
    taken, blocked = [], 0
    for _ in range(TURNS):
        start = time.perf_counter_ns()
        blocked = lookup_packed(blocks, asked, batched)
        taken.append((time.perf_counter_ns() - start) / (len(asked) // 40))
    return median(taken), blocked


def bench_lookups(entries):
    """Rows (what, ns in batches, ns one by one) with one scope in use and with all four."""
    rows = []
    there, absent = flows(entries, 1), flows(entries, 2)
    asked = shuffled(there, 3)
    for name, scopes in (("one scope", SCOPES[1:2]), ("four scopes", SCOPES)):
        blocks = Blocks.create(None, max(entries + entries // 20, 1024))
        share = entries // len(scopes)
        for turn, scope in enumerate(scopes):
            insert_packed(blocks, scope, there[40 * share * turn : 40 * share * (turn + 1)])
        for kind, packed in (("hit", asked), ("miss", absent)):
            (batch, blocked), (single, _) = (nanoseconds(blocks, packed, batched) for batched in (True, False))
            rows.append({"case": f"{kind}, {name}", "entries": len(blocks), "blocked": blocked,
                         "batch_ns": batch, "single_ns": single})
    return rows


def bench_import(entries):
    """Seconds to read `entries` lines and insert them, checked first as the command does."""
    chooser = random.Random(4)
    text = "".join("%d.%d.%d.%d\n" % tuple(chooser.randbytes(4)) for _ in range(entries)).encode()
    taken = []
    for _ in range(3):
        blocks = Blocks.create(None, max(entries + entries // 20, 1024))
        start = time.perf_counter()
        read_blocks(text)
        result = read_blocks(text, blocks)
        taken.append(time.perf_counter() - start)
    return {"lines": entries, "inserted": result.inserted, "refused": result.refused, "seconds": median(taken, 3)}


def read_for_ever(path, asked, told):
    blocks = Blocks.open(path, writable=True)
    while True:
        lookup_packed(blocks, asked)
        os.write(told, b"x")


def bench_inserts(entries):
    """Inserts a second into one table while other processes look up in it without a pause."""
    packed = flows(entries, 5)
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        path = os.path.join(folder, "blocks")
        blocks = Blocks.create(path, max(entries + entries // 20, 1024))
        ready, told = os.pipe()
        os.set_blocking(told, False)
        pids = []
        for _ in range(READERS):
            pid = os.fork()
            if not pid:
                try:
                    read_for_ever(path, packed[: 40 * 50_000], told)
                finally:
                    os._exit(0)
            pids.append(pid)
        os.read(ready, 1)
        try:
            start = time.perf_counter()
            refused = insert_packed(blocks, "source", packed)
            seconds = time.perf_counter() - start
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        looked_up = 50_000 * len(os.read(ready, 1 << 16))
    return {"inserts": entries, "refused": refused, "readers": READERS, "per_second": round(entries / seconds),
            "lookups_meanwhile": looked_up}


def measure(entries):
    return {"goals": GOALS, "lookups": bench_lookups(entries),
            "import": bench_import(entries), "inserts": bench_inserts(entries)}


def render(found):
    lines = [f"{'look-up':<22}{'entries':>10}{'ns, batch':>12}{'ns, single':>12}"]
    lines += [f"{row['case']:<22}{row['entries']:>10}{row['batch_ns']:>12}{row['single_ns']:>12}" for row in found["lookups"]]
    done, inserts = found["import"], found["inserts"]
    lines += ["", f"import     {done['lines']} lines in {done['seconds']} s ({done['refused']} refused)",
              f"inserts    {inserts['per_second']} a second while {inserts['readers']} processes read "
              f"({inserts['lookups_meanwhile']} look-ups meanwhile, {inserts['refused']} refused)",
              f"goals      look-up <= {GOALS['lookup_ns']} ns, import <= {GOALS['import_s']} s, "
              f"inserts >= {GOALS['inserts_per_s']}/s"]
    return "\n".join(lines)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    options = parser.parse_args()
    found = measure(options.entries)
    publish("blocks", found, options, render(found))


if __name__ == "__main__":
    main()
