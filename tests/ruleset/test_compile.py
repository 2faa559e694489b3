"""Compiled rule sets against a plain reading of the same rules, packet by packet."""

import random
import struct

import pytest
from intervals import complement, merged, within

from tigerfox.dataplane.image import CompiledRules
from tigerfox.dataplane.match import FIELDS, OPS, matches
from tigerfox.errors import SharedMemoryError
from tigerfox.ruleset import rule as language
from tigerfox.ruleset.compile import compile_rules
from tigerfox.ruleset.rule import ANY_ADDRESS, ANY_PORT, V4_LAST, V6_LAST, AddressSet, Condition, Place, PortSet, Rule

PLACE = Place("test.rules", 1, 1)
PORTS = (0, 22, 80, 443, 1024, 65535)
CARRIED = {"ip": None, "ipv4": None, "tcp": (6,), "udp": (17,), "icmp": (1, 58)}


class Maker:
    """Random rules and packets over a small world, so that they meet."""

    def __init__(self, seed):
        self.source = random.Random(seed)

    def prefix(self):
        length = self.source.choice((8, 16, 20, 24, 32))
        first = (10 << 24 | self.source.getrandbits(10) << 14 | self.source.getrandbits(2)) >> (32 - length) << (32 - length)
        return first, first + (1 << (32 - length)) - 1

    def addresses(self):
        kind = self.source.random()
        if kind < 0.4:
            return ANY_ADDRESS
        intervals = merged(self.prefix() for _ in range(self.source.randint(1, 4)))
        if kind < 0.6:
            return AddressSet(complement(intervals, V4_LAST), ((0, V6_LAST),))
        return AddressSet(intervals, ())

    def ports(self):
        kind = self.source.random()
        if kind < 0.5:
            return ANY_PORT
        width = self.source.choice((0, 0, 10, 500))
        intervals = merged((port, min(65535, port + width)) for port in self.source.choices(PORTS, k=2))
        return PortSet(complement(intervals, 65535)) if kind < 0.6 else PortSet(intervals)

    def conditions(self, protocol):
        found, chance = [], self.source.random
        if protocol == "tcp" and chance() < 0.4:
            found.append(Condition("tcp_flags", "mask", self.source.choice((2, 0x12, 0x3F)), 2, chance() < 0.2))
        if protocol == "icmp" and chance() < 0.7:
            found.append(Condition("icmp_type", "range", 0, self.source.randint(0, 20)))
        if protocol == "ip" and chance() < 0.3:
            found.append(Condition("ip_proto", "range", 17, 17))
        if chance() < 0.2:
            found.append(Condition("ttl", "range", 0, self.source.randint(1, 255)))
        return tuple(found)

    def rule(self, number):
        protocol = self.source.choice(tuple(CARRIED))
        action = self.source.choice(("pass", "drop", "reject", "alert", "alert"))
        return Rule(PLACE, "", action, protocol, self.addresses(), self.ports(), self.source.random() < 0.2,
                    self.addresses(), self.ports(), sid=number, priority=self.source.choice((1, 3)),
                    conditions=self.conditions(protocol))

    def packet(self):
        source = self.source
        fields = dict(src=self.prefix()[0], dst=self.prefix()[1], ip_proto=source.choice((1, 6, 6, 17, 47)), ttl=source.randint(1, 255),
                      sport=source.choice(PORTS), dport=source.choice(PORTS), tcp_flags=source.choice((0, 2, 0x12, 0x10)),
                      icmp_type=source.randint(0, 30))
        return fields, packed(fields)


def packed(fields):
    transport = {
        6: struct.pack("!HHIIBBHHH", fields["sport"], fields["dport"], 1, 2, 0x50, fields["tcp_flags"], 100, 0, 0),
        17: struct.pack("!HHHH", fields["sport"], fields["dport"], 8, 0),
        1: struct.pack("!BBHHH", fields["icmp_type"], 0, 0, 1, 1),
        47: b"\0\0\x65\x58" + bytes(20),
    }[fields["ip_proto"]]
    head = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(transport), 1, 0, fields["ttl"], fields["ip_proto"], 0,
                       fields["src"], fields["dst"])
    return head + transport


def direction_fits(fields, src, sport, dst, dport):
    if not (within(src.v4, fields["src"]) and within(dst.v4, fields["dst"])):
        return False
    if fields["ip_proto"] in (6, 17):
        return within(sport.intervals, fields["sport"]) and within(dport.intervals, fields["dport"])
    return sport.is_any and dport.is_any


def condition_fits(condition, fields):
    needs = {"tcp_flags": (6,), "icmp_type": (1, 58)}.get(condition.field)
    if needs and fields["ip_proto"] not in needs:
        return False
    value, a, b = fields[condition.field], condition.a, condition.b
    answer = {"range": a <= value <= b, "mask": value & a == b, "any": value & a != 0}[condition.op]
    return answer != condition.negated


def rule_fits(rule, fields):
    carried = CARRIED[rule.protocol]
    if carried and fields["ip_proto"] not in carried:
        return False
    there = direction_fits(fields, rule.src, rule.sport, rule.dst, rule.dport)
    back = rule.bidirectional and direction_fits(fields, rule.dst, rule.dport, rule.src, rule.sport)
    return (there or back) and all(condition_fits(condition, fields) for condition in rule.conditions)


DECISION = {"pass": 0, "drop": 1, "reject": 2, "alert": 3}


def expected(rules, fields):
    fitting = [rule for rule in rules if rule_fits(rule, fields)]
    return [rule.sid for rule in sorted(fitting, key=lambda r: (DECISION[r.action], r.priority, r.sid))]


@pytest.mark.parametrize("count", [0, 1, 24, 300, 1500])
def test_matches_are_those_of_a_plain_reading(count):
    maker = Maker(count)
    rules = [maker.rule(number) for number in range(1, count + 1)]
    compilation = compile_rules(rules)
    compiled = CompiledRules.from_buffer(compilation.image)
    for _ in range(200):
        fields, packet = maker.packet()
        found, cut = matches(compiled, packet)
        wanted = expected(rules, fields)
        assert [compilation.rules[number].sid for number in found] == wanted[:15]
        assert (cut > 0) == (len(wanted) > 15)


def one_rule(**changes):
    fields = dict(place=PLACE, text="", action="alert", protocol="tcp", src=ANY_ADDRESS, sport=ANY_PORT, bidirectional=False,
                  dst=ANY_ADDRESS, dport=ANY_PORT, sid=1)
    return Rule(**(fields | changes))


def hits(rule, **changes):
    fields = dict(src=1, dst=2, ip_proto=6, ttl=64, sport=1000, dport=80, tcp_flags=2, icmp_type=8) | changes
    return len(matches(CompiledRules.from_buffer(compile_rules([rule]).image), packed(fields))[0])


@pytest.mark.parametrize("rule, changes, wanted", [
    (one_rule(bidirectional=True), {}, 1),                                                    # both directions: once
    (one_rule(bidirectional=True, dport=PortSet(((80, 80),))), {"sport": 80, "dport": 7}, 1),
    (one_rule(bidirectional=True, sport=PortSet(((1, 9000),)), dport=PortSet(((80, 8080),))), {"sport": 81}, 1),
    (one_rule(protocol="icmp", dport=PortSet(((80, 80),))), {"ip_proto": 1}, 0),              # no ports to look at
    (one_rule(protocol="ip", sport=PortSet(complement(((80, 80),), 65535))), {"ip_proto": 47}, 0),
    (one_rule(protocol="udp"), {}, 0),
    (one_rule(conditions=(Condition("tcp_flags", "mask", 255, 2, True),)), {}, 0),
    (one_rule(protocol="ip", conditions=(Condition("tcp_flags", "mask", 255, 2, True),)), {"ip_proto": 17}, 0),
])
def test_single_rules(rule, changes, wanted):
    assert hits(rule, **changes) == wanted


def test_names_agree_with_the_language():
    assert FIELDS == language.FIELDS
    assert OPS == language.OPS


def test_more_field_choices_than_patterns():
    """Rules for 200 protocol numbers make more patterns than there are bits; all must still be found."""
    rules = [one_rule(sid=number, protocol="ip", conditions=(Condition("ip_proto", "range", number, number),))
             for number in range(1, 200)]
    compilation = compile_rules(rules)
    compiled = CompiledRules.from_buffer(compilation.image)
    for number in (47, 17, 6):
        found, _ = matches(compiled, packed(dict(src=1, dst=2, ip_proto=number, ttl=1, sport=1, dport=2, tcp_flags=0, icmp_type=0)))
        assert [compilation.rules[one].sid for one in found] == [number]


def test_damaged_images_are_refused_or_harmless():
    """Any byte of an image may be wrong: it is refused, or its look-ups stay inside."""
    maker = Maker(7)
    image = compile_rules([maker.rule(number) for number in range(1, 60)]).image
    packets = [maker.packet()[1] for _ in range(20)]
    refused = 0
    for _ in range(1500):
        damaged = bytearray(image)
        for _ in range(maker.source.choice((1, 1, 8))):
            damaged[maker.source.randrange(maker.source.choice((400, len(image))))] = maker.source.getrandbits(8)
        try:
            compiled = CompiledRules.from_buffer(bytes(damaged))
        except SharedMemoryError:
            refused += 1
            continue
        for packet in packets:
            matches(compiled, packet)
    assert refused > 100


@pytest.mark.parametrize("image", [b"", bytes(64), bytes(100_000)])
def test_not_an_image(image):
    with pytest.raises(SharedMemoryError, match="tigerfox reload"):
        CompiledRules.from_buffer(image)


def test_empty_buffer_of_a_cut_image():
    image = compile_rules([one_rule()]).image
    with pytest.raises(SharedMemoryError, match="length"):
        CompiledRules.from_buffer(image[:-64])
