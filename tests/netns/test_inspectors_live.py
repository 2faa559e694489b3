"""Python inspectors on real queues: what a rule hands over is judged by a function, and by policy when that cannot."""

import contextlib
import json
import os
import signal
import socket

import pytest

from bench.topology import CLIENT4, SERVER4, Topology
from tests.netns.test_bypass_live import Echo
from tests.netns.test_supervisor_live import Running, wait_for

pytestmark = pytest.mark.live

PORT, CLOSED_PORT, FLOW_PORT = 5300, 5301, 5302
RULES = f"""\
alert udp any any -> any {PORT} (msg:"asked"; sid:11; noalert; inspect: mine;)
alert udp any any -> any {CLOSED_PORT} (msg:"asked"; sid:12; noalert; inspect: strict;)
alert udp any any -> any {FLOW_PORT} (msg:"a word"; content:"begin"; sid:13; noalert; inspect: mine, flow;)
"""
CODE = '''\
import os, time
from tigerfox.inspectors import DROP, block

def inspect(packet):
    if packet.payload.startswith(b"drop"):
        return DROP
    if packet.payload.startswith(b"block"):
        return block("source", 60)
    if packet.payload.startswith(b"raise"):
        raise ValueError("on purpose")
    if packet.payload.startswith(b"die"):
        os._exit(9)
    if packet.payload.startswith(b"sid"):
        if packet.payload != b"sid %d" % packet.sid or packet.to_server is not True:
            return DROP
    if packet.payload.startswith(b"count"):
        packet.flow["n"] = packet.flow.get("n", 0) + 1
        if packet.payload != b"count %d" % packet.flow["n"]:
            return DROP
    if packet.payload.startswith(b"slow"):
        time.sleep(0.2)
'''


@pytest.fixture(scope="module")
def lab():
    with Topology(prefix="tfinsp") as topology:
        yield topology


@pytest.fixture
def running(lab, tmp_path, monkeypatch):
    (tmp_path / "insplive.py").write_text(CODE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path).chmod(0o755)
    instance = Running(lab, tmp_path, "--queues", "0:1", "--iptables", "--daemon", "--inspector", "mine=insplive:inspect",
                       "--inspector", "strict=insplive:inspect,closed", "--eve", str(tmp_path / "eve.json"), config="[inspectors]\nlength = 16\n", rules=RULES)
    done = instance.start()
    assert done.returncode == 0, done.stderr
    try:
        yield instance
    finally:
        instance.command("stop", "--run-dir", str(instance.run_dir))


class Line:
    """UDP from the client to one port of the server."""

    def __init__(self, lab, port):
        with lab.server.entered():
            self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with lab.client.entered():
            self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server.bind(("", port))
        self.client.connect((SERVER4, port))

    def passes(self, text, seconds=10.0):
        """Whether a datagram with this payload arrives."""
        self.client.send(text)
        self.server.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            while self.server.recv(2000) != text:
                pass
            return True
        return False

    def close(self):
        self.server.close()
        self.client.close()


@pytest.fixture
def line(lab):
    lines = []

    def make(port):
        lines.append(Line(lab, port))
        return lines[-1]
    yield make
    for one in lines:
        one.close()


def row(running, name="mine"):
    return next(found for found in running.ask("status")["inspectors"] if found["name"] == name)


def test_answers_hold(running, line):
    to = line(PORT)
    assert to.passes(b"one")
    assert not to.passes(b"drop this", 0.5)
    assert to.passes(b"sid 11")
    assert to.passes(b"count 1")
    assert to.passes(b"count 2")
    assert to.passes(b"x" * 1400)
    found = row(running)
    assert (found["given"], found["accepted"], found["dropped"], found["policy_verdicts"]) == (6, 5, 1, 0)
    assert found["p50_us"] > 0 and found["notes_lost"] == 0


def test_what_is_dropped_is_an_event(running, line):
    to, strict = line(PORT), line(CLOSED_PORT)
    assert to.passes(b"one")
    assert not to.passes(b"drop this", 0.5)
    assert not strict.passes(b"raise closed", 0.5)
    assert not to.passes(b"block me", 0.5)
    events = wait_for("three events", lambda: (found := running.events())[2:] and found)
    told = [(event["event_type"], event["src_ip"], event["dest_ip"], event["dest_port"], event["drop"]["reason"], event["drop"]["sid"])
            for event in events]
    assert sorted(told) == [("drop", CLIENT4, SERVER4, port, "inspector", sid)
                            for port, sid in ((PORT, 11), (PORT, 11), (CLOSED_PORT, 12))]
    first = next(event for event in events if event["dest_port"] == CLOSED_PORT)
    assert (first["drop"]["len"], first["drop"]["ttl"], first["proto"]) == (28 + len(b"raise closed"), 63, "UDP")


def test_a_block_holds_in_the_workers_at_once(running, line):
    to, other = line(PORT), line(4000)
    assert other.passes(b"before")
    assert not to.passes(b"block me", 0.5)
    assert not other.passes(b"after", 0.5)
    assert running.ask("status")["blocks"]["used"] == 1
    assert row(running)["blocked"] == 1


def test_policy_answers_when_it_raises(running, line):
    assert line(PORT).passes(b"raise open")
    assert not line(CLOSED_PORT).passes(b"raise closed", 0.5)
    for name in ("mine", "strict"):
        found = row(running, name)
        assert (found["given"], found["raised"], found["policy_verdicts"]) == (1, 1, 1)
    assert "on purpose" in running.messages.read_text()


def test_policy_answers_for_what_a_dead_one_had_taken(running, line):
    to, strict = line(PORT), line(CLOSED_PORT)
    assert to.passes(b"die")
    assert not strict.passes(b"die", 0.5)
    wait_for("successors", lambda: row(running)["restarts"] == 1 and row(running)["state"] == "running")
    assert to.passes(b"again") and strict.passes(b"again")
    assert row(running)["policy_verdicts"] == row(running, "strict")["policy_verdicts"] == 1


def test_policy_answers_while_nobody_is_there(running, line):
    to, strict = line(PORT), line(CLOSED_PORT)
    for name in ("mine", "strict"):
        os.kill(row(running, name)["pid"], signal.SIGKILL)
        wait_for("a successor", lambda name=name: row(running, name)["restarts"] == 1 and row(running, name)["pid"])
        os.kill(row(running, name)["pid"], signal.SIGSTOP)
    assert not to.passes(b"waits", 0.5)
    os.kill(row(running)["pid"], signal.SIGKILL)
    assert to.passes(b"by policy or by the next one")
    for name in ("mine", "strict"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(row(running, name)["pid"] or 1 << 30, signal.SIGKILL)
    wait_for("successors", lambda: row(running, "strict")["state"] == row(running)["state"] == "running")
    assert to.passes(b"again") and strict.passes(b"again")


def test_a_full_queue_is_answered_by_policy(running, line):
    to, other = line(PORT), line(4000)
    for _ in range(200):
        to.client.send(b"slow")
    assert other.passes(b"not held up")
    wait_for("all answered", lambda: row(running)["waiting"] == 0)
    found = row(running)
    assert found["given"] == 200 == found["accepted"] + found["policy_verdicts"]
    assert found["policy_verdicts"] > 100
    to.server.settimeout(1.0)
    for _ in range(200):             # open: every one of them arrived
        assert to.server.recv(100) == b"slow"


def test_the_rest_of_the_connection_goes_there_too(running, line):
    to = line(FLOW_PORT)
    assert to.passes(b"drop: nobody asks")
    assert to.passes(b"begin")
    assert not to.passes(b"drop: asked", 0.5)
    assert line(FLOW_PORT + 100).passes(b"drop: another connection")
    assert (row(running)["given"], row(running)["dropped"]) == (2, 1)


def test_it_runs_on_other_cpus_at_a_lower_priority(running):
    pid = row(running)["pid"]
    assert os.getpriority(os.PRIO_PROCESS, pid) > 0
    pinned = {worker["cpu"] for worker in running.ask("status")["workers"]}
    if len(os.sched_getaffinity(0)) > len(pinned):
        assert not os.sched_getaffinity(pid) & pinned


def test_an_unknown_name_is_refused_with_its_place(running, lab):
    running.rules.write_text(RULES + 'alert udp any any -> any 1 (msg:"m"; sid:9; inspect: mime;)\n')
    done = running.command("reload", "--run-dir", str(running.run_dir))
    assert done.returncode == 1
    assert "test.rules:4:" in done.stderr and "did you mean mine?" in done.stderr and "--inspector mime=" in done.stderr


def test_status_prints_a_table(running):
    done = running.command("status", "--run-dir", str(running.run_dir))
    assert "inspector" in done.stdout and "by policy" in done.stdout and "strict" in done.stdout
    assert json.dumps(row(running))


REPLIES = """\
alert tcp any any -> any 5310 (msg:"a word"; flow:established,to_server; content:"begin"; sid:14; noalert; inspect: replies, flow;)
"""
REPLIES_CODE = """\
from tigerfox.inspectors import DROP

def inspect(packet):
    if packet.to_server is False and packet.payload.startswith(b"secret"):
        return DROP
"""


def test_replies_of_an_inspected_connection_come_too_beside_bypass(lab, tmp_path, monkeypatch):
    """What no rule can match is left to the kernel; a connection that an inspector has for good is not, in neither direction."""
    (tmp_path / "insreplies.py").write_text(REPLIES_CODE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    instance = Running(lab, tmp_path, "--queues", "0:1", "--iptables", "--daemon", "--inspector", "replies=insreplies:inspect",
                       rules=REPLIES, bypass="on")
    assert instance.start().returncode == 0
    with contextlib.ExitStack() as stack:
        stack.callback(instance.command, "stop", "--run-dir", str(instance.run_dir))
        inspected, other, free = (stack.enter_context(contextlib.closing(Echo(lab, port))) for port in (5310, 5311, 5312))
        assert inspected.says(b"secret before")
        assert inspected.says(b"begin")
        for _ in range(50):
            assert inspected.says(b"words") and other.says(b"words")
        assert instance.ask("status")["bypass"]["flows"] >= 1
        given = row(instance, "replies")["given"]
        assert given >= 100, "fifty there and fifty back"
        assert row(instance, "replies")["accepted"] == given
        assert other.says(b"secret") and free.says(b"secret")
        assert not inspected.says(b"secret", 1.0)
        assert row(instance, "replies")["dropped"] >= 1
