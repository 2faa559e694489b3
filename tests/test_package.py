"""The source distribution: what is in it, and that what is installed from it works with the source away.

It is built with assertions, the build that no other test makes; that is also the quicker one.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tigerfox", "rules", "scripts", "docs", "tests", "bench")
FILES = ("LICENSE", "README.md", "CHANGES.md", "CONTRIBUTING.md", "MANIFEST.in", "Makefile", "setup.py", "pyproject.toml")
MADE = {"PKG-INFO", "setup.cfg"}                 # by setuptools, besides tigerfox.egg-info
ALONE = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {"TF_DEBUG": "1"}


def run(*command, folder, expect=0):
    """Run a command of the installation: no PYTHONPATH, away from the source; returns its standard output."""
    done = subprocess.run([str(part) for part in command], cwd=folder, env=ALONE, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def is_source(path):
    """Whether a file of the checkout belongs to the source: not made by a compiler, and C only where we wrote it."""
    return path.suffix not in (".so", ".pyc") and (path.suffix != ".c" or path.parts[0] in ("bench", "tests"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the source with all that builds leave in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    for name in ("left.so", "left.c", "dataplane/left.c"):
        (folder / "tigerfox" / name).touch()
    (folder / "tigerfox" / "__pycache__").mkdir()
    (folder / "tigerfox" / "__pycache__" / "left.pyc").touch()
    return folder


@pytest.fixture(scope="module")
def sdist(checkout, tmp_path_factory):
    target = tmp_path_factory.mktemp("sdist")
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", code, target, folder=checkout)
    found, = target.iterdir()
    return found


@pytest.fixture(scope="module")
def prefix(checkout, sdist, tmp_path_factory):
    """An environment with what the source distribution installs; its dependencies are those of this interpreter."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    shutil.move(checkout, checkout.with_name("moved"))
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder="/").strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps",
        "--no-build-isolation", sdist, folder="/")
    return folder


def test_everything_is_in_it_and_nothing_that_was_built(sdist):
    with tarfile.open(sdist) as archive:
        names = {Path(*Path(one.name).parts[1:]) for one in archive.getmembers() if one.isfile()}
    expected = {path.relative_to(ROOT) for name in FOLDERS for path in (ROOT / name).rglob("*")
                if path.is_file() and "__pycache__" not in path.parts}
    expected = {path for path in expected if is_source(path)} | {Path(name) for name in FILES}
    found = {path for path in names if str(path) not in MADE and path.parts[0] != "tigerfox.egg-info"}
    assert found == expected


def test_the_program_runs_from_any_folder(prefix, tmp_path):
    from tigerfox._version import __version__

    where = run(prefix / "bin" / "python", "-c", "import tigerfox._fast; print(tigerfox._fast.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(prefix)
    assert run(prefix / "bin" / "tigerfox", "version", folder=tmp_path) == f"{__version__}\n"


def test_installed_rules_are_understood(prefix, tmp_path):
    rules = prefix / "share" / "tigerfox" / "rules"
    assert {path.name for path in rules.glob("*.rules")} == {path.name for path in (ROOT / "rules").glob("*.rules")}
    run(prefix / "bin" / "tigerfox", "rules", "check", rules, "--var", f"BLOCKLIST=@{rules / 'lists' / 'example.txt'}",
        folder=tmp_path)


def test_program_finds_what_was_installed_with_it(prefix, tmp_path):
    code = ("from tigerfox.control import netfilter; from tigerfox.demo import run; "
            "print(netfilter.scripts_dir()); print(run.rules_dir())")
    shipped = prefix.resolve() / "share" / "tigerfox"
    found = run(prefix / "bin" / "python", "-c", code, folder=tmp_path).split()
    assert [Path(one).resolve() for one in found] == [shipped / "iptables", shipped / "rules"]


@pytest.mark.parametrize("name", ["iptables/up.sh", "iptables/down.sh", "iptables/status.sh", "perf/record.sh", "scripts/deploy-pinned.sh"])
def test_installed_scripts_run(prefix, tmp_path, name):
    assert "Exit codes:" in run(prefix / "share" / "tigerfox" / name, "--help", folder=tmp_path)
