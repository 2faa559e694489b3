"""`tigerfox profile`: names, tables and the flame graph; a worker under load; what it says where it cannot work."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import filters
from bench.instance import Instance
from bench.topology import SERVER4, Topology
from tigerfox.telemetry import flames, profile

RECORD = filters.ROOT / "scripts" / "perf" / "record.sh"
SVG = "{http://www.w3.org/2000/svg}"
SCRIPT = """\
        7f01 __pyx_f_8tigerfox_9dataplane_6stream_stream_take (/x/tigerfox/dataplane/stream.so)
        7f02 __pyx_f_8tigerfox_5_fast_layer_judge.part.0 (/x/tigerfox/_fast.so)
        7f03 _PyEval_EvalFrameDefault (/usr/lib/libpython3.so)

    ffff8101 __nfqnl_enqueue_packet+0x1b ([kernel.kallsyms])
        7f02 __pyx_f_8tigerfox_5_fast_layer_judge (/x/tigerfox/_fast.so)

        7f09 [unknown] (/usr/lib/libhs.so.5.4.0)
        7f02 __pyx_f_8tigerfox_5_fast_layer_judge (/x/tigerfox/_fast.so)
"""


def test_names_are_those_of_the_source():
    assert profile.plain("__pyx_f_8tigerfox_9dataplane_3app_4http_http_feed") == "http.http_feed"
    assert profile.plain("__pyx_f_8tigerfox_9dataplane_7message_phase_scan.constprop.0") == "message.phase_scan"
    assert profile.plain("memcpy+0x12") == "memcpy"


def test_stacks_begin_with_our_code_and_shares_add_up():
    stacks = profile.read_stacks(SCRIPT)
    assert sum(stacks.values()) == 3
    assert {stack[0][0] for stack in stacks} == {"_fast.layer_judge"}
    rows = {row["function"]: row for row in profile.functions(stacks, 10)}
    assert set(rows) == {"stream.stream_take", "__nfqnl_enqueue_packet", "libhs"}
    assert rows["stream.stream_take"]["self"] == pytest.approx(1 / 3, abs=1e-3)


def test_flame_graph_is_one_svg_whose_boxes_say_what_they_are():
    drawn = flames.render(Counter({(("a<b", "/x/tigerfox/a.so"), ("c", "libc.so")): 3, (("a<b", "/x/tigerfox/a.so"),): 1}), "worker")
    tree = ElementTree.fromstring(drawn)
    titles = [title.text for title in tree.iter(f"{SVG}title")]
    assert titles == ["a<b (/x/tigerfox/a.so): 4 samples, 100.00 %", "c (libc.so): 3 samples, 75.00 %"]
    assert "href" not in drawn and "<script" not in drawn


def test_without_perf_it_says_how_to_get_it(tmp_path):
    done = subprocess.run([sys.executable, "-m", "tigerfox", "profile", "--run-dir", tmp_path], capture_output=True, text=True,
                          env=os.environ | {"PATH": str(tmp_path)})
    assert done.returncode == 3
    assert "apt-get install linux-perf" in done.stderr


SENDING = f"import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nwhile True: s.sendto(b'fox', ('{SERVER4}', 4000))"


@pytest.mark.live
@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed: apt-get install linux-perf")
def test_worker_under_load(tmp_path):
    with Topology("tfprof") as lab, Instance(lab.firewall, tmp_path, "", "--queues", "0", "--bypass", "off", rules=filters.FEW) as instance:
        client = lab.client.popen(sys.executable, "-c", SENDING)
        try:
            found = instance.ask("profile", "--seconds", "2", "--svg", tmp_path / "flame.svg")
        finally:
            client.kill()
            client.wait()
    assert found["samples"] > 0 and found["queue"] == 0
    assert sum(row["self"] for row in found["functions"]) <= 1.001
    assert any(title.text.startswith("_fast.") for title in ElementTree.parse(tmp_path / "flame.svg").iter(f"{SVG}title"))


@pytest.mark.live
@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed: apt-get install linux-perf")
def test_script_records_a_worker_while_its_command_brings_packets(tmp_path):
    out = tmp_path / "out"
    with Topology("tfprof") as lab, Instance(lab.firewall, tmp_path, "", "--queues", "0", "--bypass", "off", rules=filters.FEW):
        record = [RECORD, "--tigerfox", Path(sys.executable).parent / "tigerfox", "--run-dir", tmp_path / "run", "--out", out]
        idle = lab.firewall.run(*record, "--wait", 0, check=False)
        assert idle.returncode == 1 and "no packet came" in idle.stderr and not (out / "flame.svg").exists()
        load = ["ip", "netns", "exec", lab.client.name, sys.executable, "-c", SENDING]
        said = lab.firewall.run(*record, "--seconds", 2, "--top", 5, "--", *load).stdout
        assert not lab.firewall.run("pgrep", "-f", f"ip netns exec {lab.client.name}", check=False).stdout
    assert said == (out / "top.txt").read_text() and said.startswith("queue 0, pid ") and "flame graph: " in said
    before, after = (json.loads((out / f"status-{when}.json").read_text())["totals"]["packets"] for when in ("before", "after"))
    assert after > before > 0
    assert any(title.text.startswith("_fast.") for title in ElementTree.parse(out / "flame.svg").iter(f"{SVG}title"))
