"""``tigerfox demo``: everything as it should be, and nothing left behind, however it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tigerfox.demo import run, scenario, topology

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "tigerfox", "demo"]
live = [pytest.mark.live, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


def spawn(*arguments):
    return subprocess.Popen([*DEMO, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)


def remains(pid):
    """Namespaces of the demo ``pid``, and its processes (they carry the namespaces' names in their command lines)."""
    names = [name for name in topology.namespaces() if name.startswith(f"{topology.PREFIX}{pid}-")]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"{topology.PREFIX}{pid}-".encode() in path.read_bytes():
                names.append(path.read_text())
        except OSError:
            continue
    return names


def folders(pid):
    return sorted(Path(tempfile.gettempdir()).glob(f"{topology.PREFIX}{pid}-*"))


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def shown():
    """One whole demo with --json: (exit code, report, pid)."""
    process = spawn("--json")
    out, err = process.communicate(timeout=240)
    assert remains(process.pid) == folders(process.pid) == [], err
    return process.returncode, json.loads(out), err


class TestShown:
    pytestmark = live

    def test_all_is_as_it_should_be(self, shown):
        code, report, err = shown
        assert [step for step in report["steps"] if not step["ok"]] == []
        assert (code, report["ok"], err) == (0, True, "")

    def test_every_step_was_sent_with_every_ip_version(self, shown):
        assert len(shown[1]["steps"]) == len(scenario.STEPS) * len(topology.families())

    def test_what_is_stopped_had_been_answered_without(self, shown):
        stopped = [step for step in shown[1]["steps"] if step["happened"] in ("silent", "refused")]
        assert len(stopped) >= 9 * len(topology.families())
        assert {step["without"] for step in stopped} == {"answered"}

    def test_statistics_begin_with_the_losses(self, shown):
        statistics = shown[1]["statistics"]
        losses = [name for name in statistics if name.startswith("lost: ")]
        assert losses and list(statistics)[:len(losses)] == losses
        assert all(statistics[name] == 0 for name in losses)
        assert statistics["dropped"] > 0 and statistics["because: reject_rule"] > 0


class TestInterrupted:
    pytestmark = live

    @pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("moment", ["building", "serving", "filtering"])
    def test_nothing_is_left_behind(self, signal_number, moment):
        process = spawn()
        role = {"building": None, "serving": "server", "filtering": "firewall"}[moment]

        def reached():
            if role is None:
                return any(f"-{process.pid}-" in name for name in topology.namespaces())
            name = f"{topology.PREFIX}{process.pid}-{role}"
            return subprocess.run(["ip", "netns", "pids", name], capture_output=True, check=False).stdout != b""

        wait_for(reached)
        process.send_signal(signal_number)
        process.communicate(timeout=60)
        assert process.returncode not in (0, -signal_number)
        assert remains(process.pid) == folders(process.pid) == []

    def test_a_killed_demo_is_cleaned_up_by_the_next(self):
        process = spawn()
        wait_for(lambda: len([name for name in topology.namespaces() if f"-{process.pid}-" in name]) == 3)
        process.kill()
        process.communicate(timeout=60)
        assert remains(process.pid)
        with topology.Topology() as net:
            assert {*net.names.values()} <= {*topology.namespaces()}
        assert remains(process.pid) == folders(process.pid) == []


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="needs setpriv")
def test_without_root_it_ends_with_3_and_the_mend():
    lower = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run([*lower, *DEMO], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3 and "sudo " in done.stderr


def test_the_rules_of_the_demo_are_found():
    assert {*run.RULE_FILES} <= {path.name for path in run.rules_dir().glob("*.rules")}
