"""``tigerfox inspector new``: what it writes runs as written; where it cannot, it says what to do and writes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*words, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True,
                          timeout=120, check=False)


@pytest.mark.parametrize("name", ["words", "my-words", "Words_2"])
def test_what_it_writes_passes_its_own_test(tmp_path, name):
    done = run("tigerfox", "inspector", "new", name, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    module = name.replace("-", "_")
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == sorted([f"{module}.py", f"{module}.rules", f"test_{module}.py"])
    assert all(file in done.stdout for file in files)
    tested = run("pytest", "-q", "-p", "no:cacheprovider", f"test_{module}.py", folder=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "3 passed" in tested.stdout
    checked = run("tigerfox", "rules", "check", f"{module}.rules", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout


def test_its_test_can_fail(tmp_path):
    assert run("tigerfox", "inspector", "new", "words", folder=tmp_path).returncode == 0
    code = tmp_path / "words.py"
    code.write_text(code.read_text().replace("LIMIT = 3", "LIMIT = 4"))
    assert "2 failed, 1 passed" in run("pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path).stdout


def test_in_another_folder(tmp_path):
    (tmp_path / "site").mkdir()
    assert run("tigerfox", "inspector", "new", "words", "--folder", "site", folder=tmp_path).returncode == 0
    assert run("pytest", "-q", "-p", "no:cacheprovider", "site", folder=tmp_path).returncode == 0


@pytest.mark.parametrize(("name", "words"), [
    ("2nd", "Begin with a letter"), ("a b", "Begin with a letter"), ("../x", "Begin with a letter"), ("a.b", "Begin with a letter"),
    ("x" * 41, "Begin with a letter"), ("class", "not a word of Python"), ("json", "as my-json"), ("dpkt", "as my-dpkt"),
    ("tigerfox", "as my-tigerfox")])
def test_a_bad_name_is_refused_with_what_would_do(tmp_path, name, words):
    done = run("tigerfox", "inspector", "new", name, folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["words.py", "words.rules", "test_words.py"])
def test_nothing_is_overwritten(tmp_path, there):
    (tmp_path / there).write_text("mine\n")
    done = run("tigerfox", "inspector", "new", "words", folder=tmp_path)
    assert done.returncode == 2
    assert f"{there} would be overwritten. Choose another name" in done.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(there, "mine\n")]


def test_no_folder(tmp_path):
    done = run("tigerfox", "inspector", "new", "words", "--folder", "absent", folder=tmp_path)
    assert done.returncode == 2
    assert "mkdir -p absent" in done.stderr
