"""A large rule set: seconds to compile and to load from the cache, size of its image, memory of a worker that judges by it.

The rules are the enabled Emerging Threats rules of the corpus beside the project. They are compiled as `start` does it, in a
process of its own: cold with an empty cache, then again with what that left there. Then a whole instance with one queue judges
HTTP requests in a namespace, on kept-alive connections and on short ones, and its worker's smaps says what it holds that no
other process has mapped: in all, in the tables that outlive it (flows, streams, blocks), in the image (one for all workers: with
one worker alone it counts as private), and the rest, which is its own.

    sudo python -m bench.ruleset [--rounds 3] [--seconds 5] [--json FILE]
"""

import re
import tempfile
from pathlib import Path

from bench import filters, web
from bench.rounds import columns, median, parser_of, publish
from bench.topology import Topology
from tigerfox.config import Blocks, Rules
from tigerfox.control.loading import Compilation
from tigerfox.errors import MissingError

PAGE = 612
GOALS = {"cold_s": 15, "cached_s": 1, "private_mb": 100}
KINDS = (("image", "memfd:tigerfox-rules"), ("tables", " rw-s "))      # of mappings, by their line in smaps; the others are own


def compiled(cache):
    """The Loaded of the many rules, compiled as `start` does it with its cache in a folder; their memory is given back."""
    rules = Rules((str(filters.many_rules()),), True, str(cache), filters.VARIABLES)
    loaded = Compilation(rules, Blocks().seconds).wait()
    loaded.close()
    return loaded


def times(rounds):
    """(the Loaded of the first compilation, {"cold": seconds of each round, "cached": the same})."""
    with tempfile.TemporaryDirectory() as folder:
        made = [[compiled(Path(folder, str(number))) for _ in range(2)] for number in range(rounds)]
    return made[0][0], {"cold": [first.seconds for first, _ in made], "cached": [second.seconds for _, second in made]}


def held(pid):
    """Megabytes that a process holds and no other one has mapped, by kind, and in all."""
    found, kind = {"image": 0, "tables": 0, "own": 0}, "own"
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            kind = next((name for name, part in KINDS if part in line), "own")
        elif line.startswith(("Private_Clean:", "Private_Dirty:")):
            found[kind] += int(line.split()[1])
    return {f"{name}_mb": round(kilobytes / 1024, 1) for name, kilobytes in (*found.items(), ("private", sum(found.values())))}


def memory(seconds):
    """Rows: what the worker holds before any packet, and behind HTTP requests for so many seconds of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        ready, missing = filters.prepare(["tigerfox-many"], folder)
        if missing:
            raise MissingError(missing["tigerfox-many"])
        with Topology("tfm") as lab, web.server(lab, [PAGE]), ready["tigerfox-many"].standing(lab) as pid:
            rows = [{"when": "before any packet"} | held(pid)]
            for close in (False, True):
                web.load(lab, PAGE, seconds, close=close)
            return [*rows, {"when": f"behind {filters.queue_row(lab)['id_sequence']:,} packets"} | held(pid)]


def main():
    parser = parser_of(__doc__, 3)
    parser.add_argument("--seconds", type=int, default=5, help="of requests on kept-alive connections, and as many on short ones")
    chosen = parser.parse_args()
    rows = memory(chosen.seconds)
    loaded, found = times(chosen.rounds)
    figures = {"cold_s": median(found["cold"], 2), "cached_s": median(found["cached"], 2), "private_mb": rows[-1]["private_mb"]}
    reached = {name: {"goal": most, "reached": figures[name]} for name, most in GOALS.items()}
    heads = {"when": "worker's memory", "private_mb": "MB, private", "own_mb": "own", "tables_mb": "tables", "image_mb": "image"}
    lines = [f"{loaded.rules:,} rules, {loaded.refused} refused; image {loaded.size / 1e6:.1f} MB",
             f"compiled cold in {figures['cold_s']} s (goal {GOALS['cold_s']}), from the cache in {figures['cached_s']} s "
             f"(goal {GOALS['cached_s']})", columns(rows, heads), f"goal: at most {GOALS['private_mb']} MB"]
    publish("ruleset", {"rules": loaded.rules, "refused": loaded.refused, "image_bytes": loaded.size, "seconds": found,
                        "memory": rows, "goals": reached}, chosen, "\n".join(lines))


if __name__ == "__main__":
    main()
