"""A whole instance on real queues: traffic, reload, death and stop, each between client and server namespaces."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.topology import CLIENT4, SERVER4, SERVER6, Topology

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "tigerfox"]
RULES = """\
alert udp any any -> any 53 (msg:"a name is asked for"; sid:1001; rev:3; classtype:misc-activity;)
drop udp any any -> any 9999 (msg:"closed port"; sid:1002; block: none;)
"""
PATIENCE = 30.0


def wait_for(what, condition, seconds=PATIENCE):
    """Return the first true answer of ``condition``; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    pytest.fail(f"{what}: not within {seconds:g} s")
    return None


@pytest.fixture(scope="module")
def lab():
    with Topology(prefix="tfsup") as topology:
        yield topology


class Traffic:
    """UDP from client to server; a port is open when what is sent arrives."""

    def __init__(self, lab):
        self.lab = lab
        self.count = 0

    def arrives(self, port, address=SERVER4, seconds=PATIENCE):
        """Send one datagram with a number of its own; return whether it arrives, late ones of before aside."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.lab.server.entered():
            server = socket.socket(family, socket.SOCK_DGRAM)
        with self.lab.client.entered():
            client = socket.socket(family, socket.SOCK_DGRAM)
        with server, client:
            server.bind(("", port))
            server.settimeout(seconds)
            self.count += 1
            client.sendto(str(self.count).encode(), (address, port))
            with contextlib.suppress(TimeoutError):
                while server.recv(100) != str(self.count).encode():
                    pass
                return True
            return False

    def closed(self, port, address=SERVER4):
        """Return whether a datagram to ``port`` has not arrived by the time that a later one to another port has."""
        return not self.arrives(port, address, 0.4) and self.arrives(4000, address)


@pytest.fixture
def traffic(lab):
    return Traffic(lab)


class Running:
    """An instance in the firewall's namespace, with a folder of its own.

    Unless ``bypass`` says "on", its workers see every packet: what the kernel takes over proves nothing about them.
    """

    def __init__(self, lab, folder, *options, config="", rules=RULES, bypass="off"):
        self.lab = lab
        self.folder = folder
        self.run_dir = folder / "run"
        self.eve = folder / "eve.json"
        self.rules = folder / "test.rules"
        self.messages = folder / "messages"
        self.rules.write_text(rules, encoding="utf-8")
        settings = folder / "tigerfox.toml"
        places = f'run_dir = "{self.run_dir}"\nstate_dir = "{folder}/state"\nlog = "{self.messages}"\n'
        settings.write_text(f"[paths]\n{places}{config}")
        self.options = ["--config", str(settings), "--rules", str(self.rules), "--bypass", bypass, *options]
        self.process = None

    def command(self, verb, *options, inside=()):
        """Run a verb to its end, inside the firewall's namespace and the command ``inside``."""
        command = ["ip", "netns", "exec", self.lab.firewall.name, *inside, *COMMAND, verb, *options]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    def start(self, *options, inside=()):
        """Run ``start`` to its end: one that is to fail, or a daemon."""
        return self.command("start", *self.options, *options, inside=inside)

    def ask(self, verb, *options):
        """Run a verb on this instance and return what it says as JSON."""
        done = self.command(verb, "--run-dir", str(self.run_dir), "--json", *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def workers(self):
        """Return the workers' rows of the status, by queue."""
        return {worker["queue"]: worker for worker in self.ask("status")["workers"]}

    def busy(self):
        """Return the row of the worker that has judged the most packets."""
        return max(self.workers().values(), key=lambda worker: worker["packets"])

    def events(self):
        """Return the EVE objects written so far."""
        if not self.eve.exists():
            return []
        return [json.loads(line) for line in self.eve.read_text(encoding="utf-8").splitlines()]

    def said(self, words):
        return words in self.messages.read_text(encoding="utf-8") if self.messages.exists() else False

    def __enter__(self):
        with open(self.messages, "w", encoding="utf-8") as messages:
            self.process = self.lab.firewall.popen(*COMMAND, "start", *self.options, cwd=ROOT, stdout=messages,
                                                   stderr=messages)
        wait_for("ready", lambda: self.said("ready:") or self.process.poll() is not None)
        assert self.process.poll() is None, self.messages.read_text(encoding="utf-8")
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def rules_in_kernel(self):
        """Return the lines of both families' tables that name our chain."""
        return [line for tool in ("iptables-save", "ip6tables-save")
                for line in self.lab.firewall.run(tool).stdout.splitlines() if "TIGERFOX" in line]

    def queues_in_kernel(self):
        return self.lab.firewall.run("cat", "/proc/net/netfilter/nfnetlink_queue").stdout.splitlines()

    def assert_nothing_left(self):
        assert self.rules_in_kernel() == []
        assert self.queues_in_kernel() == []
        assert not self.run_dir.exists()


@pytest.fixture
def instance(lab, tmp_path):
    """Make an instance that is not started yet."""
    made = []

    def make(*options, **settings):
        made.append(Running(lab, tmp_path, *options, **settings))
        return made[-1]

    yield make
    for running in made:
        running.command("stop", "--run-dir", str(running.run_dir))


def test_traffic_rules_events_and_stop(instance, traffic, tmp_path):
    with instance("--queues", "0:3", "--iptables", "--eve", str(tmp_path / "eve.json")) as running:
        for address in (SERVER4, SERVER6):
            assert traffic.arrives(4000, address)
            assert traffic.arrives(53, address)
            assert traffic.closed(9999, address)
        events = wait_for("six events", lambda: [*running.events()] if len(running.events()) >= 6 else None)
        report = running.ask("status")
        text = running.command("status", "--run-dir", str(running.run_dir)).stdout
    kinds = sorted((event["event_type"], event.get("alert", {}).get("signature_id")) for event in events)
    assert kinds == [("alert", 1001)] * 2 + [("alert", 1002)] * 2 + [("drop", 1002)] * 2
    alert = next(event for event in events if event["event_type"] == "alert" and event["dest_port"] == 53)
    assert alert["alert"] == {"action": "allowed", "gid": 1, "signature_id": 1001, "rev": 3,
                              "signature": "a name is asked for", "category": "Misc activity", "severity": 3}
    assert (alert["src_ip"], alert["dest_ip"], alert["proto"]) == (CLIENT4, SERVER4, "UDP")
    drop = next(event for event in events if event["event_type"] == "drop")
    assert drop["drop"]["reason"] == "drop_rule"
    assert drop["alert"]["action"] == "blocked"
    assert report["totals"]["dropped"] == 2
    assert report["reasons"]["drop_rule"]["packets"] == 2
    assert not any(report["losses"].values())
    assert {worker["state"] for worker in report["workers"]} == {"running"}
    assert text.index("no loss") < text.index("queue") < text.index("drop_rule")
    assert running.process.returncode == 0
    running.assert_nothing_left()
    assert traffic.arrives(9999)


def test_workers_have_one_capability_and_a_cpu(instance):
    with instance("--queues", "0:1") as running:
        for worker in running.workers().values():
            status = Path(f"/proc/{worker['pid']}/status").read_text()
            fields = dict(line.split(":\t", 1) for line in status.splitlines())
            assert [int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")] == [1 << 12] * 3
            assert int(fields["CapInh"], 16) == int(fields["CapAmb"], 16) == 0
            assert fields["NoNewPrivs"] == "1"
            assert set(fields["Uid"].split()) == {"65534"}
            assert fields["Groups"].strip() == ""
            assert fields["Cpus_allowed_list"] == str(worker["cpu"])
            names = [os.readlink(entry) for entry in Path(f"/proc/{worker['pid']}/fd").iterdir()]
            assert sum(name.startswith("socket:") for name in names) == 4, names     # queue, channel, two for replies


def test_reload_good_and_bad(instance, traffic):
    with instance("--queues", "0:1", "--iptables") as running:
        assert traffic.closed(9999)
        running.rules.write_text(RULES.replace("9999", "9998") + 'alert tcp any any -> any 1 (msg:"x"; sid:3;)\n')
        report = running.ask("reload")
        assert (report["generation"], report["rules"], report["behind"]) == (2, 3, [])
        assert traffic.arrives(9999)
        assert traffic.closed(9998)
        running.rules.write_text("drop udp any any -> any 9997 (msg:\"broken\"; sid:1; nonsense;)\n")
        done = running.command("reload", "--run-dir", str(running.run_dir))
        assert done.returncode == 1
        assert f"{running.rules}:1:" in done.stderr
        assert "nonsense" in done.stderr
        assert traffic.closed(9998)
        assert traffic.arrives(9997)
        assert {worker["generation"] for worker in running.workers().values()} == {2}


def test_killed_worker_is_replaced(instance, traffic):
    with instance("--queues", "0:1", "--iptables") as running:
        assert traffic.arrives(4000)
        for deaths in (1, 2):
            victim = running.busy()
            os.kill(victim["pid"], signal.SIGKILL)
            assert traffic.closed(9999)
            queue, pid = victim["queue"], victim["pid"]
            heir = wait_for("a successor", lambda q=queue, p=pid: (row := running.workers()[q])["pid"] != p and row)
            assert heir["restarts"] == deaths
            assert heir["state"] == "running"


def test_a_successor_has_the_newest_rules(instance, traffic):
    with instance("--queues", "0", "--iptables") as running:
        running.rules.write_text(RULES.replace("9999", "9998"))
        running.ask("reload")
        os.kill(running.workers()[0]["pid"], signal.SIGKILL)
        assert traffic.closed(9998)
        assert traffic.arrives(9999)
        wait_for("generation 2", lambda: running.workers()[0]["generation"] == 2)


def test_stuck_worker_is_killed_and_replaced(instance, traffic):
    with instance("--queues", "0", "--iptables", config="[watchdog]\nstuck_seconds = 0.5\n") as running:
        assert traffic.arrives(4000)
        victim = running.workers()[0]["pid"]
        os.kill(victim, signal.SIGSTOP)
        assert traffic.arrives(4000, seconds=PATIENCE)       # it waited in the kernel and was judged by the successor
        assert running.workers()[0]["pid"] != victim
        assert running.said("has not moved")
        assert traffic.closed(9999)


def test_idle_stopped_worker_is_left_alone(instance):
    with instance("--queues", "0", config="[watchdog]\nstuck_seconds = 0.2\n") as running:
        pid = running.workers()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        wait_for("an old heartbeat", lambda: running.workers()[0]["heartbeat_age"] > 1)
        assert running.workers()[0]["pid"] == pid


def test_taken_queue_names_its_owner(instance, lab, tmp_path):
    (tmp_path / "other").mkdir()
    with instance("--queues", "0:3") as running:
        second = Running(lab, tmp_path / "other", "--queues", "3:4")
        done = second.start()
        assert done.returncode == 1
        assert f"queue 3 is owned by pid {running.process.pid}" in done.stderr
        assert not second.run_dir.exists()
        assert {worker["state"] for worker in running.workers().values()} == {"running"}


def test_second_start_names_the_first(instance):
    with instance("--queues", "0") as running:
        done = running.start("--queues", "5")
        assert done.returncode == 1
        assert f"pid {running.process.pid}" in done.stderr


@pytest.mark.parametrize(("rules", "words"), [
    ("drop tcp any any -> any 80 (msg:\"x\"; sid:1; contentt:\"a\";)\n", [":1:", "contentt"]),
    ("drop tcp $NOWHERE any -> any 80 (msg:\"x\"; sid:1;)\n", [":1:", "NOWHERE"]),
    ("drop ip $BAD any -> any any (msg:\"x\"; sid:1;)\n", ["absent.list"]),
])
def test_refused_rules_touch_nothing(instance, tmp_path, rules, words):
    running = instance("--queues", "0:1", "--iptables", "--var", f"BAD=@{tmp_path}/absent.list", rules=rules)
    done = running.start()
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr
    running.assert_nothing_left()


def test_without_privilege(instance):
    running = instance("--queues", "0")
    done = running.start(inside=("setpriv", "--bounding-set=-all", "--inh-caps=-all"))
    assert done.returncode == 3
    assert "CAP_NET_ADMIN" in done.stderr
    assert "sudo tigerfox start" in done.stderr
    running.assert_nothing_left()


def test_interrupted_twice_leaves_nothing(instance, traffic):
    with instance("--queues", "0:1", "--iptables") as running:
        assert traffic.arrives(4000)
        running.process.send_signal(signal.SIGINT)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(PATIENCE) == 0
    running.assert_nothing_left()


def test_daemon(instance, traffic):
    running = instance("--queues", "0:1", "--iptables")
    done = running.start("--daemon")
    assert done.returncode == 0, done.stderr
    assert traffic.closed(9999)
    pid = running.ask("status")["pid"]
    assert os.getsid(pid) != os.getsid(0)
    again = running.start("--daemon")
    assert again.returncode == 1
    assert f"pid {pid}" in again.stderr
    assert running.ask("stop") == {"stopped": pid}
    running.assert_nothing_left()
    assert running.said("ready:")


def test_daemon_says_why_it_does_not_start(instance, lab, tmp_path):
    (tmp_path / "other").mkdir()
    with instance("--queues", "0"):
        done = Running(lab, tmp_path / "other", "--queues", "0").start("--daemon")
        assert done.returncode == 1
        assert "queue 0 is owned by" in done.stderr


def test_event_file_is_reopened(instance, traffic, tmp_path):
    with instance("--queues", "0", "--iptables", "--eve", str(tmp_path / "eve.json")) as running:
        assert traffic.arrives(53)
        wait_for("the first event", running.events)
        running.eve.rename(tmp_path / "eve.json.1")
        running.process.send_signal(signal.SIGHUP)
        wait_for("a new file", running.eve.exists)
        assert traffic.arrives(53)
        wait_for("the second event", running.events)
        assert len((tmp_path / "eve.json.1").read_text().splitlines()) == 1
        assert len(running.events()) == 1


def test_event_writer_is_replaced_and_repeats_nothing(instance, traffic, tmp_path):
    with instance("--queues", "0", "--iptables", "--eve", str(tmp_path / "eve.json")) as running:
        assert traffic.arrives(53)
        wait_for("it is reported", lambda: running.ask("status")["events"]["eve"].get("written") == 1)
        os.kill(running.ask("status")["events"]["eve"]["pid"], signal.SIGKILL)
        wait_for("a successor", lambda: running.ask("status")["events"]["eve"]["restarts"] == 1)
        assert traffic.arrives(53)
        wait_for("the second event", lambda: len(running.events()) >= 2)
    assert len(running.events()) == 2


def test_event_file_that_cannot_be_written(instance, traffic):
    with instance("--queues", "0", "--iptables", "--eve", "/proc/no/such/file") as running:
        assert traffic.arrives(53)
        assert traffic.closed(9999)
        wait_for("the error is shown", lambda: running.ask("status")["events"]["eve"].get("error"))
        wait_for("and said", lambda: running.said("events to /proc/no/such/file: No such file"))


def test_event_file_in_a_folder_of_another_user(instance, traffic, tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    os.chown(home, 65534, 65534)
    with instance("--queues", "0", "--iptables", "--eve", str(home / "eve.json")):
        assert traffic.arrives(53)
        wait_for("the event", lambda: (home / "eve.json").exists() and (home / "eve.json").read_text())


def test_dead_supervisor_is_cleared_away(instance, traffic):
    with instance("--queues", "0:1", "--iptables") as running:
        pids = [worker["pid"] for worker in running.workers().values()]
        running.process.kill()
        running.process.wait()
        wait_for("the workers end with it", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        assert running.rules_in_kernel() != []
        assert not traffic.arrives(4000, seconds=0.4)        # policy closed: nobody listens, nothing passes
        done = running.command("stop", "--run-dir", str(running.run_dir))
        assert done.returncode == 0
        assert "iptables" in done.stdout
        running.assert_nothing_left()
        assert traffic.arrives(9999)


def test_dead_supervisor_with_policy_open_lets_traffic_pass(instance, traffic):
    with instance("--queues", "0:1", "--iptables", "--fail", "open") as running:
        assert traffic.closed(9999)
        pids = [worker["pid"] for worker in running.workers().values()]
        running.process.kill()
        running.process.wait()
        wait_for("the workers end with it", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        assert traffic.arrives(9999)
    with running:
        assert traffic.closed(9999)
        assert {worker["restarts"] for worker in running.workers().values()} == {0}
    running.assert_nothing_left()


def test_status_without_the_supervisor(instance, traffic):
    with instance("--queues", "0", "--iptables") as running:
        assert traffic.arrives(4000)
        running.process.send_signal(signal.SIGSTOP)
        try:
            report = running.ask("status")
        finally:
            running.process.send_signal(signal.SIGCONT)
        assert "does not answer" in report["warning"]
        assert report["totals"]["packets"] >= 1
        assert report["workers"][0]["state"] == "running"


def test_blocks_outlive_a_restart(instance, traffic):
    rules = 'drop udp any any -> any 9999 (msg:"closed"; sid:1002; block: source, 10m;)\n'
    with instance("--queues", "0", "--iptables", rules=rules) as running:
        assert not traffic.arrives(9999, seconds=0.4)
        assert not traffic.arrives(4000, seconds=0.4)
    with running:
        assert running.ask("status")["blocks"]["used"] == 1
        assert not traffic.arrives(4000, seconds=0.4)
