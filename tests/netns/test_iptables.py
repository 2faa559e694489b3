"""scripts/iptables on a real kernel, in namespaces of its own: what is added, what is left alone, where packets go."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tigerfox.demo import run as demo
from tigerfox.demo.topology import SERVER, SOURCES, Topology, environment, families

pytestmark = [pytest.mark.live, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts" / "iptables"
FRONTENDS = [name for name in ("nft", "legacy") if shutil.which(f"iptables-{name}")]
MODES = {
    "single": ["--queues", "3"],
    "balance": ["--queues", "0:3"],
    "cpu": ["--queues", "0:3", "--fanout", "cpu"],
    "hash": ["--queues", "0:3", "--fanout", "flow", "--mark-mask", "none"],
    "flow": ["--queues", "0:3", "--fanout", "flow"],
    "deal": ["--queues", "0:3", "--fanout", "flow", "--mark-mask", "0xff00"],
}
SYN = 0x02


@pytest.fixture(scope="module")
def net():
    with Topology() as topology, demo.Server(topology):
        yield topology


@pytest.fixture(params=FRONTENDS)
def firewall(net, request):
    """Scripts and iptables of one front end in the firewall's namespace, emptied before and after.

    The server does not send a SYN-ACK again: one that an earlier test left without its answer would be counted here.
    """
    subprocess.run(net.command("server", "sh", "-c", "echo 0 >/proc/sys/net/ipv4/tcp_synack_retries"), check=True)
    made = Firewall(net, request.param)
    made.empty()
    yield made
    made.empty()


class Firewall:
    """Calls in the firewall's namespace, or another's."""

    def __init__(self, net, frontend, role="firewall"):
        self.net, self.frontend, self.role = net, frontend, role

    def empty(self):
        for tool in ("iptables", "ip6tables"):
            for table in ("mangle", "filter", "nat"):
                self.tables(tool, "-t", table, "-F")
                self.tables(tool, "-t", table, "-X")

    def call(self, command, expect=0):
        done = subprocess.run(self.net.command(self.role, *command), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == expect, done.stderr
        return done

    def tables(self, tool, *arguments):
        return self.call([f"{tool}-{self.frontend}", "-w", *arguments])

    def script(self, name, *arguments, expect=0):
        return self.call([str(SCRIPTS / name), "--frontend", self.frontend, *arguments], expect)

    def saved(self):
        """All tables of both families, without times and counters; empty chains of the kernel's own are nothing."""
        text = "".join(self.call([f"{tool}-{self.frontend}-save"]).stdout for tool in ("iptables", "ip6tables"))
        kept = [re.sub(r"\[\d+:\d+\]", "", line) for line in text.splitlines() if line[:1] in (":", "-")]
        return [line for line in kept if not re.fullmatch(r":(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING) ACCEPT ?", line)]

    def status(self, expect=0):
        return json.loads(self.script("status.sh", "--json", expect=expect).stdout)

    def packets(self, text):
        """Packets counted by the rules of table mangle that contain ``text``, both families."""
        lines = "".join(self.call([f"{tool}-{self.frontend}-save", "-c", "-t", "mangle"]).stdout
                        for tool in ("iptables", "ip6tables"))
        return sum(int(line[1:line.index(":")]) for line in lines.splitlines() if line.startswith("[") and text in line)


FOREIGN = (
    "-t mangle -N TIGERFOX2",
    "-t mangle -A FORWARD -j TIGERFOX2",
    "-t mangle -A FORWARD -j MARK --set-xmark 0x5/0x7",
    "-t mangle -A TIGERFOX2 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1400",
    "-t mangle -A POSTROUTING -j RETURN",
    "-t filter -A FORWARD -j ACCEPT",
    "-t nat -A POSTROUTING -p udp -j RETURN",
)


def add_foreign(firewall):
    for tool in ("iptables", "ip6tables"):
        for rule in FOREIGN:
            firewall.tables(tool, *rule.split())


def send(net, **job):
    """Send one job from the client; returns its answer."""
    job = {"kind": "segment", "source": SOURCES["honest", job["family"]], "target": SERVER[job["family"]], "port": 80,
           "count": 1, "flags": SYN, "first": 10000, **job}
    done = subprocess.run(net.python("client", "tigerfox.demo.traffic", "send"), input=json.dumps([job]), text=True,
                          env=environment(), capture_output=True, timeout=60, check=True)
    return json.loads(done.stdout)[0]


@contextlib.contextmanager
def listening(net, first, last, role="firewall"):
    """Accept on the queues while the block lasts; the list that comes out is filled at its end."""
    command = net.command(role, sys.executable, str(ROOT / "tests" / "netns" / "listener.py"), str(first), str(last))
    process = net.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    seen = []
    try:
        assert process.stdout.readline() == "ready\n"
        yield seen
        process.stdin.close()
        seen += json.loads(process.stdout.read())
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("mode", MODES)
def test_twice_is_once_and_down_restores(firewall, mode):
    add_foreign(firewall)
    before = firewall.saved()
    hooks = ["--hook", "forward", "--hook", "input", "--hook", "output"]
    firewall.script("up.sh", *MODES[mode], *hooks)
    once = firewall.saved()
    assert once != before
    assert [line for line in once if line in before] == before
    firewall.script("up.sh", *MODES[mode], *hooks)
    assert firewall.saved() == once
    firewall.script("down.sh")
    assert firewall.saved() == before
    firewall.script("down.sh")
    assert firewall.saved() == before


def test_another_mode_replaces_the_first(firewall):
    firewall.script("up.sh", *MODES["balance"])
    wanted = firewall.saved()
    for mode in ("hash", "deal", "cpu"):
        firewall.script("up.sh", *MODES[mode], "--hook", "input", "--loopback")
    firewall.script("up.sh", *MODES["balance"])
    assert firewall.saved() == wanted


@pytest.mark.parametrize("broken", ["-D FORWARD -j TIGERFOX", "-F TIGERFOX", "-A FORWARD -j TIGERFOX",
                                    "-D POSTROUTING -j TIGERFOX-END"])
def test_down_removes_what_is_half_there(firewall, broken):
    add_foreign(firewall)
    before = firewall.saved()
    firewall.script("up.sh", *MODES["hash"])
    firewall.tables("iptables", "-t", "mangle", *broken.split())
    firewall.script("down.sh")
    assert firewall.saved() == before


def test_down_keeps_a_chain_that_others_use(firewall):
    firewall.script("up.sh", *MODES["balance"])
    firewall.tables("iptables", "-t", "mangle", "-A", "PREROUTING", "-j", "TIGERFOX")
    assert "PREROUTING -j TIGERFOX" in firewall.script("down.sh", expect=1).stderr
    assert firewall.saved() == [":TIGERFOX - ", "-A PREROUTING -j TIGERFOX"]


def test_two_instances_side_by_side(firewall):
    firewall.script("up.sh", "--queues", "0:1")
    alone = firewall.saved()
    firewall.script("up.sh", "--name", "TIGERFOX_B", "--queues", "8:9", "--fanout", "flow", "--hook", "input")
    firewall.script("down.sh", "--name", "TIGERFOX_B")
    assert firewall.saved() == alone


@pytest.mark.parametrize("mode", MODES)
def test_dry_run_changes_nothing_and_tells_the_truth(firewall, mode):
    add_foreign(firewall)
    before = firewall.saved()
    plan = firewall.script("up.sh", "--dry-run", *MODES[mode]).stdout
    assert firewall.saved() == before
    subprocess.run(firewall.net.command("firewall", "sh", "-e"), input=plan, text=True, check=True)
    planned = firewall.saved()
    assert planned != before
    undo = firewall.script("down.sh", "--dry-run").stdout
    assert firewall.saved() == planned
    subprocess.run(firewall.net.command("firewall", "sh", "-e"), input=undo, text=True, check=True)
    assert firewall.saved() == before


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", families())
def test_packets_reach_the_queues(firewall, mode, family):
    firewall.script("up.sh", *MODES[mode])
    with listening(firewall.net, 0, 3) as seen:
        assert send(firewall.net, family=family, count=20)["answers"] == 20
    assert len(seen) >= 40
    assert {packet["dport"] for packet in seen if packet["src"] == SOURCES["honest", family]} == {80}
    if mode == "single":
        assert {packet["queue"] for packet in seen} == {3}
    status = firewall.status()
    assert sum(rule["packets"] for rule in status[f"ipv{family}"]["rules"] if rule["queues"]) == len(seen)


@pytest.mark.parametrize("mode", ["hash", "flow", "deal"])
@pytest.mark.parametrize("family", families())
def test_flow_spreads_connections_and_keeps_each_on_one_queue(firewall, mode, family):
    firewall.script("up.sh", *MODES[mode])
    with listening(firewall.net, 0, 3) as seen:
        assert send(firewall.net, family=family, count=200)["answers"] == 200
    queues, directions = defaultdict(set), defaultdict(set)
    for packet in seen:
        outward = packet["dport"] == 80
        port = packet["sport"] if outward else packet["dport"]
        queues[port].add(packet["queue"])
        directions[port].add(outward)
    assert len(queues) == 200
    assert all(both == {True, False} for both in directions.values())
    assert all(len(used) == 1 for used in queues.values())
    load = Counter(next(iter(used)) for used in queues.values())
    assert sorted(load) == [0, 1, 2, 3]
    assert (set(load.values()) == {50}) if mode != "hash" else (min(load.values()) >= 20)


@pytest.mark.parametrize("family", families())
def test_200_connections_of_one_client_are_even_over_8_queues_where_balance_uses_one(firewall, family):
    busiest = {}
    for fanout in ("balance", "flow"):
        firewall.script("up.sh", "--queues", "0:7", "--fanout", fanout)
        with listening(firewall.net, 0, 7) as seen:
            assert send(firewall.net, family=family, count=200)["answers"] == 200
        load = Counter(packet["queue"] for packet in seen)
        busiest[fanout] = max(load.values()) * 8 / sum(load.values())
    assert busiest["balance"] == 8
    assert busiest["flow"] <= 1.3


@pytest.mark.parametrize("family", families())
def test_deal_leaves_foreign_marks_alone(firewall, family):
    tool = "iptables" if family == 4 else "ip6tables"
    firewall.tables(tool, "-t", "mangle", "-A", "FORWARD", "-j", "MARK", "--set-xmark", "0xabcd1234/0xffffffff")
    firewall.tables(tool, "-t", "mangle", "-A", "FORWARD", "-j", "CONNMARK", "--set-xmark", "0x7a0000c3/0xffff00ff")
    firewall.script("up.sh", *MODES["deal"])
    firewall.tables(tool, "-t", "mangle", "-A", "POSTROUTING", "-m", "connmark", "--mark", "0x7a0000c3/0xffff00ff", "-m", "mark",
                    "--mark", "0xabcd1234", "-m", "comment", "--comment", "both", "-j", "RETURN")
    with listening(firewall.net, 0, 3) as seen:
        assert send(firewall.net, family=family, count=40)["answers"] == 40
    assert {packet["mark"] for packet in seen} == {0xabcd1234}
    assert firewall.packets("--comment both") == len(seen)
    assert {packet["queue"] for packet in seen} == {0, 1, 2, 3}


@pytest.mark.parametrize("family", families())
def test_hash_takes_its_mark_away_and_never_overwrites_another(firewall, family):
    tool = "iptables" if family == 4 else "ip6tables"
    firewall.tables(tool, "-t", "mangle", "-A", "FORWARD", "-p", "tcp", "--dport", "8080", "-j", "MARK", "--set-xmark", "0x9/0xf")
    firewall.script("up.sh", *MODES["hash"])
    for mark, name in (("0x0", "clean"), ("0x9", "foreign")):
        firewall.tables(tool, "-t", "mangle", "-A", "POSTROUTING", "-p", "tcp", "-m", "mark", "--mark", mark, "-m", "comment",
                        "--comment", name)                     # -p: the firewall's own neighbour discovery comes by too
    with listening(firewall.net, 0, 3) as seen:
        assert send(firewall.net, family=family, count=30)["answers"] == 30
        assert send(firewall.net, family=family, count=10, port=8080, first=11000)["answers"] == 10
    foreign = [packet for packet in seen if packet["mark"] == 9]
    assert {packet["dport"] for packet in foreign} == {8080}
    assert all(packet["mark"] == 0x54460000 + packet["queue"] for packet in seen if packet["mark"] != 9)
    assert firewall.packets("--comment foreign") == len(foreign)
    assert firewall.packets("--comment clean") == len(seen) - len(foreign)


def test_hash_keeps_its_seed_when_run_again(firewall):
    firewall.script("up.sh", *MODES["hash"])
    first = re.findall("--hmark-rnd (\\S+)", "\n".join(firewall.saved()))
    firewall.script("up.sh", *MODES["hash"])
    assert re.findall("--hmark-rnd (\\S+)", "\n".join(firewall.saved())) == first
    assert len(set(first)) == 1
    firewall.script("down.sh")
    firewall.script("up.sh", *MODES["hash"])
    assert re.findall("--hmark-rnd (\\S+)", "\n".join(firewall.saved())) != first


@pytest.mark.parametrize("mode", MODES)
def test_fail_policy_without_listener(firewall, mode):
    firewall.script("up.sh", *MODES[mode], "--fail", "open")
    assert send(firewall.net, family=4, kind="connect")["outcome"] == "answered"
    firewall.script("up.sh", *MODES[mode], "--fail", "closed")
    assert send(firewall.net, family=4, kind="connect", timeout=0.3)["outcome"] == "silent"


def test_allowed_addresses_are_not_queued(firewall):
    firewall.script("up.sh", "--allow", "198.51.100.0/24:80", "--allow", "[2001:db8:1::/64]:80", "--allow", "2001:db8:bad::66")
    stopped, outcomes = {"other port", "other source"}, {}
    jobs = {"allowed": {"family": 4}, "allowed6": {"family": 6}, "other port": {"family": 4, "port": 8080},
            "whole": {"family": 6, "port": 8080, "source": SOURCES["listed", 6]},
            "other source": {"family": 4, "source": SOURCES["listed", 4]}}
    for name, job in jobs.items():
        if job["family"] in families():
            patience = {"timeout": 0.3} if name in stopped else {}
            outcomes[name] = send(firewall.net, kind="connect", **patience, **job)["outcome"]
    assert {outcomes.pop(name) for name in stopped} == {"silent"}
    assert set(outcomes.values()) == {"answered"}


@pytest.mark.parametrize("mode", MODES)
def test_the_reply_mark_is_left_out_on_output_and_means_nothing_elsewhere(firewall, mode):
    mark = ["-m", "comment", "--comment", "marked", "-j", "MARK", "--set-xmark", "0x100000/0x100000"]
    options = [*MODES[mode], "--skip-mark", "0x100000/0x100000"]
    server = Firewall(firewall.net, firewall.frontend, "server")
    try:
        server.script("up.sh", *options, "--hook", "output")
        up = server.saved()
        server.script("up.sh", *options, "--hook", "output")
        assert server.saved() == up
        assert send(firewall.net, family=4, kind="connect", timeout=0.3)["outcome"] == "silent"
        server.tables("iptables", "-t", "mangle", "-I", "OUTPUT", *mark)
        assert send(firewall.net, family=4, kind="connect")["outcome"] == "answered"
        assert server.status()["ipv4"]["hooks"] == ["output"]
        server.script("down.sh")
        assert len(server.saved()) == 1
    finally:
        server.empty()
    firewall.tables("iptables", "-t", "mangle", "-A", "FORWARD", *mark)
    firewall.script("up.sh", *options)
    assert send(firewall.net, family=4, kind="connect", timeout=0.3)["outcome"] == "silent"


def test_loopback_is_left_out_unless_asked_for(net):
    server = Firewall(net, FRONTENDS[0], "server")
    ask = [sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 80), 0.3)"]
    try:
        server.script("up.sh", "--hook", "input", "--hook", "output")
        server.call(ask)
        assert send(net, family=4, kind="connect", timeout=0.3)["outcome"] == "silent"
        server.script("up.sh", "--hook", "input", "--loopback")
        server.call(ask, expect=1)
    finally:
        server.empty()


def test_status_says_who_listens_and_whether_it_is_up(firewall):
    assert firewall.status(expect=1)["ipv4"] == {"hooks": [], "rules": []}
    firewall.script("up.sh", *MODES["balance"])
    assert "queue 2: nobody listens" in firewall.script("status.sh").stdout
    with listening(firewall.net, 0, 3):
        status = firewall.status()
        assert [row["queue"] for row in status["queues"]] == [0, 1, 2, 3]
        assert "nobody" not in firewall.script("status.sh").stdout
    assert status["ipv4"]["hooks"] == ["forward"]
    assert [rule["queues"] for rule in status["ipv4"]["rules"]] == ["0:3"]
    firewall.tables("ip6tables", "-t", "mangle", "-D", "FORWARD", "-j", "TIGERFOX")
    firewall.status(expect=1)


def test_ipv4_is_taken_back_when_ipv6_is_refused(firewall):
    """A rule of somebody else's leads into an old chain that up.sh would have to remove, in IPv6 alone."""
    before = firewall.saved()
    firewall.tables("ip6tables", "-t", "mangle", "-N", "TIGERFOX")
    firewall.tables("ip6tables", "-t", "mangle", "-N", "TIGERFOX-END")
    firewall.tables("ip6tables", "-t", "mangle", "-A", "PREROUTING", "-j", "TIGERFOX-END")
    firewall.script("up.sh", *MODES["balance"], expect=1)
    assert not [line for line in firewall.saved() if line.startswith("-A FORWARD")]
    firewall.empty()
    assert firewall.saved() == before


DRIVE = """
import json, sys
from tigerfox import config
from tigerfox.control import netfilter
from tigerfox.errors import TigerFoxError
settings = config.load(None, {"queues.numbers": "0:3", "netfilter.fanout": "flow", "netfilter.frontend": sys.argv[2]})
try:
    answer = {"up": netfilter.up, "down": netfilter.down, "offered": netfilter.packets_offered,
              "counters": netfilter.counters}[sys.argv[1]](settings)
    print(json.dumps(answer))
except TigerFoxError as error:
    print(json.dumps([type(error).__name__, error.exit_code, str(error)]))
"""


def test_driven_from_python(firewall):
    def drive(what, *lower):
        command = firewall.net.command("firewall", *lower, sys.executable, "-c", DRIVE, what, firewall.frontend)
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True, timeout=60)
        return json.loads(done.stdout)

    assert drive("offered") == 0
    with listening(firewall.net, 0, 3) as seen:
        assert drive("up") == ""
        for family in families():
            assert send(firewall.net, family=family, count=50)["answers"] == 50
        offered = drive("offered")
    assert offered == len(seen) >= 100 * len(families())
    assert drive("counters")["ipv4"]["hooks"] == ["forward"]
    name, code, text = drive("up", "setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert (name, code) == ("MissingError", 3) and "sudo" in text
    drive("down")
    drive("down")
    assert drive("counters")["ipv4"] == {"hooks": [], "rules": []}


def test_a_refused_rule_is_an_error_with_what_iptables_said(firewall):
    command = DRIVE.replace('"netfilter.fanout": "flow"', '"netfilter.allow": ["10.0.0.300"]')
    done = subprocess.run(firewall.net.command("firewall", sys.executable, "-c", command, "up", firewall.frontend),
                          capture_output=True, text=True, env=environment(), check=True, timeout=60)
    name, code, text = json.loads(done.stdout)
    assert (name, code) == ("TigerFoxError", 1) and "10.0.0.300" in text
    assert firewall.saved() == []
