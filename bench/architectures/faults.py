"""The faults that the documents describe, bounded: how often each strikes and what it costs, in memory and for one HTTP request.

In memory every verdict is compared with the sequential one, but for the packets whose result was lost: those meet the
policy for it. Live the check before a measurement is left out where results are lost: the fault is that some pass.
"""

import os
import tempfile
import time
import urllib.request
from pathlib import Path

from bench.architectures import live
from bench.architectures.designs import BY_NAME, faulty
from bench.topology import SERVER4, Topology

SECONDS = 2                      # of a run; a fault of 100 ms a packet leaves twenty packets of it
MOST = 20_000
CASES = (("condition-variables, flag missed", (0, 5_000, 500)), ("spin-wait, flag missed", (0, 500)), ("spin-wait, flag left up", (1,)),
         ("synchronous-pipeline, 1 result in 100 lost", (0,)), ("synchronous-pipeline, every result lost", (0,)))
PAGES = (612, 65_536)
LIVE = ("synchronous-pipeline, every result lost", "synchronous-pipeline, 1 result in 100 lost",
        "synchronous-pipeline, 1 in 100 lost and dropped")


def in_memory(memory):
    """A row for each case; ``memory`` is the rig of measures.py."""
    designs, rows = faulty(), []
    for name, rates in CASES:
        for rate in rates:
            memory.progress(f"in memory, faults: {name}")
            total = max(2, rate * SECONDS) if rate else MOST
            rows.append({"rate": rate} | memory.run(designs[name], total, rate=rate, stop_after=SECONDS))
    return rows


def one_request(lab, size, running):
    """Fetch a page on a connection of its own: seconds, and packets in the queue meanwhile."""
    begin, before = time.monotonic(), live.queue_rows_of(lab, running)["id_sequence"]
    with lab.client.entered():
        urllib.request.urlopen(f"http://{SERVER4}/{size}.html", timeout=60).read()
    return {"bytes": size, "seconds": round(time.monotonic() - begin, 3),
            "packets": live.queue_rows_of(lab, running)["id_sequence"] - before}


def measure_one(lab, design, rules, script, seconds):
    """One request for each page, and, where not every result is lost, wrk."""
    arm = live.Arm(design.name, lambda lab: live.start_design(lab, design, rules), judges=False)
    with live.filtering(lab, arm) as running:
        row = {"design": design.name, "requests": [one_request(lab, size, running) for size in PAGES]}
        if design.parameters.get("lose") != 1:
            row["http"] = live.measured(lab, running, lambda: live.load_http(lab, script, seconds))
    return row | {name: running[0].report[name] for name in ("late", "given")}


def in_line(rules, seconds, progress):
    """The pipeline before, with and without its fault, at a real queue."""
    rows, designs = [], [BY_NAME["synchronous-pipeline"], *(faulty()[name] for name in LIVE)]
    with tempfile.TemporaryDirectory() as folder, Topology("tff") as lab, live.answering(lab, PAGES):
        os.chmod(folder, 0o755)
        script = Path(folder, "wrk.lua")
        script.write_text(live.WRK_SCRIPT)
        for design in designs:
            progress(f"live, faults: {design.name}")
            rows.append(measure_one(lab, design, rules, script, seconds))
    return rows
