"""What all tests share: where the corpus is, and whether live tests can run."""

import os
import resource
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

if os.geteuid() == 0 and ROOT.stat().st_uid != 0:      # leave nothing in a checkout that its owner cannot remove
    _storage = tempfile.TemporaryDirectory(prefix="hypothesis-")
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = _storage.name

_limits = resource.getrlimit(resource.RLIMIT_NOFILE)       # servers of the inspection matrix keep more than 1,024 connections open
resource.setrlimit(resource.RLIMIT_NOFILE, (_limits[1], _limits[1]))

from hypothesis import HealthCheck, settings  # noqa: E402  (behind where it keeps what it finds)

settings.register_profile("tigerfox", deadline=None, suppress_health_check=[HealthCheck.too_slow])      # a busy machine is no fault
settings.load_profile("tigerfox")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a script: what is tested would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def corpus():
    """The corpus folder beside the project; skips where it is not there."""
    folder = Path(os.environ.get("TIGERFOX_CORPUS", ROOT.parent / "shared" / "corpus"))
    if not folder.is_dir():
        pytest.skip(f"the corpus is not at {folder}; set TIGERFOX_CORPUS to where it is")
    return folder


def live_obstacle():
    """Why live tests cannot run here, or None."""
    if os.geteuid() != 0:
        return "live tests need root: run them with sudo (make test does)"
    name = f"tftest-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    try:
        rule = ["ip", "netns", "exec", name, "iptables", "-A", "INPUT", "-j", "NFQUEUE", "--queue-num", "0"]
        done = subprocess.run(rule, capture_output=True, text=True)
        return f"no NFQUEUE here: {done.stderr.strip()}" if done.returncode else None
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def pytest_collection_modifyitems(config, items):
    """Skip live tests where they cannot run; with TIGERFOX_REQUIRE_LIVE=1 they run and fail instead."""
    live = [item for item in items if item.get_closest_marker("live")]
    if not live or os.environ.get("TIGERFOX_REQUIRE_LIVE") == "1":
        return
    obstacle = live_obstacle()
    for item in live if obstacle else ():
        item.add_marker(pytest.mark.skip(reason=obstacle))
