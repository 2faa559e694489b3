"""The shipped inspectors on real queues: each stops its case, and other traffic of the same kind goes on."""

import contextlib
import os
import socket
import tempfile
from pathlib import Path

import pytest

from bench.topology import SERVER4, Topology
from tests.inspectors.test_shipped_inspectors import letters
from tests.inspectors.timeline import RULES, SHIPPED, hello, query
from tests.netns.test_supervisor_live import PATIENCE, Running, wait_for

pytestmark = pytest.mark.live

DNS, TLS = 53, 443
NETS = ("--var", "HOME_NET=10.71.2.0/24", "--var", "EXTERNAL_NET=10.71.1.0/24")
INSIDE_OUT = ("--var", "HOME_NET=10.71.1.0/24", "--var", "EXTERNAL_NET=10.71.2.0/24")


@pytest.fixture(scope="module")
def lab():
    with Topology(prefix="tfship") as topology:
        yield topology


@pytest.fixture
def running(lab, tmp_path):
    """Start an instance with one of them."""
    tmp_path.chmod(0o755)
    made = []

    def start(name, *options, more=INSIDE_OUT):
        target = ",".join([SHIPPED[name], *options])
        instance = Running(lab, tmp_path, "--queues", "0:1", "--iptables", "--daemon", "--inspector", f"{name}={target}", "--eve",
                           str(tmp_path / "eve.json"), *more, rules=(RULES / f"{name}.rules").read_text())
        done = instance.start()
        assert done.returncode == 0, done.stderr
        made.append(instance)
        return instance
    yield start
    for instance in made:
        instance.command("stop", "--run-dir", str(instance.run_dir))


def row(instance):
    found, = instance.ask("status")["inspectors"]
    return found


def sockets(lab, kind):
    """(one of the server's, one of the client's)."""
    with lab.server.entered():
        server = socket.socket(socket.AF_INET, kind)
    with lab.client.entered():
        client = socket.socket(socket.AF_INET, kind)
    for one in (server, client):
        one.settimeout(PATIENCE)
    return server, client


def test_a_tunnel_is_stopped_and_other_names_are_answered(lab, running):
    instance = running("dns-tunnel")
    server, client = sockets(lab, socket.SOCK_DGRAM)
    with server, client:
        server.bind(("", DNS))
        client.connect((SERVER4, DNS))
        for number in range(80):
            client.send(query(f"{letters(number, 50)}.tunnel.example"))
        wait_for("all judged", lambda: row(instance)["accepted"] + row(instance)["dropped"] == 80)
        other = query("a-long-name-that-is-asked-for.of-another-zone.example")
        client.send(other)
        arrived = []
        while other not in arrived:
            arrived.append(server.recv(2000))
    assert 25 <= len(arrived) - 1 == row(instance)["accepted"] - 1 <= 55
    assert row(instance)["policy_verdicts"] == 0


def connects(lab, port):
    """What becomes of a connection from the client: "open", "refused", or "silent"."""
    with lab.client.entered():
        link = socket.socket()
    with link:
        link.settimeout(1.0)
        try:
            link.connect((SERVER4, port))
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "silent"
        return "open"


def test_a_slow_scan_is_stopped(lab, running):
    instance = running("slow-source", more=NETS)
    with lab.server.entered():
        server = socket.create_server(("", 8000))
    with server:
        assert connects(lab, 8000) == "open"
        outcomes = [connects(lab, port) for port in range(7000, 7008)]
        assert outcomes[:7] == ["refused"] * 7
        assert outcomes[7] == "silent", "the answer to the eighth is dropped"
        assert connects(lab, 8000) == "silent"
        assert row(instance)["blocked"] >= 1


@pytest.fixture
def names():
    """A list where the inspector's user can read it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        file = Path(folder, "names.txt")
        file.write_text("watched.example\n")
        yield file


class Speaker:
    """Sends hellos to a server, each on a connection of its own."""

    def __init__(self, lab):
        self.lab = lab
        with lab.server.entered():
            self.server = socket.create_server(("", TLS))
        self.server.settimeout(PATIENCE)

    def arrives(self, name, seconds=PATIENCE, size=60):
        """Whether a hello that asks for ``name``, in pieces, reaches the server whole."""
        with self.lab.client.entered():
            client = socket.create_connection((SERVER4, TLS), PATIENCE)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server, _ = self.server.accept()
        data = hello(name)
        with client, server, contextlib.suppress(TimeoutError):
            server.settimeout(seconds)
            for at in range(0, len(data), size):
                client.send(data[at:at + size])
            taken = b""
            while len(taken) < len(data):
                taken += server.recv(4096)
            return True
        return False

    def close(self):
        self.server.close()


def test_a_list_of_names_changes_while_it_runs(lab, running, names):
    instance = running("tls-watch", f"file={names}", "every=0")
    speaker = Speaker(lab)
    with contextlib.closing(speaker):
        assert speaker.arrives("fine.example")
        assert not speaker.arrives("www.watched.example", 0.5)
        fresh = names.with_name("fresh")
        fresh.write_text("fine.example\n")
        os.replace(fresh, names)
        assert not speaker.arrives("fine.example", 0.5)
        assert speaker.arrives("www.watched.example")
        names.write_text("no name at all")
        assert not speaker.arrives("fine.example", 0.5)
        assert speaker.arrives("www.watched.example")
        assert instance.said("read again")
        assert instance.said("the 1 names of before hold")
    assert row(instance)["blocked"] == 3
    assert row(instance)["raised"] == 0


def test_a_list_that_its_user_may_not_read_is_said(lab, running, names):
    os.chmod(names, 0o600)
    instance = running("tls-watch", f"file={names}")
    wait_for("a word about it", lambda: instance.said("Permission denied") and instance.said("may not be allowed what root is"))
    os.chmod(names, 0o644)
    speaker = Speaker(lab)
    with contextlib.closing(speaker):
        wait_for("a successor that reads it", lambda: not speaker.arrives("watched.example", 0.5))
