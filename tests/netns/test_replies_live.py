"""Replies that no rule reads are left to the kernel while requests are judged; in namespaces, with real queues."""

import contextlib
import hashlib
import os
import signal
import socket
import struct
import threading

import pytest
from test_supervisor_live import Running, wait_for
from wire import ACK, DIES, FIN, PSH, URG, Wire, internet_sum

from bench.topology import SERVER4, SERVER6, Topology

pytestmark = pytest.mark.live

REQUESTS = """\
drop http any any -> any any (msg:"evil"; flow:established,to_server; http.uri; content:"/evil"; sid:1;)
drop http any any -> any any (msg:"agent"; flow:established,to_server; http.user_agent; content:"sqlmap"; sid:2;)
drop tcp any any -> any 7000 (msg:"attack"; content:"attack"; sid:3;)
"""
REPLIES = REQUESTS + 'drop http any any -> any any (msg:"secret"; flow:established,to_client; http.stat_code; content:"418"; sid:4;)\n'
SIZES = REQUESTS + ('drop tcp any any -> any 8080 (msg:"more"; flow:to_server; content:"GET /more"; stream_size:server,>,5000; block:none;'
                    ' sid:5;)\n')
BITS, BOTH, THEIRS = {1 << 24, 1 << 25}, 3 << 24, 5          # THEIRS: bits of somebody else, on everything
SERVERS = {4: SERVER4, 6: SERVER6}
BLOCK = bytes(range(251)) * 4178                             # about a megabyte, no two places alike within a segment


class Web:
    """HTTP/1.1 in the server's namespace: GET /bytes/N, GET /418, GET /reset, POST (answers with the body's hash), CONNECT."""

    def __init__(self, lab):
        with lab.server.entered():
            self.listener = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, peer):
        with contextlib.suppress(OSError), peer, peer.makefile("rb") as lines:
            while line := lines.readline():
                fields = {}
                while (field := lines.readline().strip()):
                    name, _, value = field.partition(b":")
                    fields[name.lower()] = value.strip()
                if not self._answer(peer, lines, line.split(), fields):
                    return

    def _answer(self, peer, lines, line, fields):
        method, target = line[0], line[1]
        if target == b"/reset":
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if method == b"CONNECT":
            peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while data := lines.read1(4096):
                peer.sendall(data)
            return False
        body = b"hello\n"
        if method == b"POST":
            left, found = int(fields[b"content-length"]), hashlib.sha256()
            while left:
                data = lines.read1(min(left, 1 << 16))
                left -= len(data)
                found.update(data)
            body = found.hexdigest().encode()
        elif target.startswith(b"/bytes/"):
            body = body_of(int(target.split(b"/")[2]))
        status = b"418 Teapot" if target == b"/418" else b"200 OK"
        peer.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
        return fields.get(b"connection") != b"close"

    def close(self):
        self.listener.close()


def body_of(size):
    return (BLOCK * (size // len(BLOCK) + 1))[:size]


class Browser:
    """A connection that is kept alive."""

    def __init__(self, lab, port=8080, version=4):
        with lab.client.entered():
            self.socket = socket.create_connection((SERVERS[version], port), 10)
        self.lines = self.socket.makefile("rb")

    def ask(self, target="/", method="GET", body=b"", more="", seconds=20):
        """The body of the answer; None where there is none in time."""
        self.socket.settimeout(seconds)
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        try:
            self.socket.sendall(f"{method} {target} HTTP/1.1\r\nHost: a\r\n{more}{length}\r\n".encode() + body)
            if not self.lines.readline():
                return None
            size = 0
            while (field := self.lines.readline().strip()):
                if field.lower().startswith(b"content-length:"):
                    size = int(field.split(b":")[1])
            return self.lines.read(size)
        except OSError:
            return None

    def close(self):
        self.lines.close()
        self.socket.close()


@pytest.fixture(scope="module")
def lab():
    with Topology(prefix="tfrep") as topology:
        for tool in ("iptables", "ip6tables"):
            for target in ("CONNMARK", "MARK"):
                topology.firewall.run(tool, "-t", "mangle", "-A", "PREROUTING", "-j", target, "--set-xmark", "0x5/0x5")
        with contextlib.closing(Web(topology)):
            yield topology


@pytest.fixture
def start(lab, tmp_path):
    """Start an instance with these rules."""
    made = []

    def begin(rules=REQUESTS, *options, config=""):
        made.append(Running(lab, tmp_path, "--queues", "0", "--iptables", "--eve", str(tmp_path / "eve.json"), *options, rules=rules,
                            bypass="on", config=config))
        done = made[-1].start("--daemon")
        assert done.returncode == 0, done.stderr
        return made[-1]

    yield begin
    for running in made:
        running.command("stop", "--run-dir", str(running.run_dir))


@pytest.fixture
def browse(lab):
    with contextlib.ExitStack() as stack:
        yield lambda port=8080, version=4: stack.enter_context(contextlib.closing(Browser(lab, port, version)))


def marks(lab, port):
    """Marks of the connection from this port."""
    lines = []
    for family in ("ipv4", "ipv6"):
        found = lab.firewall.run("conntrack", "-L", "-f", family, "-p", "tcp", "--sport", str(port), check=False)
        lines += found.stdout.splitlines()
    return {int(word[5:]) for line in lines for word in line.split() if word.startswith("mark=")}


def port_of(link):
    return link.socket.getsockname()[1]


def left_alone(lab, link):
    """Whether one direction, and it alone, is left to the kernel; which one it is, tells the traffic."""
    return [mark ^ THEIRS in BITS for mark in marks(lab, port_of(link))] == [True]


def totals(running):
    return running.ask("status")["totals"]


def reasons(running):
    return {name: row["packets"] for name, row in running.ask("status")["reasons"].items()}


@pytest.mark.parametrize("version", [4, 6])
def test_requests_are_judged_and_replies_are_not_seen(lab, start, browse, version):
    running, link = start(), browse(version=version)
    assert link.ask() == b"hello\n"
    wait_for("the replies are left", lambda: left_alone(lab, link))
    before = running.ask("status")
    assert all(link.ask(f"/page/{number}") == b"hello\n" for number in range(149))
    after = running.ask("status")
    assert after["bypass"]["packets"] - before["bypass"]["packets"] >= 149       # the replies
    assert 149 <= after["totals"]["packets"] - before["totals"]["packets"] <= 149 * 2 + 8   # requests, and the client's ACKs
    assert after["totals"]["replies_left"] == 1 and after["bypass"]["replies"] == 1
    assert link.ask("/evil", seconds=1) is None
    assert reasons(running)["drop_rule"] >= 1


def test_every_request_is_judged_to_the_last(lab, start, browse):
    """More requests than are waited for without a confirmation: replies are asked back in between, and left again."""
    running, link = start(), browse()
    assert all(link.ask(f"/page/{number}", more="Cookie: " + "x" * 300 + "\r\n") == b"hello\n" for number in range(400))
    found = totals(running)
    assert found["replies_left"] == 1 and found["replies_taken_back"] >= 400 * 300 // 16384 - 1
    assert found["packets"] < 400 * 2 + 100
    assert left_alone(lab, link)
    assert link.ask("/", more="User-Agent: sqlmap/1\r\n", seconds=1) is None


@pytest.mark.parametrize("rules", [REPLIES, SIZES], ids=["replies", "how much the server has sent"])
def test_rules_on_replies_keep_them(lab, start, browse, rules):
    running, link = start(rules), browse()
    assert all(link.ask() == b"hello\n" for _ in range(20))
    assert marks(lab, port_of(link)) == {THEIRS}
    assert totals(running)["replies_left"] == 0
    if rules == SIZES:
        assert link.ask("/bytes/9000") is not None
        assert link.ask("/more", seconds=1) is None
    else:
        assert link.ask("/418", seconds=1) is None


def test_new_rules_on_replies_take_them_back(lab, start, browse):
    running, link = start(), browse()
    assert all(link.ask() == b"hello\n" for _ in range(20))
    assert left_alone(lab, link)
    running.rules.write_text(REPLIES)
    running.ask("reload")
    assert marks(lab, port_of(link)) == {THEIRS}
    before = totals(running)["packets"]
    assert all(link.ask() == b"hello\n" for _ in range(20))
    assert totals(running)["packets"] - before >= 40
    assert marks(lab, port_of(link)) == {THEIRS}
    assert browse().ask("/418", seconds=1) is None
    assert link.ask("/evil", seconds=1) is None


@pytest.fixture
def losses(lab):
    """1 % of the packets is lost between firewall and server, in either direction."""
    rules = [("PREROUTING", "--dport"), ("OUTPUT", "--sport")]
    for chain, port in rules:
        lab.server.run("iptables", "-t", "raw", "-A", chain, "-p", "tcp", port, 8080, "-m", "statistic", "--mode", "random",
                       "--probability", "0.01", "-j", "DROP")
    yield
    lab.server.run("iptables", "-t", "raw", "-F", "PREROUTING")
    lab.server.run("iptables", "-t", "raw", "-F", "OUTPUT")
    lab.set_gso(True)


@pytest.mark.parametrize("rules", [REQUESTS, REPLIES], ids=["replies left", "replies read"])
@pytest.mark.parametrize("depth", [1 << 20, 0], ids=["to the depth", "to the end"])
def test_an_upload_with_losses_arrives_whole(lab, start, browse, losses, rules, depth):
    """The client has more under way than is held, and sends bytes again that were inspected: they are compared, and pass."""
    running = start(rules, config=f"[flows]\ndepth = {depth}\n")
    lab.set_gso(False)
    link, body = browse(), body_of(50_000_000 if depth else 12_000_000)
    link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
    assert all(link.ask() == b"hello\n" for _ in range(5))
    assert link.ask("/upload", "POST", body, seconds=60) == hashlib.sha256(body).hexdigest().encode()
    assert all(link.ask() == b"hello\n" for _ in range(5))
    found = totals(running)
    assert found["replies_left"] == (rules == REQUESTS) and (found["replies_taken_back"] >= 1) == (rules == REQUESTS)
    assert reasons(running).get("stream_unseen", 0) == reasons(running).get("stream_overlap", 0) == 0


def test_a_download_arrives_whole_and_is_not_seen(lab, start, browse):
    running, link = start(), browse()
    assert all(link.ask() == b"hello\n" for _ in range(3))
    before = running.ask("status")["bypass"]["bytes"]
    assert link.ask("/bytes/50000000") == body_of(50_000_000)
    assert running.ask("status")["bypass"]["bytes"] - before > 49_000_000
    assert link.ask("/evil", seconds=1) is None


@pytest.mark.parametrize("how", ["the server's FIN", "the client's FIN", "the server's RST"])
def test_the_end_is_seen(lab, start, browse, how):
    """Sessions are few, and none may give way: who comes next is read only where the one before has given its back."""
    running = start(config="[flows]\nsessions = 64\n")
    for _ in range(80):
        link = browse()
        assert link.ask() == b"hello\n"
        if how == "the server's FIN":
            assert link.ask("/", more="Connection: close\r\n") == b"hello\n"
            assert link.socket.recv(1) == b""
        elif how == "the server's RST":
            assert link.ask("/reset", seconds=1) is None
        link.close()
    found = totals(running)
    assert found["replies_left"] >= 80
    if how != "the server's RST":
        assert found["sessions_rejected"] == found["sessions_displaced"] == 0


def test_connect_behind_replies_that_were_left_does_not_pass(lab, start, browse):
    running, link = start(), browse()
    assert all(link.ask() == b"hello\n" for _ in range(3))
    assert left_alone(lab, link)
    assert link.ask("a:80", "CONNECT", seconds=2) is None
    assert reasons(running)["http_connect_unseen"] >= 2           # sent again, it is still that
    other = browse()
    assert other.ask("a:80", "CONNECT") == b""
    assert marks(lab, port_of(other)) == {THEIRS}
    other.socket.sendall(b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n")
    other.socket.settimeout(1)
    with pytest.raises(TimeoutError):
        other.socket.recv(100)


def test_a_block_stops_the_replies_too(lab, start, browse):
    running, link = start(), browse()
    assert all(link.ask() == b"hello\n" for _ in range(3))
    assert left_alone(lab, link)
    running.command("blocks", "add", "source", SERVER4, "--run-dir", str(running.run_dir))
    wait_for("the replies are taken back", lambda: marks(lab, port_of(link)) == {THEIRS})
    assert link.ask(seconds=1) is None
    running.command("blocks", "remove", "source", SERVER4, "--run-dir", str(running.run_dir))


def test_another_worker_goes_on_judging(lab, start, browse):
    running, link = start(), browse()
    assert all(link.ask() == b"hello\n" for _ in range(3))
    os.kill(running.workers()[0]["pid"], signal.SIGKILL)
    assert all(link.ask(f"/page/{number}", more="Cookie: " + "x" * 300 + "\r\n") == b"hello\n" for number in range(200))
    assert totals(running)["replies_taken_back"] >= 1
    assert link.ask("/evil", seconds=1) is None


@pytest.fixture
def wire(lab):
    with contextlib.closing(Wire(lab)) as wire:
        yield wire


GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"


def kept(lab, wire, count=3, version=4):
    """A raw connection whose replies are left; bytes sent so far are behind it."""
    link = wire.connect(SERVERS[version], 8080)
    for number in range(count):
        link.send(0, GOOD)
        assert wire.until(lambda number=number: link.answered(number + 1))
        link.base += len(GOOD)
    wait_for("the replies are left", lambda: [mark ^ THEIRS in BITS for mark in marks(lab, link.sport)] == [True])
    return link


def test_other_bytes_for_what_was_inspected_do_not_pass(lab, start, wire):
    """The first copy ends between firewall and server; what is sent again is another request."""
    running = start()
    link = kept(lab, wire)
    link.send(0, GOOD, ttl=DIES)
    evil = GOOD.replace(b"/good", b"/evil")
    link.send(0, evil)
    assert not wire.until(lambda: link.answered(4), 1)
    assert reasons(running)["stream_overlap"] >= 1
    link.send(0, GOOD)
    assert wire.until(lambda: link.answered(4))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("head", [b"GET /bytes/1", b"GET /bytes/10"], ids=["even", "odd"])
@pytest.mark.parametrize("flags", [ACK, PSH | ACK], ids=["ACK", "PSH"])
def test_a_keepalive_probe_brings_the_byte_that_was_inspected(lab, start, wire, version, head, flags):
    """It brings another byte for the last one, which ended between firewall and server: the server must get the first copy."""
    running = start()
    link = kept(lab, wire, version=version)
    link.send(0, head)
    link.send(len(head), b"7", ttl=DIES)
    assert wire.until(lambda: link.acked == link.base + len(head))
    link.send(len(head), b"8", flags)
    assert wire.until(lambda: link.acked == link.base + len(head) + 1)    # the server has it, and says so
    link.send(len(head) + 1, b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert wire.until(lambda: link.answered(4))
    size = int(head[11:] + b"7")
    assert wire.until(lambda: link.received.endswith(b"\r\n\r\n" + body_of(size)))
    assert b"Content-Length: %d\r\n" % size in link.received
    found = totals(running)
    assert found["probes_mended"] == 1 and found["replies_taken_back"] >= 1
    assert running.ask("status")["bypass"]["mended"] == 1
    assert "stream_overlap" not in {name for name, count in reasons(running).items() if count}


@pytest.mark.parametrize("version", [4, 6])
def test_an_idle_connection_is_kept_alive_by_probes_of_one_byte(lab, start, wire, version):
    """Every one of them is answered, and the application never reads their byte."""
    running = start()
    link = kept(lab, wire, version=version)
    for last in (b"\0", b"x", b"\n", b"\0"):
        before = link.segments
        link.send(-1, last, ACK)
        assert wire.until(lambda before=before: link.segments > before)
    assert link.acked == link.base
    assert totals(running)["probes_mended"] == 1                  # then the replies are back, and the byte is known to be old
    link.send(0, GOOD)
    assert wire.until(lambda: link.answered(4))
    link.base += len(GOOD)
    link.send(-1, b"?", ACK)                                      # mended, or known to be old: it changes nothing
    link.send(0, GOOD.replace(b"/good", b"/evil"))
    assert not wire.until(lambda: link.answered(5), 1)
    assert reasons(running)["drop_rule"] >= 1


@pytest.mark.parametrize("data, flags", [(b"yz", ACK), (b"z", ACK | FIN), (b"z", ACK | URG)], ids=["two bytes", "FIN", "URG"])
def test_what_is_more_than_a_probe_is_not_mended(lab, start, wire, data, flags):
    running = start()
    link = kept(lab, wire)
    link.send(0, GOOD[:-2])
    link.send(len(GOOD) - 2, GOOD[-2:], ttl=DIES)
    assert wire.until(lambda: link.acked == link.base + len(GOOD) - 2)
    link.send(len(GOOD) - len(data), data, flags)
    assert not wire.until(lambda: link.acked > link.base + len(GOOD) - 2, 1)
    assert totals(running)["probes_mended"] == 0
    link.send(0, GOOD)
    assert wire.until(lambda: link.answered(4))


class Offload:
    """The client's link for frames whose checksum a device would complete: as kernels hand over what they send themselves."""

    def __init__(self, lab, wire):
        with lab.client.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(263, 15, 1)                        # SOL_PACKET, PACKET_VNET_HDR
        self.socket.bind((wire.socket.getsockname()[0], 0))
        self.hosts, self.idents = wire.hosts, wire.idents

    def transmit(self, family, packet):
        at = 20 if family == 4 else 40
        addresses = packet[12:20] if family == 4 else packet[8:40]
        pseudo = ~internet_sum(addresses + struct.pack("!II", 6, len(packet) - at)) & 0xffff
        packet = packet[:at + 16] + struct.pack("!H", pseudo) + packet[at + 18:]
        head = struct.pack("=BBHHHH", 1, 0, 0, 0, 14 + at, 16)    # linux/virtio_net.h: NEEDS_CSUM, no segmentation
        self.socket.send(head + self.hosts + (b"\x86\xdd" if family == 6 else b"\x08\x00") + packet)

    def close(self):
        self.socket.close()


@pytest.mark.parametrize("version", [4, 6])
def test_a_probe_without_a_complete_checksum_gets_one(lab, start, wire, version):
    running = start()
    link = kept(lab, wire, version=version)
    link.send(0, b"GET /bytes/1")
    link.send(12, b"7", ttl=DIES)
    assert wire.until(lambda: link.acked == link.base + 12)
    with contextlib.closing(Offload(lab, wire)) as offload:
        link.wire = offload
        link.send(12, b"8", ACK)
        link.wire = wire
    assert wire.until(lambda: link.acked == link.base + 13)
    assert totals(running)["probes_mended"] == 1
    link.send(13, b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert wire.until(lambda: link.answered(4))
    assert b"Content-Length: 17\r\n" in link.received


def test_a_probe_in_fragments_is_one_whole_packet(lab, start, wire):
    """Connection tracking puts it together before the queue and takes it apart behind it."""
    running = start()
    link = kept(lab, wire)
    link.send(0, b"GET /bytes/1")
    link.send(12, b"7", ttl=DIES)
    link.send(12, b"8", size=16)
    link.send(13, b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert wire.until(lambda: link.answered(4))
    assert b"Content-Length: 17\r\n" in link.received
    assert totals(running)["probes_mended"] == 1


def test_a_gap_asks_the_replies_back(lab, start, wire):
    running = start()
    link = kept(lab, wire)
    before = totals(running)["replies_taken_back"]
    link.send(10, GOOD[10:])
    wait_for("they are taken back", lambda: marks(lab, link.sport) == {THEIRS})
    link.send(0, GOOD[:10])
    assert wire.until(lambda: link.answered(4))
    assert totals(running)["replies_taken_back"] > before
    link.base += len(GOOD)
    link.send(0, GOOD)
    assert wire.until(lambda: link.answered(5))
    wait_for("left again", lambda: [mark ^ THEIRS in BITS for mark in marks(lab, link.sport)] == [True])
