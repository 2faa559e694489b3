"""The forwarder on AF_XDP sockets: what may pass arrives once, what a rule drops never, and it leaves nothing at the interfaces."""

import os
import signal
import socket
import struct
import subprocess

import pytest

from bench.filters import build as build_program
from bench.topology import SERVER4, SERVER6, Topology
from tigerfox.dataplane.queuesocket import SO_RCVBUFFORCE

pytestmark = pytest.mark.live
FRAMES = 20_000                  # more than the forwarder's memory has frames: each is used again and again
BURST = 100                      # with those to be dropped fewer than a link holds


@pytest.fixture(scope="module")
def afxdp(bench):
    from bench.architectures import afxdp

    if not afxdp.possible():
        pytest.skip("this kernel has no AF_XDP")
    return afxdp


@pytest.fixture(scope="module")
def lab():
    """Nothing gets through this firewall's kernel: what arrives came by the sockets."""
    with Topology("tfx") as lab:
        for tool in ("iptables", "ip6tables"):
            lab.firewall.run(tool, "-P", "FORWARD", "DROP")
        yield lab


@pytest.fixture
def arms(bench, afxdp):
    """(reference, judge)."""
    return afxdp.arms(bench.rules)


def ear_at(port, seconds=5):
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    ear.bind(("", port))
    ear.settimeout(seconds)
    return ear


def programs(lab):
    """Interfaces of the firewall that have an XDP program."""
    return lab.firewall.run("ip", "-o", "link", "show").stdout.count("prog/xdp")


def promises(lab):
    """Whether the client's kernel leaves checksums and joined segments to the next one."""
    said = lab.client.run("ethtool", "-k", "eth0").stdout
    return [f"{name}: on" in said for name in ("tx-checksumming", "tcp-segmentation-offload", "generic-receive-offload")]


def test_frames_that_pass_arrive_once_and_the_others_never(lab, arms):
    from bench.architectures import live

    before = promises(lab)
    with lab.client.entered():
        mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with lab.server.entered():
        ears = [ear_at(live.ACCEPTED_PORT), ear_at(live.DROPPED_PORT, 0.05)]
    numbers = []
    with live.filtering(lab, arms[1]) as running, mouth, ears[0], ears[1]:
        assert programs(lab) == 2
        for first in range(0, FRAMES, BURST):
            for number in range(first, first + BURST):
                mouth.sendto(struct.pack("<I", number), (SERVER4, live.ACCEPTED_PORT))
                if number % 4 == 0:
                    mouth.sendto(struct.pack("<I", number), (SERVER4, live.DROPPED_PORT))
            numbers += [struct.unpack("<I", ears[0].recv(64))[0] for _ in range(BURST)]
        assert live.count_arrivals(ears[1], 1) == 0
        ears[0].settimeout(0.05)
        assert live.count_arrivals(ears[0], 1) == 0
    report = running[0].report
    assert sorted(numbers) == list(range(FRAMES))
    assert (report["passed"], report["dropped"], report["no_room"], report["lost"]) == (FRAMES, FRAMES // 4, 0, 0)
    assert programs(lab) == 0
    assert promises(lab) == before


def test_stopped_under_load_each_frame_that_was_taken_has_its_verdict(lab, arms, tmp_path):
    from bench.architectures import live

    sender = build_program(tmp_path, "udp_flood")
    with lab.server.entered():
        ear = ear_at(live.ACCEPTED_PORT)
    with ear, live.filtering(lab, arms[1]) as running:
        flood = lab.client.popen(sender, "send", SERVER4, live.ACCEPTED_PORT, 22, 60, 3000, 4, stdout=subprocess.DEVNULL)
        begun = live.count_arrivals(ear, 500)
        report = running[0].stop()
        running[0].stop = lambda: report
        assert flood.poll() is None
        flood.kill()
        flood.wait()
        ear.settimeout(0.2)
        arrived = begun + live.count_arrivals(ear, 1_000_000)
    assert begun == 500
    assert report["passed"] == arrived
    assert report["given"] == report["passed"]
    assert programs(lab) == 0


def test_killed_it_leaves_no_program_behind(lab, arms):
    from bench.architectures import live

    running, = arms[0].start(lab)
    assert programs(lab) == 2
    os.kill(running.pid, signal.SIGKILL)
    assert running.stop() == {}
    assert programs(lab) == 0


def test_what_is_no_ipv4_does_not_get_past(lab, arms):
    """IPv6 is not for these sockets and is dropped; ARP is left to the kernel, or nothing would arrive at all."""
    from bench.architectures import live

    with lab.server.entered(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as ear6, ear_at(live.ACCEPTED_PORT) as ear4:
        ear6.bind(("", live.DROPPED_PORT))
        ear6.settimeout(0.2)
        lab.firewall.run("ip6tables", "-P", "FORWARD", "ACCEPT")
        with live.filtering(lab, arms[0]), lab.client.entered():
            lab.client.run("ip", "neigh", "flush", "dev", "eth0")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as mouth6:
                mouth6.sendto(b"6", (SERVER6, live.DROPPED_PORT))
                mouth.sendto(b"4", (SERVER4, live.ACCEPTED_PORT))
                assert live.count_arrivals(ear4, 1) == 1
                assert live.count_arrivals(ear6, 1) == 0
        with lab.client.entered(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as mouth6:
            ear6.settimeout(5)
            mouth6.sendto(b"6", (SERVER6, live.DROPPED_PORT))
            assert live.count_arrivals(ear6, 1) == 1
