"""``tigerfox explain``: why a packet of a capture met its fate, why a rule did or did not match, how a rule is compiled.

The capture goes through the stages of `replay`, packet by packet, with a Watch in them (dataplane/explain.pyx); what it
records becomes one object here, for JSON and for text (offline/explaining.py).
"""

import ipaddress
import sys
from dataclasses import dataclass

from tigerfox.config import Blocks, Failure, assignments
from tigerfox.errors import UsageError
from tigerfox.offline.explaining import as_json_text, as_text
from tigerfox.ruleset.buffers import BUFFERS
from tigerfox.ruleset.describe import (
    condition_text, escaped, flow_text, flowbit_text, header_text, stream_size_text, test_text)

SHOWN = 160                          # bytes of a buffer that are shown
LISTED = 20                          # packets that are listed by number
_ASKING = ("isset", "isnotset")
_FAULTS = ("header", "unit", "flow", "application", "flowbits", "stream_size", "buffer", "test", "none")
ONCE = "alerts on addresses alone are given once a flow and direction"
_POLICIES = {"malformed": "malformed", "unparsed": "unparsed", "failure": "no_verdict"}
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmpv6", 132: "sctp"}


def explain(pcap, rules, number=None, sid=None, variables=(), midstream=False, lenient=False, as_json=False):
    """Explain packet ``number`` of a capture, rule ``sid`` over all of it, or, without a capture, how that rule is compiled.

    Writes text or one JSON object to standard output. Raises UsageError where there is no such packet or rule.
    """
    if number is None and sid is None:
        raise UsageError("say what to explain: --packet N of a capture, or --sid N of a rule")
    if number is not None and pcap is None:
        raise UsageError("--packet counts the packets of a capture: name the capture, or leave --packet out")
    made = compiled(rules, assignments(variables), lenient)
    wanted = numbers_of(made.rules, sid) if sid is not None else []
    if pcap is None:
        found = rule_alone(made, wanted)
    elif number is not None:
        found = Explanation(pcap, made, midstream, wanted, True).of_packet(number)
    else:
        found = Explanation(pcap, made, midstream, wanted, False).of_rule(sid)
    sys.stdout.write(as_json_text(found) if as_json else as_text(found))


@dataclass(frozen=True)
class Made:
    """What Run needs of a compiled set, and the rules behind the numbers."""

    image: bytes
    rules: tuple
    count: int


def compiled(files, variables, lenient):
    """Return the Made of rule files; refused rules are left out with ``lenient``. Raises RuleError."""
    from tigerfox.ruleset.check import load_rules
    from tigerfox.ruleset.compile import compile_rules
    from tigerfox.ruleset.source import resting_collector
    from tigerfox.ruleset.variables import Variables

    with resting_collector():
        found = load_rules([str(name) for name in files], Variables(variables), lenient=lenient)
        done = compile_rules(found.rules, Blocks().seconds)
    return Made(done.image, done.rules, len(found.rules))


def numbers_of(rules, sid):
    """Return the rule numbers of a sid: two where the rule is one of both directions. Raises UsageError for none."""
    found = [number for number, rule in enumerate(rules) if rule.sid == sid]
    if not found:
        near = sorted({rule.sid for rule in rules}, key=lambda one: abs(one - sid))[:3]
        raise UsageError(f"no rule has sid {sid}: give one that is loaded, such as {', '.join(map(str, near))}, or the file that "
                         "has it with --rules")
    return found


class Explanation:
    """A replay that is watched: ``wanted`` are rule numbers that are asked about, ``buffers`` whether bytes are kept."""

    def __init__(self, pcap, made, midstream, wanted, buffers):
        from tigerfox.offline.replay import Run

        self._rules, self._wanted, self._buffers = made.rules, wanted, buffers
        self._run = Run(pcap, made, midstream)

    def of_packet(self, number):
        """Return what became of packet ``number``, and why. Raises UsageError when the capture has fewer."""
        for _ in range(number - 1):
            if not self._run.step():
                break
        watch = self._run.watch(self._wanted, True)
        if number < 1 or not self._run.step():
            count = self._run.packets_read()
            raise UsageError(f"{self._run.path} has {count} packets: give --packet a number from 1 to {count}")
        facts = watch.take()
        watch.close()
        return {"packet": number, "layers": [self._layer(one) for one in facts["layers"]],
                "units": [self._unit(one) for one in facts["units"]], "rules": self._verdicts(facts)}

    def of_rule(self, sid):
        """Return where a rule matched over the whole capture, or how near it came."""
        watch = self._run.watch(self._wanted, False)
        matched, reported, blocked, nearest = [], [], 0, None
        while self._run.step():
            facts = watch.take()
            blocked += not facts["layers"][-1]["decision"]["asked"]
            rows = [row for row in self._verdicts(facts) if row["sid"] == sid]
            place = facts["layers"][0]["packet"]["number"]
            matched += [place] if any(row["result"] == "matches" for row in rows) else []
            reported += [place] if any(row["reported"] for row in rows) else []
            for row in rows:
                if nearest is None or row["rank"] > nearest["rank"]:
                    nearest = row | {"packet": place, "layers": [self._layer(one) for one in facts["layers"]]}
        watch.close()
        return {"sid": sid, "rule": _rule_row(self._rules[self._wanted[0]]), "packets": self._run.packets_read(),
                "matched": len(matched), "matched_packets": matched[:LISTED], "reported": len(reported),
                "reported_packets": reported[:LISTED], "not_asked": blocked,
                "nearest": None if matched or nearest is None else nearest}

    def _layer(self, layer):
        from tigerfox.dataplane.reason import REASONS

        decision, packet = layer["decision"], layer["packet"]
        name, group, text = REASONS[decision["reason"]]
        shown = {"verdict": decision["verdict"], "reason": name, "class": group, "explanation": text,
                 "sid": decision["sid"] or None, "policy": None, "block": None}
        if group in _POLICIES:
            shown["policy"] = f"{_POLICIES[group]} = {getattr(Failure(), _POLICIES[group])}"
        if name.startswith("blocked_"):
            shown["block"] = name.removeprefix("blocked_")
        fault = REASONS[packet["fault"]][0] if packet["fault"] else None
        address = ipaddress.IPv6Address if packet["version"] == 6 else ipaddress.IPv4Address
        known = packet["version"] in (4, 6)
        source, target = (str(address(packet[end])) if known else None for end in ("src", "dst"))
        return packet | {"src": source, "dst": target, "proto": _PROTOCOLS.get(packet["proto"], packet["proto"]), "fault": fault,
                         "decision": shown, "payload": escaped(packet["payload"], SHOWN)}

    def _unit(self, unit):
        stream = unit["stream"]
        return {"kind": unit["kind"], "inner": unit["inner"], "progress": unit["progress"], "flow": unit["flow"],
                "stream": stream and stream | {"end": escaped(stream["end"][-SHOWN:])},
                "buffers": [{"buffer": BUFFERS[buffer].name, "instance": instance, "length": length, "bytes": escaped(data, SHOWN)}
                            for buffer, instance, length, data in unit["buffers"]]}

    # Rules

    def _verdicts(self, facts):
        """One row for each rule and unit: was it a candidate and why, what failed first, was it reported."""
        rows, seen = [], set()
        for unit in facts["units"]:
            layer = facts["layers"][-1 if unit["inner"] else 0]
            for known, key in (("checked", "tried"), ("asked for", "unnamed")):
                for number, subject, kind, place, test in unit.get(key, ()):
                    seen.add(number)
                    rows.append(self._row(number, layer, subject, kind, (place, test), known, unit))
            for number in unit["skipped"]:
                seen.add(number)
                rows.append(self._row(number, layer, unit["kind"], "unit", (0, 0), "checked", unit))
        for layer in facts["layers"]:
            named = layer["header_candidates"]
            for number in [*named, *(one for one in self._wanted if one not in named)]:
                if number not in seen:
                    seen.add(number)
                    rows.append(self._headers_row(number, layer))
        return rows

    def _headers_row(self, number, layer):
        """A rule that no unit was held against: its headers decide, or a unit that did not come."""
        name, condition = layer["misfits"].get(number, ("none", 0))
        if name != "none":
            return self._row(number, layer, "headers", "header", (name, condition), "asked for", None)
        if _of_headers(self._rules[number]):
            return self._row(number, layer, "headers", "none", (0, 0), "checked", None)
        return self._row(number, layer, "headers", "unit", (0, 0), "asked for" if number in self._wanted else "checked", None)

    def _row(self, number, layer, subject, kind, place, known, unit):
        rule, decision = self._rules[number], layer["decision"]
        if kind == "header" and isinstance(place[0], int):
            from tigerfox.dataplane.explain import MISFITS

            last = len(MISFITS) - 1
            place = MISFITS[min(place[0], last)], max(0, place[0] - last)
        row = _rule_row(rule) | {"in": subject, "candidate": _named_by(rule) if known == "checked" else "no: asked for with --sid",
                                 "result": "matches" if kind == "none" else "fails", "failed": None, "reported": False,
                                 "note": None, "rank": _rank(kind, place)}
        if kind == "none":
            row["reported"] = number in decision["alerts"]
            row["note"] = _note(rule, number, decision)
            row["result"] = "fails" if row["note"] == ONCE else row["result"]
        else:
            row["failed"] = {"stage": kind, "says": _says(rule, kind, place),
                             "because": _because(rule, kind, place, layer, unit)}
        return row


def _says(rule, kind, place):
    """The condition that failed, as the rule has it."""
    number, test = place
    if kind == "header":
        return condition_text(rule.conditions[test]) if number == "condition" else header_text(rule, number)
    if kind == "flow":
        return flow_text(rule.flow)
    if kind == "application":
        return ", ".join(("!" if one.negated else "") + one.name for one in rule.apps) or _buffers_of(rule)
    if kind == "flowbits":
        return flowbit_text(_step_of(rule, number))
    if kind == "stream_size":
        return stream_size_text(rule.stream_sizes[number])
    if kind == "unit":
        return _buffers_of(rule)
    part = rule.parts[number]
    return part.buffer if kind == "buffer" else test_text(part.tests[test])


def _rule_row(rule):
    return {"sid": rule.sid, "gid": rule.gid, "rev": rule.rev, "msg": rule.msg, "action": rule.action, "place": str(rule.place)}


def _of_headers(rule):
    from tigerfox.ruleset.inspections import looks_deeper

    return not looks_deeper(rule)


def _named_by(rule):
    """Why a rule is a candidate: the scan that names it, or the header index."""
    from tigerfox.ruleset.literals import choose

    literal = None if _of_headers(rule) else choose(rule)
    if literal is None:
        return "header index"
    return f'scan of {rule.parts[literal.part].buffer} for "{escaped(literal.text, 40)}"'


def _buffers_of(rule):
    return ", ".join(dict.fromkeys(part.buffer for part in rule.parts)) or "the packet"


def _step_of(rule, number):
    """The keyword of step ``number``: those that ask come first, a step for each name."""
    ordered = sorted(rule.flowbits, key=lambda one: one.op not in _ASKING)
    return [one for one in ordered for _ in one.names][number]


def _rank(kind, place):
    """How near a rule came to a match; comparable."""
    from tigerfox.dataplane.explain import MISFITS

    number, test = place
    return [_FAULTS.index(kind), MISFITS.index(number) if isinstance(number, str) else number, test]


def _note(rule, number, decision):
    """Why a rule that holds is not reported."""
    if number in decision["alerts"]:
        return None
    if number not in decision["matched"]:
        return "noalert: it sets flow bits and says nothing" if rule.noalert else ONCE
    if rule.noalert:
        return "noalert"
    if rule.rate is not None:
        return f"held back by its {rule.rate.kind}: {rule.rate.count} in {rule.rate.seconds} s"
    return "a rule before it decided"


def _because(rule, kind, place, layer, unit):
    """What was there instead of what the rule wants."""
    packet, flow = layer["packet"], unit["flow"] if unit else None
    number = place[0]
    if kind == "header":
        return _header_there(number, packet)
    if kind == "flow":
        return f"the packet goes {flow['direction']}, the flow is {flow['state']}" if flow else "the packet has no flow"
    if kind == "application":
        return f"the flow's application is {flow['application'] if flow else 'unknown'}"
    if kind == "flowbits":
        return "the flow has no such bit" if _step_of(rule, number).op == "isset" else "the flow has that bit"
    if kind == "stream_size":
        return "sent so far: client {}, server {}".format(*flow["sizes"]) if flow else "the packet has no flow"
    if kind == "buffer":
        return f"there is no {rule.parts[number].buffer} in this {unit['kind']} message"
    if kind == "unit":
        if unit and unit["progress"]:
            return f"not asked: the message has come to its {unit['progress']}, goes the other way, or has had this match"
        if not layer["decision"]["asked"]:
            return "the packet was stopped before rules were asked"
        return "no message of that kind became whole with this packet"
    held = rule.parts[number].tests[:place[1]]
    return f"what stands before it holds ({len(held)} tests)" if held else "it is the first test of its buffer"


def _header_there(name, packet):
    ends = {"source address": "src", "destination address": "dst", "source port": "sport", "destination port": "dport"}
    if name in ends:
        value = packet[ends[name]]
        return f"the packet has {ipaddress.ip_address(value) if isinstance(value, bytes) and value else value}"
    if name == "protocol":
        return f"the packet is {_PROTOCOLS.get(packet['proto'], packet['proto'])} over IPv{packet['version']}"
    fields = "flags {tcp_flags:#x}, seq {tcp_seq}, ack {tcp_ack}, window {tcp_window}, " if packet["proto"] == 6 else ""
    fields += "itype {icmp_type}, icode {icmp_code}, " if packet["proto"] in (1, 58) else ""
    return ("the packet has " + fields + "ttl {ttl}, payload of {payload_len} bytes").format(**packet)


# A rule alone


def rule_alone(made, numbers):
    """Return how a rule is compiled, an object for each direction."""
    from tigerfox.dataplane.explain import rule_facts
    from tigerfox.dataplane.image import CompiledRules

    image = CompiledRules.from_buffer(made.image)
    rule = made.rules[numbers[0]]
    return {"rule": _rule_row(rule), "rules": len(made.rules),
            "compiled": [_compiled(rule, rule_facts(image, one)) for one in numbers],
            "conditions": [condition_text(one) for one in rule.conditions],
            "flow": flow_text(rule.flow) if rule.flow else None, "flowbits": [flowbit_text(one) for one in rule.flowbits],
            "stream_sizes": [stream_size_text(one) for one in rule.stream_sizes],
            "parts": [{"buffer": part.buffer, "transforms": list(part.transforms), "tests": [test_text(one) for one in part.tests]}
                      for part in rule.parts]}


def _compiled(rule, facts):
    filed = facts.pop("filed")
    facts["named_by"] = _named_by(rule)
    facts["filed"] = None if filed is None else {"fields": filed[0], "keys": filed[1]}
    if facts["scanned"]:
        facts["cost"] = "nothing where its literal is not there; then its headers and its tests, cheapest first"
    elif not facts["inspection"]:
        facts["cost"] = "its headers, for packets of its classes"
    else:
        facts["cost"] = "its tests, in every unit whose headers hold: no literal that must be there narrows it"
    return facts
