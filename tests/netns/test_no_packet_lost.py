"""Workers killed and rules reloaded under a stream of packets: what may pass arrives, once, and nothing else does."""

import json
import os
import signal
import socket
import struct
import time

import pytest

from bench.topology import SERVER4, Topology
from tests.netns.test_supervisor_live import PATIENCE, Running, wait_for
from tigerfox.control import settling
from tigerfox.dataplane.queue import QueueReader, QueueSocket, queue_rows

pytestmark = pytest.mark.live

MOST = 8_000_000                     # packets; the sender stops when all rounds are over
RATE = 32_000                        # packets a second, paced by the sender
ROUNDS = 20
OPEN, CLOSED = 4000, 9999
RULES = 'drop udp any any -> any 9999 (msg:"closed"; sid:1; block: none;)\n'


@pytest.fixture(scope="module")
def lab():
    with Topology(prefix="tflost") as topology:
        yield topology


def collect(port, path, end):
    """Note every numbered datagram to ``port`` until the file ``end`` is there; write [arrived, twice]."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)       # SO_RCVBUFFORCE
        sink.bind(("", port))
        sink.settimeout(0.5)
        seen, arrived, twice = bytearray(MOST), 0, 0
        path.write_text("listening")
        while True:
            try:
                number = struct.unpack_from("I", sink.recv(64))[0]
            except TimeoutError:
                if end.exists():
                    break
                continue
            twice += seen[number]
            seen[number] = 1
            arrived += 1
        path.write_text(json.dumps([arrived, twice]))


def blast(path, enough):
    """Send numbered datagrams, every tenth to the closed port, until the file ``enough`` is there; write how many."""
    good, bad = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with good, bad:
        good.connect((SERVER4, OPEN))
        bad.connect((SERVER4, CLOSED))
        began = time.monotonic()
        for number in range(MOST):
            (bad if number % 10 == 9 else good).send(struct.pack("I", number) + bytes(28))
            while number % 64 == 0 and time.monotonic() - began < number / RATE:
                time.sleep(0.0002)
            if number % 1000 == 999 and enough.exists():
                path.write_text(str(number + 1))
                return


def test_killed_and_reloaded_under_load(lab, tmp_path):
    end, enough, sent = (tmp_path / name for name in ("end", "enough", "sent"))
    files = {port: tmp_path / str(port) for port in (OPEN, CLOSED)}
    settings = "[queues]\nlength = 65536\n"
    with Running(lab, tmp_path, "--queues", "0", "--iptables", config=settings, rules=RULES) as running:
        sinks = [lab.server.fork(lambda port=port: collect(port, files[port], end)) for port in files]
        wait_for("sinks", lambda: all(path.exists() for path in files.values()))
        sender = lab.client.fork(lambda: blast(sent, enough))
        for _ in range(ROUNDS):
            before = running.workers()[0]["packets"]
            wait_for("packets", lambda before=before: running.workers()[0]["packets"] > before + RATE // 10)
            os.kill(running.workers()[0]["pid"], signal.SIGKILL)
            running.ask("reload")
        enough.touch()
        assert os.waitpid(sender, 0)[1] == 0
        packets = int(sent.read_text())
        wait_for("the last packet is judged", lambda: running.workers()[0]["packets"] >= packets)
        end.touch()
        assert [os.waitpid(sink, 0)[1] for sink in sinks] == [0, 0]
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
