"""Connections that no rule can match are left to the kernel, and taken back; in namespaces, with real queues."""

import contextlib
import socket
import struct
import threading

import pytest
from test_supervisor_live import Running, wait_for
from wire import SYN, internet_sum

from bench.filters import BYPASS
from bench.topology import CLIENT4, CLIENT6, SERVER4, SERVER6, Topology

pytestmark = pytest.mark.live

RULES = """\
drop tcp any any -> any 7000 (msg:"attack"; content:"attack"; sid:1;)
drop http any any -> any 8080 (msg:"evil"; flow:established,to_server; http.uri; content:"/evil"; sid:2;)
"""
LATE = RULES + 'drop tcp any any -> any 9000 (msg:"late"; content:"late"; sid:3;)\n'
SERVERS, CLIENTS = {4: SERVER4, 6: SERVER6}, {4: CLIENT4, 6: CLIENT6}


@pytest.fixture(scope="module")
def lab():
    with Topology(prefix="tfbyp") as topology:
        for tool in ("iptables", "ip6tables"):     # somebody else's bits: of every connection, and of every packet
            for target in ("CONNMARK", "MARK"):
                topology.firewall.run(tool, "-t", "mangle", "-A", "PREROUTING", "-j", target, "--set-xmark", "0x5/0x5")
        yield topology


@pytest.fixture
def running(lab, tmp_path):
    instance = Running(lab, tmp_path, "--queues", "0", "--iptables", rules=RULES, bypass="on")
    assert instance.start("--daemon").returncode == 0
    yield instance
    instance.command("stop", "--run-dir", str(instance.run_dir))


class Echo:
    """A connection to a server of its own that sends back what it gets."""

    def __init__(self, lab, port, version=4):
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        with lab.server.entered():
            self.listener = socket.create_server(("", port), family=family)
        with lab.client.entered():
            self.socket = socket.socket(family)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        self.socket.settimeout(10)
        self.socket.connect((SERVERS[version], port))

    def _serve(self):
        with contextlib.suppress(OSError):
            peer = self.listener.accept()[0]
            with peer:
                while data := peer.recv(4096):
                    peer.sendall(data)

    def says(self, data, seconds=10):
        """Whether what is sent comes back."""
        self.socket.settimeout(seconds)
        self.socket.sendall(data)
        got = b""
        with contextlib.suppress(OSError):
            while len(got) < len(data) and (more := self.socket.recv(4096)):
                got += more
        return got == data

    def close(self):
        self.socket.close()
        self.listener.close()


class Sink:
    """A connection to a server that reads and never answers; ``got`` counts."""

    def __init__(self, listener, port):
        self.got = 0
        self.socket = socket.create_connection((SERVER4, port), 10)
        self.peer = listener.accept()[0]
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        with contextlib.suppress(OSError):
            while data := self.peer.recv(65536):
                self.got += len(data)

    def close(self):
        self.socket.close()
        self.thread.join(10)
        self.peer.close()


@pytest.fixture
def echo(lab):
    with contextlib.ExitStack() as stack:
        yield lambda port, version=4: stack.enter_context(contextlib.closing(Echo(lab, port, version)))


def left(running):
    return running.ask("status")["bypass"]


def marks(lab, link):
    """Marks of a connection, as the kernel lists them."""
    port = str(link.socket.getsockname()[1])
    lines = lab.firewall.run("conntrack", "-L", "-p", "tcp", "--sport", port, check=False).stdout.splitlines()
    lines += lab.firewall.run("conntrack", "-L", "-f", "ipv6", "-p", "tcp", "--sport", port, check=False).stdout.splitlines()
    return {int(word[5:]) for line in lines for word in line.split() if word.startswith("mark=")}


@pytest.mark.parametrize("version", [4, 6])
def test_what_no_rule_can_match_is_left_to_the_kernel(lab, running, echo, version):
    link = echo(9000, version)
    assert all(link.says(b"harmless") for _ in range(10))
    seen = running.ask("status")["totals"]["packets"]
    assert all(link.says(b"harmless") for _ in range(50))
    found = running.ask("status")
    assert found["bypass"]["flows"] >= 1 and found["bypass"]["packets"] > 100
    assert found["totals"]["packets"] - seen < 20
    assert marks(lab, link) == {0x3000000 | 5}                # both directions, and the bits of somebody else


@pytest.mark.parametrize("version", [4, 6])
def test_what_a_rule_can_match_is_seen_to_its_end(lab, running, echo, version):
    """Its replies, which no rule reads, are left to the kernel alone: test_replies_live.py."""
    link = echo(7000, version)
    assert all(link.says(b"harmless") for _ in range(20))
    assert marks(lab, link) == {0x2000005}
    assert not link.says(b"an attack", 1)


def test_kept_alive_http_is_seen_to_its_end(lab, running, echo):
    link = echo(8080)
    assert all(link.says(b"GET /index HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(5))
    assert marks(lab, link) == {5}
    assert not link.says(b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n", 1)


def test_new_rules_take_connections_back(lab, running, echo):
    link = echo(9000)
    assert all(link.says(b"too late") for _ in range(5))
    assert left(running)["packets"]
    running.rules.write_text(LATE)
    running.ask("reload")
    assert marks(lab, link) == {5}
    assert link.says(b"harmless")
    assert not link.says(b"too late", 1)


@pytest.mark.parametrize("version", [4, 6])
def test_a_block_stops_a_connection_that_was_left(lab, running, echo, version):
    link = echo(9000, version)
    assert all(link.says(b"harmless") for _ in range(5))
    assert 0x3000005 in marks(lab, link)
    running.command("blocks", "add", "source", CLIENTS[version], "--run-dir", str(running.run_dir))
    wait_for("the connection is taken back", lambda: marks(lab, link) == {5})
    assert not link.says(b"harmless", 1)
    running.command("blocks", "remove", "source", CLIENTS[version], "--run-dir", str(running.run_dir))


def send_syn(lab, link):
    """A SYN with the addresses and ports of a connection, from its client."""
    (here, sport), (there, dport) = link.socket.getsockname(), link.socket.getpeername()
    segment = struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 5 << 4, SYN, 1024, 0, 0)
    pseudo = socket.inet_aton(here) + socket.inet_aton(there) + struct.pack("!HH", socket.IPPROTO_TCP, len(segment))
    with lab.client.entered(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.sendto(segment[:16] + struct.pack("!H", internet_sum(pseudo + segment)) + segment[18:], (there, 0))


def test_a_syn_takes_a_connection_back(lab, running, echo):
    link = echo(9000)
    assert all(link.says(b"harmless") for _ in range(5))
    assert 0x3000005 in marks(lab, link)
    seen = running.ask("status")["totals"]["packets"]
    send_syn(lab, link)
    wait_for("it is judged", lambda: running.ask("status")["totals"]["packets"] > seen)
    assert marks(lab, link) == {5}


def test_what_is_left_passes_one_rule_and_no_set(lab, running, echo):
    link = echo(9000)
    assert all(link.says(b"harmless") for _ in range(5))
    wait_for("both bits", lambda: marks(lab, link) == {0x3000005})
    lab.firewall.run("iptables", "-t", "mangle", "-Z", "TIGERFOX")
    lab.firewall.run("nft", "add rule inet TIGERFOX blocked4 counter")
    assert all(link.says(b"harmless") for _ in range(20))
    passed = [line for line in lab.firewall.run("iptables-save", "-c", "-t", "mangle").stdout.splitlines()
              if "-A TIGERFOX -" in line and not line.startswith("[0:0]")]
    assert len(passed) == 1 and int(passed[0][1:].split(":")[0]) >= 40 and passed[0].endswith("-j ACCEPT")
    assert "packets 0 " in lab.firewall.run("nft", "list", "chain", "inet", "TIGERFOX", "blocked4").stdout.splitlines()[-3]


@pytest.mark.parametrize("port, left_at_last", [(7000, True), (7001, False)])
def test_an_upload_beyond_the_depth_is_left_where_only_its_own_stream_is_read(lab, tmp_path, port, left_at_last):
    """The server never answers: its protocol is not known, and nothing but what the client sends can be beyond the depth."""
    rules = RULES + 'drop tcp any 7001 -> any any (msg:"answer"; content:"answer"; sid:4;)\n'
    instance = Running(lab, tmp_path, "--queues", "0", "--iptables", rules=rules, bypass="on", config="[flows]\ndepth = 65536\n")
    assert instance.start("--daemon").returncode == 0
    with lab.server.entered():
        listener = socket.create_server(("", port))
    try:
        with listener, lab.client.entered(), contextlib.closing(Sink(listener, port)) as link:
            link.socket.sendall(bytes(32768))
            wait_for("what is within the depth", lambda: link.got >= 32768)
            assert marks(lab, link) == {5}
            link.socket.sendall(bytes(400_000))
            wait_for("what is beyond it", lambda: link.got >= 432_768)
            if left_at_last:
                wait_for("both bits", lambda: marks(lab, link) == {0x3000005})
            else:
                assert marks(lab, link) == {5}
    finally:
        instance.command("stop", "--run-dir", str(instance.run_dir))


ATTACKS = ["GET /?f=../../b HTTP/1.1", "GET /etc/passwd HTTP/1.1", "GET /?q=1%20union%20select%202 HTTP/1.1", "GET /?q=<script HTTP/1.1",
           "GET /.env HTTP/1.1", "GET /.git/config HTTP/1.1", "GET /?u=169.254.169.254 HTTP/1.1", "TRACE / HTTP/1.1",
           "GET / HTTP/1.1\r\nX: ${jndi:ldap", "GET / HTTP/1.1\r\nX: () { :", "GET / HTTP/1.1\r\nUser-Agent: sqlmap/1",
           "GET / HTTP/1.1\r\nUser-Agent: Nikto/2"]


def test_the_rules_of_the_bench_leave_something_and_still_block_their_attacks(lab, tmp_path):
    instance = Running(lab, tmp_path, "--queues", "0", "--iptables", rules=BYPASS.read_text(), bypass="on")
    assert instance.start("--daemon").returncode == 0
    harmless = b"GET /page HTTP/1.1\r\nHost: www.example\r\n\r\n"
    try:
        with contextlib.closing(Echo(lab, 80)) as link:
            assert all(link.says(harmless) for _ in range(5))
            wait_for("both bits", lambda: marks(lab, link) == {0x3000005})
        for attack in ATTACKS:
            with contextlib.closing(Echo(lab, 8080)) as link:
                assert all(link.says(harmless) for _ in range(3)), attack
                assert marks(lab, link) == {5}
                assert not link.says(f"{attack}\r\nHost: www.example\r\n\r\n".encode(), 0.5), attack
    finally:
        instance.command("stop", "--run-dir", str(instance.run_dir))


def test_nothing_is_left_behind(lab, running, echo):
    link = echo(9000)
    assert all(link.says(b"harmless") for _ in range(5))
    running.command("stop", "--run-dir", str(running.run_dir))
    assert marks(lab, link) == {5}
    assert link.says(b"harmless")
