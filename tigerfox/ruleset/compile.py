"""Checked rules to one image: order, equivalence classes, index.

The order is the one in which rules decide: pass, drop, reject, alert; then flow bits (who sets before who asks); then
priority; then sid. Fields that several rules share are stored once. Which fields a rule is filed under is chosen here
(``_Index``); match.pyx explains the look-up. Rules that a scan names are not filed: inspections.py makes their lists.
"""

import hashlib
import struct
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import product

from tigerfox.dataplane import image, match, prefixes
from tigerfox.ruleset.inspections import Inspections, sets_and_asks
from tigerfox.ruleset.rule import Rule

WHOLE_COPY_RANGE = 65535
HEADER_COPY_RANGE = 192          # IPv6 with extension headers or a tunnel, TCP with all options
CONNECTION_SECONDS = 600         # as long as Suricata keeps an established TCP flow

_ACTIONS = {"pass": 0, "drop": 1, "reject": 2, "rejectsrc": 2, "rejectdst": 3, "rejectboth": 4, "alert": 5}
_DECISION_ORDER = {"pass": 0, "drop": 1, "reject": 2, "rejectsrc": 2, "rejectdst": 2, "rejectboth": 2, "alert": 3}
_SCOPES = {"none": 0, "connection": 1, "source": 2, "destination": 3, "pair": 4}
_RATE_KINDS = {"limit": 1, "threshold": 2, "both": 3, "detection_filter": 4}
_RATE_TRACKS = {"by_src": 1, "by_dst": 2, "by_rule": 3, "by_both": 4}
_ICMP_EITHER = 255
_TRANSPORTS = {"ip": (0, 0), "ipv4": (4, 0), "ipv6": (6, 0), "tcp": (0, 6), "udp": (0, 17), "sctp": (0, 132),
               "icmp": (0, _ICMP_EITHER), "icmpv4": (4, 1), "icmpv6": (6, 58)}       # (IP version, protocol)
_ANY_PROTOCOL = frozenset(range(256))
_ICMP_PROTOCOLS = frozenset((1, 58))
_SRC, _DST, _SPORT, _DPORT, _EXTRA = range(5)
_PATTERNS = 64
_ALL_PATTERNS = (1 << _PATTERNS) - 1
_FILED_KEYS = 500_000            # index keys a rule set may use in all


@dataclass(frozen=True, slots=True)
class Compilation:
    """A compiled rule set: ``image`` for the data plane, ``rules[number]`` the rule behind each number in events."""

    image: bytes
    rules: tuple[Rule, ...]


def compile_rules(rules, connection_seconds=CONNECTION_SECONDS, inspectors=()):
    """Return the Compilation of ``rules`` (checked Rule objects, any order).

    ``connection_seconds``: how long a drop blocks where its rule does not say. A ``<>`` rule takes two numbers.
    ``inspectors``: names of the Python inspectors, numbered from 1; a name that is not there comes behind them.
    """
    entries = _entries(rules)
    sets = _Sets(entries)
    extra = _ExtraClasses(entries)
    conditions, rates = _Table("<BBHII"), _Table("<BBHIII")
    inspections = Inspections([entry.rule for entry in entries])
    names = _inspector_numbers(rules, inspectors)
    packed = b"".join(_pack_rule(entry, sets, conditions, rates, connection_seconds, inspection, names)
                      for entry, inspection in zip(entries, inspections.numbers, strict=True))
    index = _Index(entries, sets, extra, inspections.scanned)
    sections = [packed, conditions.data(), rates.data(), *index.sections(), extra.table, *sets.sections(),
                *inspections.sections()]
    copy_range = WHOLE_COPY_RANGE if inspections.reads_payload else HEADER_COPY_RANGE
    return Compilation(image.pack(sections, copy_range), tuple(entry.rule for entry in entries))


@dataclass(frozen=True, slots=True)
class _Entry:
    """One direction of a rule."""

    rule: Rule
    src: object
    dst: object
    sport: object
    dport: object
    twin: int


def _entries(rules):
    ordered = sorted(rules, key=lambda r: (_DECISION_ORDER[r.action], sets_and_asks(r), r.priority, r.sid, r.gid))
    entries = []
    for rule in ordered:
        same = rule.src == rule.dst and rule.sport == rule.dport
        twins = (1, 2) if rule.bidirectional and not same else (0,)
        entries.append(_Entry(rule, rule.src, rule.dst, rule.sport, rule.dport, twins[0]))
        if len(twins) == 2:
            entries.append(_Entry(rule, rule.dst, rule.src, rule.dport, rule.sport, 2))
    return entries


class _Table:
    """Rows packed once: equal rows share a number."""

    def __init__(self, form, size=None):
        self._form = form
        self._size = size or struct.calcsize(form)
        self._rows = bytearray()
        self._runs = {}

    def run(self, rows):
        """Return the number of the first of ``rows``, which stand together."""
        packed = b"".join(struct.pack(self._form, *row).ljust(self._size, b"\0") for row in rows)
        if packed not in self._runs:
            self._runs[packed] = len(self._rows) // self._size
            self._rows += packed
        return self._runs[packed]

    def data(self):
        return bytes(self._rows)


class _Sets:
    """Address and port sets, numbered from 1 (0 is any), and the classes they make."""

    def __init__(self, entries):
        self._numbers = {}
        self._by_identity = {}
        self._kept = []
        addresses = self._collect(side for entry in entries for side in (entry.src, entry.dst))
        ports = self._collect(side for entry in entries for side in (entry.sport, entry.dport))
        address_classes = prefixes.Classes(len(addresses))
        v4 = address_classes.sweep(32, [one.v4 for one in addresses])
        v6 = address_classes.sweep(128, [one.v6 for one in addresses])
        port_classes = prefixes.Classes(len(ports))
        spans = port_classes.sweep(16, [one.intervals for one in ports])
        self.runs = address_classes.memberships() + port_classes.memberships()
        self.address_count, self.port_count = address_classes.count, port_classes.count
        self._tables = [spans.flat(16), *prefixes.build_v4(v4), *prefixes.build_v6(v6)]

    def _collect(self, sides):
        found = []
        for side in sides:
            if id(side) in self._by_identity:
                continue
            self._kept.append(side)
            if not side.is_any and side not in self._numbers:
                self._numbers[side] = len(self._numbers) + 1
                found.append(side)
            self._by_identity[id(side)] = 0 if side.is_any else self._numbers[side]
        return found

    def number(self, side):
        return self._by_identity[id(side)]

    def classes(self, number, at_most):
        """The classes of a set, or None where there are more than ``at_most``."""
        runs = self.runs[number - 1]
        if sum(last - first + 1 for first, last in runs) > at_most:
            return None
        return [one for first, last in runs for one in range(first, last + 1)]

    def sections(self):
        starts, intervals = array("I", [0]), array("I")
        for runs in self.runs:
            for run in runs:
                intervals.extend(run)
            starts.append(len(intervals) // 2)
        return [starts.tobytes(), intervals.tobytes(), *self._tables]


class _ExtraClasses:
    """Classes of the TCP flags byte and of the ICMP type: values that no rule's conditions tell apart are one class."""

    FIELDS = {"tcp_flags": 1, "icmp_type": 2}

    def __init__(self, entries):
        self._allowed = {}
        seen = {1: {}, 2: {}}
        for entry in entries:
            conditions, kind = self._conditions(entry.rule)
            if conditions and conditions not in self._allowed:
                self._allowed[conditions] = frozenset(v for v in range(256) if all(_holds(c, v) for c in conditions))
                seen[kind][conditions] = self._allowed[conditions]
        table, self.count = array("H", [0] * 256), 1
        self._of = {}
        for kind in (1, 2):
            numbers = {}
            sets = list(seen[kind].values())
            for value in range(256):
                signature = tuple(value in one for one in sets)
                number = numbers.setdefault(signature, self.count + len(numbers))
                table.append(number)
                self._of[kind, value] = number
            self.count += len(numbers)
        self.table = table.tobytes()

    def _conditions(self, rule):
        for field, kind in self.FIELDS.items():
            found = tuple(c for c in rule.conditions if c.field == field)
            if found:
                return found, kind
        return (), 0

    def classes(self, rule):
        """The classes that a rule's conditions allow, or None where it has none of these conditions."""
        conditions, kind = self._conditions(rule)
        if not conditions:
            return None
        return sorted({self._of[kind, value] for value in self._allowed[conditions]})


def _holds(condition, value):
    """What match.pyx does with one condition, for a value of one byte."""
    a, b = condition.a, condition.b
    answer = {"range": a <= value <= b, "mask": value & a == b, "any": value & a != 0}[condition.op]
    return answer != condition.negated


def _inspector_numbers(rules, inspectors):
    names = dict.fromkeys([*inspectors, *(rule.inspect.name for rule in rules if rule.inspect)])
    return {name: number for number, name in enumerate(names, 1)}


def _pack_rule(entry, sets, conditions, rates, connection_seconds, inspection, inspectors):
    rule = entry.rule
    version, transport = _TRANSPORTS[rule.protocol]
    rows = [(match.FIELDS.index(c.field), match.OPS.index(c.op), c.negated, c.a, c.b) for c in rule.conditions]
    rate = 0 if rule.rate is None else rates.run([_rate_row(rule)]) + 1
    scope, seconds = _block_of(rule, connection_seconds)
    sides = (sets.number(side) for side in (entry.src, entry.dst, entry.sport, entry.dport))
    return struct.pack("<IIIIHBBBBBBIIIIIIIIIHH", rule.sid, rule.gid, rule.rev, conditions.run(rows), len(rows),
                       _ACTIONS[rule.action], version, transport, entry.twin, rule.noalert, scope, seconds, *sides, rate,
                       inspection, rule.block is None, _of_addresses(rule),
                       inspectors[rule.inspect.name] if rule.inspect else 0, rule.inspect is not None and rule.inspect.flow)


def _of_addresses(rule):
    """Whether an alert looks at addresses and nothing else; Suricata asks such rules once a flow and direction ("IP only")."""
    beyond = (rule.conditions, rule.parts, rule.flow, rule.flowbits, rule.stream_sizes, rule.apps, rule.inspect)
    return rule.action == "alert" and rule.sport.is_any and rule.dport.is_any and not any(beyond)


def _block_of(rule, connection_seconds):
    """Scope number and seconds of what a drop by this rule blocks: its connection, unless the rule says something else."""
    if rule.action in ("pass", "alert"):
        return _SCOPES["none"], 0
    if rule.block is None:
        return _SCOPES["connection"], connection_seconds
    return _SCOPES[rule.block.scope], rule.block.seconds or connection_seconds


def _rate_row(rule):
    rate = rule.rate
    text = f"{rule.gid}:{rule.sid}:{rate.kind}:{rate.track}:{rate.count}:{rate.seconds}"
    identity = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
    return _RATE_KINDS[rate.kind], _RATE_TRACKS[rate.track], 0, rate.count, rate.seconds, identity


class _Index:
    """Patterns, slots, candidates and class masks.

    A rule is filed under as many of its fields as keep its keys (the product of the fields' classes) within its share of
    _FILED_KEYS; the widest field is left out first. Rules with the same protocols and the same fields are one pattern. Rules
    that a scan names are left out.
    """

    def __init__(self, entries, sets, extra, scanned):
        self._sets, self._extra = sets, extra
        self._share = max(8, min(64, _FILED_KEYS // max(1, len(entries) - sum(scanned))))
        groups = defaultdict(list)
        for number, entry in enumerate(entries):
            if scanned[number]:
                continue
            fields = self._fields(entry)
            groups[_protocols(entry.rule), tuple(sorted(fields))].append((number, fields))
        self._patterns = _fit(groups)
        self._counts = (sets.address_count, sets.address_count, sets.port_count, sets.port_count, extra.count)

    def _fields(self, entry):
        """The fields to file an entry under: {dimension: classes}."""
        fields = {}
        for dimension, side in ((_SRC, entry.src), (_DST, entry.dst), (_SPORT, entry.sport), (_DPORT, entry.dport)):
            number = self._sets.number(side)
            classes = self._sets.classes(number, self._share) if number else None
            if classes is not None:
                fields[dimension] = classes
        classes = self._extra.classes(entry.rule)
        if classes is not None:
            fields[_EXTRA] = classes
        while _product(fields) > self._share:
            del fields[max(fields, key=lambda dimension: len(fields[dimension]))]
        return fields

    def sections(self):
        """Sections patterns to extra masks, in the order of enum Section."""
        candidates, shared, slots, patterns = array("I"), {}, [], bytearray()
        masks = [[_ALL_PATTERNS] * count for count in self._counts]
        protocol_masks = [0] * 256
        used = 0
        for bit, (protocols, dimensions, members) in enumerate(self._patterns):
            filed = _file(dimensions, members)
            table, mask = match.build_slots([(key, *_place(numbers, candidates, shared)) for key, numbers in filed.items()])
            patterns += struct.pack("<IIII", sum(1 << d for d in dimensions), used, mask, 0)
            used += mask + 1
            slots.append(table)
            for dimension in dimensions:
                _mark(masks[dimension], bit, {key[dimension] for key in filed})
            for protocol in protocols:
                protocol_masks[protocol] |= 1 << bit
        return [bytes(patterns), b"".join(slots), candidates.tobytes(),
                *(array("Q", one).tobytes() for one in (protocol_masks, *masks))]


def _file(dimensions, members):
    """Keys of five classes to the numbers of the rules filed under them."""
    filed = defaultdict(list)
    for number, fields in members:
        for key in product(*(fields[d] if d in dimensions else (0,) for d in range(5))):
            filed[key].append(number)
    return filed


def _place(numbers, candidates, shared):
    """(first, count) of a candidate list; equal lists are stored once."""
    key = tuple(numbers)
    if key not in shared:
        shared[key] = len(candidates)
        candidates.extend(key)
    return shared[key], len(key)


def _mark(masks, bit, present):
    """Clear the pattern's bit for every class that none of its keys names."""
    for number in range(len(masks)):
        if number not in present:
            masks[number] &= ~(1 << bit)


def _product(fields):
    size = 1
    for classes in fields.values():
        size *= len(classes)
    return size


def _protocols(rule):
    """The IP protocol numbers that a rule can match."""
    transport = _TRANSPORTS[rule.protocol][1]
    possible = _ICMP_PROTOCOLS if transport == _ICMP_EITHER else frozenset((transport,)) if transport else _ANY_PROTOCOL
    conditions = [c for c in rule.conditions if c.field == "ip_proto"]
    return frozenset(p for p in possible if all(_holds(c, p) for c in conditions)) if conditions else possible


def _fit(groups):
    """Patterns as (protocols, dimensions, members), at most 64: beyond, the smallest lose their protocols, then a field."""
    while len(groups) > _PATTERNS:
        sizes = Counter({key: len(members) for key, members in groups.items()})
        special = [key for key in sizes if key[0] != _ANY_PROTOCOL]
        key = min(special or sizes, key=lambda one: (len(one[1]) == 0, sizes[one]))
        members = groups.pop(key)
        protocols, dimensions = key
        smaller = (_ANY_PROTOCOL, dimensions) if special else (protocols, dimensions[:-1])
        groups[smaller].extend(members)
    return [(protocols, dimensions, members) for (protocols, dimensions), members in groups.items()]
