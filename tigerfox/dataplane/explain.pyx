"""What the stages saw of a packet, as Python objects: for `tigerfox explain`.

What it owns
    A Watch: the records of the packet that was judged last.

Layout
    The Watch is the DetectWatch of a capture's lane. Before a rule is checked in full it asks the same stages what does not
    hold (candidate_fault), so it sees the flow bits and bytes that the check sees; behind a unit it takes down what there was.

Invariants
    Nothing here runs unless a Watch was made: live lanes have none. It changes no decision; it makes buffers that no rule
    asks for only where `buffers` is set.

Who may write what
    The one thread that replays.

What happens when full or broken
    An error in a record is kept and raised by `take`.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from tigerfox.dataplane.candidate cimport FAULT_NONE, Fault, candidate_fault, scene_fetch
from tigerfox.dataplane.candidates cimport Candidates, candidates_clear, candidates_sort
from tigerfox.dataplane.flow cimport TO_SERVER, Flow, flow_established
from tigerfox.dataplane.image cimport *
from tigerfox.dataplane.inspect cimport Bytes
from tigerfox.dataplane.lane cimport CaptureLane, Lane, Layer
from tigerfox.dataplane.match cimport MISFIT_NONE, rule_misfit, rules_match
from tigerfox.dataplane.packet cimport *
from tigerfox.dataplane.reason cimport R_BLOCKED_CONNECTION, R_BLOCKED_PAIR
from tigerfox.dataplane.scene cimport Detect, Scene
from tigerfox.dataplane.session cimport session_window
from tigerfox.dataplane.stream cimport Stream, stream_at, stream_fresh, stream_held_at

cdef enum:
    KEPT = 4096                  # bytes of a buffer that a record has

FAULTS = ("none", "header", "flow", "application", "flowbits", "stream_size", "buffer", "test")
MISFITS = ("none", "protocol", "destination port", "source port", "destination address", "source address", "condition")
STATES = ("new", "syn_sent", "syn_received", "established", "closing", "closed")
APPLICATIONS = ("unknown", "none", "http", "tls", "dns")
PROGRESS = ("none", "line", "head", "body", "complete")


cdef tuple fault_row(uint32_t number, str subject, Fault fault):
    return number, subject, FAULTS[<int>fault.kind], fault.number, fault.test


cdef str subject_of(const Scene *s):
    """What a rule is held against: a message, or, for the payload, the stream or the packet's own."""
    if s.http != NULL or s.tls != NULL or s.dns != NULL:
        return "http" if s.http != NULL else "tls" if s.tls != NULL else "dns"
    return "packet" if s.payload.data == s.p.data + s.p.payload_off else "stream"


cdef dict flow_facts(const Flow *f, int side):
    return {"id": f.id, "state": STATES[f.state], "established": bool(flow_established(f)),
            "direction": "to_server" if side == TO_SERVER else "to_client", "application": APPLICATIONS[f.app],
            "packets": {"to_server": f.packets[0], "to_client": f.packets[1]},
            "bytes": {"to_server": f.bytes[0], "to_client": f.bytes[1]}, "bits": [f.bits[i] for i in range(f.bit_count)],
            "sizes": [f.tcp[0].next_seq - f.tcp[0].isn, f.tcp[1].next_seq - f.tcp[1].isn]}


cdef dict stream_facts(Scene *s):
    """How far a followed stream has come, and its end."""
    cdef const Stream *stream = &s.session.streams[<int>s.side]
    cdef uint64_t n = min(stream.end_at - stream_held_at(stream), <uint64_t>KEPT)
    cdef const uint8_t *data = stream_at(stream, session_window(s.session, s.side), stream.end_at - n)
    return {"in_order": stream.end_at, "new": stream_fresh(stream) if stream.offered else 0, "waiting_runs": stream.run_count,
            "end": data[:n]}


cdef list buffers_of(Scene *s):
    """(BufferId, instance, length, the first bytes) of all buffers of the message at hand."""
    cdef Bytes found
    cdef int buffer
    cdef uint32_t index
    rows = []
    for buffer in range(<int>BUF_PAYLOAD + 1, <int>BUF_COUNT):
        index = 0
        while scene_fetch(s, <uint8_t>buffer, index, &found):
            rows.append((buffer, index, found.n, found.data[:min(found.n, <uint32_t>KEPT)]))
            index += 1
    return rows


cdef void watch_told(void *watcher, void *scene, uint32_t number) noexcept with gil:
    cdef Watch watch = <Watch>watcher
    try:
        if number == NO_RULE:
            watch.unit_end(<Scene *>scene)
        else:
            watch.rule_begin(<Scene *>scene, number)
    except Exception as error:
        watch.error = error


# Public API


cdef class Watch:
    """``Watch(Replay, wanted)`` records what every packet meets until `close`; ``wanted``: rule numbers that are held against
    every unit of their kind, also where nothing names them. ``buffers``: keep the bytes of all buffers.
    """
    cdef CaptureLane hold
    cdef list units, tried
    cdef list wanted
    cdef readonly bint buffers
    cdef object error

    def __init__(self, CaptureLane hold not None, wanted=(), buffers=False):
        self.hold, self.wanted, self.buffers = hold, list(wanted), buffers
        self.units, self.tried = [], []
        hold.lane.detect.watcher = <void *>self
        hold.lane.detect.watch = watch_told

    def close(self):
        """Watch no more."""
        self.hold.lane.detect.watch = NULL

    def __dealloc__(self):
        if self.hold is not None:
            self.hold.lane.detect.watch = NULL

    cdef void rule_begin(self, Scene *s, uint32_t number) except *:
        self.tried.append(fault_row(number, subject_of(s), candidate_fault(s, number)))

    cdef void unit_end(self, Scene *s) except *:
        """Take down a unit: who was checked in it, who had to wait, what there was."""
        cdef bint message = s.http != NULL or s.tls != NULL or s.dns != NULL
        cdef Candidates *found = &s.d.found
        named = {found.rules[i] for i in range(found.count)}
        checked = {row[0] for row in self.tried}
        unit = {"kind": subject_of(s) if message else "payload", "inner": bool(s.p.flags & PACKET_INNER), "tried": self.tried,
                "skipped": sorted(number for number in named - checked if self.is_of(number, message)),
                "progress": PROGRESS[s.http.progress] if s.http != NULL else None,
                "flow": flow_facts(s.flow, s.side) if s.flow != NULL else None, "stream": None, "buffers": []}
        for number in self.wanted:
            if number not in checked and self.is_of(number, message):
                self.unnamed(s, number, message, unit)
        if self.buffers:
            unit["buffers"] = buffers_of(s) if message else []
            unit["stream"] = stream_facts(s) if s.session != NULL and not message else None
        self.tried = []
        self.units.append(unit)

    cdef bint is_of(self, uint32_t number, bint message) except -1:
        cdef const Inspection *i = rule_inspection(self.hold.lane.rules, number)
        return i != NULL and (i.unit == UNIT_TRANSACTION) == message

    cdef void unnamed(self, Scene *s, uint32_t number, bint message, dict unit) except *:
        """A wanted rule that is no candidate, or that could not be checked yet: how far it would have come."""
        cdef Bytes before = s.payload
        cdef const Stream *stream
        subject = subject_of(s)
        if not message:
            subject = "packet"
            s.payload.data, s.payload.n = s.p.data + s.p.payload_off, payload_there(s.p)
            if s.session != NULL and rule_inspection(self.hold.lane.rules, number).payload != PAYLOAD_PACKET:
                stream = &s.session.streams[<int>s.side]
                if stream.offered:
                    subject, s.payload.n = "stream", <uint32_t>(stream.end_at - stream_held_at(stream))
                    s.payload.data = stream_at(stream, session_window(s.session, s.side), stream_held_at(stream))
        unit.setdefault("unnamed", []).append(fault_row(number, subject, candidate_fault(s, number)))
        s.payload = before

    def take(self):
        """Return the records of the packet that was judged last, a dict, and begin anew."""
        cdef Lane *lane = &self.hold.lane
        units, self.units, self.tried = self.units, [], []
        if self.error is not None:
            raise self.error
        layers = [layer_facts(lane, &lane.outer, self.wanted)]
        if lane.outer.packet.flags & PACKET_TUNNEL and lane.inner.packet.number == lane.outer.packet.number:
            layers.append(layer_facts(lane, &lane.inner, self.wanted))
        return {"layers": layers, "units": units}


cdef dict layer_facts(Lane *lane, const Layer *layer, list wanted):
    """A packet, or what is in its tunnel: what was read, what its headers name, what was decided."""
    cdef Packet p = layer.packet[0]
    cdef uint32_t key[DIM_COUNT]
    cdef Candidates pending
    asked = not p.flags & PACKET_BARE and not R_BLOCKED_CONNECTION <= layer.reason <= R_BLOCKED_PAIR
    matched = [p.matches[i] for i in range(p.match_count)] if asked else []
    candidates_clear(&pending)
    memset(key, 0, sizeof(key))
    named, misfits = [], {}
    if not p.flags & PACKET_BARE and p.flow.version:
        rules_match(lane.rules, &p, key, &pending)
        candidates_sort(&pending)
        named = sorted([p.matches[i] for i in range(p.match_count)] + [pending.rules[i] for i in range(pending.count)])
        misfits = {number: misfit_name(lane.rules, number, &p, key) for number in wanted}
    decision = {"verdict": "accept" if layer.verdict == VERDICT_ACCEPT else "drop", "reason": <int>layer.reason, "sid": layer.sid,
                "rule": layer.decision.rule if layer.decision.rule != NO_RULE else None,
                "alerts": [layer.decision.alerts[i] for i in range(layer.decision.alert_count)], "matched": matched,
                "asked": bool(asked)}
    return {"packet": packet_facts(layer.packet), "header_candidates": named, "misfits": misfits, "decision": decision}


cdef tuple misfit_name(const RuleSet *rs, uint32_t number, const Packet *p, const uint32_t *key):
    """(name of the header that does not hold, number of the condition)."""
    cdef uint32_t misfit = rule_misfit(rs, number, p, key)
    last = len(MISFITS) - 1
    return MISFITS[min(misfit, last)], max(0, <int>misfit - last)


cdef dict packet_facts(const Packet *p):
    cdef uint32_t there = payload_there(p)
    return {"number": p.number, "version": p.flow.version, "src": p.flow.src[:16 if p.flow.version == 6 else 4],
            "dst": p.flow.dst[:16 if p.flow.version == 6 else 4], "sport": p.flow.sport, "dport": p.flow.dport,
            "proto": p.flow.proto, "bare": bool(p.flags & PACKET_BARE), "ports": bool(p.flags & PACKET_PORTS),
            "fragment": bool(p.flags & PACKET_FRAGMENT), "reassembled": bool(p.flags & PACKET_REASSEMBLED),
            "tunnel": bool(p.flags & PACKET_TUNNEL), "streamed": bool(p.flags & PACKET_STREAMED), "fault": p.fault,
            "ip_len": p.ip_len, "ttl": p.ttl, "tcp_flags": p.tcp_flags, "tcp_seq": p.tcp_seq, "tcp_ack": p.tcp_ack,
            "tcp_window": p.tcp_window, "icmp_type": p.icmp_type, "icmp_code": p.icmp_code, "payload_len": p.payload_len,
            "payload": (p.data + p.payload_off)[:min(there, <uint32_t>KEPT)] if p.payload_off and there else b""}


def rule_facts(CompiledRules compiled not None, uint32_t number):
    """Return how a rule was compiled, a dict: its classes, where it is filed, what is scanned for it."""
    cdef const RuleSet *rs = &compiled.rules
    cdef const Rule *rule = &rs.rules[number]
    cdef const Inspection *i = rule_inspection(rs, number)
    facts = {"classes": {"source address": set_size(rs, rule.src_set), "destination address": set_size(rs, rule.dst_set),
                         "source port": set_size(rs, rule.sport_set), "destination port": set_size(rs, rule.dport_set)},
             "of": {"addresses": rs.address_classes, "ports": rs.port_classes_used}, "filed": filed_under(rs, number),
             "scanned": False, "inspection": i != NULL}
    if i != NULL:
        facts.update(scanned=bool(i.scanned), unit=("packet", "message")[i.unit], side=("request", "response", "either")[i.side],
                     payload=("any", "packet", "stream", "both")[i.payload], progress=PROGRESS[i.progress],
                     parts=i.part_count, tests=sum(rs.parts[i.first_part + n].test_count for n in range(i.part_count)),
                     **(scan_facts(rs, i.scan_view, number) if i.scanned else {"sharing": 0, "view_literals": 0}))
    return facts


cdef object set_size(const RuleSet *rs, uint32_t number):
    """How many classes a set has; None for any."""
    cdef uint32_t at
    if number == 0:
        return None
    return sum(rs.intervals[2 * at + 1] - rs.intervals[2 * at] + 1
               for at in range(rs.set_starts[number - 1], rs.set_starts[number]))


cdef object filed_under(const RuleSet *rs, uint32_t number):
    """(fields, keys) of the header index, None where a scan names the rule."""
    cdef const Slot *slot
    cdef uint32_t pattern, at, n, keys
    for pattern in range(rs.pattern_count):
        keys = 0
        for at in range(rs.patterns[pattern].slot_mask + 1):
            slot = &rs.slots[rs.patterns[pattern].first_slot + at]
            for n in range(slot.first, slot.first + slot.count):
                keys += rs.candidates[n] == number
        if keys:
            names = ("source address", "destination address", "source port", "destination port", "TCP flags or ICMP type")
            return [name for bit, name in enumerate(names) if rs.patterns[pattern].dimensions >> bit & 1], keys
    return None


cdef object scan_facts(const RuleSet *rs, uint32_t view, uint32_t number):
    """How many rules the rule's literal names, and how many literals are looked for with it in the first traffic it is for."""
    cdef const ScanPattern *pattern
    cdef uint32_t scan, at, n
    for scan in range(view * TRAFFIC_COUNT, (view + 1) * TRAFFIC_COUNT):
        for at in range(rs.scans[scan].pattern_count):
            pattern = &rs.scan_patterns[rs.scans[scan].first_pattern + at]
            for n in range(pattern.first, pattern.first + pattern.count):
                if rs.scan_rules[n] == number:
                    return {"sharing": pattern.count, "view_literals": rs.scans[scan].pattern_count}
    raise ValueError(f"no scan names rule {number}")
