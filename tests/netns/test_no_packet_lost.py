"""Workers killed and rules reloaded under a stream of packets: what may pass arrives, once, and nothing else does."""

import itertools
import json
import os
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from bench.topology import SERVER4, Topology
from tests.netns.test_supervisor_live import PATIENCE, Running, wait_for
from tigerfox.control import settling
from tigerfox.dataplane.queue import QueueReader, QueueSocket, queue_rows

pytestmark = pytest.mark.live

LENGTH = 65_536                      # of the queue
RATE = 32_000                        # packets a second that the sender aims at; it waits for those who come behind
BUFFER = 64 << 20                    # bytes of a sink
ROUNDS = 20
OPEN, CLOSED = 4000, 9999
RULES = 'drop udp any any -> any 9999 (msg:"closed"; sid:1; block: none;)\n'


@pytest.fixture(scope="module")
def lab():
    with Topology(prefix="tflost") as topology:
        yield topology


class Children:
    """Forked children of namespaces."""

    def __init__(self):
        self.pids = []

    def fork(self, namespace, function):
        """Start ``function()`` in a child, and return its pid."""
        self.pids.append(namespace.fork(function))
        return self.pids[-1]

    def status(self, pid):
        """Wait for a child; its exit status."""
        status = os.waitpid(pid, 0)[1]
        self.pids.remove(pid)
        return status


@pytest.fixture
def children():
    """Children that end with the test, also when it fails: they hold ports that the next one needs."""
    made = Children()
    yield made
    for pid in [*made.pids]:
        os.kill(pid, signal.SIGKILL)
        made.status(pid)


def collect(port, path, end):
    """Note every numbered datagram to ``port`` until the file ``end`` is there; write [arrived, twice]."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.setsockopt(socket.SOL_SOCKET, 33, BUFFER)         # SO_RCVBUFFORCE
        sink.bind(("", port))
        sink.settimeout(0.5)
        seen, arrived, twice = bytearray(), 0, 0
        path.write_text("listening")
        while True:
            try:
                number = struct.unpack_from("I", sink.recv(64))[0]
            except TimeoutError:
                if end.exists():
                    break
                continue
            while number >= len(seen):
                seen.extend(bytes(1 << 20))
            twice += seen[number]
            seen[number] = 1
            arrived += 1
        path.write_text(json.dumps([arrived, twice]))


def waiting(pid):
    """Return how many packets wait in the one queue of the network namespace of ``pid``."""
    return int(Path(f"/proc/{pid}/net/netfilter/nfnetlink_queue").read_text().split()[2])


def sockets(pid):
    """Return (bytes unread, datagrams dropped) of the UDP sockets in the network namespace of ``pid``."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[2], 16) for row in rows), sum(int(row[-1]) for row in rows)


def blast(pid, sink, path, enough):
    """Send numbered datagrams, every tenth to the closed port, until the file ``enough`` is there; write [how many, seconds].

    A queue or a socket that overflows loses packets by its contract. On a busy machine a successor may come later than the
    queue is long, so no more are sent while the queue of ``pid`` or the buffer of ``sink`` is half full.
    """
    good, bad = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with good, bad:
        good.connect((SERVER4, OPEN))
        bad.connect((SERVER4, CLOSED))
        began = time.monotonic()
        for number in itertools.count():
            (bad if number % 10 == 9 else good).send(struct.pack("I", number) + bytes(28))
            while number % 64 == 0 and time.monotonic() - began < number / RATE:
                time.sleep(0.0002)
            while number % 256 == 0 and (waiting(pid) > LENGTH // 2 or sockets(sink)[0] > BUFFER // 2):
                time.sleep(0.002)
            if number % 1000 == 999 and enough.exists():
                path.write_text(json.dumps([number + 1, time.monotonic() - began]))
                return


def judged(running, packets):
    """Return the status once all ``packets`` were judged and let go, or some lost; None before."""
    report = running.ask("status")
    worker = report["workers"][0]
    return report if any(report["losses"].values()) or worker["packets"] >= packets and not worker["waiting"] else None


def test_killed_and_reloaded_under_load(lab, children, tmp_path, record_property):
    end, enough, sent = (tmp_path / name for name in ("end", "enough", "sent"))
    files = {port: tmp_path / str(port) for port in (OPEN, CLOSED)}
    settings = f"[queues]\nlength = {LENGTH}\n"
    with Running(lab, tmp_path, "--queues", "0", "--iptables", config=settings, rules=RULES) as running:
        sinks = [children.fork(lab.server, lambda port=port: collect(port, files[port], end)) for port in files]
        wait_for("sinks", lambda: all(path.exists() for path in files.values()))
        sender = children.fork(lab.client, lambda: blast(running.process.pid, sinks[0], sent, enough))
        for _ in range(ROUNDS):
            before = running.workers()[0]["packets"]
            wait_for("packets", lambda before=before: running.workers()[0]["packets"] > before + RATE // 10)
            os.kill(running.workers()[0]["pid"], signal.SIGKILL)
            running.ask("reload")
        enough.touch()
        assert children.status(sender) == 0
        packets, seconds = json.loads(sent.read_text())
        record_property("packets_per_second", round(packets / seconds))
        print(f"{packets} packets at {packets / seconds:.0f} a second")        # shown by -rP; never asserted
        report = wait_for("the last packet is judged", lambda: judged(running, packets))
        assert not any(report["losses"].values()), report["losses"]
        assert sockets(sinks[0])[1] == 0, "the sinks were too slow"
        end.touch()
        assert [children.status(sink) for sink in sinks] == [0, 0]
        report = running.ask("status")
    assert report["workers"][0]["restarts"] == ROUNDS
    assert report["rules"]["generation"] == ROUNDS + 1
    assert json.loads(files[OPEN].read_text()) == [packets * 9 // 10, 0]
    assert json.loads(files[CLOSED].read_text()) == [0, 0]
    assert not any(report["losses"].values())


def test_a_worker_that_keeps_faulting_loses_only_what_it_had_taken(lab, tmp_path):
    with Running(lab, tmp_path, "--queues", "0", "--iptables", rules=RULES) as running:
        for _ in range(3):
            pid = wait_for("a worker", lambda: (row := running.workers()[0])["state"] == "running" and row["pid"])
            os.kill(pid, signal.SIGSEGV)
            wait_for("another", lambda pid=pid: running.workers()[0]["pid"] != pid)
        wait_for("it is said", lambda: running.said("it may be what killed its workers"))
        assert running.workers()[0]["restarts"] == 3


def bound(namespace, port=0):
    """Return a UDP socket of a namespace, bound to ``port``."""
    with namespace.entered():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("", port))
    return made


@pytest.mark.parametrize(("verdict", "arrive"), [
    (settling.DROP, []),
    (settling.ACCEPT, [b"taken 0", b"taken 1", b"taken 2"]),
])
def test_settle_taken_settles_what_was_read_and_no_more(lab, verdict, arrive):
    client, server = bound(lab.client), bound(lab.server, OPEN)
    with client, server, lab.firewall.entered(), QueueSocket(7) as queue:
        server.settimeout(PATIENCE)
        lab.queue_forwarded(7)
        try:
            reader = QueueReader(queue.fileno(), 7, 128)
            for number in range(3):
                client.sendto(b"taken %d" % number, (SERVER4, OPEN))
            taken = []
            while len(taken) < 3:
                taken += reader.receive()
            for number in range(2):
                client.sendto(b"unread %d" % number, (SERVER4, OPEN))
            wait_for("five packets", lambda: queue_rows()[7]["waiting"] == 5)
            assert settling.settle_taken(queue, verdict) == taken[-1][1]
            assert queue_rows()[7]["waiting"] == 2
            assert [message[0] for message in reader.receive()] == ["packet", "packet"]
            assert settling.settle_taken(queue, settling.DROP) == taken[-1][1] + 2
            assert queue_rows()[7]["waiting"] == 0
            assert [server.recv(100) for _ in arrive] == arrive
        finally:
            lab.unqueue()
