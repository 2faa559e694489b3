"""Every shipped rule stops a packet that it should stop, and lets one pass that looks much like it."""

import json
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

import dpkt
import pytest

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "rules"
OUT, OUT6, IN, IN6, LISTED, LISTED6 = "198.51.100.9", "2001:db8:1::9", "10.1.2.3", "fd00::3", "203.0.113.7", "2001:db8:bad::7"
HOME = "HOME_NET=[10.0.0.0/8,fd00::/8]"
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


def ip(proto, payload, src=OUT, dst=IN, **fields):
    """An IP packet; the addresses say which version. ``frag`` is the IPv4 fragment field, ``options`` IPv4 options."""
    options, fragment = fields.get("options", b""), fields.get("frag", 0)
    if ":" in src:
        head = dpkt.ip6.IP6(src=socket.inet_pton(socket.AF_INET6, src), dst=socket.inet_pton(socket.AF_INET6, dst), nxt=proto,
                            plen=len(payload), hlim=60)
        head.extension_hdrs, head.all_extension_headers, head.data = {}, [], payload
        return bytes(head)
    head = dpkt.ip.IP(src=socket.inet_aton(src), dst=socket.inet_aton(dst), p=proto, ttl=60, opts=options, id=7)
    head.hl, head._flags_offset, head.data, head.len = 5 + len(options) // 4, fragment, payload, 20 + len(options) + len(payload)
    return bytes(head)


def tcp(dport, flags=SYN, sport=40000, data=b"", **fields):
    return ip(6, bytes(dpkt.tcp.TCP(sport=sport, dport=dport, flags=flags, seq=1, win=1024)) + data, **fields)


def udp(dport, sport=40000, **fields):
    return ip(17, bytes(dpkt.udp.UDP(sport=sport, dport=dport, ulen=12, data=b"data")), **fields)


def icmp(kind, size=8, **fields):
    body = struct.pack("!BBHHH", kind, 0, 0, 1, 1) + bytes(size)
    return ip(58 if ":" in fields.get("src", OUT) else 1, body, **fields)


def exposed(sid, make, *ports):
    """An exposed service: each port from outside is hit; from inside, on the port beside, or as an answer it is not."""
    hits = [make(port) for port in ports] + [make(ports[0], src=OUT6, dst=IN6)]
    misses = [make(ports[0], src="10.9.9.9"), make(ports[0], src=OUT, dst="192.0.2.1"), make(ports[-1] + 20001)]
    if make is tcp:
        misses += [tcp(ports[0], SYN | ACK), tcp(ports[0], ACK, sport=41000)]
    return sid, hits, misses


LSRR, SSRR, RR = bytes((131, 3, 4, 1)), bytes((137, 3, 4, 1)), bytes((7, 3, 4, 1))
CASES = {
    "exposed-services.rules": [
        exposed(9000001, tcp, 23), exposed(9000002, tcp, 512, 513, 514), exposed(9000003, tcp, 139, 445),
        exposed(9000004, udp, 137, 138), exposed(9000005, tcp, 3389), exposed(9000006, udp, 3389),
        exposed(9000007, tcp, 5900, 5910), exposed(9000008, tcp, 5985, 5986), exposed(9000009, tcp, 6000, 6063),
        exposed(9000010, tcp, 1433, 1434), exposed(9000011, udp, 1434), exposed(9000012, tcp, 1521), exposed(9000013, tcp, 3306),
        exposed(9000014, tcp, 5432), exposed(9000015, tcp, 27017, 27019), exposed(9000016, tcp, 6379),
        exposed(9000017, tcp, 9200, 9300), exposed(9000018, tcp, 11211), exposed(9000019, udp, 11211), exposed(9000020, tcp, 5984),
        exposed(9000021, tcp, 7000, 7001, 9042), exposed(9000022, tcp, 111, 135), exposed(9000023, udp, 111),
        exposed(9000024, tcp, 2049), exposed(9000025, tcp, 389, 636), exposed(9000026, udp, 389), exposed(9000027, tcp, 873),
        exposed(9000028, tcp, 2375, 2376), exposed(9000029, tcp, 2379, 2380), exposed(9000030, tcp, 10250, 10255),
        exposed(9000031, tcp, 5555), exposed(9000032, udp, 161), exposed(9000033, udp, 69), exposed(9000034, udp, 623),
        exposed(9000035, udp, 1900), exposed(9000036, udp, 7, 13, 17, 19), exposed(9000037, tcp, 113),
    ],
    "scans.rules": [
        (9000101, [tcp(80, 0), tcp(80, 0, src=OUT6, dst=IN6)], [tcp(80, ACK)]),
        (9000102, [tcp(80, FIN | PSH | URG)], [tcp(80, FIN | PSH | URG | ACK)]),
        (9000103, [tcp(80, PSH)], [tcp(80, PSH | ACK)]),
        (9000104, [tcp(80, SYN | FIN)], [tcp(80, FIN | ACK)]),
        (9000105, [tcp(80, SYN | RST)], [tcp(80, RST | ACK), tcp(80, RST)]),
        (9000106, [tcp(80, FIN)], [tcp(80, FIN | ACK)]),
        (9000107, [tcp(0)], [tcp(1)]),
        (9000108, [udp(0)], [udp(1)]),
        (9000109, [tcp(80, src=IN, dst=IN), udp(9, src=IN6, dst=IN6)], [tcp(80, src=IN, dst="10.1.2.4")]),
        (9000110, [tcp(80, src="127.0.0.1"), udp(9, src="::1", dst=IN6)], [tcp(80, src="128.0.0.1"), udp(9, src="::2", dst=IN6)]),
        (9000111, [udp(9, src="224.0.0.1"), udp(9, src="ff02::1", dst=IN6)], [udp(9, dst="224.0.0.1"), udp(9, src="223.0.0.1")]),
        (9000112, [udp(9, src="255.255.255.255")], [udp(9, src="198.51.100.255")]),
        (9000113, [icmp(8, frag=0x2000)], [icmp(8, src="198.51.100.31")]),
        (9000114, [udp(9, options=LSRR)], [udp(9, options=RR)]),
        (9000115, [udp(9, options=SSRR)], [udp(9, options=RR)]),
        (9000122, [tcp(80, frag=0x2000, data=b"four")], [tcp(80, ACK, frag=0x2000, data=b"four"), tcp(80, data=b"four")]),
        (9000116, [icmp(5)], [icmp(5, src="10.9.9.9"), icmp(3)]),
    ],
    "blocklist.rules": [
        (9000201, [tcp(80, src=LISTED), udp(9, src=LISTED6, dst=IN6), tcp(80, src="203.0.113.0"), icmp(8, src="203.0.113.255")],
         [tcp(80, src="203.0.112.255"), tcp(80, src="203.0.114.0"), udp(9, src="2001:db8:bae::7", dst=IN6)]),
        (9000202, [tcp(80, src=IN, dst=LISTED), udp(9, src=IN6, dst=LISTED6)], [tcp(80, src=IN, dst=OUT)]),
    ],
    "bench-24.rules": [
        (9000301, [tcp(23)], [tcp(23, ACK, sport=41000), tcp(22000)]),
        (9000302, [tcp(445)], [tcp(446)]),
        (9000303, [udp(137)], [udp(139)]),
        (9000304, [tcp(3389)], [tcp(3388)]),
        (9000305, [tcp(5905)], [tcp(5911)]),
        (9000306, [tcp(port) for port in (1433, 1521, 3306, 5432)], [tcp(5433)]),
        (9000307, [tcp(port) for port in (6379, 9200, 9300, 11211, 27017)], [tcp(27018)]),
        (9000308, [udp(port) for port in (69, 111, 161, 389, 623, 1900, 11211)], [udp(53)]),
        (9000309, [tcp(513)], [tcp(515)]),
        (9000310, [tcp(113)], [tcp(114)]),
        (9000311, [tcp(80, 0)], [tcp(80, ACK)]),
        (9000312, [tcp(80, FIN | PSH | URG, sport=40001)], [tcp(80, FIN | PSH | URG | ACK)]),
        (9000313, [tcp(80, SYN | FIN, sport=40002)], [tcp(80, SYN, sport=40003)]),
        (9000314, [tcp(8080, src=IN, dst=IN)], [tcp(8080, src=IN, dst=OUT)]),
        (9000315, [tcp(8080, src="127.0.0.1")], [tcp(8080, src="126.0.0.1")]),
        (9000316, [udp(9, src="224.0.0.1"), udp(9, src="ff02::1", dst=IN6)], [udp(9)]),
        (9000317, [udp(9, src="0.1.2.3"), udp(9, src="250.1.1.1")], [udp(9)]),
        (9000318, [udp(9, src=IN, dst="0.1.2.3"), udp(9, src=IN, dst="241.1.1.1")], [udp(9, src=IN, dst=OUT)]),
        (9000319, [icmp(5)], [icmp(8)]),
        (9000320, [icmp(8, 1025)], [icmp(8, 1024)]),
        (9000321, [udp(9, options=LSRR)], [udp(9, options=RR)]),
        (9000322, [tcp(22)], [tcp(22, ACK)]),
        (9000323, [tcp(25), tcp(465, src="198.51.100.31"), tcp(587, src="198.51.100.32")], [tcp(26)]),
        (9000324, [ip(132, struct.pack("!HHII", 1, 80, 0, 0))], [ip(132, struct.pack("!HHII", 2, 3868, 0, 0))]),
    ],
}


def rate(count, make):
    """``count`` packets that pass, one that does not, and one from somebody else that does."""
    passing = [(make(i, "198.51.100.40"), None) for i in range(count)]
    return [*passing, (make(count, "198.51.100.40"), True), (make(0, "198.51.100.41"), None)]


RATES = {
    9000117: rate(500, lambda i, src: tcp(80, sport=10000 + i, src=src)),
    9000118: rate(100, lambda i, src: icmp(8, src=src)),
    9000119: rate(100, lambda i, src: icmp(128, src="2001:db8:1::" + src.rpartition(".")[2], dst=IN6)),
    9000120: rate(300, lambda i, src: udp(53, sport=10000 + i, src=src)),
    9000121: [(icmp(8, 1025), True), (icmp(8, 1025), None), (icmp(8, 1024, src="198.51.100.41"), None)],
}


def actions(name):
    """{sid: action} of a rule file, by its text."""
    return {int(re.search(r"sid: (\d+)", line)[1]): line.split()[0]
            for line in (RULES / name).read_text().splitlines() if line and not line.startswith("#")}


def replay(tmp_path, name, packets):
    """Events of `tigerfox replay` as {packet number: [(event type, sid)]}."""
    file = tmp_path / "shipped.pcap"
    with file.open("wb") as stream:
        writer = dpkt.pcap.Writer(stream, linktype=dpkt.pcap.DLT_RAW)
        for number, packet in enumerate(packets):
            writer.writepkt(packet, ts=1_700_000_000 + number / 1000)
    command = [sys.executable, "-m", "tigerfox", "replay", str(file), "--rules", str(RULES / name), "--var", HOME, "--midstream",
               "--var", f"BLOCKLIST=@{RULES / 'lists' / 'example.txt'}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        event = json.loads(line)
        found.setdefault(event["pcap_cnt"], []).append((event["event_type"], event.get("alert", {}).get("signature_id")))
    return found


def judge(action, sid, events):
    """Whether these events are what the rule's action asks for."""
    wanted = [("alert", sid)] + ([("drop", None)] if action != "alert" else [])
    return sorted((kind, number if kind == "alert" else None) for kind, number in events) == sorted(wanted, key=str)


def test_every_shipped_rule_has_its_cases():
    for name, cases in CASES.items():
        covered = [sid for sid, *_ in cases] + (list(RATES) if name == "scans.rules" else [])
        assert sorted(covered) == sorted(actions(name))


def test_sids_are_unique_and_every_rule_is_fully_described():
    lines = [line for file in RULES.glob("*.rules") for line in file.read_text().splitlines() if line and not line.startswith("#")]
    sids = [int(re.search(r"sid: (\d+);", line)[1]) for line in lines]
    assert len(set(sids)) == len(sids) and all(9000000 < sid < 9001000 for sid in sids)
    for line in lines:
        assert all(f"{word}: " in line for word in ("msg", "classtype", "rev", "metadata"))
    assert len(actions("bench-24.rules")) == 24


@pytest.mark.parametrize("name, case", [(name, case) for name, cases in CASES.items() for case in cases],
                         ids=lambda value: str(value[0]) if isinstance(value, tuple) else "")
def test_rule_stops_and_lets_pass(tmp_path, name, case):
    sid, hits, misses = case
    found = replay(tmp_path, name, [*misses, *hits])
    for number in range(1, len(misses) + 1):
        assert sid not in [given for _, given in found.get(number, [])], f"packet {number}"
    for number in range(len(misses) + 1, len(misses) + len(hits) + 1):
        assert judge(actions(name)[sid], sid, found.get(number, [])), f"packet {number}: {found.get(number)}"


@pytest.mark.parametrize("sid", RATES)
def test_rate_rule_stops_beyond_its_count(tmp_path, sid):
    found = replay(tmp_path, "scans.rules", [packet for packet, _ in RATES[sid]])
    hit = {number for number, events in found.items() if sid in [given for _, given in events]}
    assert hit == {number for number, (_, expected) in enumerate(RATES[sid], 1) if expected}
