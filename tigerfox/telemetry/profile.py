"""Where a worker spends its time: perf looks at it while it works; top functions as a table, all stacks as a flame graph.

perf samples the worker's CPU clock and unwinds by the line tables that the extensions are built with (-g1), so the kernel's,
libhs's and our own functions stand in one picture. The worker goes on meanwhile; with some hundred samples a second it loses a few
per cent of its speed.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from tigerfox.errors import MissingError, TigerFoxError, UsageError
from tigerfox.telemetry import flames
from tigerfox.telemetry.status import status

SAMPLES_PER_SECOND = 499
STACK_BYTES = 8192
_MANGLED = re.compile(r"^__pyx_(?:f|pf|pw)_")


@dataclass
class Profile:
    """What was seen of one worker; shares are of all samples."""

    queue: int
    pid: int
    seconds: float
    samples: int
    functions: list
    flame_graph: str


def profile(queue=None, seconds=10.0, svg=None, top=25, run_dir=None):
    """Sample the worker of ``queue`` (None: the one that judged the most) and write a flame graph to ``svg``; a Profile.

    Raises MissingError without perf, InstanceError where nothing runs, UsageError for a queue that nobody serves.
    """
    if shutil.which("perf") is None:
        raise MissingError("perf is not installed. Install it: apt-get install linux-perf")
    worker = choose(status(run_dir)["workers"], queue)
    stacks = sample(worker["pid"], seconds)
    if not stacks:
        raise TigerFoxError(f"the worker of queue {worker['queue']} did nothing in {seconds:g} s. Profile it while packets come.")
    if svg:
        Path(svg).write_text(flames.render(stacks, f"tigerfox, queue {worker['queue']}, {seconds:g} s"), encoding="utf-8")
    return Profile(worker["queue"], worker["pid"], seconds, sum(stacks.values()), functions(stacks, top), str(svg or ""))


def choose(workers, queue):
    """The row of the worker to look at."""
    if queue is None:
        return max(workers, key=lambda worker: worker["packets"])
    for worker in workers:
        if worker["queue"] == queue:
            return worker
    raise UsageError(f"no worker serves queue {queue}. There are: {', '.join(str(worker['queue']) for worker in workers)}.")


def sample(pid, seconds):
    """The stacks of a process over some seconds, a Counter."""
    with tempfile.TemporaryDirectory() as folder:
        record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_SECOND), "--call-graph", f"dwarf,{STACK_BYTES}",
                  "-p", str(pid), "-o", f"{folder}/data", "--", "sleep", f"{seconds:g}"]
        done = subprocess.run(record, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TigerFoxError(f"perf: {done.stderr.strip()[-400:]}. It takes root, or kernel.perf_event_paranoid at most 1.")
        script = ["perf", "script", "-i", f"{folder}/data", "--no-inline", "-F", "ip,sym,dso"]
        return read_stacks(subprocess.run(script, capture_output=True, text=True, errors="replace", check=False).stdout)


def read_stacks(text):
    """What `perf script` printed as a Counter of stacks, root first; a frame is (function, where)."""
    found = Counter()
    for block in text.split("\n\n"):
        frames = [frame for frame in map(read_frame, block.strip().splitlines()) if frame]
        stack = tuple(frames[::-1])
        ours = next((place for place, frame in enumerate(stack) if flames.origin(frame[1]) == "tigerfox"), 0)
        if stack:
            found[stack[ours:]] += 1
    return found


def read_frame(line):
    """(function, where) of a line `ADDRESS FUNCTION (FILE)`."""
    match = re.match(r"\s*[0-9a-f]+ (.*) \((.*)\)$", line)
    if match is None:
        return None
    name, place = match[1], match[2]
    if name == "[unknown]" and "libhs" in place:
        name = "libhs"               # Debian's package has no symbols
    return plain(name), place


def plain(name):
    """`stream.stream_take` of a function's name as Cython writes it, which counts the letters of each part."""
    begin = _MANGLED.match(name)
    if begin is None:
        return re.sub(r"(\.part\.\d+|\.constprop\.\d+|\.isra\.\d+|\+0x[0-9a-f]+.*)", "", name)
    rest, module = name[begin.end():], ""
    while part := re.match(r"(\d+)", rest):
        size = int(part[1])
        module, rest = rest[part.end():part.end() + size], rest[part.end() + size + 1:]
    return f"{module}.{plain(rest)}"


def functions(stacks, top):
    """The functions in which most samples were taken: name, where, own share, share with what they call."""
    own, whole = Counter(), Counter()
    for stack, seen in stacks.items():
        own[stack[-1]] += seen
        for frame in set(stack):
            whole[frame] += seen
    total = sum(stacks.values())
    return [{"function": name, "where": Path(place).name.strip("[]").split(".")[0], "self": round(seen / total, 4),
             "total": round(whole[name, place] / total, 4)} for (name, place), seen in own.most_common(top)]


def render(found, as_json):
    """A Profile as text or JSON."""
    if as_json:
        return json.dumps(asdict(found))
    lines = [f"queue {found.queue}, pid {found.pid}: {found.samples:,} samples in {found.seconds:g} s", "",
             f"{'self':>7}{'with calls':>12}  function"]
    lines += [f"{100 * row['self']:>6.1f}%{100 * row['total']:>11.1f}%  {row['function']} ({row['where']})"
              for row in found.functions]
    return "\n".join([*lines, *(["", f"flame graph: {found.flame_graph}"] if found.flame_graph else [])])
