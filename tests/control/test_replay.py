"""``tigerfox replay`` as a command: standard output, standard error, exit code."""

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RULES = """\
alert udp any any -> any 53 (msg:"a name"; sid:1; rev:2;)
drop udp $HOME_NET any -> any 9999 (msg:"closed"; sid:2;)
alert icmp any any -> any any (msg:"ping"; itype:8; sid:3;)
"""


def ip4(src, dst, protocol, payload):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, socket.inet_aton(src),
                       socket.inet_aton(dst))
    return head + payload


def udp(sport, dport):
    return struct.pack(">HHHH", sport, dport, 16, 0) + b"12345678"


PACKETS = [ip4("10.0.0.1", "10.0.0.2", 17, udp(1000, 53)), ip4("10.0.0.1", "10.0.0.2", 17, udp(1000, 9999)),
           ip4("10.0.0.2", "10.0.0.1", 17, udp(9999, 1000)), ip4("10.0.0.1", "10.0.0.2", 1, b"\x08\0\0\0\0\1\0\1"),
           ip4("10.0.0.1", "10.0.0.2", 17, udp(1001, 80))]


def tigerfox(*words):
    """Run the command to its end."""
    command = [sys.executable, "-m", "tigerfox", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def replay(tmp_path):
    """Run replay over PACKETS; ``cut`` leaves so many bytes of the file away."""
    def run(*options, rules=RULES, cut=0):
        data = struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101)
        for number, packet in enumerate(PACKETS):
            data += struct.pack("<IIII", 1_700_000_000 + number, 5, len(packet), len(packet)) + packet
        (tmp_path / "input.pcap").write_bytes(data[:len(data) - cut])
        (tmp_path / "test.rules").write_text(rules, encoding="utf-8")
        return tigerfox("replay", tmp_path / "input.pcap", "--rules", tmp_path / "test.rules", *options)

    return run


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_json_is_eve_lines_and_nothing_else(replay):
    done = replay("--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = [(line["event_type"], line["pcap_cnt"], line.get("alert", {}).get("signature_id")) for line in lines(done)]
    assert found == [("alert", 1, 1), ("alert", 2, 2), ("drop", 2, 2), ("drop", 3, None), ("alert", 4, 3)]
    dropped = lines(done)[3]
    assert (dropped["drop"]["reason"], dropped["src_port"], dropped["dest_port"]) == ("blocked_connection", 9999, 1000)
    assert lines(done)[0]["timestamp"] == "2023-11-14T22:13:20.000005+0000"
    ping = lines(done)[4]
    assert (ping["proto"], ping["icmp_type"], ping["icmp_code"]) == ("ICMP", 8, 0)
    assert "src_port" not in ping


def test_summary(replay):
    done = replay()
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].split() == ["packets", "5", "accepted", "3", "dropped", "2", "rules", "3"]
    assert '[1:2:0] "closed"' in done.stdout
    assert "blocked_connection" in done.stdout


def test_variables(replay, tmp_path):
    (tmp_path / "list").write_text("192.0.2.0/24\n")
    done = replay("--json", "--var", f"HOME_NET=@{tmp_path}/list")
    assert [line["pcap_cnt"] for line in lines(done)] == [1, 4]
    assert replay("--var", "HOME_NET").returncode == 2


def test_cut_capture_is_read_to_the_cut(replay):
    done = replay("--json", cut=3)
    assert done.returncode == 0
    assert len(lines(done)) == 5
    assert "input.pcap" in done.stderr


def test_lenient_says_how_many_and_why(replay):
    rules = RULES + "drop tcp any any -> any 80 (sid:9; nonsense;)\n"
    done = replay("--json", "--lenient", rules=rules)
    assert done.returncode == 0
    assert "1 rule was left out" in done.stderr
    assert "nonsense" in done.stderr
    assert len(lines(done)) == 5
    strict = replay("--json", rules=rules)
    assert (strict.returncode, strict.stdout) == (1, "")
    assert "test.rules:4:" in strict.stderr


def test_midstream_is_accepted(replay):
    assert replay("--midstream").returncode == 0


def test_not_a_capture():
    done = tigerfox("replay", __file__, "--rules", "/dev/null")
    assert done.returncode == 1
    assert done.stderr.startswith("tigerfox: ")
    assert "Traceback" not in done.stderr


def test_without_an_instance(tmp_path):
    for verb in ("status", "stop", "reload"):
        done = tigerfox(verb, "--run-dir", tmp_path / "none")
        assert done.returncode == 1
        assert "tigerfox start" in done.stderr
