"""What a pass rule passes, who is established, and to whom an ICMP error belongs: as Suricata 7.0.10 has it, packet by packet."""

import pytest
from connections import ESTABLISHED, Ends
from packets import icmp
from test_fast import Run, frame

from tigerfox.dataplane.reason import reason_number

ENDS = Ends(dport=8080)
TALK = [*ESTABLISHED, ("c", "PA", 1001, 5001, b"hello there"), ("s", "A", 5001, 1012), ("s", "PA", 5001, 1012, b"good day"),
        ("c", "A", 1012, 5009), ("c", "PA", 1012, 5009, b"again hello"), ("s", "A", 5009, 1023)]
AGAIN = [("c", "R", 1023, 0), ("c", "S", 90_000, 0), ("s", "SA", 95_000, 90_001)]
SAYS, CLOSED = "alert tcp any any -> any any (flags:A+; sid:7;)", "drop tcp any any -> any any (flow:stateless; block:none; sid:9;)"


@pytest.fixture
def replay(tmp_path):
    return lambda *arguments: Run(tmp_path, *arguments)


def frames(packets, ends=ENDS):
    return [frame(ends.packet(*packet)) for packet in packets]


def alerts(run):
    return [(number, sid) for kind, number, sid in run.events() if kind == 1]


# description, the pass rule, alerts of it and of SAYS, packets that CLOSED drops
PASS = [
    ("header alone", "pass tcp any any -> any 8080 (alert; sid:1;)", [(1, 1)], []),
    ("addresses alone", "pass ip 10.0.0.1 any -> any any (alert; sid:1;)", [(1, 1)], []),
    ("without a word", "pass tcp any any -> any 8080 (sid:1;)", [], []),
    ("the later of alert and noalert: alert", "pass tcp any any -> any 8080 (noalert; alert; sid:1;)", [(1, 1)], []),
    ("the later of alert and noalert: noalert", "pass tcp any any -> any 8080 (alert; noalert; sid:1;)", [], []),
    ("a field of the packet", "pass tcp any any -> any 8080 (alert; flags:S; sid:1;)",
     [(1, 1), *((n, 7) for n in range(2, 10))], list(range(2, 10))),
    ("flow:to_server", "pass tcp any any -> any any (alert; flow:to_server; sid:1;)",
     [(n, 1 if n in (1, 3, 4, 7, 8) else 7) for n in range(1, 10)], [2, 5, 6, 9]),
    ("flow:established", "pass tcp any any -> any any (alert; flow:established; sid:1;)",
     [(2, 7), (3, 7), *((n, 1) for n in range(4, 10))], [1, 2, 3]),
    ("what the stream says", 'pass tcp any any -> any any (alert; content:"hello"; sid:1;)', [(2, 7), (3, 7), (4, 1)], [1, 2, 3]),
    ("what the packet alone says", 'pass tcp any any -> any any (flow:to_server; content:"there"; dsize:11; alert; sid:1;)',
     [(2, 7), (3, 7), (4, 1), *((n, 7) for n in range(5, 10))], [1, 2, 3, *range(5, 10)]),
]


@pytest.mark.parametrize("row", PASS, ids=lambda row: row[0])
def test_what_a_pass_rule_passes_and_says(replay, row):
    _, rule, said, dropped = row
    assert alerts(replay(frames(TALK), [rule, SAYS])) == said
    run = replay(frames(TALK), [rule, CLOSED])
    assert [number for kind, number, _ in run.events() if kind == 2] == dropped


def test_the_reason_of_what_is_passed_is_the_pass_rule(replay):
    run = replay(frames(TALK), ["pass tcp any any -> any 8080 (sid:1;)", CLOSED])
    assert run.events() == []
    assert run.counts()["reasons"][reason_number("pass_rule")] == len(TALK)


def test_another_connection_between_the_same_ends_is_judged_anew(replay):
    rule = 'pass tcp any any -> any any (alert; content:"hello"; sid:1;)'
    assert alerts(replay(frames([*TALK, *AGAIN]), [rule, SAYS])) == [(2, 7), (3, 7), (4, 1), (12, 7)]


def test_a_block_comes_before_a_pass(replay):
    """The first to decide on a flow has decided."""
    rules = ['pass tcp any any -> any any (content:"hello"; sid:1;)', "drop ip any any -> any any (sid:8;)"]
    assert [(kind, number) for kind, number, _ in replay(frames(TALK), rules).events()] == [(1, 1), *((2, n) for n in range(1, 10))]


# description, data of the handshake's third packet, established, not established
HANDSHAKE = [("it carries nothing", b"", False, True), ("it carries data", b"hello", True, False)]


@pytest.mark.parametrize("row", HANDSHAKE, ids=lambda row: row[0])
def test_the_packet_that_ends_the_handshake(replay, row):
    _, data, established, not_established = row
    packets = [*ESTABLISHED[:2], ("c", "PA" if data else "A", 1001, 5001, data), ("s", "A", 5001, 1001 + len(data))]
    rules = ["alert tcp any any -> any any (flow:established; sid:1;)", "alert tcp any any -> any any (flow:not_established; sid:2;)"]
    expected = [(1, 2), (2, 2), *[(3, 1)] * established, *[(3, 2)] * not_established, (4, 1)]
    assert alerts(replay(frames(packets), rules)) == expected


V6 = Ends(client=bytes.fromhex("20010db8" + "00" * 11 + "01"), server=bytes.fromhex("20010db8" + "00" * 11 + "02"), dport=8080)
BLOCK, TELL = "drop udp any any -> any 8080 (sid:1;)", "alert ip any any -> any any (sid:2;)"


def error(ends, side, quoted, kind=None, code=3):
    """An ICMP error from one side, about a packet."""
    six = len(ends.client) == 16
    return ends.ip(side, 58 if six else 1, icmp((1 if six else 3) if kind is None else kind, code, data=quoted))


# description, the error about the blocked flow's answer, whether it is dropped
def quotes(ends):
    back, other = ends.datagram("s", b"back"), Ends(ends.client, ends.server, 40001, 8080).datagram("s", b"back")
    head = 48 if len(ends.client) == 16 else 28
    return [
        ("the answer", error(ends, "c", back), True),
        ("the question, from the other side", error(ends, "s", ends.datagram("c", b"one")), True),
        ("cut behind the ports", error(ends, "c", back[:head - 4]), True),
        ("cut in the ports", error(ends, "c", back[:head - 5]), False),
        ("another flow", error(ends, "c", other), False),
        ("nothing", error(ends, "c", b""), False),
        ("an echo that carries it", error(ends, "c", back, 128 if head == 48 else 8, 0), False),
    ]


@pytest.mark.parametrize("ends", [Ends(dport=8080), V6], ids=["IPv4", "IPv6"])
def test_an_error_about_a_blocked_flow_is_dropped_without_an_alert(replay, ends):
    ethertype = 0x86DD if ends is V6 else 0x0800
    for what, packet, dropped in quotes(ends):
        run = replay([frame(ends.datagram("c", b"one"), ethertype), frame(packet, ethertype)], [BLOCK, TELL])
        assert run.events() == [(1, 1, 1), (1, 1, 2), (2, 1, 1), (2, 2, 1) if dropped else (1, 2, 2)], what


def test_a_later_fragment_in_an_error_has_no_ports(replay):
    ends = Ends(dport=8080)
    part = bytearray(ends.datagram("s", b"back"))
    part[6:8] = b"\0\x10"
    run = replay([frame(ends.datagram("c", b"one")), frame(error(ends, "c", bytes(part)))], [BLOCK])
    assert run.events() == [(1, 1, 1), (2, 1, 1)]
