"""Python inspectors: what a script gains by them, what they cost the line, and what a bad one does to other traffic.

Client, firewall and server are network namespaces. One run, in rounds:

line     Packets a second of one pinned process that empties a queue of 8,000 DNS questions, by the clock and by its own CPU time,
         which other work on the machine disturbs less. Arms: the 40-line script of NetfilterQueue and dpkt
         (bench/migration/script.py); TigerFox by the same rules (filter.rules) without an inspector, with one that no packet goes
         to, and with 0.1 % and 1 % of the packets inspected (longnames.py). The arm with 0.1 % is the script's TigerFox form on
         the script's traffic. In a round all of them stand at queues of their own, with real-time priority on one core, and the
         arms empty theirs in turn, DRAINS times each, so that what is compared is fractions of a second apart.
beside   HTTP requests a second (wrk, 100 connections) while 200 questions a second go to an inspector that takes 100 ms a packet,
         that raises on each, or that is killed every second; without one the same questions pass. Every question is counted: sent,
         arrived, given to the inspector, answered by its policy (open).

    sudo python -m bench.inspectors [--rounds 5] [--seconds 3] [--json FILE]
"""

import contextlib
import os
import re
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench import web
from bench.filters import announced, queue_row, seat
from bench.instance import Instance
from bench.packets import cpu_seconds, wait_until
from bench.rounds import columns, interleave, median, parser_of, publish, table
from bench.topology import SERVER4, Topology
from tigerfox.errors import TigerFoxError

MIGRATION = Path(__file__).resolve().parent / "migration"
RULES = MIGRATION / "filter.rules"
OURS_CPU, FILTER_CPU = 0, 1
BACKLOG, DRAINS, SOCKETS = 8_000, 8, 16
PLAIN, INSPECTED, SCRIPT, HANDED_OVER = 0, 1, 2, 100      # queues: without an inspector, with one, the script's, the inspector's
PAGE = 612
RATE = 200                           # questions a second beside HTTP
LONG, SHORT = "a-name-of-more-than-thirty-letters.host.example", "www.site.example"
FORM = "long-names=bench.migration.longnames:inspect"
LINE = {                             # arm -> (its queue, one packet in so many has a long name; 0 is none)
    "script": (SCRIPT, 1000), "without": (PLAIN, 1000), "0 %": (INSPECTED, 0), "0.1 %": (INSPECTED, 1000), "1 %": (INSPECTED, 100)}
BESIDE = {"without": None, "sleeps 100 ms": "sleeps", "raises on each": "raises", "killed every second": "accepts"}
GOAL_LINE, GOAL_BESIDE = 0.98, 0.95
SETTINGS = f'[queues]\nlength = 16384\n[cpu]\npin = "{FILTER_CPU}"\n[watchdog]\nstuck_seconds = 60\n[inspectors]\nlength = 64\n'


def question(name):
    """A DNS question."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


class Sender:
    """Questions from the client, one in ``every`` with a long name (0: none)."""

    def __init__(self, lab):
        with lab.client.entered():
            self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOCKETS)]
        for one in self.sockets:
            one.connect((SERVER4, 53))
        self.long, self.short = question(LONG), question(SHORT)
        self.sent = 0

    def send(self, count, every):
        """Send so many as fast as it goes."""
        for _ in range(count):
            self.sent += 1
            self.sockets[self.sent % SOCKETS].send(self.long if every and self.sent % every == 0 else self.short)

    def close(self):
        """Close all sockets."""
        for one in self.sockets:
            one.close()


@contextlib.contextmanager
def instance(lab, inspector, number=PLAIN):
    """TigerFox at a queue by the rules of the migration, with an inspector or by the same rules without one."""
    with tempfile.TemporaryDirectory() as folder:
        text = RULES.read_text(encoding="utf-8")
        rules = Path(folder, "bench.rules")
        rules.write_text(text if inspector else text.replace(" inspect:long-names;", ""), encoding="utf-8")
        options = ["--inspector", inspector] if inspector else []
        with Instance(lab.firewall, Path(folder), SETTINGS, "--queues", number, "--offload", "off", *options, rules=rules,
                      chain=False) as running:
            yield running


@contextlib.contextmanager
def standing(lab):
    """All filters of the line, each at its queue; yields the pid that serves each queue."""
    with instance(lab, None, PLAIN) as plain, instance(lab, FORM, INSPECTED) as inspected, \
            announced(lab, sys.executable, MIGRATION / "script.py", SCRIPT, cpu=FILTER_CPU) as script:
        pids = {PLAIN: plain.worker_pid(), INSPECTED: inspected.worker_pid(), SCRIPT: script}
        for pid in pids.values():
            seat(pid, {FILTER_CPU})
        yield pids


@contextlib.contextmanager
def ours_alone():
    """Keep off the filter's core."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {OURS_CPU})
    try:
        yield
    finally:
        os.sched_setaffinity(0, everywhere)


def measure_line(lab, sender, rounds):
    """All turns of all arms: packets a second while a queue is emptied."""
    found = {arm: [] for arm in LINE}
    for _ in range(rounds):
        with standing(lab) as pids, ours_alone():
            for arm, turns in interleave(list(LINE), DRAINS, lambda arm: drain(lab, sender, pids, *LINE[arm]), warm=1).items():
                found[arm] += turns
    return found


def drain(lab, sender, pids, number, every):
    """Fill a queue while its filter rests, and let it go, until the queue is empty and what was handed over is answered."""
    pid = pids[number]
    lab.queue_forwarded(number, match=("-p", "udp"))
    os.kill(pid, signal.SIGSTOP)
    sender.send(BACKLOG, every)
    waiting, cpu, begin = queue_row(lab, number)["waiting"], cpu_seconds(pid), time.monotonic()
    os.kill(pid, signal.SIGCONT)
    spent = wait_until(lab, lambda row: not row["waiting"], 30.0, "emptying the queue", number) - begin
    cpu = cpu_seconds(pid) - cpu
    lab.unqueue()
    wait_until(lab, lambda row: not row["waiting"], 30.0, "the inspector", HANDED_OVER)
    return {"packets_per_cpu_second": waiting / cpu, "packets_per_second": waiting / spent}


def arrived(lab):
    """Questions that have reached the server so far."""
    listing = lab.server.run("iptables", "-t", "raw", "-nvxL", "PREROUTING").stdout
    return int(re.search(r"^\s*(\d+).*\bDROP\b.*dpt:53", listing, re.M)[1])


@contextlib.contextmanager
def at_a_rate(act, seconds):
    """Call ``act`` every so many seconds while the block lasts."""
    over = threading.Event()

    def go():
        while not over.wait(seconds):
            act()

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measure_beside(lab, sender, arm, seconds):
    """One turn of one arm: wrk's figures, and what became of the questions."""
    trouble = BESIDE[arm]
    with instance(lab, f"long-names=bench.troubles:{trouble},open" if trouble else None) as running, \
            contextlib.ExitStack() as stack:
        lab.queue_forwarded(PLAIN)
        stack.callback(lab.unqueue)
        web.load(lab, PAGE, 1)
        sent, came = sender.sent, arrived(lab)
        with at_a_rate(lambda: sender.send(RATE // 20, 1), 0.05), contextlib.ExitStack() as killing:
            if arm.startswith("killed"):
                killing.enter_context(at_a_rate(lambda: kill(running), 1.0))
            figure = web.load(lab, PAGE, seconds)
        settled(running)
        sent, came = sender.sent - sent, arrived(lab) - came
        return figure | {"sent": sent, "arrived": came} | counted(running)


def kill(running):
    """Kill the inspector's process, where there is one; found without a process of our own, which would cost what is measured."""
    supervisor = running.process.pid
    for pid in map(int, Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().startswith("tigerfox-i"):
                os.kill(pid, signal.SIGKILL)


def settled(running, patience=60.0):
    """Wait until no question waits for the inspector."""
    deadline = time.monotonic() + patience
    while any(row["waiting"] for row in running.ask("status")["inspectors"]):
        if time.monotonic() > deadline:
            raise TigerFoxError("questions wait for ever: the policy has not answered them")
        time.sleep(0.2)


def counted(running):
    """What the inspector's row says."""
    row = next(iter(running.ask("status")["inspectors"]), None)
    if row is None:
        return {}
    return {"given": row["given"], "accepted": row["accepted"], "by_policy": row["policy_verdicts"], "restarts": row["restarts"]}


def bench(rounds, seconds):
    """(figures of the line, figures of what goes on beside) of all rounds."""
    with Topology("tfi") as lab, web.server(lab, [PAGE]):
        lab.server.run("iptables", "-t", "raw", "-A", "PREROUTING", "-p", "udp", "--dport", "53", "-j", "DROP")
        sender = Sender(lab)
        with contextlib.closing(sender):
            line = measure_line(lab, sender, rounds)
            beside = interleave(list(BESIDE), rounds, lambda arm: measure_beside(lab, sender, arm, seconds))
    return line, beside


def main():
    parser = parser_of(__doc__, 5)
    parser.add_argument("--seconds", type=int, default=3, help="length of each turn of wrk")
    chosen = parser.parse_args()
    line, beside = bench(chosen.rounds, chosen.seconds)
    rows = table(line, {"packets_per_cpu_second": 0, "packets_per_second": 0}, ("without", "script"))
    others = table(beside, {"per_second": 0, "p99_ms": 2, "sent": 0, "arrived": 0, "given": 0, "accepted": 0, "by_policy": 0,
                            "restarts": 0}, ("without",))
    for row in others:
        row["unanswered"] = median([turn["sent"] - turn["arrived"] for turn in beside[row["arm"]]], 0)
    heads = {"arm": "line", "packets_per_second": "packets/s", "packets_per_cpu_second": "packets/CPU s", "to_without": "÷ without",
             "to_script": "÷ script"}
    more = {"arm": "beside", "per_second": "requests/s", "to_without": "÷ without", "p99_ms": "p99 ms", "sent": "questions",
            "arrived": "arrived", "given": "given", "accepted": "accepted", "by_policy": "by policy", "restarts": "restarts"}
    goals = f"ratios of the line are of CPU time; goals: 0.1 % ÷ without >= {GOAL_LINE}; requests/s ÷ without >= {GOAL_BESIDE}, " \
            "every question answered"
    publish("inspectors", {"seconds": chosen.seconds, "line": rows, "beside": others}, chosen,
            "\n".join([columns(rows, heads), "", columns(others, more), goals]))


if __name__ == "__main__":
    main()
