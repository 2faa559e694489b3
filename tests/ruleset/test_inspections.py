"""From rules to inspections: order, literals, what is filed where, what the rule set needs."""

import struct
from dataclasses import replace

import pytest

from tigerfox.dataplane import inspect
from tigerfox.dataplane.image import CompiledRules
from tigerfox.dataplane.match import matches
from tigerfox.ruleset.buffers import BY_NAME
from tigerfox.ruleset.compile import compile_rules
from tigerfox.ruleset.inspections import Inspections
from tigerfox.ruleset.literals import Literal, choose, rarest, strength
from tigerfox.ruleset.rule import (
    ANY_ADDRESS, ANY_PORT, AppProtocol, ByteExtract, Condition, Content, Flow, Flowbit, Part, Pcre, Place, PortSet, Rule,
    StreamSize)

INSPECTION = struct.Struct("<IIIHHHHBBBBBBBBII12x")
NAMES = ("first_part", "first_bit", "first_size", "part_count", "flow", "apps", "apps_not", "bit_count", "size_count", "unit",
         "payload", "side", "progress", "scanned", "of_flow", "scan_view", "variable_count")
EVIL = Part("payload", (Content(b"evil"),))


def rule(*parts, sid=1, action="alert", protocol="tcp", **more):
    return Rule(Place("made.rules", sid, 1), "", action, protocol, ANY_ADDRESS, ANY_PORT, False, ANY_ADDRESS, ANY_PORT, sid=sid,
                parts=parts, **more)


def row(one):
    """The Inspection of one rule, as a dictionary."""
    return dict(zip(NAMES, INSPECTION.unpack(Inspections([one]).sections()[0]), strict=True))


def test_a_rule_of_headers_has_none():
    made = Inspections([rule(), rule(EVIL)])
    assert made.numbers == [0, 1]
    assert made.scanned == [False, True]


ROWS = [
    ("payload", rule(EVIL), dict(unit=0, part_count=1, scanned=1, scan_view=0, apps=0, side=2, progress=0, of_flow=0)),
    ("no literal", rule(Part("payload", (Pcre(b"a"),))), dict(scanned=0, scan_view=0xFFFFFFFF, part_count=1)),
    ("request", rule(Part("http.uri", (Content(b"/x"),))), dict(unit=1, apps=4, side=0, progress=1, scanned=1)),
    ("response head", rule(Part("http.server", (Content(b"x"),))), dict(unit=1, apps=4, side=1, progress=2)),
    ("highest progress", rule(Part("http.uri", (Content(b"x"),)), Part("http.request_body", (Content(b"y"),))),
     dict(part_count=2, progress=3, side=0)),
    ("either side, by direction", rule(Part("http.header", (Content(b"x"),)), flow=Flow("to_client", "established")),
     dict(side=1, flow=128 | 2 | 4)),
    ("dns", rule(Part("dns.query", (Content(b"x"),))), dict(unit=1, apps=16, side=0, progress=0)),
    ("tls", rule(Part("tls.sni", (Content(b"x"),))), dict(unit=1, apps=8)),
    ("protocol alone", rule(apps=(AppProtocol("tls"),)), dict(unit=0, apps=8, part_count=0, scanned=0, of_flow=1)),
    ("not a protocol", rule(apps=(AppProtocol("http", True),)), dict(apps=0, apps_not=4)),
    ("two protocols at once", rule(apps=(AppProtocol("http"), AppProtocol("tls"))), dict(apps=1 << 15)),
    ("flow", rule(flow=Flow("to_server", "not_established", None, "no_frag")), dict(flow=128 | 1 | 8 | 32, of_flow=0)),
    ("addresses alone, setting a bit", rule(protocol="ip", flowbits=(Flowbit("set", ("a",)),)), dict(of_flow=1, bit_count=1)),
    ("a condition too", rule(flowbits=(Flowbit("set", ("a",)),), conditions=(Condition("ttl", "range", 1, 2),)), dict(of_flow=0)),
    ("asking for a bit", rule(flowbits=(Flowbit("isset", ("a", "b")),)), dict(of_flow=0, bit_count=2)),
    ("stream size", rule(stream_sizes=(StreamSize("client", ">", 5),)), dict(size_count=1, of_flow=0)),
    ("what payload is", rule(EVIL, payload="both"), dict(payload=3)),
    ("a variable", rule(Part("payload", (ByteExtract(1, 0, "n"), Content(b"a", offset="n")))), dict(variable_count=1)),
]


@pytest.mark.parametrize("description, one, expected", ROWS, ids=[line[0] for line in ROWS])
def test_rows(description, one, expected):
    made = row(one)
    assert {name: made[name] for name in expected} == expected


def test_ports_make_a_drop_one_of_the_packet():
    with_port = replace(rule(protocol="ip", flowbits=(Flowbit("set", ("a",)),)), dport=PortSet(((80, 80),)))
    assert row(with_port)["of_flow"] == 0


def test_flow_bits_ask_before_they_set_and_share_names():
    made = Inspections([rule(flowbits=(Flowbit("set", ("a",)), Flowbit("isset", ("b", "c")))), rule(sid=2, flowbits=(Flowbit("isnotset", ("a",)),))])
    steps = [struct.unpack_from("<BBHI", made.sections()[3], at) for at in range(0, len(made.sections()[3]), 8)]
    assert [(op, more) for op, more, _, _ in steps] == [(0, 1), (0, 0), (2, 0), (1, 0)]
    assert steps[2][2:] == steps[3][2:], "one name, one number and one hash"
    assert len({name for *_, name in steps}) == 3
    again = Inspections([rule(sid=3, flowbits=(Flowbit("set", ("a",)),))]).sections()[3]
    assert struct.unpack("<BBHI", again)[3] == steps[2][3], "the hash holds in another rule set"


def test_rules_that_set_bits_stand_before_those_that_ask():
    bits = {1: (Flowbit("isset", ("a",)),), 2: (), 3: (Flowbit("set", ("a",)),), 4: (Flowbit("set", ("b",)), Flowbit("isset", ("a",)))}
    rules = [rule(EVIL, sid=sid, flowbits=flowbits, priority=1 if sid == 2 else 3) for sid, flowbits in bits.items()]
    assert [one.sid for one in compile_rules([*rules, rule(EVIL, sid=9, action="pass")]).rules] == [9, 3, 4, 1, 2]


LITERALS = [
    ("the longest", [Content(b"ab"), Content(b"abcdef")], b"abcdef"),
    ("varied before long", [Content(b"AAAAAAAA"), Content(b"q#7~x")], b"q#7~x"),
    ("what every message has is the last choice", [Content(b"HTTP/1.1\r\n"), Content(b"/x7q")], b"/x7q"),
    ("unless there is no other", [Content(b"HTTP/1.1\r\n")], b"HTTP/1.1\r\n"),
    ("negated is none", [Content(b"abcdefgh", negated=True), Content(b"ab")], b"ab"),
    ("the rule says which", [Content(b"abcdefgh"), Content(b"ab", fast=(0, 2))], b"ab"),
    ("and which part of it", [Content(b"abcdefgh", fast=(2, 3)), Content(b"abcdefghijkl")], b"cde"),
    ("negated and named: another", [Content(b"abcdefgh", negated=True, fast=(0, 8)), Content(b"ab")], b"ab"),
    ("not too long", [Content(bytes(range(200)))], bytes(range(64))),
]


@pytest.mark.parametrize("description, tests, text", LITERALS, ids=[line[0] for line in LITERALS])
def test_the_literal_that_is_looked_for(description, tests, text):
    assert choose(rule(Part("payload", tuple(tests)))).text == text


def test_a_rule_of_a_protocol_is_named_by_its_buffers():
    parts = Part("payload", (Content(b"a very long content", fast=(0, 19)),)), Part("http.uri", (Content(b"/x", nocase=True),))
    assert choose(rule(*parts)) == Literal(1, b"/x", True)
    assert choose(rule(Part("payload", (Content(b"abc"),)), Part("http.uri", (Pcre(b"x"),)))) is None


def test_rare_bytes():
    assert rarest(b"eee~e", False) == 3
    assert rarest(b"eQe", False) == 1
    assert strength(b"\x00\x00\x00\x00") < strength(b"ab")


def test_rules_that_a_scan_names_are_not_in_the_header_index():
    packet = bytes.fromhex("4500002c00000000400600000a0000010a000002000a0050000000000000000050100000000000006576696c")
    headers = rule(sid=2)
    for one in (rule(Part("payload", (Pcre(b"a"),))), rule(EVIL)):
        bound = CompiledRules.from_buffer(compile_rules([one, headers]).image)
        assert matches(bound, packet) == ([1], 0), "headers alone decide about sid 2 only"
    filed = {name: struct.unpack_from("<Q", compile_rules([one]).image, 24 + 5 * 16 + 8)[0]        # section of the candidates
             for name, one in (("unscanned", rule(Part("payload", (Pcre(b"a"),)))), ("scanned", rule(EVIL)))}
    assert filed == {"unscanned": 4, "scanned": 0}


NEEDS = [
    (rule(), set(), 192),
    (rule(flow=Flow("to_server", "established")), {"flows"}, 192),
    (rule(EVIL), {"flows", "streams"}, 65535),
    (rule(EVIL, payload="packet"), {"flows"}, 65535),
    (rule(apps=(AppProtocol("tls"),)), {"flows", "streams", "apps"}, 65535),
    (rule(Part("http.uri", (Content(b"x"),))), {"flows", "streams", "apps"}, 65535),
    (rule(stream_sizes=(StreamSize("client", ">", 5),)), {"flows", "streams"}, 65535),
]


@pytest.mark.parametrize("one, needs, copy_range", NEEDS)
def test_needs(one, needs, copy_range):
    bound = CompiledRules.from_buffer(compile_rules([one]).image)
    assert (bound.needs, bound.copy_range) == (needs, copy_range)


def test_equal_things_are_stored_once():
    one = Inspections([rule(EVIL, sid=sid) for sid in range(50)]).sections()
    assert len(one[2]) == 48 and one[6] == b"evil"


def test_views_follow_buffers():
    rules = [rule(Part("http.uri", (Content(b"x"),))), rule(Part("payload", (Content(b"x"),)), sid=2),
             rule(Part("payload", (Content(b"x"),), ("to_lowercase",)), sid=3)]
    bound = CompiledRules.from_buffer(compile_rules(rules).image)
    assert bound.view_count == 3
    views = Inspections(rules).sections()[5]
    assert [views[at:at + 2] for at in range(0, len(views), 8)] == [bytes((0, 0)), bytes((0, 2)), bytes((BY_NAME["http.uri"], 0))]


def test_both_numbers_of_a_two_way_rule_are_inspected():
    one = replace(rule(EVIL), bidirectional=True, sport=PortSet(((1, 9),)))
    compiled = compile_rules([one])
    bound = CompiledRules.from_buffer(compiled.image)
    hold = inspect.InspectorHold(bound)
    assert [inspect.holds(hold, bound, number, {0: [b"evil"]}) for number in (0, 1)] == [True, True]
