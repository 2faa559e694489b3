"""Inputs that fuzzing found (scripts/fuzz.sh), through the checks of their targets in this build."""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "targets"), str(HERE), str(HERE.parent / "stages")]
TARGETS = sorted(path.stem for path in (HERE / "targets").glob("*.py") if "def check(" in path.read_text())


def target(name):
    """A module of targets/, under a name that nothing else has."""
    spec = importlib.util.spec_from_file_location(f"fuzz_target_{name}", HERE / "targets" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(path.name for path in (HERE / "corpus").iterdir()))
def test_kept_inputs(name):
    check = target(name).check
    for path in sorted((HERE / "corpus" / name).iterdir()):
        try:
            check(memoryview(path.read_bytes()))
        except Exception as error:
            raise AssertionError(f"{path.relative_to(HERE)}: {error}") from error


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name):
    module = target(name)
    for one in module.seeds():
        module.check(memoryview(one))
