"""Events as EVE lines: the fields, and a file that takes them, takes them late, or does not take them."""

import json
import os

import pytest

from tigerfox.control.instance import Instance
from tigerfox.dataplane.events import ALERT, DROP
from tigerfox.dataplane.reason import reason_number
from tigerfox.dataplane.stats import WorkerPage
from tigerfox.telemetry import eve

ROWS = [["drop", 1, 1002, 3, "closed \u00fc port", "Misc activity", 3], ["alert", 2, 7, 0, "", "", 1]]
TIME = 1_795_737_599_123_456_789     # 2026-11-26T23:59:59


def event(kind=ALERT, src="10.0.0.1", dst="10.0.0.2", **fields):
    """Return one EventRecord, through a ring."""
    page = WorkerPage.create(None, ring_slots=64)
    page.push(kind, src, dst, time_ns=TIME, **({"rule": 0, "proto": 17, "sport": 1000, "dport": 53} | fields))
    return page.reader().drain()[0]


def made(*args, numbered=False, **fields):
    return eve.Writer(lambda generation: ROWS, numbered).object(event(*args, **fields))


def test_alert():
    found = made(number=12, numbered=True)
    flow_id = found.pop("flow_id")
    assert 0 < flow_id < 1 << 53
    assert found == {
        "timestamp": "2026-11-26T23:59:59.123456+0000", "pcap_cnt": 12, "event_type": "alert", "src_ip": "10.0.0.1",
        "src_port": 1000, "dest_ip": "10.0.0.2", "dest_port": 53, "proto": "UDP",
        "alert": {"action": "blocked", "gid": 1, "signature_id": 1002, "rev": 3, "signature": "closed \u00fc port",
                  "category": "Misc activity", "severity": 3}}


def test_drop_without_rule():
    found = made(DROP, rule=eve.NO_RULE, reason=reason_number("blocked_source"), sid=5)
    assert found["event_type"] == "drop"
    assert found["drop"] == {"len": 0, "ttl": 0, "reason": "blocked_source", "sid": 5}
    assert "alert" not in found
    assert "pcap_cnt" not in found


@pytest.mark.parametrize(("number", "name"), [
    (6, "TCP"), (17, "UDP"), (132, "SCTP"), (58, "IPv6-ICMP"), (1, "ICMP"), (47, "GRE"), (170, "170"), (255, "255"),
])
def test_protocol(number, name):
    found = made(proto=number)
    assert found["proto"] == name
    assert ("icmp_type" in found) == (number in (1, 58))
    assert ("src_port" in found) != (number in (1, 58))


def test_action_is_the_rule_s_own():
    assert made(rule=1)["alert"]["action"] == "allowed"
    assert made(rule=1)["alert"]["signature_id"] == 7


def test_rule_of_a_set_that_is_gone():
    assert made(rule=99, sid=4)["alert"]["signature_id"] == 4


def test_flow_id_is_that_of_the_connection():
    there = made(src="fd00::1", dst="fd00::2", sport=1, dport=2)["flow_id"]
    back = made(src="fd00::2", dst="fd00::1", sport=2, dport=1)["flow_id"]
    other = made(src="fd00::1", dst="fd00::2", sport=1, dport=3)["flow_id"]
    assert there == back != other


def test_a_line_is_one_line():
    line = eve.Writer(lambda generation: [["alert", 1, 1, 1, 'a\n"b"', "", 1]]).line(event())
    assert "\n" not in line
    assert json.loads(line)["alert"]["signature"] == 'a\n"b"'


def test_source_counts_what_was_overwritten_and_a_successor_goes_on():
    page = WorkerPage.create(None, ring_slots=64)
    first = eve.Source(page)
    page.push(ALERT, "1.1.1.1", "2.2.2.2", 10)
    assert [record.sequence for record in first.take()] == list(range(1, 11))
    assert first.take() == []
    second = eve.Source(page, first.position, first.taken)
    assert second.take() == []
    page.push(ALERT, "1.1.1.1", "2.2.2.2", 100)
    assert len(second.take()) == 64
    assert second.lost == 36
    page.push(ALERT, "1.1.1.1", "2.2.2.2", 200)
    third = eve.Source(page, second.position, second.taken)
    assert len(third.take()) == 64
    assert third.lost == 36 + 136


def test_file_is_appended_to(tmp_path):
    path = tmp_path / "eve.json"
    path.write_text("before\n")
    file = eve.File(str(path))
    file.write([b"one\n", b"two\n"])
    file.close()
    assert path.read_text() == "before\none\ntwo\n"
    assert (file.written, file.lost) == (2, 0)


def test_file_comes_back(tmp_path):
    file = eve.File(str(tmp_path / "later" / "eve.json"))
    file.write([b"one\n"])
    assert (file.written, file.lost, file.error) == (0, 0, "No such file or directory")
    (tmp_path / "later").mkdir()
    file.write([b"two\n"])
    assert (tmp_path / "later" / "eve.json").read_text() == "one\ntwo\n"
    assert (file.written, file.lost, file.error) == (2, 0, "")


def test_full_disk_loses_lines_and_says_so(monkeypatch):
    monkeypatch.setattr(eve, "WAITING_BYTES", 100)
    file = eve.File("/dev/full")
    for _ in range(50):
        file.write([b"x" * 9 + b"\n"])
    assert file.error == "No space left on device"
    assert file.written == 0
    assert 50 - 11 <= file.lost <= 50


def test_slow_reader_gets_whole_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(eve, "WAITING_BYTES", 20_000)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = eve.File(str(path))
    got = b""
    for number in range(400):
        file.write([b"%07d " % number + b"y" * 991 + b"\n"])
        if number % 40 == 39:
            got += os.read(reader, 30_000)
    for _ in range(100):
        try:
            got += os.read(reader, 65536)
        except BlockingIOError:
            break
        file.write([])
    os.close(reader)
    lines = got.splitlines(keepends=True)
    assert {len(line) for line in lines} == {1000}
    assert file.lost > 0
    assert len(lines) + file.lost == 400
    assert file.written == len(lines)


def test_drain_writes_and_reports(tmp_path):
    instance = Instance(tmp_path)
    instance.metadata(4).write_text(json.dumps(ROWS))
    page = WorkerPage.create(None, ring_slots=64)
    page.push(ALERT, "1.1.1.1", "2.2.2.2", 3, rule=0, generation=4)
    drain = eve.Drain(str(tmp_path / "eve.json"), instance, {2: page})
    drain.finish()
    lines = [json.loads(line) for line in (tmp_path / "eve.json").read_text().splitlines()]
    assert [line["alert"]["signature_id"] for line in lines] == [1002] * 3
    report = eve.read_report(instance)
    assert (report["written"], report["lost_events"], report["sources"]) == (3, 0, {"2": [3, 3]})
    again = eve.Drain(str(tmp_path / "eve.json"), instance, {2: page})
    again.finish()
    assert len((tmp_path / "eve.json").read_text().splitlines()) == 3
