"""The live rig: a real NFQUEUE between namespaces, HTTP by wrk and a paced UDP stream with probes beside it."""

import importlib.util
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from bench import web
from bench.filters import build, cpu_times, need
from bench.packets import QUEUE, QUEUE_LENGTH, RULES, compiled_image, serve
from bench.topology import SERVER4, Topology
from tigerfox.dataplane.queue import QueueSocket
from tigerfox.errors import TigerFoxError

ROOT = Path(__file__).resolve().parent.parent.parent
ADDRESSES = [f"10.71.2.{last}" for last in range(2, 10)]     # of the server: --queue-balance spreads over addresses
WRK_SCRIPT = """
local n = 1
function setup(thread) n = n + 1; thread.addr = wrk.lookup("10.71.2." .. n, "80")[1] end
function done(summary, latency, requests)
  io.write(string.format("figures %d %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), latency:percentile(99.9), summary.errors.connect + summary.errors.read + summary.errors.timeout))
end
"""
CONNECTIONS, WRK_THREADS = 96, 8
ACCEPTED_PORT, DROPPED_PORT, PROBE_PORT = 9999, 161, 9998
CHECKED = 200                    # packets of each kind before a measurement
PROBE_GAP, UDP_SECONDS = 0.001, 2
PAGE = 612


class Arm:
    """What is measured: ``start(lab)`` returns [Running, ...], None for nothing; ``queues`` of the balance, 0 for none; whether it
    ``judges``.
    """

    def __init__(self, name, start, queues=1, judges=True):
        self.name, self.start, self.queues, self.judges = name, start, queues, judges


class Running:
    """A filter process; ``counts()`` where it counts packets itself instead of the kernel's queue."""

    def __init__(self, pid, finish=None, counts=None):
        self.pid, self.finish, self.counts, self.usage = pid, finish, counts, None

    def stop(self):
        """End it; what it reported, or None."""
        report = self.finish() if self.finish else os.kill(self.pid, signal.SIGKILL)
        end = time.monotonic() + 10
        while self.usage is None and time.monotonic() < end:
            done, _, usage = os.wait4(self.pid, os.WNOHANG)
            self.usage = usage if done else None
            time.sleep(0.01)
        if self.usage is None:
            os.kill(self.pid, signal.SIGKILL)
            self.usage = os.wait4(self.pid, 0)[2]
        return report


def percentiles(lags):
    """p50, p99 and p99.9 of a list, in the list's unit; empty for an empty list."""
    found = sorted(lags)
    return {name: found[min(len(found) - 1, int(len(found) * part))]
            for name, part in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))} if found else {}


def serve_design(design, rules, workers, ready, stop, result):
    """The child: bind the queue, run the design until ``stop`` is readable, report."""
    held = QueueSocket(QUEUE, rules.whole.copy_range, QUEUE_LENGTH)
    rig = rules.rig(design, workers).live([held])
    threading.Thread(target=lambda: (os.read(stop, 1), rig.stop()), daemon=True).start()
    os.write(ready, b"!")
    figures = design.run(rig, workers)
    figures |= {"given": rig.given, "lost": rig.lost, "disordered": rig.disordered()}
    with os.fdopen(result, "w") as report:
        json.dump(figures, report)


def start_design(lab, design, rules, workers=None):
    """Fork a design into the firewall; [Running] once its queue is bound."""
    return [Running(*start_child(lab, design.name, lambda *pipes: serve_design(design, rules, workers, *pipes)))]


def start_child(lab, name, serve_child):
    """Fork ``serve_child(ready, stop, result)`` into the firewall; its pid once it is ready, and what ends it and gets its report."""
    pipes = [os.pipe() for _ in range(3)]
    (ready, ready_in), (stop, stop_in), (result, result_in) = pipes

    def child():
        for theirs in (ready, stop_in, result):
            os.close(theirs)
        serve_child(ready_in, stop, result_in)

    pid = lab.firewall.fork(child)
    for theirs in (ready_in, stop, result_in):
        os.close(theirs)
    bound = os.read(ready, 1)
    os.close(ready)
    if not bound:
        raise TigerFoxError(f"{name} could not start: its message stands above")

    def finish():
        os.close(stop_in)
        with os.fdopen(result) as report:
            return json.loads(report.read() or "{}")

    return pid, finish


def start_product(lab, image, queues):
    """The product's own worker, one process for each queue."""
    running = []
    for number in range(queues):
        reader, writer = os.pipe()
        running.append(Running(lab.firewall.fork(lambda number=number, writer=writer: serve(image, writer, number))))
        os.close(writer)
        if not os.read(reader, 1):
            raise TigerFoxError("the TigerFox worker could not start: its message stands above")
        os.close(reader)
    return running


def start_program(lab, *command):
    """A program of its own that says "ready" once it serves the queue."""
    process = lab.firewall.popen(*command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if process.stdout.readline().strip() != "ready":
        raise TigerFoxError(f"{command[0]} could not bind the queue: is the bench run as root?")
    process.returncode = 0           # Running waits for it
    return [Running(process.pid)]


@contextmanager
def filtering(lab, arm):
    """The arm at work on what the firewall forwards; gives its processes, then ends them."""
    running = arm.start(lab) if arm.start else []
    try:
        if arm.queues:
            lab.queue_forwarded(0, arm.queues - 1 if arm.queues > 1 else None)
        yield running
    finally:
        lab.unqueue()
        reports = [one.stop() for one in running]
        for one, report in zip(running, reports):
            one.report = report or {}


def check(lab, arm):
    """Packets to a port that passes arrive, all of them; to one that a rule drops, none. Raises TigerFoxError."""
    with lab.server.entered():
        ears = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    with lab.client.entered():
        mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        for ear, port in zip(ears, (ACCEPTED_PORT, DROPPED_PORT)):
            ear.bind(("", port))
            ear.settimeout(1.0 if port == ACCEPTED_PORT else 0.05)
        for number in range(CHECKED):
            for port in (ACCEPTED_PORT, DROPPED_PORT):
                mouth.sendto(bytes(22), (SERVER4, port))
            if number % 10 == 9:
                time.sleep(0.002)
        arrived = [count_arrivals(ear, CHECKED) for ear in ears]
    finally:
        for one in (*ears, mouth):
            one.close()
    if arrived != [CHECKED, 0]:
        raise TigerFoxError(f"{arm.name}: of {CHECKED} packets that pass {arrived[0]} arrived, of as many to drop {arrived[1]}")


def count_arrivals(ear, most):
    """Datagrams that arrive, until ``most`` or none for the socket's timeout."""
    for count in range(most):
        try:
            ear.recv(2048)
        except TimeoutError:
            return count
    return most


def measured(lab, running, load):
    """Run ``load()``; its figures and what the filter used meanwhile."""
    cpu, row, begin = sum(sum(cpu_times(one.pid)) for one in running), queue_rows_of(lab, running), time.monotonic()
    figures = load()
    seconds = time.monotonic() - begin
    after = queue_rows_of(lab, running)
    packets = after["id_sequence"] - row["id_sequence"]
    used = sum(sum(cpu_times(one.pid)) for one in running) - cpu
    return figures | {"filter_packets": packets, "seconds": round(seconds, 3), "filter_cpu": round(used / seconds, 4),
                      "filter_cpu_ns": round(used / packets * 1e9) if packets else None,
                      "queue_dropped": after["queue_dropped"] - row["queue_dropped"],
                      "user_dropped": after["user_dropped"] - row["user_dropped"]}


def queue_rows_of(lab, running):
    """Sums over the bound queues, or what a filter without a queue says in their place."""
    from tigerfox.dataplane.queue import queue_rows

    if running and running[0].counts:
        return running[0].counts()
    with lab.firewall.entered():
        rows = queue_rows().values()
    return {name: sum(row[name] for row in rows) for name in ("id_sequence", "queue_dropped", "user_dropped")}


def load_http(lab, script, seconds):
    """wrk against the server's addresses; requests a second and its latencies in microseconds."""
    done = lab.client.run("wrk", "-t", WRK_THREADS, "-c", CONNECTIONS, "-d", f"{seconds}s", "-s", script, f"http://{SERVER4}/{PAGE}.html")
    found = re.search(r"figures (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", done.stdout)
    if not found:
        raise TigerFoxError(f"wrk said: {done.stdout[-300:]}")
    requests, duration, p50, p99, p999, errors = map(int, found.groups())
    return {"requests_per_second": round(requests / duration * 1e6, 1), "p50_us": p50, "p99_us": p99, "p99.9_us": p999,
            "errors": errors}


def echo():
    """The child that answers probes."""
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.bind(("", PROBE_PORT))
    ear.settimeout(600)
    while True:
        data, back = ear.recvfrom(64)
        ear.sendto(data, back)


def load_udp(lab, sender, rate, seconds):
    """A paced stream, and round trips of probes through the queue in both directions, in microseconds."""
    with lab.client.entered():
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    process = lab.client.popen(sender, "send", SERVER4, ACCEPTED_PORT, 22, seconds, rate, 16, stdout=subprocess.PIPE, text=True)
    trips, lost = [], 0
    try:
        probe.settimeout(0.5)
        while process.poll() is None:
            begin = time.perf_counter_ns()
            probe.sendto(struct.pack("<Q", begin), (SERVER4, PROBE_PORT))
            try:
                while struct.unpack("<Q", probe.recv(64))[0] != begin:
                    pass
                trips.append((time.perf_counter_ns() - begin) / 1000)
            except TimeoutError:
                lost += 1
            time.sleep(PROBE_GAP)
    finally:
        probe.close()
        sent = int(process.communicate()[0].split()[1])
    return {"sent": sent, "rate": rate, "trips": len(trips), "trips_lost": lost,
            **{f"trip_{name}_us": round(value, 1) for name, value in percentiles(trips).items()}}


def measure(lab, arm, script, sender, rates, seconds):
    """One turn of one arm: the check, HTTP, a paced stream at each rate."""
    row = {"design": arm.name, "udp": []}
    with filtering(lab, arm) as running:
        if arm.judges:
            check(lab, arm)
        load_http(lab, script, 1)
        row["http"] = measured(lab, running, lambda: load_http(lab, script, seconds))
        for rate in rates:
            row["udp"].append(measured(lab, running, lambda rate=rate: load_udp(lab, sender, rate, UDP_SECONDS)))
    if running:
        packets = sum(one.report.get("given", 0) for one in running) or None
        row["switches"] = sum(one.usage.ru_nvcsw + one.usage.ru_nivcsw for one in running)
        row |= {name: running[0].report.get(name) for name in ("disordered", "overflowed", "lost", "failed", "judged")}
        row["given"] = packets
    return row


def arms_of(rules, designs, folder):
    """Every arm that can stand here: no firewall, the reference, all designs, the product, Python callbacks."""
    from bench.architectures import afxdp

    image, accept_all = compiled_image(RULES), build(folder, "accept_all")
    arms = [Arm("no firewall", None, 0, False),
            Arm("accept-all reference", lambda lab: start_program(lab, accept_all, QUEUE, 128, QUEUE_LENGTH, 1, 1), judges=False)]
    arms += [Arm(design.name, lambda lab, design=design: start_design(lab, design, rules)) for design in designs]
    arms += [Arm("TigerFox, 1 queue", lambda lab: start_product(lab, image, 1)),
             Arm("TigerFox, 2 queues", lambda lab: start_product(lab, image, 2), 2)]
    for parser in ("dpkt", "scapy"):
        if importlib.util.find_spec("netfilterqueue") and importlib.util.find_spec(parser):
            arms.append(Arm(f"NetfilterQueue + {parser}", lambda lab, parser=parser: start_program(
                lab, sys.executable, "-m", "bench.callback", parser, QUEUE)))
    return arms + (afxdp.arms(rules) if afxdp.possible() else [])


@contextmanager
def answering(lab, pages=(PAGE,)):
    """Servers behind the firewall, on all addresses: HTTP, and probes."""
    for address in ADDRESSES[1:]:
        lab.server.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
    answerer = lab.server.fork(echo)
    try:
        with web.server(lab, pages):
            yield
    finally:
        os.kill(answerer, signal.SIGKILL)
        os.waitpid(answerer, 0)


def bench(rules, designs, rounds, seconds, rates, progress, only=None):
    """All arms, or those called ``only``, ``rounds`` times in turning order; [rows of a round, ...]."""
    need("wrk", "gcc")
    found = []
    with tempfile.TemporaryDirectory() as folder, Topology("tfa") as lab, answering(lab):
        sender, script = build(folder, "udp_flood"), Path(folder, "wrk.lua")
        os.chmod(folder, 0o755)
        script.write_text(WRK_SCRIPT)
        arms = [arm for arm in arms_of(rules, designs, folder) if only is None or arm.name in only]
        for turn in range(rounds):
            at = turn * 5 % len(arms)
            found.append([])
            for arm in arms[at:] + arms[:at]:
                progress(f"live, round {turn + 1} of {rounds}: {arm.name}")
                found[-1].append(measure(lab, arm, script, sender, rates, seconds))
    return found
