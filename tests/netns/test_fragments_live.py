"""Fragments on real queues, in a namespace whose kernel does not put them together (no rule there uses conntrack)."""

import os
import signal
import socket
import struct
import time
from contextlib import contextmanager

import pytest

from bench.topology import CLIENT4, SERVER4, SERVER6, Topology
from tigerfox._fast import Worker
from tigerfox.dataplane.blocks import Blocks
from tigerfox.dataplane.control import ControlPage
from tigerfox.dataplane.image import CompiledRules
from tigerfox.dataplane.queue import QueueSocket
from tigerfox.dataplane.rates import Rates
from tigerfox.dataplane.reason import reason_number
from tigerfox.dataplane.stats import WorkerPage
from tigerfox.ruleset.check import load_rules
from tigerfox.ruleset.compile import compile_rules

pytestmark = pytest.mark.live

POLICIES = {"malformed": "accept", "unparsed": "drop", "no_verdict": "drop"}
RULES = """\
drop udp any any -> any 7001 (msg:"closed"; block: none; sid:1;)
drop udp any any -> any any (msg:"long"; dsize:>5000; block: none; sid:2;)
alert udp any any -> any 7002 (msg:"seen"; sid:3;)
"""


@pytest.fixture
def topology():
    with Topology("tfd") as made:
        made.queue_forwarded(0)
        yield made


@pytest.fixture
def page(topology, tmp_path):
    """The statistics of a worker on the firewall's queue."""
    rule_file = tmp_path / "live.rules"
    rule_file.write_text(RULES)
    image = compile_rules(load_rules([rule_file]).rules).image
    with topology.firewall.entered():
        queue = QueueSocket(0)
    tables = WorkerPage.create(None), Blocks.create(None, 1024), Rates.create(None, 1024)
    control = ControlPage.create()
    control.set_generation(1)
    pid = os.fork()
    if pid == 0:
        try:
            Worker(queue.fileno(), 0, queue.copy_range, *tables, CompiledRules.from_buffer(image, 1), POLICIES, (-1, -1), control).run()
        finally:
            os._exit(0)
    yield tables[0]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    queue.close()


@contextmanager
def socket_in(namespace, *arguments):
    with namespace.entered():
        made = socket.socket(*arguments)
    made.settimeout(5)
    with made:
        yield made


def reason(page, name):
    return page.snapshot()["reasons"][reason_number(name)]


def wait_for(holds):
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.01)


@pytest.mark.parametrize("address", [SERVER4, SERVER6])
def test_datagrams_in_fragments(topology, page, address):
    """Real stacks send and put together; only the copy range of each fragment is seen."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (socket_in(topology.server, family, socket.SOCK_DGRAM) as open_, socket_in(topology.server, family, socket.SOCK_DGRAM) as closed,
          socket_in(topology.client, family, socket.SOCK_DGRAM) as sender):
        open_.bind((address, 7002))
        closed.bind((address, 7001))
        for _ in range(20):
            sender.sendto(os.urandom(4000), (address, 7001))
            sender.sendto(os.urandom(6000), (address, 7002))
            payload = os.urandom(4000)
            sender.sendto(payload, (address, 7002))
            assert open_.recv(1 << 16) == payload
        closed.settimeout(0.3)
        with pytest.raises(TimeoutError):
            closed.recv(1 << 16)
    counts = page.snapshot()
    assert counts["fragments_completed"] == 40 and counts["alerts"] == 20 + 20 + 20 + 20
    assert reason(page, "drop_rule") == 40 and reason(page, "fragment_dropped") == 20 * 2
    assert counts["verdict_errors"] == counts["lost_ids"] == 0


def fragment(data, offset, more, ident):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), ident, more << 13 | offset // 8, 64, 17, 0,
                       socket.inet_aton(CLIENT4), socket.inet_aton(SERVER4))
    return head + data


def test_overlaps_and_a_fragment_sent_again_reach_nobody(topology, page):
    with (socket_in(topology.server, socket.AF_INET, socket.SOCK_DGRAM) as receiver,
          socket_in(topology.client, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw):
        receiver.bind((SERVER4, 7002))
        good = struct.pack("!HHHH", 4000, 7002, 48, 0) + bytes(40)

        def send(*parts):
            for part in parts:
                raw.sendto(part, (SERVER4, 0))

        send(fragment(good[:24], 0, True, 1), fragment(b"x" * 32, 16, False, 1), fragment(good[24:], 24, False, 1))
        wait_for(lambda: reason(page, "fragment_overlap") == 2)
        send(fragment(good[24:], 24, False, 2), fragment(good[:24], 0, True, 2))
        assert receiver.recv(4096) == bytes(40)
        evil = struct.pack("!HHHH", 4000, 7002, 6008, 0) + bytes(6000)
        send(*(fragment(evil[at:at + 1400], at, at + 1400 < len(evil), 3) for at in range(0, len(evil), 1400)))
        wait_for(lambda: reason(page, "drop_rule") == 1)
        send(fragment(evil[5600:], 5600, False, 3))
        wait_for(lambda: reason(page, "fragment_dropped") == 1)
        receiver.settimeout(0.3)
        with pytest.raises(TimeoutError):
            receiver.recv(1 << 16)
