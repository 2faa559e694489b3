"""Rules compiled in a child: what comes back, and what comes back when it fails."""

import os
import signal

import pytest

from tigerfox import config
from tigerfox.control.loading import Compilation, map_image
from tigerfox.dataplane.image import CompiledRules
from tigerfox.errors import RuleError, TigerFoxError


def rules(tmp_path, text, **settings):
    path = tmp_path / "test.rules"
    path.write_text(text, encoding="utf-8")
    return config.Rules(files=(str(path),), **settings)


FIRST = 'drop tcp any any <> any 80 (msg:"x"; sid:5; rev:2; priority:1;)\n'
GOOD = FIRST + 'alert udp any any -> any 53 (msg:"y"; sid:6;)\n'
BAD = "drop tcp any any -> any 80 (sid:7; nonsense;)\n"


def test_image_and_metadata(tmp_path):
    loaded = Compilation(rules(tmp_path, GOOD), 600).wait()
    try:
        compiled = CompiledRules.from_buffer(map_image(loaded.image), 7)
        assert (loaded.rules, compiled.generation, compiled.copy_range) == (2, 7, loaded.copy_range)
        assert compiled.rule_count == len(loaded.metadata) == 3
        assert loaded.metadata[0] == ["drop", 1, 5, 2, "x", "", 1]
        assert loaded.metadata[-1] == ["alert", 1, 6, 0, "y", "", 3]
        with pytest.raises(PermissionError):
            os.write(loaded.image, b"x")
        with pytest.raises(PermissionError):
            os.ftruncate(loaded.image, 1)
    finally:
        loaded.close()


def test_refused_rules_say_where(tmp_path):
    with pytest.raises(RuleError, match=r"test\.rules:2:"):
        Compilation(rules(tmp_path, FIRST + BAD), 600).wait()


def test_lenient_leaves_out(tmp_path):
    loaded = Compilation(rules(tmp_path, GOOD + BAD, lenient=True), 600).wait()
    loaded.close()
    assert (loaded.rules, loaded.refused) == (2, 1)
    assert "nonsense" in loaded.left_out[0]


def test_killed_compiler_is_an_error_and_leaves_no_descriptor(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    work = Compilation(rules(tmp_path, GOOD), 600)
    os.kill(work.pid, signal.SIGSTOP)
    work.kill()
    with pytest.raises(TigerFoxError, match="tigerfox rules check"):
        work.wait()
    assert set(os.listdir("/proc/self/fd")) == before


def test_missing_file_is_named(tmp_path):
    with pytest.raises(RuleError, match=r"absent\.rules"):
        Compilation(config.Rules(files=(str(tmp_path / "absent.rules"),)), 600).wait()
