"""Block offload on a running instance: what is in the block table is in the kernel, and only that, while it is there."""

import json
import os
import signal
import time

import pytest

from bench.topology import CLIENT4, CLIENT6, SERVER4, SERVER6, Topology
from tests.netns.test_supervisor_live import Running, Traffic, wait_for

pytestmark = [pytest.mark.live, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

RULES = """\
drop udp any any -> any 7001 (msg:"blocks its source"; sid:1; block: source, 300;)
drop udp any any -> any 7002 (msg:"blocks its connection"; sid:2; block: connection, 300;)
"""


@pytest.fixture(scope="module")
def lab():
    with Topology(prefix="tfofl") as topology:
        yield topology


@pytest.fixture
def traffic(lab):
    return Traffic(lab)


@pytest.fixture
def instance(lab, tmp_path):
    with Running(lab, tmp_path, "--queues", "0:1", "--iptables", rules=RULES) as running:
        wait_for("the first report", lambda: "declared" in offload(running))
        yield running


def offload(running):
    return running.ask("status")["offload"]


def kernel_set(running, name):
    """The elements of a set as nft lists them: {value: seconds left or None}."""
    text = running.lab.firewall.run("nft", "-j", "list", "set", "inet", "TIGERFOX", name).stdout
    found = {}
    for element in next(item["set"] for item in json.loads(text)["nftables"] if "set" in item).get("elem", ()):
        value, left = (element["elem"]["val"], element["elem"].get("expires")) if isinstance(element, dict) and "elem" in element \
            else (element, None)
        found[json.dumps(value)] = left
    return found


def seen(running):
    return sum(worker["packets"] for worker in running.workers().values())


@pytest.mark.parametrize("version, client, server", [(4, CLIENT4, SERVER4), (6, CLIENT6, SERVER6)])
def test_a_source_blocked_by_a_rule_reaches_no_queue_until_it_is_removed(instance, traffic, version, client, server):
    assert traffic.arrives(4000, server)
    assert not traffic.arrives(7001, server, 0.3)
    left = wait_for("the entry in the kernel", lambda: kernel_set(instance, f"source{version}").get(json.dumps(client)))
    assert 290 <= left <= 300
    before, dropped = seen(instance), sum(offload(instance)["packets"].values())
    for _ in range(5):
        assert not traffic.arrives(4000, server, 0.05)
    assert seen(instance) == before
    assert wait_for("the kernel's count", lambda: offload(instance)["packets"]["source"] >= dropped + 5)
    assert instance.command("blocks", "remove", client, "--run-dir", str(instance.run_dir)).returncode == 0
    wait_for("its removal", lambda: not kernel_set(instance, f"source{version}"))
    assert traffic.arrives(4000, server)
    wait_for("the gauge", lambda: offload(instance)["declared"] == offload(instance)["enforced"] == 0)


def test_a_blocked_connection_is_there_in_both_directions_and_no_other_one(instance, traffic):
    assert not traffic.arrives(7002, SERVER4, 0.3)
    found = wait_for("the connection in the kernel", lambda: kernel_set(instance, "connection4"))
    ends = sorted((value["concat"][0], value["concat"][1], value["concat"][2], 7002 in value["concat"][3:])
                  for value in map(json.loads, found))
    assert ends == [(CLIENT4, SERVER4, "udp", True), (SERVER4, CLIENT4, "udp", True)]
    assert traffic.arrives(4000)


def test_the_kernel_asks_nothing_while_nothing_is_blocked(instance, traffic):
    def dormant():
        return "dormant" in instance.lab.firewall.run("nft", "list", "table", "inet", "TIGERFOX").stdout

    assert dormant()
    assert instance.command("blocks", "add", CLIENT4, "--run-dir", str(instance.run_dir)).returncode == 0
    wait_for("the hooks", lambda: not dormant())
    before = seen(instance)
    assert not traffic.arrives(4000, SERVER4, 0.1)
    assert seen(instance) == before
    assert instance.command("blocks", "remove", CLIENT4, "--run-dir", str(instance.run_dir)).returncode == 0
    wait_for("its removal", lambda: not kernel_set(instance, "source4"))
    instance.lab.firewall.run("nft", "add", "table", "inet", "somebodyelse")      # a reconciliation now, not in half a minute
    wait_for("no hooks", dormant)
    assert traffic.arrives(4000)


def test_what_somebody_else_takes_out_or_puts_in_is_put_right(instance, traffic):
    run = instance.lab.firewall.run
    add = ["blocks", "add", "--run-dir", str(instance.run_dir)]
    assert instance.command(*add, CLIENT4).returncode == 0
    wait_for("the entry", lambda: json.dumps(CLIENT4) in kernel_set(instance, "source4"))
    run("nft", "flush", "set", "inet", "TIGERFOX", "source4")
    wait_for("the entry again", lambda: json.dumps(CLIENT4) in kernel_set(instance, "source4"))
    run("nft", "add", "element", "inet", "TIGERFOX", "source4", "{ 10.99.0.1 }")
    wait_for("the stranger gone", lambda: list(kernel_set(instance, "source4")) == [json.dumps(CLIENT4)])
    assert instance.command("blocks", "flush", "--run-dir", str(instance.run_dir)).returncode == 0
    wait_for("all gone", lambda: not kernel_set(instance, "source4"))
    assert traffic.arrives(4000)


def test_100000_entries_are_taken_over_and_go_at_stop(instance, tmp_path):
    listed = tmp_path / "listed"
    listed.write_text("".join(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255} expires={int(time.time()) + 3600}\n"
                              for i in range(0x20000, 0x20000 + 100_000)), encoding="utf-8")
    assert instance.command("blocks", "import", str(listed), "--run-dir", str(instance.run_dir)).returncode == 0
    wait_for("all of them", lambda: offload(instance)["enforced"] == 100_000)
    assert len(kernel_set(instance, "source4")) == 100_000
    assert instance.command("stop", "--run-dir", str(instance.run_dir)).returncode == 0
    instance.assert_nothing_left()
    assert "TIGERFOX" not in instance.lab.firewall.run("nft", "list", "tables").stdout


def test_a_killed_process_is_replaced_and_blocks_hold_while_it_is_away(instance, traffic):
    assert instance.command("blocks", "add", CLIENT4, "--run-dir", str(instance.run_dir)).returncode == 0
    wait_for("the entry", lambda: json.dumps(CLIENT4) in kernel_set(instance, "source4"))
    pid = offload(instance)["pid"]
    os.kill(pid, signal.SIGKILL)
    assert not traffic.arrives(4000, SERVER4, 0.1)
    assert traffic.arrives(4000, SERVER6)
    again = wait_for("the next one", lambda: offload(instance) if offload(instance)["pid"] not in (0, pid) else None)
    assert again["restarts"] == 1
    assert instance.command("blocks", "remove", CLIENT4, "--run-dir", str(instance.run_dir)).returncode == 0
    wait_for("the removal by the next one", lambda: not kernel_set(instance, "source4"))


def test_a_blocked_source_stays_blocked_when_the_supervisor_is_killed_and_traffic_passes(lab, traffic, tmp_path):
    with Running(lab, tmp_path, "--queues", "0:1", "--iptables", "--fail", "open", rules=RULES) as running:
        assert running.command("blocks", "add", CLIENT4, "--run-dir", str(running.run_dir)).returncode == 0
        wait_for("the entry", lambda: json.dumps(CLIENT4) in kernel_set(running, "source4"))
        running.process.kill()
        running.process.wait()
        wait_for("the queues gone", lambda: not running.queues_in_kernel())
        assert traffic.arrives(4000, SERVER6)
        assert not traffic.arrives(4000, SERVER4, 0.3)
    with Running(lab, tmp_path, "--queues", "0:1", "--iptables", "--offload", "off", rules=RULES) as running:
        assert "TIGERFOX" not in lab.firewall.run("nft", "list", "tables", "inet").stdout
        assert offload(running)["on"] is False
