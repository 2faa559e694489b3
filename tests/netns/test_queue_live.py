"""The queue and the worker's loop on real NFQUEUEs: verdicts, GSO, loss that is counted, and a successor that loses nothing."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest

from bench.topology import CLIENT4, SERVER4, SERVER6, Topology
from tigerfox._fast import FAILED, RELOAD, STOP, Worker
from tigerfox.dataplane.blocks import Blocks
from tigerfox.dataplane.control import ControlPage
from tigerfox.dataplane.image import CompiledRules
from tigerfox.dataplane.queue import QueueReader, QueueSocket, queue_owner, queue_rows
from tigerfox.dataplane.rates import Rates
from tigerfox.dataplane.reply import open_reply_sockets
from tigerfox.dataplane.stats import WorkerPage
from tigerfox.errors import PrivilegeError, QueueTakenError, UsageError
from tigerfox.ruleset.check import load_rules
from tigerfox.ruleset.compile import compile_rules

pytestmark = pytest.mark.live

ACCEPT, DROP = 1, 0
DROPPED_PORT, OPEN_PORT = 7001, 7002
POLICIES = {"malformed": "drop", "unparsed": "drop", "no_verdict": "accept"}
PORT_RULE = f"drop udp any any -> any {DROPPED_PORT} (msg:\"closed\"; block: none; sid:1;)"


@pytest.fixture
def topology():
    with Topology("tfq") as made:
        yield made


@pytest.fixture
def compiled(tmp_path):
    """A function: rule lines to an image."""
    def compile_lines(*lines):
        path = tmp_path / "live.rules"
        path.write_text("\n".join(lines) + "\n")
        return compile_rules(load_rules([path]).rules).image
    return compile_lines


class Instance:
    """A queue with its tables, and forked workers on it: as the supervisor holds them."""

    def __init__(self, topology, image, queue=0, replies=(-1, -1), **options):
        self.queue, self.image, self.replies = queue, image, replies
        with topology.firewall.entered():
            self.socket = QueueSocket(queue, **options)
        self.copy_range = self.socket.copy_range
        self.page, self.control = WorkerPage.create(None), ControlPage.create()
        self.blocks, self.rates = Blocks.create(None, 1024), Rates.create(None, 1024)
        self.control.set_generation(1)
        self.pid = 0

    def start(self, settle_to=0):
        self.pid = os.fork()
        if self.pid == 0:
            status = 99
            try:
                status = self.worker().run(settle_to)
            finally:
                os._exit(status)

    def worker(self):
        return Worker(self.socket.fileno(), self.queue, self.copy_range, self.page, self.blocks, self.rates,
                      CompiledRules.from_buffer(self.image, 1), POLICIES, self.replies, self.control)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0

    def stop(self):
        """Stop as the supervisor does; the worker's exit reason."""
        self.control.set_stop()
        status = os.waitpid(self.pid, 0)[1]
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self):
        if self.pid:
            self.kill()
        self.socket.close()
        for descriptor in self.replies:
            if descriptor >= 0:
                os.close(descriptor)


@contextmanager
def instance(topology, image, **options):
    made = Instance(topology, image, **options)
    try:
        yield made
    finally:
        made.close()


def udp_receiver(topology, address, port):
    """A bound UDP socket in the server, with room for everything a test sends."""
    with topology.server.entered():
        receiver = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
    receiver.bind((address, port))
    receiver.settimeout(5)
    return receiver


def udp_sender(topology, address):
    with topology.client.entered():
        return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)


def received(receiver, want=None, quiet=0.5):
    """Datagrams that arrive: until ``want`` of them are there, or until it has been quiet for a while."""
    found = []
    receiver.settimeout(10 if want else quiet)
    while want is None or len(found) < want:
        try:
            found.append(receiver.recv(2048))
        except TimeoutError:
            break
    return found


def wait_for(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.01)


def row(topology, queue=0):
    with topology.firewall.entered():
        return queue_rows().get(queue, {})


@pytest.mark.parametrize("address", [SERVER4, SERVER6])
def test_rule_drops_its_port_and_nothing_else(topology, compiled, address):
    topology.queue_forwarded(0)
    with instance(topology, compiled(PORT_RULE)) as live, ExitStack() as sockets:
        live.start()
        closed = sockets.enter_context(udp_receiver(topology, address, DROPPED_PORT))
        open_ = sockets.enter_context(udp_receiver(topology, address, OPEN_PORT))
        sender = sockets.enter_context(udp_sender(topology, address))
        for number in range(200):
            sender.sendto(b"%d" % number, (address, DROPPED_PORT if number % 2 else OPEN_PORT))
        assert received(open_, 100) == [b"%d" % number for number in range(0, 200, 2)]
        assert received(closed) == []
        wait_for(lambda: live.page.snapshot()["packets"] >= 200)
        assert live.stop() == STOP
        counts = live.page.snapshot()
        assert counts["dropped"] == counts["alerts"] == 100
        assert counts["verdict_errors"] == counts["lost_ids"] == counts["bad_messages"] == 0
        assert counts["packets"] == counts["accepted"] + counts["dropped"] == sum(counts["reasons"])
        assert row(topology)["waiting"] == 0


@pytest.mark.parametrize("gso", [True, False])
def test_bulk_tcp_arrives_whole_and_gso_saves_messages(compiled, gso):
    size = 4 << 20
    with Topology("tfq") as topology, instance(topology, compiled(PORT_RULE), gso=gso) as live, ExitStack() as sockets:
        topology.queue_forwarded(0)
        live.start()
        with topology.server.entered():
            listener = sockets.enter_context(socket.create_server((SERVER4, 8080)))
        with topology.client.entered():
            client = sockets.enter_context(socket.create_connection((SERVER4, 8080), timeout=10))
        server = sockets.enter_context(listener.accept()[0])
        server.settimeout(10)
        payload = os.urandom(size)
        pid = os.fork()
        if pid == 0:
            try:
                client.sendall(payload)
            finally:
                os._exit(0)
        arrived = bytearray()
        while len(arrived) < size:
            part = server.recv(1 << 16)
            assert part, "the connection ended early"
            arrived += part
        os.waitpid(pid, 0)
        assert arrived == payload
        counts = live.page.snapshot()
        from_client = size / 1448
        if gso:
            assert counts["packets"] < from_client / 2
        else:
            assert counts["packets"] > from_client
        assert counts["lost_ids"] == 0 and counts["truncated"] == 0


def test_full_queue_drops_and_the_kernel_counts(topology):
    topology.queue_forwarded(0)
    with topology.firewall.entered():
        held = QueueSocket(0, max_length=16)
    with held, udp_sender(topology, SERVER4) as sender:
        for _ in range(50):
            sender.sendto(b"x", (SERVER4, OPEN_PORT))
        wait_for(lambda: row(topology)["waiting"] == 16)
        wait_for(lambda: row(topology)["queue_dropped"] == 34)


def test_full_queue_lets_pass_when_it_fails_open(topology):
    topology.queue_forwarded(0, match=("-p", "udp"))
    with topology.firewall.entered():
        held = QueueSocket(0, max_length=16, fail_open=True)
    with held, udp_sender(topology, SERVER4) as sender, udp_receiver(topology, SERVER4, OPEN_PORT) as receiver:
        for _ in range(50):
            sender.sendto(b"x", (SERVER4, OPEN_PORT))
        assert len(received(receiver)) == 34
        assert row(topology)["waiting"] == 16 and row(topology)["queue_dropped"] == 0


def test_full_socket_is_counted_and_survived(topology, compiled):
    topology.queue_forwarded(0, match=("-p", "udp"))
    with instance(topology, compiled(PORT_RULE), receive_buffer=20_000) as live, ExitStack() as sockets:
        receiver = sockets.enter_context(udp_receiver(topology, SERVER4, OPEN_PORT))
        sender = sockets.enter_context(udp_sender(topology, SERVER4))
        for _ in range(200):
            sender.sendto(b"x", (SERVER4, OPEN_PORT))
        wait_for(lambda: row(topology)["user_dropped"] > 0)
        lost = row(topology)["user_dropped"]
        live.start()
        assert len(received(receiver, 200 - lost)) == 200 - lost
        sender.sendto(b"after", (SERVER4, OPEN_PORT))
        assert received(receiver, 1) == [b"after"]
        wait_for(lambda: live.page.snapshot()["lost_ids"] == lost)
        counts = live.page.snapshot()
        assert counts["lost_enobufs"] == 1
        assert counts["verdict_errors"] == 0


def test_refused_verdict_is_an_answer_and_not_the_end(topology):
    topology.queue_forwarded(0, match=("-p", "udp"))
    with topology.firewall.entered():
        held = QueueSocket(0)
    with held, udp_sender(topology, SERVER4) as sender, udp_receiver(topology, SERVER4, OPEN_PORT) as receiver:
        reader = QueueReader(held.fileno(), 0)
        reader.verdict(4711, ACCEPT)
        reader.send()
        assert [kind for kind, *_ in reader.receive()] == ["error"]
        sender.sendto(b"still", (SERVER4, OPEN_PORT))
        (kind, number, wirelen, data, when), = reader.receive()
        assert (kind, number, wirelen) == ("packet", 1, 33)
        assert data[28:] == b"still" and abs(when / 1e9 - time.time()) < 5
        reader.verdict(number, ACCEPT)
        reader.send()
        assert received(receiver, 1) == [b"still"]


def test_packet_cut_by_the_buffer_gets_its_verdict(topology):
    topology.queue_forwarded(0, match=("-p", "udp"))
    with topology.firewall.entered():
        held = QueueSocket(0, copy_range=1400)
    with held, udp_sender(topology, SERVER4) as sender, udp_receiver(topology, SERVER4, OPEN_PORT) as receiver:
        reader = QueueReader(held.fileno(), 0, copy_range=64)
        sender.sendto(bytes(1200), (SERVER4, OPEN_PORT))
        (kind, number, _, data, _), = reader.receive()
        assert kind == "truncated" and 64 <= len(data) < 1228
        reader.verdict(number, ACCEPT)
        reader.send()
        assert received(receiver, 1) == [bytes(1200)]


def test_copy_range_shortens_and_the_wire_length_stays(topology):
    topology.queue_forwarded(0, match=("-p", "udp"))
    with topology.firewall.entered():
        held = QueueSocket(0, copy_range=100)
    with held, udp_sender(topology, SERVER4) as sender:
        sender.sendto(bytes(900), (SERVER4, OPEN_PORT))
        (kind, _, wirelen, data, _), = QueueReader(held.fileno(), 0, 100).receive()
        assert (kind, wirelen, len(data)) == ("packet", 928, 100)


def test_equal_verdicts_settle_in_one_message_and_unequal_ones_one_by_one(topology):
    topology.queue_forwarded(0, match=("-p", "udp"))
    with topology.firewall.entered():
        held = QueueSocket(0)
    with held, udp_sender(topology, SERVER4) as sender, udp_receiver(topology, SERVER4, OPEN_PORT) as receiver:
        reader = QueueReader(held.fileno(), 0)
        for number in range(40):
            sender.sendto(b"%d" % number, (SERVER4, OPEN_PORT))
        taken = []
        while len(taken) < 40:
            batch = reader.receive()
            for _, number, *_ in batch:
                reader.verdict(number, DROP if 10 <= number <= 20 or number == 30 else ACCEPT)
            reader.send()
            taken += batch
        passed = [b"%d" % (number - 1) for number in range(1, 41) if not (10 <= number <= 20 or number == 30)]
        assert received(receiver, len(passed)) == passed
        assert received(receiver) == []
        assert row(topology)["waiting"] == 0


def test_successor_settles_what_a_dead_worker_held_though_no_packet_comes(topology, compiled):
    topology.queue_forwarded(0, match=("-p", "udp"))
    with instance(topology, compiled(PORT_RULE)) as live, ExitStack() as sockets:
        receiver = sockets.enter_context(udp_receiver(topology, SERVER4, OPEN_PORT))
        closed = sockets.enter_context(udp_receiver(topology, SERVER4, DROPPED_PORT))
        sender = sockets.enter_context(udp_sender(topology, SERVER4))
        for number in range(20):
            sender.sendto(b"%d" % number, (SERVER4, DROPPED_PORT if number % 2 else OPEN_PORT))
        predecessor, taken = QueueReader(live.socket.fileno(), 0), 0
        while taken < 20:
            taken += len(predecessor.receive())
        live.start(row(topology)["id_sequence"])
        assert sorted(received(receiver, 10)) == sorted(b"%d" % number for number in range(0, 20, 2))
        assert received(closed) == []
        wait_for(lambda: row(topology)["waiting"] == 0)
        assert live.page.snapshot()["repeated"] == 20


def test_successor_settles_what_a_dead_worker_held_below_its_first_packet(topology, compiled):
    topology.queue_forwarded(0, match=("-p", "udp"))
    with instance(topology, compiled(PORT_RULE)) as live, ExitStack() as sockets:
        receiver = sockets.enter_context(udp_receiver(topology, SERVER4, OPEN_PORT))
        sender = sockets.enter_context(udp_sender(topology, SERVER4))
        predecessor, taken = QueueReader(live.socket.fileno(), 0), 0
        for number in range(5):
            sender.sendto(b"%d" % number, (SERVER4, OPEN_PORT))
        while taken < 5:
            taken += len(predecessor.receive())
        sender.sendto(b"5", (SERVER4, OPEN_PORT))
        wait_for(lambda: row(topology)["id_sequence"] == 6)
        live.start()
        assert sorted(received(receiver, 6)) == [b"%d" % number for number in range(6)]
        assert live.page.snapshot()["repeated"] == 5


def test_killed_workers_lose_no_packet_and_let_none_through_uninspected(topology, compiled):
    packets, kills = 60_000, 10
    topology.queue_forwarded(0, match=("-p", "udp"))
    with instance(topology, compiled(PORT_RULE), max_length=65_536) as live, ExitStack() as sockets:
        open_ = sockets.enter_context(udp_receiver(topology, SERVER4, OPEN_PORT))
        closed = sockets.enter_context(udp_receiver(topology, SERVER4, DROPPED_PORT))
        sender = sockets.enter_context(udp_sender(topology, SERVER4))
        live.start()
        flood = os.fork()
        if flood == 0:
            try:
                for number in range(packets):
                    sender.sendto(b"%d" % number, (SERVER4, DROPPED_PORT if number % 4 == 0 else OPEN_PORT))
            finally:
                os._exit(0)
        for turn in range(1, kills + 1):
            wait_for(lambda: live.page.snapshot()["packets"] > packets * turn // (kills + 2), 30)
            live.kill()
            live.start(row(topology)["id_sequence"])
        os.waitpid(flood, 0)
        wait_for(lambda: row(topology)["waiting"] == 0, 30)
        wanted = {b"%d" % number for number in range(packets) if number % 4}
        arrived = received(open_, len(wanted))
        assert len(arrived) == len(wanted) and set(arrived) == wanted
        assert received(closed) == []
        assert live.page.snapshot()["lost_ids"] == 0


def test_worker_reports_a_wanted_generation_once_and_takes_rules_between_batches(topology, compiled):
    topology.queue_forwarded(0, match=("-p", "udp"))
    with instance(topology, compiled(PORT_RULE)) as live, ExitStack() as sockets:
        receiver = sockets.enter_context(udp_receiver(topology, SERVER4, DROPPED_PORT))
        sender = sockets.enter_context(udp_sender(topology, SERVER4))
        worker = live.worker()
        live.control.set_generation(2)
        assert worker.run() == RELOAD
        worker.set_rules(CompiledRules.from_buffer(compiled("alert udp any any -> any any (msg:\"seen\"; sid:2;)"), 2))
        sender.sendto(b"now open", (SERVER4, DROPPED_PORT))
        pid = os.fork()
        if pid == 0:
            os._exit(worker.run())
        assert received(receiver, 1) == [b"now open"]
        live.control.set_stop()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == STOP
        assert live.page.snapshot()["generation"] == 2 and live.page.snapshot()["alerts"] == 1


def test_worker_without_its_socket_fails_with_the_reason(topology, compiled):
    with instance(topology, compiled(PORT_RULE)) as live:
        worker = live.worker()
        live.socket.close()
        assert worker.run() == FAILED
        assert worker.error == os.strerror(errno.EBADF)


def test_rejected_tcp_is_refused_and_rejected_udp_unreachable(topology, compiled):
    topology.queue_forwarded(0)
    with topology.firewall.entered():
        replies = open_reply_sockets(0x7f)
    rules = compiled("reject tcp any any -> any 8081 (msg:\"no\"; sid:1;)", "reject udp any any -> any 8082 (msg:\"no\"; sid:2;)")
    with instance(topology, rules, replies=replies) as live:
        live.start()
        for address in (SERVER4, SERVER6):
            with topology.client.entered(), pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, 8081), timeout=5)
            with udp_sender(topology, address) as sender:
                sender.settimeout(5)
                sender.connect((address, 8082))
                sender.send(b"anybody?")
                with pytest.raises(OSError) as refused:
                    sender.recv(10)
                assert refused.value.errno in (errno.EHOSTUNREACH, errno.EACCES)
        wait_for(lambda: live.page.snapshot()["rejected"] == 4)      # a reply is counted when it is out
        assert live.page.snapshot()["replies_failed"] == 0


def test_taken_queue_names_its_owner(topology):
    with topology.firewall.entered(), QueueSocket(5):
        with pytest.raises(QueueTakenError, match=rf"queue 5 is owned by pid {os.getpid()} \("):
            QueueSocket(5)
        assert queue_owner(queue_rows()[5]["portid"])[0] == os.getpid()
        with QueueSocket(6):
            assert sorted(queue_rows()) == [5, 6]


def test_settings_arrive_in_the_kernel_and_what_does_not_is_said(topology):
    with topology.firewall.entered():
        with QueueSocket(7, copy_range=300, receive_buffer=1 << 20) as held:
            assert held.warnings == []
            assert held.receive_buffer == 2 << 20
            assert (queue_rows()[7]["copy_mode"], queue_rows()[7]["copy_range"]) == (2, 300)
        with QueueSocket(7, copy_range=1 << 20) as held:
            assert held.copy_range == queue_rows()[7]["copy_range"] == 65531
            assert held.warnings == ["queue 7: copy range 1048576 asked, 65531 is what the kernel can do"]
        with pytest.raises(UsageError, match="queues 0 to 65535"):
            QueueSocket(65536)


def test_without_privilege_the_mend_is_named(topology):
    code = ("import os, sys\nfrom tigerfox.dataplane.queue import QueueSocket\nfrom tigerfox.errors import PrivilegeError\n"
            "os.setuid(65534)\n"
            "try:\n    QueueSocket(0)\nexcept PrivilegeError as error:\n    sys.stdout.write(str(error))\n")
    with topology.firewall.entered():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "bind queue 0: CAP_NET_ADMIN is missing. Run it with sudo.", done.stderr
    assert issubclass(PrivilegeError, Exception) and PrivilegeError.exit_code == 3
    assert CLIENT4 not in done.stderr
