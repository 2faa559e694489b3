"""Who owns a run directory: one living supervisor, or nobody."""

import json
import logging
import os
import signal
import stat

import pytest

from tigerfox.config import Config, as_dict
from tigerfox.control.instance import Instance, write_atomically
from tigerfox.control.start import clear_remains
from tigerfox.errors import InstanceError


@pytest.fixture
def holder(tmp_path):
    """A process that has claimed tmp_path/run and waits; its pid."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            Instance(tmp_path / "run").claim()
            (tmp_path / "run" / "worker-3").write_text("old")
            os.write(tell, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    yield pid
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_nobody(tmp_path):
    instance = Instance(tmp_path / "run")
    assert instance.running() is None
    with pytest.raises(InstanceError, match="tigerfox start"):
        instance.require()


def test_claim_and_release(tmp_path):
    instance = Instance(tmp_path / "deep" / "run")
    instance.claim()
    assert stat.S_IMODE(instance.run_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(instance.pid_file.stat().st_mode) == 0o600
    write_atomically(instance.settings, "{}")
    assert stat.S_IMODE(instance.settings.stat().st_mode) == 0o600
    instance.release()
    assert not instance.run_dir.exists()


def test_a_living_owner_is_named(tmp_path, holder):
    instance = Instance(tmp_path / "run")
    assert instance.running() == instance.require() == holder
    with pytest.raises(InstanceError, match=f"pid {holder}"):
        instance.claim()
    assert (tmp_path / "run" / "worker-3").exists()


def test_what_a_dead_owner_left_is_cleared(tmp_path, holder):
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    instance = Instance(tmp_path / "run")
    assert instance.running() is None
    instance.claim()
    try:
        assert not (tmp_path / "run" / "worker-3").exists()
        assert int(instance.pid_file.read_text()) == os.getpid()
    finally:
        instance.release()


def test_a_place_where_nothing_can_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run", "/proc/run"):
        with pytest.raises(InstanceError, match="another --run-dir"):
            Instance(place).claim()


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/passwd"), lambda path: path.mkdir()])
def test_a_pid_file_that_is_none_is_not_followed(tmp_path, make):
    instance = Instance(tmp_path / "run")
    instance.run_dir.mkdir(mode=0o700)
    make(instance.pid_file)
    with pytest.raises(InstanceError, match="no instance made that"):
        instance.claim()


def test_remains_in_a_folder_of_others_are_not_believed(tmp_path):
    """Its settings would name the chain that `start` takes down."""
    instance = Instance(tmp_path / "run")
    instance.run_dir.mkdir()
    instance.run_dir.chmod(0o777)
    instance.settings.write_text("{}")
    with pytest.raises(InstanceError, match="belongs to us alone"):
        clear_remains(instance, logging.getLogger("test"))


def test_remains_are_cleared_by_one_at_a_time(tmp_path, holder):
    """Nobody who comes later touches what a living instance has put up."""
    instance = Instance(tmp_path / "run")
    instance.settings.write_text(json.dumps({"hooked": True, "settings": as_dict(Config())}))
    with pytest.raises(InstanceError, match=f"pid {holder}"):
        clear_remains(instance, logging.getLogger("test"))
    assert instance.settings.exists()


def test_a_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir(mode=0o755)
    (tmp_path / "run" / "letter.txt").write_text("dear")
    with pytest.raises(InstanceError, match=r"letter\.txt"):
        Instance(tmp_path / "run").claim()
    assert (tmp_path / "run" / "letter.txt").read_text() == "dear"
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755


def test_a_folder_that_others_may_write_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    with pytest.raises(InstanceError, match="belongs to us alone"):
        Instance(tmp_path / "run").claim()


def test_pages_in_order(tmp_path):
    for number in (10, 2, 0):
        (tmp_path / f"worker-{number}").touch()
    assert list(Instance(tmp_path).pages()) == [0, 2, 10]
