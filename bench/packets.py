"""64-byte UDP packets a second through one NFQUEUE on one core: TigerFox against the batched accept-all reference.

Client, firewall and server are network namespaces. Every round runs every arm once, in turning order, in the same
topology:

drain  The filter is stopped, BACKLOG packets are queued, and the time from its continuation to an empty queue is taken,
       DRAINS times. The filter's core is the only limit: this is the figure of goal P4.
flood  The sender runs as fast as one core can while the filter answers.

Each is given by the clock and by the filter's own CPU time (/proc/PID/schedstat), which other work on the machine
disturbs less. Figures are medians over the rounds; ratios are taken within a round, to the reference with one verdict
message a packet.

    sudo python -m bench.packets [--rounds 7] [--json FILE]
"""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from bench.filters import QUEUE, build, queue_row
from bench.rounds import interleave, median, parser_of, publish, ratio
from bench.topology import SERVER4, Topology
from tigerfox.errors import TigerFoxError

HERE = Path(__file__).resolve().parent
SENDER_CPU, FILTER_CPU = 0, 1
PAYLOAD = 22                     # 14 Ethernet + 20 IPv4 + 8 UDP + 22 = 64 bytes
BACKLOG = 8_000
DRAINS = 12
QUEUE_LENGTH = 65_536
COPY_RANGE = 128
POLL_SECONDS = 0.000_05
RULES = HERE.parent / "rules" / "bench-24.rules"
GOAL = 0.95


def start_reference(topology, program, batched):
    """Start the C reference pinned in the firewall; returns its pid once the queue is bound."""
    process = topology.firewall.popen(program, QUEUE, COPY_RANGE, QUEUE_LENGTH, 1, int(batched), cpu=FILTER_CPU,
                                      stdout=subprocess.PIPE, text=True)
    if process.stdout.readline().strip() != "ready":
        raise TigerFoxError("the accept-all reference could not bind the queue: is the bench run as root?")
    return process.pid


def start_tigerfox(topology, image):
    """Fork a TigerFox worker pinned in the firewall; returns its pid once the queue is bound."""
    reader, writer = os.pipe()
    pid = topology.firewall.fork(lambda: serve(image, writer), cpu=FILTER_CPU)
    os.close(writer)
    bound = os.read(reader, 1)
    os.close(reader)
    if not bound:
        raise TigerFoxError("the TigerFox worker could not start: its message stands above")
    return pid


def serve(image, ready, number=QUEUE):
    """The worker itself: what the supervisor does, without the supervision."""
    from tigerfox._fast import Worker
    from tigerfox.dataplane.blocks import Blocks
    from tigerfox.dataplane.control import ControlPage
    from tigerfox.dataplane.image import CompiledRules
    from tigerfox.dataplane.queue import QueueSocket
    from tigerfox.dataplane.rates import Rates
    from tigerfox.dataplane.stats import WorkerPage

    control = ControlPage.create()
    control.set_generation(1)
    rules = CompiledRules.from_buffer(image, 1)
    held = QueueSocket(number, COPY_RANGE, QUEUE_LENGTH)
    policies = {"malformed": "drop", "unparsed": "drop", "no_verdict": "accept"}
    worker = Worker(held.fileno(), number, COPY_RANGE, WorkerPage.create(None), Blocks.create(None), Rates.create(None),
                    rules, policies, (-1, -1), control)
    os.write(ready, b"!")
    worker.run()


def compiled_image(path):
    """The image of a rule file."""
    from tigerfox.ruleset.check import load_rules
    from tigerfox.ruleset.compile import compile_rules

    return compile_rules(load_rules([path]).rules).image


def wait_until(topology, holds, seconds, what, number=QUEUE):
    """Poll a queue's row until ``holds(row)``; the time at which it did."""
    from tigerfox.dataplane.queue import queue_rows

    end = time.monotonic() + seconds
    with topology.firewall.entered():
        while time.monotonic() < end:
            if holds(queue_rows().get(number, {})):
                return time.monotonic()
            time.sleep(POLL_SECONDS)
    raise TigerFoxError(f"{what} took more than {seconds} s")


def send(topology, program, seconds, rate):
    """Run the sender to its end; packets sent."""
    done = topology.client.popen(program, "send", SERVER4, 9999, PAYLOAD, seconds, rate, 16, cpu=SENDER_CPU,
                                 stdout=subprocess.PIPE, text=True)
    return int(done.communicate()[0].split()[1])


def measure_drain(topology, sender, pid):
    """Let the filter empty a queue that was filled before; packets, seconds, CPU seconds."""
    settled = seconds = 0
    cpu = cpu_seconds(pid)
    for _ in range(DRAINS):
        os.kill(pid, signal.SIGSTOP)
        try:
            waiting = fill(topology, sender)
        finally:
            begin = time.monotonic()
            os.kill(pid, signal.SIGCONT)
        seconds += wait_until(topology, lambda row: row.get("waiting") == 0, 10, "draining the queue") - begin
        settled += waiting
    return settled, seconds, cpu_seconds(pid) - cpu


def fill(topology, sender):
    """Send until BACKLOG packets wait; how many do."""
    for _ in range(100):
        waiting = queue_row(topology)["waiting"]
        if waiting >= BACKLOG:
            return waiting
        send(topology, sender, 0.02, 0)
    raise TigerFoxError(f"the queue could not be filled: {waiting} packets wait")


def measure_flood(topology, sender, pid, seconds):
    """Let the filter answer a flood; packets, seconds, CPU seconds."""
    before, cpu, begin = queue_row(topology)["id_sequence"], cpu_seconds(pid), time.monotonic()
    send(topology, sender, seconds, 0)
    end = wait_until(topology, lambda row: row.get("waiting") == 0, 10, "the flood's end")
    return queue_row(topology)["id_sequence"] - before, end - begin, cpu_seconds(pid) - cpu


def cpu_seconds(pid):
    """CPU time of a process so far."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def measure(topology, start, sender, seconds):
    """One turn of one arm: (packets, seconds, CPU seconds) of each part."""
    pid = start()
    try:
        send(topology, sender, 0.2, 0)
        wait_until(topology, lambda row: row.get("waiting") == 0, 10, "the warm-up")
        figures = {"drain": measure_drain(topology, sender, pid), "flood": measure_flood(topology, sender, pid, seconds)}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    wait_until(topology, lambda row: not row, 5, "giving up the queue")
    return figures


def bench(rounds, seconds, arms_wanted):
    """Figures of all rounds by arm. The bench itself keeps off the filter's core."""
    os.sched_setaffinity(0, {SENDER_CPU})
    image = compiled_image(RULES) if "tigerfox" in arms_wanted else None
    with tempfile.TemporaryDirectory() as folder, Topology("tfp") as topology:
        accept_all, sender = build(folder, "accept_all"), build(folder, "udp_flood")
        topology.queue_forwarded(QUEUE, match=("-p", "udp"))
        topology.server.run("iptables", "-t", "raw", "-A", "PREROUTING", "-p", "udp", "-j", "DROP")
        starts = {"reference": lambda: start_reference(topology, accept_all, False),
                  "batch": lambda: start_reference(topology, accept_all, True),
                  "tigerfox": lambda: start_tigerfox(topology, image)}
        return interleave(arms_wanted, rounds, lambda name: measure(topology, starts[name], sender, seconds))


def summary(found):
    """Medians of packets/s by clock and by CPU time, and of the within-round ratios of both to the first arm."""
    rows = []
    for arm, turns in found.items():
        row = {"arm": arm}
        for part in ("drain", "flood"):
            for name, column in (("clock", 1), ("cpu", 2)):
                first = next(iter(found.values()))
                mine, its = ([turn[part][0] / turn[part][column] for turn in those] for those in (turns, first))
                row |= {f"{part}_{name}": median(mine, 0), f"{part}_{name}_ratio": ratio(mine, its)}
        rows.append(row)
    return rows


def main():
    parser = parser_of(__doc__, 7)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each flood")
    parser.add_argument("--arms", default="reference,batch,tigerfox", help="comma list; the reference comes first")
    chosen = parser.parse_args()
    rows = summary(bench(chosen.rounds, chosen.seconds, chosen.arms.split(",")))
    publish("packets", {"rules": RULES.name, "arms": rows}, chosen, render(rows))


def render(rows):
    """The figures as text."""
    heads = "".join(f"{part:>10}{'ratio':>8}{part + '/CPU s':>14}{'ratio':>8}" for part in ("drain", "flood"))
    lines = [f"{'packets/s':12}{heads}"]
    for row in rows:
        cells = "".join(f"{row[f'{part}_{name}']:>{width},}{row[f'{part}_{name}_ratio']:>8.3f}"
                        for part in ("drain", "flood") for name, width in (("clock", 10), ("cpu", 14)))
        lines.append(f"{row['arm']:12}{cells}")
    return "\n".join([*lines, f"goal: tigerfox ÷ reference >= {GOAL:.2f} (drain)"])


if __name__ == "__main__":
    main()
