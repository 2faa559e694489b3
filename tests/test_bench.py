"""What benches compute from what they measured, and the one that counts instructions."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import callgrind, report, rounds

ROOT = Path(__file__).resolve().parent.parent


def test_arms_run_in_turn_and_each_round_begins_with_another():
    order = []
    found = rounds.interleave(["a", "b", "c"], 3, lambda name: order.append(name) or len(order), warm=1)
    assert "".join(order) == "abcbcacababc"
    assert found["a"] == [6, 8, 10]


def test_a_ratio_is_taken_within_its_round():
    assert rounds.ratio([10, 200, 30], [10, 100, 20]) == 1.5
    assert rounds.ratio([10, None], [10, 5]) == 1.0
    assert rounds.ratio([None], [5]) is None


def test_table_has_medians_and_ratios():
    found = {"none": [{"per_second": 100, "p99_ms": 1}, {"per_second": 200, "p99_ms": 3}],
             "ours": [{"per_second": 50}, {"per_second": 150}]}
    ours = rounds.table(found, {"per_second": 0, "p99_ms": 1}, ("none", "accept"))[1]
    assert ours == {"arm": "ours", "per_second": 100, "p99_ms": None, "to_none": 0.625, "rounds": [50, 150]}


def test_results_become_a_table_and_what_was_left_out_is_said(tmp_path):
    (tmp_path / "results").mkdir()
    arms = [{"arm": "none", "what": "no firewall", "per_second": 100, "to_none": 1.0, "rounds": [90, 110]},
            {"arm": "tigerfox", "what": "TigerFox", "per_second": 80, "to_none": 0.8, "rounds": [70, 90]}]
    machine = {"cpus": 2, "cpu": "some", "kernel": "6", "commit": "abc", "time": "now"}
    found = {"machine": machine, "rounds": 2, "arms": arms, "left_out": {"scapy": "it is not installed"}}
    (tmp_path / "results" / "http.json").write_text(json.dumps(found))
    done = subprocess.run([sys.executable, "-m", "bench.report", "--results", tmp_path / "results", "--docs", tmp_path / "docs"],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "docs" / "README.md").read_text()
    assert "| **TigerFox** | **80** | **0.8** |" in text
    assert "it is not installed" in text and "commit abc" in text


def test_every_table_has_words_for_its_columns():
    assert {key for _, keys in report.TABLES.values() for key in keys} <= set(report.HEADS)


HOLDS = """
import json, mmap, os
from bench import ruleset
before = ruleset.held(os.getpid())
own, shared = bytearray(b"x") * (20 << 20), mmap.mmap(-1, 30 << 20)
shared.write(b"x" * (30 << 20))
after = ruleset.held(os.getpid())
print(json.dumps({name: after[name] - before[name] for name in after}))
"""


def test_memory_is_told_by_what_holds_it():
    # In a process of its own, which has nothing freed to use again.
    grown = json.loads(subprocess.run([sys.executable, "-c", HOLDS], check=True, capture_output=True, cwd=ROOT).stdout)
    assert 19 <= grown["own_mb"] <= 29 and 29 <= grown["tables_mb"] <= 31 and 48 <= grown["private_mb"] <= 60


def test_own_instructions_are_counted_once():
    text = "ob=(1) /x/stream.cpython-311.so\nfn=(1) a\n10 100\ncob=(2) /usr/lib/libhs.so.5\ncfn=(2) scan\ncalls=3 0\n11 900\n+1 5\n" \
           "\nob=(2)\nfn=(2)\n7 900\n"
    assert callgrind.by_module(text) == {"stream": 105, "libhs": 900}


def test_more_instructions_are_told():
    before = {"instructions": 100, "modules": [{"module": "flow", "instructions": 50, "share": 0.5}]}
    after = {"instructions": 104, "modules": [{"module": "flow", "instructions": 58, "share": 0.55}]}
    assert callgrind.compare(after, before, 0.05) == ["flow: 50 to 58"]
    assert callgrind.compare(before, before, 0.05) == []


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed: apt-get install valgrind")
def test_instructions_of_a_replay_are_counted_by_stage(tmp_path):
    out = tmp_path / "counted.json"
    done = subprocess.run([sys.executable, "-m", "bench.callgrind", "--json", out], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    counted = {row["module"]: row["instructions"] for row in found["modules"]}
    assert found["packets"] == callgrind.CONNECTIONS * (6 + 3 * callgrind.REQUESTS)
    assert counted["parse"] > 50 and counted["libhs"] > 100 and counted["stream"] > 50
