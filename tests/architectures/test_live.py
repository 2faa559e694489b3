"""Every design on a real queue: what may pass arrives once, what may not never, also when it is stopped under load."""

import os
import signal
import socket
import subprocess

import pytest

from bench.filters import build as build_program
from bench.topology import SERVER4, Topology
from tigerfox.dataplane.queuesocket import SO_RCVBUFFORCE
from tigerfox.errors import TigerFoxError

NAMES = ("sequential", "spin-wait", "thread-per-packet", "queue-per-worker", "condition-variables", "synchronous-pipeline",
         "async-pipeline", "lock-free-pipeline", "run-to-completion")
pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def lab():
    with Topology("tfd") as lab:
        yield lab


@pytest.fixture(scope="module")
def sender(tmp_path_factory):
    return build_program(tmp_path_factory.mktemp("sender"), "udp_flood")


@pytest.mark.parametrize("name", NAMES)
def test_a_real_queue_is_judged_and_let_go_under_load(bench, lab, sender, name):
    from bench.architectures import live

    arm = live.Arm(name, lambda lab: live.start_design(lab, bench.designs.BY_NAME[name], bench.rules))
    with lab.server.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        with live.filtering(lab, arm) as running:
            live.check(lab, arm)
            ear.bind(("", live.ACCEPTED_PORT))
            ear.settimeout(5)
            flood = lab.client.popen(sender, "send", SERVER4, live.ACCEPTED_PORT, 22, 3, 3000, 4, stdout=subprocess.DEVNULL)
            begun = live.count_arrivals(ear, 500)
            report = running[0].stop()
            running[0].stop = lambda: report
            flood.kill()             # before the chain lets everything pass again
            flood.wait()
        ear.settimeout(0.2)
        arrived = begun + live.count_arrivals(ear, 100_000)
    assert report["failed"] == 0
    assert report["given"] - 2 * live.CHECKED == arrived


@pytest.mark.parametrize("late, arrived", (("accept", 200), ("drop", 0)))
def test_where_every_result_is_lost_the_policy_decides(bench, lab, late, arrived):
    """The check that every design passes before it is measured fails here, and by nothing but the fault."""
    from bench.architectures import live

    design = bench.designs.faulty()["synchronous-pipeline, every result lost"].with_parameters(late, late=late, limit_ms=1)
    arm = live.Arm(late, lambda lab: live.start_design(lab, design, bench.rules))
    with live.filtering(lab, arm) as running:
        with pytest.raises(TigerFoxError, match=f"{late}: of 200 packets that pass {arrived} arrived, of as many to drop {arrived}$"):
            live.check(lab, arm)
    assert running[0].report["late"] == running[0].report["given"] == 2 * live.CHECKED


def test_a_design_that_is_killed_leaves_nothing_waiting(bench, lab):
    """The queue goes with its process: nothing stays behind in the namespace."""
    from bench.architectures import live

    running, = live.start_design(lab, bench.designs.BY_NAME["async-pipeline"], bench.rules)
    os.kill(running.pid, signal.SIGKILL)
    os.waitpid(running.pid, 0)
    with lab.firewall.entered():
        assert live.queue_rows_of(lab, []) == {"id_sequence": 0, "queue_dropped": 0, "user_dropped": 0}
