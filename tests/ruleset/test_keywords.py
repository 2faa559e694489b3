"""Every keyword of the table: what it accepts and means."""

import json
from pathlib import Path

import pytest

from tigerfox.ruleset import meta, sticky
from tigerfox.ruleset.check import read_rule_text
from tigerfox.ruleset.keywords import KEYWORDS, NOT_YET, TABLE, is_not_yet, render_keywords
from tigerfox.ruleset.rule import FIELDS, Block, Condition, Rate, Refusal


def options_of(text, action="drop", protocol="ip"):
    return read_rule_text(f"{action} {protocol} any any -> any any ({text})", lenient=True)


def within(field, low, high, negated=False):
    return Condition(field, "range", low, high, negated)


def mask(field, a, b, negated=False):
    return Condition(field, "mask", a, b, negated)


def some(field, a):
    return Condition(field, "any", a)


ACCEPTED = [
    ("flags:S", (mask("tcp_flags", 0xFF, 2),)),
    ("flags: S,12", (mask("tcp_flags", 0x3F, 2),)),
    ("flags:SA,CE", (mask("tcp_flags", 0x3F, 0x12),)),
    ("tcp.flags:R,A", (mask("tcp_flags", 0xEF, 4),)),
    ("flags:A+", (mask("tcp_flags", 0x10, 0x10),)),
    ("flags:+AP", (mask("tcp_flags", 0x18, 0x18),)),
    ("flags:RSF*", (some("tcp_flags", 7),)),
    ("flags: *AP,12", (some("tcp_flags", 0x18),)),
    ("flags:!A,12", (mask("tcp_flags", 0x10, 0x10, True),)),
    ("flags:0", (mask("tcp_flags", 0xFF, 0),)),
    ("flags:!0", (mask("tcp_flags", 0xFF, 0, True),)),
    ("flags:SF12", (mask("tcp_flags", 0xFF, 0xC3),)),
    ("flags:0,12", (mask("tcp_flags", 0xFF, 0),)),
    ("seq:0", (within("tcp_seq", 0, 0),)),
    ("tcp.seq:4294967295", (within("tcp_seq", 4294967295, 4294967295),)),
    ("ack:15", (within("tcp_ack", 15, 15),)),
    ("tcp.ack:1", (within("tcp_ack", 1, 1),)),
    ("window:!1024", (within("tcp_window", 1024, 1024, True),)),
    ("tcp.window: 55808", (within("tcp_window", 55808, 55808),)),
    ("ttl:<10", (within("ttl", 0, 9),)),
    ("ttl:>220", (within("ttl", 221, 255),)),
    ("ttl:<=10", (within("ttl", 0, 10),)),
    ("ttl: >= 10", (within("ttl", 10, 255),)),
    ("ttl:!64", (within("ttl", 64, 64, True),)),
    ("ttl:10-20", (within("ttl", 11, 19),)),
    ("tos:8", (within("tos", 8, 8),)),
    ("tos:! 0", (within("tos", 0, 0, True),)),
    ("tos:x2F", (within("tos", 47, 47),)),
    ("id:39426", (within("ip_id", 39426, 39426),)),
    ('id:"1"', (within("ip_id", 1, 1),)),
    ("fragbits:M", (mask("frag_bits", 7, 1),)),
    ("fragbits:MD", (mask("frag_bits", 7, 3),)),
    ("fragbits:!D", (mask("frag_bits", 2, 2, True),)),
    ("fragbits:*MR", (some("frag_bits", 5),)),
    ("fragbits:+M", (mask("frag_bits", 1, 1), some("frag_bits", 6))),
    ("fragbits:M+", (mask("frag_bits", 7, 1),)),
    ("fragoffset:185", (within("frag_off", 1480, 1480),)),
    ("fragoffset: >0", (within("frag_off", 1, 0xFFFFFFFF),)),
    ("fragoffset:<2", (within("frag_off", 0, 15),)),
    ("fragoffset:!0", (within("frag_off", 0, 0, True),)),
    ("ipopts:rr", (some("ip_options", 1),)),
    ("ipopts: LSRR ", (some("ip_options", 64),)),
    ("ipopts:any", (some("ip_options", 512),)),
    ("sameip", (within("same_ip", 1, 1),)),
    ("itype:8", (within("icmp_type", 8, 8),)),
    ("itype:7<>20", (within("icmp_type", 8, 19),)),
    ("itype: != 0", (within("icmp_type", 0, 0, True),)),
    ("icode:>18", (within("icmp_code", 19, 255),)),
    ('icmp_id:"300"', (within("icmp_id", 300, 300),)),
    ("icmp_seq:5000", (within("icmp_seq", 5000, 5000),)),
    ("icmpv6.mtu:<1280", (within("icmp_mtu", 0, 1279),)),
    ("dsize:8<>20", (within("dsize", 9, 19),)),
    ("dsize:!8<>20", (within("dsize", 9, 19, True),)),
    ("dsize:1<>3", (within("dsize", 2, 2),)),
    ("dsize:1kb", (within("dsize", 1024, 1024),)),
    ("ip_proto:6", (within("ip_proto", 6, 6),)),
    ("ip_proto:!udp", (within("ip_proto", 17, 17, True),)),
    ("ip_proto:PIM", (within("ip_proto", 103, 103),)),
    ("ip_proto:IPv6-ICMP", (within("ip_proto", 58, 58),)),
    ("ip_proto:>134", (within("ip_proto", 135, 255),)),
    ("ip_proto:>5; ip_proto:<9; ip_proto:!7",
     (within("ip_proto", 6, 255), within("ip_proto", 0, 8), within("ip_proto", 7, 7, True))),
    ("TTL:1", (within("ttl", 1, 1),)),
]


@pytest.mark.parametrize(("text", "conditions"), ACCEPTED, ids=[text for text, _ in ACCEPTED])
def test_condition(text, conditions):
    found = options_of(f"{text}; sid:1;")
    assert not found.problems
    assert found.rules[0].conditions == conditions


def test_every_row_of_a_packet_field_has_cases():
    accepted = {KEYWORDS[part.strip().partition(":")[0].lower()].name for text,
                _ in ACCEPTED for part in text.split(";")}
    assert accepted == {row.name for row in TABLE if row.field}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_example_loads_and_tests_its_field(row):
    text = row.example if row.name == "sid" else row.example + " sid:1;"
    found = options_of(text, "alert" if row.name == "inspect" else "drop", row.protocols[0] if row.protocols else "ip")
    assert not found.problems
    assert {condition.field for condition in found.rules[0].conditions} == ({row.field} if row.field else set())
    assert row.field is None or row.field in FIELDS


RATES = [
    ("threshold: type limit, track by_src, count 1, seconds 60", Rate("limit", "by_src", 1, 60)),
    ("threshold:type both,count 5,seconds 7,track by_dst", Rate("both", "by_dst", 5, 7)),
    ("threshold:type threshold, track by_rule, count 2, seconds 3", Rate("threshold", "by_rule", 2, 3)),
    ("threshold:track by_both, type limit, seconds 1, count 1", Rate("limit", "by_both", 1, 1)),
    ("detection_filter:track by_src,count 250,seconds 1", Rate("detection_filter", "by_src", 250, 1)),
]


@pytest.mark.parametrize(("text", "rate"), RATES)
def test_rate(text, rate):
    assert options_of(f"{text}; sid:1;").rules[0].rate == rate


BLOCKS = [
    ("source, 10m", Block("source", 600)), ("connection", Block("connection", None)), ("pair, 90", Block("pair", 90)),
    ("destination,2h", Block("destination", 7200)), ("source , 7d", Block("source", 604800)), ("none",
                                                                                               Block("none", None)),
]


@pytest.mark.parametrize(("text", "block"), BLOCKS)
def test_block(text, block):
    assert options_of(f"block:{text}; sid:1;").rules[0].block == block


@pytest.mark.parametrize("action", ["alert", "pass"])
def test_block_goes_with_a_drop_only(action):
    found = options_of("block:source; sid:1;", action)
    assert "write drop or reject" in str(found.problems[0])


def test_what_a_rule_is_called():
    found = options_of(r'msg:"semi\; quote\" back\\ colon: end"; sid: 6; rev:3; gid:7; classtype:Attempted-Recon; '
                       "reference:url,example.org/a; reference:cve,2024-1; metadata:created_at 2025_01_01, service http; "
                       "target:dest_ip; noalert; sameip;")
    rule = found.rules[0]
    assert rule.msg == 'semi; quote" back\\ colon: end'
    assert (rule.sid, rule.rev, rule.gid) == (6, 3, 7)
    assert (rule.classtype, rule.category, rule.priority) == ("attempted-recon", "Attempted Information Leak", 2)
    assert rule.references == (("url", "example.org/a"), ("cve", "2024-1"))
    assert rule.metadata == (("created_at", "2025_01_01"), ("service", "http"))
    assert (rule.target, rule.noalert) == ("dest_ip", True)


PRIORITIES = [
    ("", 3), ("classtype:trojan-activity;", 1), ("classtype:trojan-activity; priority:9;", 9),
    ("priority:9; classtype:trojan-activity;", 9), ("priority:5; priority:4;", 4),
    ("classtype:misc-activity; classtype:web-application-attack;", 1), ("classtype:no-such;", 3),
]


@pytest.mark.parametrize(("text", "priority"), PRIORITIES)
def test_priority(text, priority):
    assert options_of(f"{text} sid:1;").rules[0].priority == priority


def test_unknown_classtype_is_a_warning():
    found = options_of("classtype:atempted-recon; sid:1;")
    assert found.rules
    assert "did you mean attempted-recon?" in str(found.warnings[0])


@pytest.mark.parametrize(("text", "protocol"), [("flags:S", "udp"), ("itype:8", "tcp"), ("id:1", "icmpv6")])
def test_a_keyword_that_its_packets_lack_is_a_warning(text, protocol):
    found = options_of(f"{text}; sid:1;", protocol=protocol)
    assert found.rules
    assert "never matches" in str(found.warnings[0])


@pytest.mark.parametrize(("protocol", "expected"), [("ip", "ipv4"), ("icmp", "icmpv4"), ("tcp", "tcp")])
def test_ipv4_keywords_leave_ipv4_packets(protocol, expected):
    rule = options_of("id:1; sid:1;", protocol=protocol).rules[0]
    assert rule.protocol == expected
    assert protocol != "tcp" or rule.src.v6 == rule.dst.v6 == ()


def test_ip_proto_needs_an_ip_rule():
    assert "write ip" in str(options_of("ip_proto:6; sid:1;", protocol="udp").problems[0])


def test_every_row_of_the_content_language_has_cases():
    here = Path(__file__).parent
    text = "".join((here / f"test_{name}.py").read_text() for name in ("contents", "buffers", "numbers", "flows"))
    own = [row for row in TABLE if row.field is None and row.parse.__module__ not in (meta.__name__, sticky.__name__)]
    assert not [row.name for row in own if not row.buffer and f"{row.name}:" not in text and f"{row.name};" not in text]


@pytest.mark.parametrize("name", ["lua", "tag", "flowint", "xbits", "dataset", "smb.share", "ssh.hassh", "quic.version"])
def test_what_is_not_there_yet_is_refused_by_name(name):
    found = options_of(f'{name}:"x"; sid:1;')
    assert found.problems[0].message.startswith(f"{name}: not supported yet")
    assert is_not_yet(name)


def test_known_and_not_yet_do_not_meet():
    assert not NOT_YET & set(KEYWORDS)


def test_unknown_keyword_names_the_nearest():
    found = options_of("dsiz:4; sid:1;")
    assert "did you mean dsize?" in str(found.problems[0])


def test_conditions_stand_in_the_order_of_cost():
    rule = options_of("sameip; icmp_id:1; itype:8; sid:1;", protocol="icmp").rules[0]
    assert [condition.field for condition in rule.conditions] == ["icmp_type", "same_ip", "icmp_id"]


def test_table_as_text_and_json():
    rows = json.loads(render_keywords(as_json=True))
    assert [row["name"] for row in rows] == [row.name for row in TABLE]
    assert len(render_keywords().splitlines()) == len(TABLE) + 1


def test_a_parser_raises_nothing_but_refusals():
    for row in TABLE:
        for value in ("", "!", "<", "\\", "²", "9" * 400, "a,b,c", "\x00", "-", "<>", "1<>", "%"):
            if row.field and row.value:
                try:
                    row.parse(value)
                except Refusal:
                    continue
