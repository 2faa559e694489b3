"""DNS tunnels: data in the names that are asked for.

A tunnel asks for many names below one registered domain, and each brings labels that are new, long, and of letters that come
evenly: data. The bits that new labels of a name could carry are their letters x the entropy of these; a name with 70 is heavy. A
domain with ``names`` heavy names in an hour that could carry ``bits`` together is held for a tunnel: all its questions are dropped
for ``hold`` seconds, whoever asks. Which labels were seen is a bitmap of hashes for each domain; names that repeat, and such as
differ by a number, are light. 4,096 domains are kept at most, two hours after the last question at most.

Rules: rules/inspectors/dns-tunnel.rules. Options: ``names``, ``bits``, ``hold``, ``block`` (seconds for which the source is blocked
too; 0, the default, is never), ``trusted`` (domains joined by +, never held: cloud services that ask by names).
"""

import math
from collections import Counter

from tigerfox.inspectors.answer import DROP, Answer, block
from tigerfox.inspectors.flowstates import States
from tigerfox.inspectors.names import is_within
from tigerfox.inspectors.packet import TCP, Packet
from tigerfox.inspectors.segments import Segments

WINDOW = 3600.0                      # seconds that are counted together
DOMAINS = 4096
BITMAP = 4096                        # places for hashed labels
HEAVY = 70.0                         # bits
MESSAGE = 4096                       # bytes of DNS over TCP that are put together, for one of CONNECTIONS
CONNECTIONS = 1024
SHARED = frozenset("ac co com edu gob gov gv mil ne net nom or org".split())   # below a country: registered is one label more


class Domain:
    """What was asked for below one registered domain since ``since``; ``held`` is until when it is held for a tunnel."""

    __slots__ = ("bits", "heavy", "held", "seen", "since")

    def __init__(self) -> None:
        self.since = self.held = self.bits = 0.0
        self.heavy = self.seen = 0

    def count(self, below: str, now: float) -> None:
        """Count a question for the name ``below`` the domain."""
        if not 0 <= now - self.since < WINDOW:
            self.since, self.bits, self.heavy, self.seen = now, 0.0, 0, 0
        fresh = ""
        for label in below.split("."):
            place = 1 << hash(label) % BITMAP
            fresh += "" if self.seen & place else label
            self.seen |= place
        bits = information(fresh)
        if bits >= HEAVY:
            self.heavy += 1
            self.bits += bits


class DnsTunnel:
    """The inspector."""

    def __init__(self, names: str = "20", bits: str = "8000", hold: str = "3600", block: str = "0", trusted: str = "") -> None:
        self.names, self.bits, self.hold, self.block = int(names), float(bits), float(hold), int(block)
        self.trusted = {"arpa", *filter(None, trusted.lower().split("+"))}
        self.domains = States(DOMAINS, 2 * WINDOW, Domain)
        self.connections = States(CONNECTIONS, 30.0, lambda: Segments(MESSAGE))

    def __call__(self, packet: Packet) -> Answer | None:
        name = self._name(packet)
        if not name or is_within(name, self.trusted):
            return None
        domain = registered(name)
        state = self.domains.get(domain, packet.time)
        if packet.time >= state.held:
            state.count(name[:-len(domain) - 1], packet.time)
            if state.heavy < self.names or state.bits < self.bits:
                return None
            state.held = packet.time + self.hold
        return block("source", self.block) if self.block else DROP

    def _name(self, packet: Packet) -> str:
        if packet.proto != TCP:
            return question(packet.payload)
        data = self.connections.get(packet.flow_id, packet.time).add(packet)
        return question(data[2:]) if len(data) > 2 and len(data) >= 2 + int.from_bytes(data[:2], "big") else ""


def question(data: bytes) -> str:
    """Return the name that a DNS message asks for, in small letters; "" where it is no question or cannot be read."""
    if len(data) < 17 or data[2] & 0x80 or data[4:6] == b"\0\0":
        return ""
    labels, at = [], 12
    while at < len(data) and data[at]:
        size = data[at]
        if size > 63 or at + size >= len(data) or at > 266:
            return ""
        labels.append(data[at + 1:at + 1 + size].decode("latin-1").lower().replace(".", "\\."))
        at += 1 + size
    return ".".join(labels) if at < len(data) else ""


def registered(name: str) -> str:
    """Return the part of a name that somebody registered: two labels, three below the shared names of a country (co.uk)."""
    labels = name.split(".")
    shared = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in SHARED
    return ".".join(labels[-3 if shared else -2:])


def information(text: str) -> float:
    """Return the bits that a text could carry by the entropy of its letters."""
    return -sum(count * math.log2(count / len(text)) for count in Counter(text).values())
