"""Packets that the kernel lets pass because a queue is full are counted, although no worker ever hears of them."""

import os
import signal
import socket

import pytest

from bench.topology import SERVER4, Topology
from tests.netns.test_supervisor_live import Running, wait_for
from tigerfox.telemetry.status import unseen

PORT, SENT, ROOM = 4000, 400, 64


@pytest.fixture(scope="module")
def lab():
    with Topology(prefix="tfuns") as topology:
        yield topology


def endpoint(namespace, port=0):
    with namespace.entered():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("", port))
    return made


def stopped_and_flooded(lab, folder, policy):
    """The status after SENT packets met a queue of ROOM packets whose worker stood still, and then went on."""
    config = f"[queues]\nlength = {ROOM}\n[failure]\nqueue_full = \"{policy}\"\n[watchdog]\nstuck_seconds = 60.0\n"
    with (endpoint(lab.client) as client, endpoint(lab.server, PORT),        # somebody listens: no ICMP error comes back
          Running(lab, folder, "--queues", "0", "--iptables", config=config) as running):
        pid = running.workers()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        for _ in range(SENT):
            client.sendto(b"x", (SERVER4, PORT))
        os.kill(pid, signal.SIGCONT)
        wait_for("the queue is empty", lambda: not running.workers()[0]["waiting"])
        return running.ask("status")


@pytest.mark.live
def test_packets_past_a_full_queue_are_counted(lab, tmp_path):
    found = stopped_and_flooded(lab, tmp_path, "open")
    assert found["losses"]["queue_dropped"] == 0
    assert found["losses"]["unseen"] == SENT - found["totals"]["packets"] >= SENT - ROOM - 10


@pytest.mark.live
def test_packets_dropped_at_a_full_queue_are_not_unseen(lab, tmp_path):
    found = stopped_and_flooded(lab, tmp_path, "closed")
    assert found["losses"]["unseen"] == 0
    assert found["losses"]["queue_dropped"] == SENT - found["totals"]["packets"] >= SENT - ROOM - 10


@pytest.mark.parametrize("offered, ids, wanted", [(100, 90, 10), (100, 100, 0), (100, 103, 0), ((1 << 32) + 5, 3, 2)])
def test_ids_wrap_and_late_packets_are_no_loss(offered, ids, wanted):
    assert unseen(offered, [{"id_sequence": ids, "queue_dropped": 0}]) == wanted
