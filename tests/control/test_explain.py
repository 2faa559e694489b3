"""``tigerfox explain``: what was read, which condition failed first, what decided; the same stages as replay."""

import json
import subprocess
import sys

from pathlib import Path

import dpkt
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "ruleset"))
from exchanges import Capture, http, request, told  # noqa: E402

RULES = r"""
alert http any any -> any any (msg:"uri"; http.uri; content:"/admin"; sid:1; rev:2;)
drop http any any -> any any (msg:"drop"; http.uri; content:"/secret"; content:"key"; distance:1; within:3; sid:2;)
alert http any any -> any any (msg:"third"; http.uri; content:"/ad"; fast_pattern; content:"min"; distance:0; content:"nope"; distance:0; sid:3;)
alert tcp any any -> any 9999 (msg:"port"; content:"admin"; sid:4;)
alert tcp any any -> any any (msg:"pcre"; content:"admin"; pcre:"/adminX+/"; sid:5;)
alert tcp any any -> any any (msg:"bytes"; content:"GET"; byte_test:1,>,200,0,relative; sid:6;)
alert tcp any any -> any any (msg:"bits"; flowbits:isset,seen; content:"admin"; sid:7;)
alert tcp any any -> any any (msg:"size"; stream_size:client,>,100000; content:"admin"; sid:8;)
alert tcp any any -> any any (msg:"direction"; flow:to_client; content:"admin"; sid:9;)
alert http any any -> any any (msg:"no buffer"; http.uri; content:"/admin"; http.cookie; content:"a"; sid:10;)
alert tcp any any -> any any (msg:"ttl"; ttl:>100; content:"admin"; sid:11;)
alert tls any any -> any any (msg:"other"; content:"admin"; sid:12;)
alert http any any -> any any (msg:"length"; http.uri; content:"/admin"; bsize:8; sid:13;)
alert tcp any any -> any 8081 (msg:"headers alone"; flags:S; sid:14;)
alert http any any -> any any (msg:"not there"; http.uri; content:"/elsewhere"; sid:15;)
alert tcp any any <> any 7 (msg:"both"; content:"echo"; sid:16;)
alert http any any -> any any (msg:"rate"; http.uri; content:"/admin"; threshold:type threshold,track by_src,count 5,seconds 60; sid:17;)
"""
REQUEST = 4                          # the packet of the first request, behind the handshake


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A capture of three connections, and the rules."""
    folder = tmp_path_factory.mktemp("explain")
    capture = Capture()
    for exchange in (http(request("/admin")), http(request("/secret?key=1"), request("/again")), told(9, b"nothing")):
        capture.add(exchange)
    with (folder / "in.pcap").open("wb") as stream:
        writer = dpkt.pcap.Writer(stream, linktype=dpkt.pcap.DLT_RAW)
        for number, packet in enumerate(capture.packets):
            writer.writepkt(packet, ts=1_700_000_000 + number / 10000)
    (folder / "in.rules").write_text(RULES, encoding="utf-8")
    return folder / "in.pcap", folder / "in.rules", len(capture.packets)


def explain(*words):
    command = [sys.executable, "-m", "tigerfox", "explain", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def explained(*words):
    done = explain(*words, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def first(files):
    return explained(files[0], "--rules", files[1], "--packet", REQUEST)


def rows(found, sid):
    return [row for row in found["rules"] if row["sid"] == sid]


def test_packet_flow_and_buffers(first):
    layer = first["layers"][0]
    assert (layer["src"], layer["dport"], layer["proto"], layer["fault"]) == ("198.51.100.9", 8081, "tcp", None)
    message = next(unit for unit in first["units"] if unit["kind"] == "http")
    assert {"buffer": "http.uri", "instance": 0, "length": 6, "bytes": "/admin"} in message["buffers"]
    assert message["progress"] == "complete"
    assert (message["flow"]["state"], message["flow"]["direction"], message["flow"]["application"]) == ("established", "to_server", "http")
    stream = next(unit["stream"] for unit in first["units"] if unit["stream"])
    assert stream["in_order"] == stream["new"] == layer["payload_len"]
    assert stream["end"].startswith("GET /admin HTTP/1.1|0d 0a|Host|3a| www")


def test_what_matches_is_reported_and_decides(first):
    row, = rows(first, 1)
    assert (row["result"], row["reported"], row["candidate"]) == ("matches", True, 'scan of http.uri for "/admin"')
    decision = first["layers"][0]["decision"]
    assert (decision["verdict"], decision["reason"], decision["class"]) == ("accept", "alert_rule", "pass")
    held, = rows(first, 17)
    assert (held["result"], held["reported"]) == ("matches", False)
    assert held["note"] == "held back by its threshold: 5 in 60 s"


@pytest.mark.parametrize(("sid", "stage", "says"), [
    (3, "test", 'content:"nope"; distance:0'),
    (4, "header", "9999"),
    (5, "test", 'pcre:"/adminX+/"'),
    (6, "test", "byte_test:1,>,200,0,relative"),
    (7, "flowbits", "flowbits:isset,seen"),
    (8, "stream_size", "stream_size:client,>,100000"),
    (10, "buffer", "http.cookie"),
    (11, "header", "ttl: 101 to 255"),
    (12, "application", "tls"),
    (13, "test", "bsize:8"),
])
def test_the_condition_that_failed_first(first, sid, stage, says):
    found = rows(first, sid)
    assert found
    assert {(row["failed"]["stage"], row["failed"]["says"]) for row in found} == {(stage, says)}
    assert all(row["failed"]["because"] for row in found)


def test_a_rule_that_nothing_names_is_explained_when_asked_for(files):
    without = explained(files[0], "--rules", files[1], "--packet", REQUEST)
    assert not rows(without, 15)
    row, = rows(explained(files[0], "--rules", files[1], "--packet", REQUEST, "--sid", 15), 15)
    assert row["candidate"].startswith("no")
    assert row["failed"]["says"] == 'content:"/elsewhere"'


def test_a_rule_of_the_other_direction_is_named_by_no_scan(files):
    asked = explained(files[0], "--rules", files[1], "--packet", REQUEST, "--sid", 9)
    row, = rows(asked, 9)
    assert row["candidate"].startswith("no")
    assert (row["failed"]["stage"], row["failed"]["says"]) == ("flow", "flow:to_client")


def test_the_headers_alone(files):
    row, = rows(explained(files[0], "--rules", files[1], "--packet", 1), 14)
    assert (row["result"], row["candidate"], row["in"]) == ("matches", "header index", "headers")


def test_drop_and_what_its_entry_stops(files):
    found = explained(files[0], "--rules", files[1], "--sid", 2)
    place, = found["matched_packets"]
    decision = explained(files[0], "--rules", files[1], "--packet", place)["layers"][0]["decision"]
    assert (decision["verdict"], decision["reason"], decision["sid"]) == ("drop", "drop_rule", 2)
    later = explained(files[0], "--rules", files[1], "--packet", place + 1)
    decision = later["layers"][0]["decision"]
    assert (decision["verdict"], decision["reason"], decision["block"], decision["sid"]) == (
        "drop", "blocked_connection", "connection", 2)
    assert "made by sid 2" in explain(files[0], "--rules", files[1], "--packet", place + 1).stdout


def test_nearest_miss_over_the_capture(files):
    found = explained(files[0], "--rules", files[1], "--sid", 3)
    assert (found["matched"], found["packets"]) == (0, files[2])
    assert found["nearest"]["packet"] == REQUEST
    assert found["nearest"]["failed"]["says"] == 'content:"nope"; distance:0'
    assert explained(files[0], "--rules", files[1], "--sid", 4)["nearest"]["failed"]["stage"] == "header"


def test_matches_are_those_of_replay(files):
    done = subprocess.run([sys.executable, "-m", "tigerfox", "replay", files[0], "--rules", files[1], "--json"],
                          capture_output=True, text=True, cwd=ROOT, check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    for sid in (1, 2, 14, 17):
        numbers = [event["pcap_cnt"] for event in events
                   if event["event_type"] == "alert" and event["alert"]["signature_id"] == sid]
        assert explained(files[0], "--rules", files[1], "--sid", sid)["reported_packets"] == numbers


def test_a_rule_alone(files):
    found = explained("--rules", files[1], "--sid", 2)
    facts, = found["compiled"]
    assert (facts["scanned"], facts["named_by"], facts["unit"]) == (True, 'scan of http.uri for "/secret"', "message")
    assert found["parts"][0]["tests"] == ['content:"/secret"', 'content:"key"; distance:1; within:3']
    headers, = explained("--rules", files[1], "--sid", 14)["compiled"]
    assert headers["filed"]["fields"] == ["destination port", "TCP flags or ICMP type"]
    assert len(explained("--rules", files[1], "--sid", 16)["compiled"]) == 2


@pytest.mark.parametrize("words", [("--packet", REQUEST), ("--sid", 3), ("--sid", 1)])
def test_text(files, words):
    done = explain(files[0], "--rules", files[1], *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "admin" in done.stdout or "nope" in done.stdout or "reported in 1: 4" in done.stdout


@pytest.mark.parametrize(("words", "says"), [
    (("--packet", 1000), "packets: give --packet a number from 1 to"),
    (("--sid", 999), "no rule has sid 999: give one that is loaded, such as 17, 16, 15"),
    ((), "say what to explain: --packet N"),
])
def test_what_is_not_there_is_a_usage_error(files, words, says):
    done = explain(files[0], "--rules", files[1], *words)
    assert done.returncode == 2
    assert says in done.stderr


def test_packet_without_a_capture(files):
    done = explain("--rules", files[1], "--packet", 3)
    assert (done.returncode, "name the capture" in done.stderr) == (2, True)
