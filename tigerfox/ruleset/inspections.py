"""What rules look at beyond the headers, as rows of the image: inspections, parts, tests, steps, views, scans.

image.pxd has the structs. Equal literals, expressions, parts and views are stored once. Views are numbered in the order
of their buffers, when all rules are known.
"""

import hashlib
import itertools
import struct
from array import array
from collections import defaultdict

from tigerfox.dataplane import inspect, scan
from tigerfox.ruleset.buffers import BUFFERS, BY_NAME, TRANSFORMS
from tigerfox.ruleset.literals import choose, rarest
from tigerfox.ruleset.testrows import Tests

_APPS = {"failed": 1, "http": 2, "tls": 3, "dns": 4, "ssh": 5}
_NO_APP = 1 << 15                # wanted where two different protocols are: no flow has it
_PAYLOADS = {"any": 0, "packet": 1, "stream": 2, "both": 3}
_PROGRESS = {"line": 1, "head": 2, "body": 3, "message": 0}
_SIDES = {"request": 0, "response": 1, "both": 2}
_DIRECTIONS = {"to_server": 0, "to_client": 1, None: 2}
_FLOW_BITS = {"to_server": 1, "to_client": 2, "established": 4, "not_established": 8, "stateless": 16,
              "no_frag": 32, "only_frag": 64}
_WANT_FLOW = 128
_BIT_OPS = {"isset": 0, "isnotset": 1, "set": 2, "unset": 3, "toggle": 4}
_ASKING = ("isset", "isnotset")
_STREAM_SIDES = ("client", "server", "both", "either")
_STREAM_OPS = ("<", ">", "=", "!=", "<=", ">=")
_NO_VIEW = 0xFFFFFFFF
_TCP, _OTHER, _TRAFFICS = 0, 2, 4    # image.pxd: Traffic, TCP and other protocols, to the server and back
_PACKET, _TRANSACTION = 0, 1
_NEEDED = 4                      # image.pxd: SCAN_NEEDED


def looks_deeper(rule):
    """Whether a rule looks at anything beyond the headers of a packet."""
    return bool(rule.parts or rule.flow or rule.flowbits or rule.stream_sizes or rule.apps or rule.inspect)


class Inspections:
    """The inspections of entries (one a rule number); ``numbers[n]`` is what Rule.inspection says of entry n.

    ``scanned[n]``: a scan names the entry, so the header index need not.
    """

    def __init__(self, rules):
        self._bits = _Bits()
        self._tests = Tests()
        self._rows, self._parts, self._steps, self._sizes = bytearray(), bytearray(), bytearray(), bytearray()
        self._scans = defaultdict(lambda: defaultdict(list))     # (view, traffic): (literal, nocase): rule numbers
        self._databases = {}                                     # (view, literals): where the database begins, its length
        self._views = _number_views(rules)
        self.numbers, self.scanned = [], []
        done = {}
        for number, rule in enumerate(rules):
            if not looks_deeper(rule):
                self.numbers.append(0)
                self.scanned.append(False)
                continue
            if id(rule) not in done:
                done[id(rule)] = self._add(rule)
            place, scans, literal = done[id(rule)]
            self.numbers.append(place)
            self.scanned.append(literal is not None)
            for scanned in scans:
                self._scans[scanned][literal.text.lower() if literal.nocase else literal.text, literal.nocase].append(number)
        self.reads_payload = any(rule.parts or rule.apps or rule.stream_sizes for rule in rules)

    def _add(self, rule):
        """Pack one rule's inspection; return its number + 1, the scans that look for it (view, traffic), and the Literal."""
        literal = choose(rule)
        view = self._views[_view_key(rule.parts[literal.part])] if literal else _NO_VIEW
        buffers = [BUFFERS[BY_NAME[part.buffer]] for part in rule.parts]
        parts, variables = self._pack_parts(rule)
        bits, sizes = self._bits.steps(rule), [_size_row(one) for one in rule.stream_sizes]
        apps, apps_not = _apps(rule, buffers)
        self._rows += struct.pack(
            "<IIIHHHHBBBBBBBBII12x", parts, _run(self._steps, 8, bits), _run(self._sizes, 12, sizes), len(rule.parts),
            _flow(rule), apps, apps_not, len(bits), len(sizes), _TRANSACTION if any(one.app for one in buffers) else _PACKET,
            _PAYLOADS[rule.payload], _side(rule, buffers), max((_PROGRESS[one.progress] for one in buffers), default=0),
            literal is not None, _of_flow(rule), view, variables)
        return len(self._rows) // 48, [(view, kind) for kind in _traffic(rule, buffers)] if literal else [], literal

    def _pack_parts(self, rule):
        variables, rows = {}, []
        for part in rule.parts:
            first, count = self._tests.add(part.tests, variables)
            rows.append(struct.pack("<III", self._views[_view_key(part)], first, count))
        return _run(self._parts, 12, rows), len(variables)

    def sections(self):
        """Sections inspections to databases, in the order of enum Section."""
        views = sorted(self._views, key=self._views.get)
        packed = b"".join(struct.pack("8B", buffer, *(*(one + 1 for one in transforms), *[0] * (7 - len(transforms))))
                          for buffer, transforms in views)
        return [bytes(self._rows), bytes(self._parts), self._tests.rows(), bytes(self._steps), bytes(self._sizes), packed,
                self._tests.literals(), self._tests.expressions(), *self._scan_sections(len(views))]

    def _scan_sections(self, view_count):
        scans, patterns, rules, databases = bytearray(), bytearray(), array("I"), bytearray()
        for scanned in itertools.product(range(view_count), range(_TRAFFICS)):
            named = self._scans[scanned]
            literals = sorted(named)
            scans += struct.pack("<IIIII5s3x", *self._database(databases, scanned[0], literals), len(patterns) // 8, len(literals),
                                 min((len(text) for text, _ in literals), default=0), _needed(literals))
            for literal in literals:
                patterns += struct.pack("<II", len(rules), len(named[literal]))
                rules.extend(named[literal])
        return [bytes(scans), bytes(patterns), rules.tobytes(), bytes(databases)]

    def _database(self, databases, view, literals):
        """Append the database of the literals, unless one of the view has the same; return where it begins and its length."""
        key = view, tuple(literals)
        if literals and key not in self._databases:
            database = scan.compile_database(literals)
            self._databases[key] = len(databases), len(database)
            databases += database
        return self._databases[key] if literals else (0, 0)


def _needed(literals):
    """Bytes of which a buffer has one where any of the literals is in it, behind their number; none where these would be many."""
    needed = set()
    for text, nocase in literals:
        one = text[rarest(text, nocase):][:1]
        needed |= {*one.lower(), *one.upper()} if nocase else {*one}
        if len(needed) > _NEEDED:
            return bytes(5)
    return bytes([len(needed), *sorted(needed)])


def versions():
    """Return the versions of the libraries that an image depends on."""
    return f"libhs {scan.library()}, pcre2 {inspect.library()}"


def _view_key(part):
    return BY_NAME[part.buffer], tuple(TRANSFORMS.index(name) for name in part.transforms)


def _number_views(rules):
    keys = {_view_key(part) for rule in rules for part in rule.parts}
    return {key: number for number, key in enumerate(sorted(keys))}


def _run(rows, size, more):
    """Append packed rows; return the number of the first."""
    first = len(rows) // size
    for row in more:
        rows += row
    return first


def _apps(rule, buffers):
    """Bits of the application protocols that a rule wants, and of those that it does not."""
    wanted = {one.name for one in rule.apps if not one.negated} | {one.app for one in buffers if one.app}
    unwanted = {one.name for one in rule.apps if one.negated}
    bits = _NO_APP if len(wanted) > 1 else sum(1 << _APPS[name] for name in wanted)
    return bits, sum(1 << _APPS[name] for name in unwanted)


def _flow(rule):
    flow = rule.flow
    if flow is None:
        return 0
    return _WANT_FLOW | sum(_FLOW_BITS[word] for word in (flow.direction, flow.state, flow.fragments) if word)


def _side(rule, buffers):
    """0 request, 1 response, 2 either: what the buffers say, else the direction."""
    sides = {_SIDES[one.side] for one in buffers if one.side != "both"}
    return sides.pop() if len(sides) == 1 else _DIRECTIONS[rule.flow.direction if rule.flow else None]


def _traffic(rule, buffers):
    """The kinds of traffic that a rule can match."""
    kinds = [_TCP] if rule.protocol == "tcp" else [_TCP, _OTHER] if rule.protocol.startswith("ip") else [_OTHER]
    side = _side(rule, buffers)
    return [kind + one for kind in kinds for one in (0, 1) if side in (one, 2)]


def _of_flow(rule):
    """Whether a drop by this rule is one of the whole flow, as Suricata has it: of addresses, or of the protocol, alone."""
    if rule.parts or rule.conditions or rule.stream_sizes:
        return False
    if rule.apps:
        return True
    return (rule.sport.is_any and rule.dport.is_any and rule.flow is None and all(one.op == "set" for one in rule.flowbits))


def _size_row(one):
    return struct.pack("<BBHII", _STREAM_SIDES.index(one.side), _STREAM_OPS.index(one.op), 0, min(one.size, 0xFFFFFFFF), 0)


class _Bits:
    """Names of flow bits: a number in this rule set, and a hash that holds over a reload."""

    def __init__(self):
        self._numbers, self._hashes = {}, {}

    def steps(self, rule):
        """Packed BitSteps of a rule, those that ask before those that set."""
        ordered = sorted(rule.flowbits, key=lambda one: one.op not in _ASKING)
        return [struct.pack("<BBHI", _BIT_OPS[one.op], one.op in _ASKING and place + 1 < len(one.names), *self._name(name))
                for one in ordered for place, name in enumerate(one.names)]

    def _name(self, name):
        if name not in self._numbers:
            salt, hashed = 0, None
            while hashed is None or hashed in self._hashes:      # no two names of a rule set share one
                digest = hashlib.blake2b(f"{salt or ''}{name}".encode("utf-8", "surrogateescape"), digest_size=4).digest()
                salt, hashed = salt + 1, int.from_bytes(digest, "little")
            self._hashes[hashed] = name
            self._numbers[name] = len(self._numbers), hashed
        return self._numbers[name]


def sets_and_asks(rule):
    """Order of flow bits in decisions, as Suricata's: rules that set, that set and ask, that ask, that do neither."""
    asks = any(one.op in _ASKING for one in rule.flowbits)
    sets = any(one.op not in _ASKING for one in rule.flowbits)
    return (3, 2, 0, 1)[asks + 2 * sets]
