"""The rules that the source itself keeps: sizes, direction of imports, what may not be written, no slow Cython."""

import ast
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tigerfox"
COMPILED = sorted([*PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxd")])
PYTHON = sorted(PACKAGE.rglob("*.py"))
SHELL = sorted((ROOT / "scripts").rglob("*.sh"))

# Compiled stages from left to right: a stage cimports only what stands before it.
STAGES = ("reason", "wire", "ascii", "wide", "hashing", "atomic", "check", "packet", "shared", "control", "queuesocket", "queue", "link", "capture", "parse", "defrag",
          "dissect", "events", "stats", "blockentry", "blocks", "blockbulk", "blockchanges", "flowentry", "tcp", "checksum", "flow", "stream", "app.buffer", "app.digest", "app.x509", "app.tlsstate", "app.hello", "app.tls", "app.ssh",
          "app.dns", "app.httpinflate", "app.httpmessage", "app.httpuri", "app.httpline", "app.httpfields", "app.httpbody", "app.httpbuffer",
          "app.http", "app.httpparser", "prefixes", "image", "handover", "candidates", "match", "reach", "scan", "search", "transform", "numbers", "inspect", "session",
          "scene", "ahead", "draft", "candidate", "message", "detect", "rates", "verdict", "reply", "mend", "lane", "explain")
LONG_FUNCTIONS = {}              # name -> lines allowed, beyond the 60 of everybody else
BANNED = {
    r"\bprint\(": "write at the edges (typer.echo), never in the middle",
    r"^\s*DEF\s": "use cdef enum",
    r"^\s*include\s": "cimport instead",
    r"\bcpdef\b": "def for Python, cdef for C",
    r"\b(TODO|FIXME|XXX)\b": "an issue, or do it now",
    r"^\s*#\s*(if|for|while|return|import|cdef|def)\b.*[:;)]\s*$": "code that is commented out",
}


def relative(path):
    return str(path.relative_to(ROOT))


def stage(path):
    """The name of a compiled file in STAGES: application parsers stand in a folder of their own."""
    return f"app.{path.stem}" if path.parent.name == "app" else path.stem


def functions(path):
    """(name, lines) of every function of a Python or Cython file, by indentation."""
    lines = path.read_text().splitlines()
    found = []
    for start, line in enumerate(lines):
        head = re.match(r"(\s*)(?:async )?(?:cdef|def)\s[^=]*?(\w+)\s*\(", line)
        if not head or line.strip().startswith(("cdef extern", "cdef class")) or path.suffix == ".pxd" and "inline" not in line:
            continue
        end = start + 1
        indent = len(head.group(1))
        while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent
                                    or lines[end].strip().startswith(")")):
            end += 1
        while not lines[end - 1].strip():
            end -= 1
        if end - start > 1:
            found.append((head.group(2), end - start))
    return found


@pytest.mark.parametrize("path", [*COMPILED, *PYTHON], ids=relative)
def test_file_is_of_a_readable_size(path):
    count = len(path.read_text().splitlines())
    assert count <= (250 if path.name == "_fast.pyx" else 700), f"{count} lines"


@pytest.mark.parametrize("path", [*COMPILED, *PYTHON], ids=relative)
def test_functions_are_short(path):
    long = [(name, size) for name, size in functions(path) if size > LONG_FUNCTIONS.get(name, 60)]
    assert not long


def test_hot_path_functions_are_short_on_the_whole():
    sizes = sorted(size for path in COMPILED for _, size in functions(path))
    assert statistics.median(sizes) <= 10
    assert sizes[int(len(sizes) * 0.95)] <= 40


@pytest.mark.parametrize("path", [*COMPILED, *PYTHON], ids=relative)
def test_nothing_banned(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for pattern, instead in BANNED.items():
            assert not re.search(pattern, line), f"line {number}: {line.strip()} ({instead})"


@pytest.mark.parametrize("path", [*COMPILED, *PYTHON, *SHELL], ids=relative)
def test_lines_fit_on_a_screen(path):
    assert not [number for number, line in enumerate(path.read_text().splitlines(), 1) if len(line) > 132]


@pytest.mark.parametrize("path", COMPILED, ids=relative)
def test_stage_imports_only_from_its_left(path):
    cimports = re.findall(r"from tigerfox\.([\w.]+) cimport|cimport tigerfox\.([\w.]+)", path.read_text())
    names = {(one or other).removeprefix("dataplane.") for one, other in cimports}
    assert "_fast" not in names
    if stage(path) in STAGES:
        left = STAGES[: STAGES.index(stage(path)) + 1]
        assert names <= set(left)


@pytest.mark.parametrize("path", COMPILED, ids=relative)
def test_compiled_code_imports_no_python_module_of_ours(path):
    imports = set(re.findall(r"^\s*(?:from|import) (tigerfox[\w.]*)(?! cimport)\b(?:.* import|$)", path.read_text(), re.M))
    assert {one for one in imports if not one.startswith("tigerfox.dataplane.")} <= {"tigerfox.errors"}


def test_every_stage_stands_in_the_order():
    files = [path for path in (PACKAGE / "dataplane").rglob("*.p*x*") if path.stem != "__init__"]
    assert {stage(path) for path in files} <= set(STAGES)


def test_python_layers():
    """ruleset knows neither control nor telemetry; nothing but the edges imports the command line."""
    for path in PYTHON:
        tree = ast.parse(path.read_text())
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        if path.parent.name == "ruleset":
            assert not {m for m in modules if m.startswith(("tigerfox.control", "tigerfox.telemetry", "tigerfox.cli"))}, path
        if path.name != "__main__.py":
            assert "tigerfox.cli" not in modules, path


@pytest.mark.parametrize("path", COMPILED, ids=relative)
def test_nogil_prototypes_say_noexcept(path):
    """A nogil function without noexcept costs 38 ns a call: it takes the GIL to look for an exception."""
    text = re.sub(r"\n\s+(?=\S)(?![^(]*\n)", " ", path.read_text())
    for line in text.splitlines():
        if re.match(r"\s*cdef\b.*\)\s*(?:noexcept\s*)?nogil\s*:?", line) and "extern" not in line:
            assert "noexcept nogil" in line, line.strip()


@pytest.mark.parametrize("path", [p for p in COMPILED if p.suffix == ".pyx"], ids=relative)
def test_cython_gives_no_performance_hint(path, tmp_path):
    command = [sys.executable, "-m", "cython", "-3", "-Wextra", "-I", str(ROOT), "-o", str(tmp_path / "out.c"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "performance hint" not in done.stderr


def test_file_names_say_what_is_in_them():
    assert not [path for path in (*COMPILED, *PYTHON) if path.stem in ("utils", "util", "common", "helpers", "misc")]
