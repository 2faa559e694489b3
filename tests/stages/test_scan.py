"""Scans: what is there is named, once, whatever its case and place; candidate lists keep their order and bounds."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inspected import bind, make_rule, part

from tigerfox.dataplane import inspect, scan
from tigerfox.dataplane.candidates import collected
from tigerfox.dataplane.image import CompiledRules
from tigerfox.errors import SharedMemoryError
from tigerfox.ruleset.buffers import BY_NAME
from tigerfox.ruleset.compile import compile_rules
from tigerfox.ruleset.rule import Content, Flow, Pcre

URI = BY_NAME["http.uri"]


TCP, UDP, TO_SERVER, TO_CLIENT = 6, 17, 0, 1


def named(rules, data, buffer="payload", traffic=None):
    """The sids whose literal a scan finds."""
    compiled = compile_rules(rules)
    bound = CompiledRules.from_buffer(compiled.image)
    hold = scan.ScannerHold(bound)
    return [compiled.rules[number].sid for number in scan.candidates(hold, bound, BY_NAME[buffer], data, traffic)]


def looking_for(*contents, buffer="payload", **more):
    return [make_rule(part(content, buffer=buffer), sid=sid, **more) for sid, content in enumerate(contents, 1)]


ROWS = [
    ("nothing there", b"abc", []),
    ("one", b"..evil..", [1]),
    ("another case", b"EVIL", []),
    ("no case", b"NaStY", [2]),
    ("several, in the order of rules", b"nasty evil", [1, 2]),
    ("many times", b"evil" * 400, [1]),
    ("bytes of every kind", b"\x00\xff.*\x00", [3]),
    ("a literal is no expression", b"\x00\xffab\x00", []),
    ("one byte", b"~", [4]),
    ("shorter than any", b"", []),
    ("one in the other", b"evildoer", [1, 5]),
]


@pytest.mark.parametrize("description, data, sids", ROWS, ids=[row[0] for row in ROWS])
def test_rows(description, data, sids):
    rules = looking_for(Content(b"evil"), Content(b"nasty", nocase=True), Content(b"\x00\xff.*\x00"), Content(b"~"), Content(b"evildoer"))
    assert named(rules, data) == sids


def test_each_buffer_has_its_own_literals():
    rules = [*looking_for(Content(b"evil")), make_rule(part(Content(b"evil"), buffer="http.uri"), sid=9)]
    assert named(rules, b"evil") == [1]
    assert named(rules, b"evil", "http.uri") == [9]
    assert named(rules, b"evil", "http.host") == []


@pytest.mark.parametrize("traffic, sids", [
    ((TCP, TO_SERVER), [1, 3, 4]), ((TCP, TO_CLIENT), [2, 3, 4]), ((UDP, TO_SERVER), [4, 5]), ((UDP, TO_CLIENT), [4])])
def test_each_kind_of_traffic_has_its_own_literals(traffic, sids):
    of = part(Content(b"evil"))
    rules = [make_rule(of, sid=1, protocol="tcp", flow=Flow("to_server")), make_rule(of, sid=2, protocol="tcp", flow=Flow("to_client")),
             make_rule(of, sid=3, protocol="tcp"), make_rule(of, sid=4, protocol="ip"),
             make_rule(of, sid=5, protocol="udp", flow=Flow("to_server"))]
    assert named(rules, b"evil", traffic=traffic) == sids
    assert named(rules, b"good", traffic=traffic) == []


@pytest.mark.parametrize("buffer, side", [("http.uri", TO_SERVER), ("http.server", TO_CLIENT)])
def test_a_buffer_of_one_side_is_scanned_on_that_side(buffer, side):
    rules = looking_for(Content(b"evil"), buffer=buffer, protocol="tcp")
    assert named(rules, b"evil", buffer, (TCP, side)) == [1]
    assert named(rules, b"evil", buffer, (TCP, 1 - side)) == []


def test_rules_share_a_literal():
    assert named(looking_for(*[Content(b"evil")] * 300), b"an evil thing") == list(range(1, 301))


def test_of_too_many_the_rules_that_decide_first_stay():
    assert named(looking_for(*[Content(b"evil")] * 1500), b"evil") == list(range(1, 1025))


@pytest.mark.parametrize("seed", range(6))
def test_lists_are_in_order_and_unique_and_bounded(seed):
    source = random.Random(seed)
    numbers = [source.randrange((50, 1024, 1025, 1500, 4000, 1 << 32)[seed]) for _ in range(5000)]
    kept, cut = collected(numbers)
    assert kept == sorted(set(numbers))[:1024]
    assert (cut > 0) == (len(set(numbers)) > 1024)


def test_a_rule_of_both_directions_is_named_twice():
    rule = make_rule(part(Content(b"evil")), sid=1)
    rule = type(rule)(**{name: getattr(rule, name) for name in rule.__slots__} | {"bidirectional": True, "sport": type(rule.sport)(((1, 9),))})
    assert named([rule], b"evil") == [1, 1]


def test_a_rule_without_a_literal_is_named_by_no_scan():
    assert named([make_rule(part(Pcre(rb"evil")), sid=1), make_rule(part(Content(b"evil", negated=True)), sid=2)], b"evil") == []


def test_a_damaged_database_is_refused():
    image = bytearray(compile_rules(looking_for(Content(b"evil"), Content(b"other thing"))).image)
    image[-200] ^= 0x40
    bound = CompiledRules.from_buffer(bytes(image))
    with pytest.raises(SharedMemoryError, match="reload"):
        scan.ScannerHold(bound)


def test_an_empty_literal_is_refused():
    with pytest.raises(ValueError, match="libhs"):
        scan.compile_database([(b"", False)])


def test_the_hold_of_another_rule_set_is_refused():
    one, other = (bind(*looking_for(Content(b"evil"))) for _ in range(2))
    with pytest.raises(ValueError):
        scan.candidates(scan.ScannerHold(one), other, 0, b"evil")


texts = st.binary(min_size=1, max_size=6).map(lambda raw: bytes(b"abAB\x00."[byte % 6] for byte in raw))


@st.composite
def contents(draw):
    pattern, nocase = draw(texts), draw(st.booleans())
    first = draw(st.integers(0, len(pattern) - 1))
    fast = draw(st.none() | st.just((first, draw(st.integers(1, len(pattern) - first)))))
    return Content(pattern.lower() if nocase else pattern, nocase, draw(st.integers(0, 4)) == 0, False, draw(st.integers(0, 2)), fast=fast)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(contents(), min_size=1, max_size=3), min_size=1, max_size=8),
       st.lists(st.binary(max_size=40).map(lambda raw: bytes(b"abAB\x00."[byte % 6] for byte in raw)), min_size=3, max_size=3))
def test_what_holds_in_full_is_named(made, buffers):
    """A scan may name too much, never too little."""
    rules = bind(*(make_rule(part(*tests), sid=sid) for sid, tests in enumerate(made)))
    scanner, inspector = scan.ScannerHold(rules), inspect.InspectorHold(rules)
    searched = [any(not test.negated for test in tests) for tests in made]
    for data in buffers:
        found = scan.candidates(scanner, rules, 0, data)
        assert found == sorted(set(found))
        for number in range(len(made)):
            if searched[number] and inspect.holds(inspector, rules, number, {0: [data]}):
                assert number in found, (data, made[number])


def test_a_damaged_image_is_refused_or_harmless():
    """Whatever bit is wrong in it: an error at bind, or an image whose look-ups stay inside."""
    source = random.Random(7)
    rules = [*looking_for(Content(b"evil"), Content(b"nasty", nocase=True), Content(b"abc", offset=2, depth=9)),
             make_rule(part(Pcre(rb"a+b"), Content(b"x", relative=True, depth=4)), part(Content(b"y"), buffer="http.uri"), sid=8)]
    image = compile_rules(rules).image
    interesting = [n for n in range(len(image)) if image[n]]
    refused = 0
    for _ in range(1500):
        damaged = bytearray(image)
        damaged[source.choice(interesting)] ^= 1 << source.randrange(8)
        try:
            bound = CompiledRules.from_buffer(bytes(damaged))
            scan.candidates(scan.ScannerHold(bound), bound, 0, b"evil nasty abc aab.x")
            hold = inspect.InspectorHold(bound)
            for number in range(bound.rule_count):
                inspect.holds(hold, bound, number, {0: [b"evil nasty abc aab.x"], URI: [b"y"]})
        except (SharedMemoryError, ValueError):
            refused += 1
    assert 0 < refused < 1500
