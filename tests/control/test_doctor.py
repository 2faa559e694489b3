"""``tigerfox doctor`` and the kernel probes behind it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tigerfox.cli import app
from tigerfox.control import doctor, probe
from tigerfox.control.doctor import FAIL, OK, WARN, Finding
from tigerfox.errors import KernelError

NO_LOSS = {"queue_dropped": 0, "user_dropped": 0}


@pytest.fixture
def fresh_probe():
    """Let the probe ask the kernel again, before and after."""
    probe.probe.cache_clear()
    yield
    probe.probe.cache_clear()


def running(packets, state="running", losses=NO_LOSS):
    return {"workers": [{"queue": i, "state": state, "packets": count} for i, count in enumerate(packets)], "losses": losses}


def test_json_is_a_list_of_findings_and_the_exit_code_follows():
    result = CliRunner().invoke(app, ["doctor", "--json", "--run-dir", "/run/no-such-tigerfox"])
    findings = [Finding(**item) for item in json.loads(result.stdout)]
    assert result.exit_code == doctor.exit_code(findings)
    assert {item.state for item in findings} <= {OK, WARN, FAIL}
    assert all(item.mend for item in findings if item.state != OK)
    assert {item.group for item in findings} == {"Privileges", "Kernel", "Tools", "Limits", "Processors", "Instance"}
    assert {item.name for item in findings if item.group == "Kernel"} == {feature.name for feature in probe.FEATURES}


def test_text_shows_the_mend_below_what_is_wrong():
    text = doctor.render([Finding("A", "good", OK, "fine", "never shown"), Finding("A", "bad", FAIL, "broken", "mend it so")])
    assert text.splitlines() == ["A:", "  ok    good  fine", "  FAIL  bad   broken", "        → mend it so",
                                 "1 ok, 0 to look at, 1 in the way."]


@pytest.mark.parametrize("states, code", [
    ([], 0),
    ([(OK, True), (WARN, False)], 0),
    ([(OK, True), (FAIL, False)], 1),
    ([(FAIL, False), (FAIL, True)], 3),
    ([(WARN, True)], 0),
])
def test_exit_code(states, code):
    assert doctor.exit_code([Finding("g", "n", state, "d", "m", essential) for state, essential in states]) == code


@pytest.mark.parametrize("packets, state, word", [
    ([1000, 1000, 1000, 1000], OK, "1.00"),
    ([1290, 1000, 1000, 710], OK, "1.29"),
    ([1310, 1000, 1000, 690], WARN, "addresses only"),
    ([0, 0, 0, 5000], WARN, "4.00"),
    ([999, 0, 0, 0], OK, "too few"),
    ([100000], OK, "too few"),
])
def test_skew(packets, state, word):
    finding = next(item for item in doctor.judge_status(running(packets)) if item.name == "queue skew")
    assert (finding.state, word in finding.detail) == (state, True)
    assert state == OK or "--fanout flow" in finding.mend


@pytest.mark.parametrize("fanout, why, mend", [
    (None, "addresses only", "--fanout flow"), ("balance", "addresses only", "--fanout flow"), ("cpu", "took them in", "ethtool"),
    ("hash", "a hash", "mark_mask"), ("flow", "carry far more", "More queues"),
])
def test_skew_blames_what_deals_the_packets(fanout, why, mend):
    found = running([0, 0, 0, 5000]) | {"fanout": fanout}
    finding = next(item for item in doctor.judge_status(found) if item.name == "queue skew")
    assert finding.state == WARN and why in finding.detail and mend in finding.mend


def test_losses_and_idle_workers_are_named():
    workers, losses, _ = doctor.judge_status(running([5, 5], "backing off", {"queue_dropped": 7, "user_dropped": 0}))
    assert workers.state == FAIL and "queue 1: backing off" in workers.detail
    assert losses.state == WARN and losses.detail == "queue_dropped 7"
    workers, losses, _ = doctor.judge_status(running([5, 5]))
    assert (workers.state, losses.state) == (OK, OK)


def test_tools_that_are_missing_are_named_with_their_package(tmp_path):
    done = subprocess.run([sys.executable, "-m", "tigerfox", "doctor", "--json"], capture_output=True, text=True, check=False,
                          cwd=Path(__file__).resolve().parents[2], env={"PATH": str(tmp_path)}, timeout=60)
    findings = {item["name"]: item for item in json.loads(done.stdout)}
    assert findings["iptables"]["state"] == WARN and findings["iptables"]["mend"] == "apt-get install iptables"
    assert findings["ip"]["mend"] == "apt-get install iproute2"


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_without_capabilities_nothing_runs_and_sudo_is_the_mend():
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "tigerfox", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60,
                          cwd=Path(__file__).resolve().parents[2])
    assert done.returncode == 3, done.stderr
    finding = next(item for item in json.loads(done.stdout) if item["name"] == "CAP_NET_ADMIN")
    assert finding["state"] == FAIL and "sudo" in finding["mend"]


def test_a_feature_that_does_not_work_is_refused_with_its_mend(fresh_probe, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    name = "--fanout flow --mark-mask none (HMARK)"
    if probe.probe()[name].startswith(probe.UNTRIED):
        pytest.skip(probe.probe()[name])
    with pytest.raises(KernelError, match="iptables is not installed.*CONFIG_NETFILTER_XT_TARGET_HMARK"):
        probe.require(name)
    probe.require("NFQUEUE bind")


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_probes_change_nothing_here(fresh_probe):
    def state():
        rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
        kept = [line.partition("[")[0] for line in rules.splitlines() if not line.startswith("#")]
        return kept, links, Path("/proc/net/netfilter/nfnetlink_queue").read_text(encoding="ascii"), os.listdir("/proc/self/ns")

    subprocess.run(["iptables-save", "-t", "mangle"], capture_output=True, check=True)
    before, namespace = state(), os.readlink("/proc/self/ns/net")
    assert probe.probe()["NFQUEUE bind"] == ""
    assert (state(), os.readlink("/proc/self/ns/net")) == (before, namespace)


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_probe_tells_a_taken_queue_and_a_refused_flag():
    """In a namespace of its own: the same questions get other answers when the answer is no."""
    script = ("import json, struct; from tigerfox.control import probe as p; assert p.leave_namespace() == ''\n"
              "link = p.queue_bind(0)\n"
              "try: p.queue_bind(0); taken = 0\n"
              "except OSError as error: taken = error.errno\n"
              "value = struct.pack('!I', 1 << 20)\n"
              "flag = p.queue_configure(link, 0, p.attribute(p.NFQA_CFG_MASK, value) + p.attribute(p.NFQA_CFG_FLAGS, value))\n"
              "print(json.dumps([taken, flag]))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60,
                          cwd=Path(__file__).resolve().parents[2])
    taken, flag = json.loads(done.stdout)
    assert os.strerror(taken) in ("Operation not permitted", "Device or resource busy")
    assert os.strerror(flag) == "Operation not supported"
