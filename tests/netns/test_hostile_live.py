"""Somebody who wants past: packets as Linux takes them, and an instance whose surroundings go wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))
from packets import extension, tcp  # noqa: E402
from test_supervisor_live import (  # noqa: E402, F401
    COMMAND, PATIENCE, ROOT, RULES, Running, instance, lab, traffic, wait_for)

from bench.topology import CLIENT6, SERVER6  # noqa: E402
from tigerfox.control.instance import Instance  # noqa: E402

pytestmark = pytest.mark.live

BLOCKING = 'drop udp any any -> any 9999 (msg:"closed"; sid:1002; block: source, 10m;)\n'
TELNET = 'drop tcp any any -> any 2323 (msg:"closed"; sid:1003; block: none;)\n'


def checksum(segment, source, target):
    """The TCP checksum over IPv6 (RFC 8200, 8.1)."""
    pseudo = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    data = pseudo + len(segment).to_bytes(4, "big") + bytes([0, 0, 0, 6]) + segment
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[at:at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return (~total & 0xffff).to_bytes(2, "big")


def syn_without_length(port, sport):
    """A SYN behind hop-by-hop options (PadN), in an IPv6 packet whose payload length is 0."""
    segment = bytearray(tcp(sport, port, flags=2))
    segment[16:18] = checksum(bytes(segment), CLIENT6, SERVER6)
    options = bytearray(extension(6, bytes(segment)))
    options[2:4] = bytes([1, 4])
    head = bytes([0x60, 0, 0, 0, 0, 0, 0, 64])
    return head + b"".join(socket.inet_pton(socket.AF_INET6, end) for end in (CLIENT6, SERVER6)) + bytes(options)


def link_of(namespace):
    """Name and hardware address of the link between client and firewall."""
    links = json.loads(namespace.run("ip", "-j", "addr").stdout)
    return next((link["ifname"], link["address"]) for link in links for one in link["addr_info"]
                if one["local"].startswith("fd71:1:"))


def answered(lab, port, sport, seconds=PATIENCE):      # noqa: F811
    """Send that SYN; return whether the server's TCP answers it at all."""
    device, ours = link_of(lab.client)
    theirs = link_of(lab.firewall)[1]
    with lab.client.entered():
        listening = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP)
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with listening, wire:
        listening.settimeout(seconds)
        wire.bind((device, 0))
        link = (theirs + ours).replace(":", "")
        wire.send(bytes.fromhex(link) + b"\x86\xdd" + syn_without_length(port, sport))
        try:
            while listening.recv(2000)[:4] != port.to_bytes(2, "big") + sport.to_bytes(2, "big"):
                pass
        except TimeoutError:
            return False
        return True


def test_jumbo_without_a_jumbo_length(instance, lab, traffic):      # noqa: F811
    """Linux takes an IPv6 packet of payload length 0 whole when hop-by-hop options follow; so must the rules."""
    assert traffic.arrives(4000, SERVER6)
    if not answered(lab, 2323, 40001, 3.0):
        pytest.skip("this kernel does not take such packets")
    with instance("--queues", "0", "--iptables", rules=TELNET):
        assert answered(lab, 2324, 40002)
        assert not answered(lab, 2323, 40003, 1.0)


def test_blocks_of_a_killed_instance_are_taken_over(instance, traffic):      # noqa: F811
    with instance("--queues", "0", "--iptables", rules=BLOCKING) as running:
        assert not traffic.arrives(9999, seconds=0.4)
        assert running.ask("status")["blocks"]["used"] == 1
        running.process.kill()
        running.process.wait()
    with running:
        assert running.said("1 blocks taken over from an instance that died")
        assert running.ask("status")["blocks"]["used"] == 1
        assert not traffic.arrives(4000, seconds=0.4)
    running.assert_nothing_left()


def test_damaged_blocks_of_a_killed_instance_do_not_keep_it_from_starting(instance, traffic):      # noqa: F811
    with instance("--queues", "0", "--iptables", rules=BLOCKING) as running:
        assert traffic.arrives(4000)
        running.process.kill()
        running.process.wait()
    with open(running.run_dir / "blocks", "r+b") as table:
        table.write(b"nonsense")
    with running:
        assert running.said("the block table that a dead instance left cannot be used")
        assert traffic.arrives(4000)


def test_two_starts_at_once_after_a_death(instance, lab, traffic):      # noqa: F811
    """One wins, and the loser does not take down the chain that the winner puts up."""
    running = instance("--queues", "0:1", "--iptables")
    with running:
        running.process.kill()
        running.process.wait()
    for _ in range(3):
        command = [*COMMAND, "start", *running.options, "--daemon"]
        both = [lab.firewall.popen(*command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                for _ in range(2)]
        said = [one.communicate(timeout=PATIENCE)[1] for one in both]
        assert sorted(one.returncode for one in both) == [0, 1], said
        assert traffic.closed(9999)
        assert running.rules_in_kernel() != []
        os.kill(running.ask("status")["pid"], signal.SIGKILL)
        wait_for("it is dead", lambda: Instance(running.run_dir).running() is None)


def test_rules_that_cannot_be_put_down_leave_the_old_ones(instance, traffic):      # noqa: F811
    """A full or damaged run directory refuses a reload; it does not end the supervisor."""
    with instance("--queues", "0", "--iptables") as running:
        (running.run_dir / "rules-2.json.new").mkdir()
        running.rules.write_text(RULES.replace("9999", "9998"))
        done = running.command("reload", "--run-dir", str(running.run_dir))
        assert done.returncode == 1
        assert "rules-2.json" in done.stderr
        assert traffic.closed(9999)
        (running.run_dir / "rules-2.json.new").rmdir()
        assert running.ask("reload")["generation"] == 2
        assert traffic.closed(9998)
        assert traffic.arrives(9999)


def test_reload_while_workers_are_replaced(instance, traffic):      # noqa: F811
    with instance("--queues", "0:1", "--iptables") as running:
        for port in (9990, 9991, 9992):
            for worker in running.workers().values():
                os.kill(worker["pid"], signal.SIGKILL)
            running.rules.write_text(RULES.replace("9999", str(port)))
            assert running.ask("reload")["behind"] == []
            assert traffic.closed(port)
        assert traffic.arrives(9991)


def test_stop_during_a_reload(instance, traffic):      # noqa: F811
    slow = "".join(f'alert tcp 10.{n % 250}.{n // 250}.0/24 any -> any {n} (msg:"x"; sid:{n};)\n' for n in range(1, 8000))
    with instance("--queues", "0", "--iptables") as running:
        assert traffic.closed(9999)
        running.rules.write_text(slow)
        asking = running.lab.firewall.popen(*COMMAND, "reload", "--run-dir", str(running.run_dir), cwd=ROOT,
                                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        wait_for("the compiler", lambda: "tigerfox-rules" in children(running.process.pid))
        running.process.send_signal(signal.SIGTERM)
        assert "stops" in asking.communicate(timeout=PATIENCE)[1]
        assert running.process.wait(PATIENCE) == 0
    running.assert_nothing_left()


def children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/comm").read_text().strip() for child in found]


def test_requests_that_are_nonsense_end_nobody(instance, traffic):      # noqa: F811
    with instance("--queues", "0", "--iptables") as running:
        for request in (b'{"do": ["stop"]}\n', b'{"do": {}}\n', b'{}\n', b"[" * 60000 + b"\n", b'{"do": 1e999}\n'):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(PATIENCE)
                peer.connect(str(running.run_dir / "control.sock"))
                peer.sendall(request)
                peer.recv(65536)
        assert traffic.arrives(4000)
        assert running.ask("status")["pid"] == running.process.pid


def test_events_to_a_full_disk_cost_no_packet(instance, traffic):      # noqa: F811
    with instance("--queues", "0", "--iptables", "--eve", "/dev/full") as running:
        assert traffic.arrives(53)
        assert traffic.closed(9999)
        wait_for("it is said", lambda: running.said("events to /dev/full: No space left"))
        assert traffic.arrives(53)


def test_nobody_else_reaches_the_instance(instance):      # noqa: F811
    with instance("--queues", "0") as running:
        assert {path.name: path.stat().st_mode & 0o777 for path in running.run_dir.iterdir()
                if path.stat().st_mode & 0o177} == {}
        pid = running.workers()[0]["pid"]
        for inside in (running.run_dir, running.run_dir / "control.sock", running.run_dir / "blocks", f"/proc/{pid}/mem"):
            done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", str(inside)],
                                  capture_output=True, text=True, check=False)
            assert "Permission denied" in done.stderr, done.stderr
