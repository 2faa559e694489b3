"""What a rule is once it was read and checked: the contract between the language and the compiler.

Everything here is plain and immutable. Addresses and ports are sorted, disjoint, closed intervals of integers; every
header keyword is a test of one integer packet field. The compiler needs to know nothing of the rule text.

Source: Suricata 7.0 user guide, chapters "Rules format", "Meta keywords", "IP keywords", "Thresholding keywords".
"""

from collections import Counter
from dataclasses import dataclass, field

V4_LAST = (1 << 32) - 1
V6_LAST = (1 << 128) - 1
PORT_LAST = 65535

ACTIONS = ("pass", "drop", "reject", "rejectdst", "rejectboth", "alert")
PROTOCOLS = ("ip", "ipv4", "ipv6", "tcp", "udp", "icmp", "icmpv4", "icmpv6", "sctp")
FIELDS = ("tcp_flags", "tcp_seq", "tcp_ack", "tcp_window", "ttl", "tos", "ip_id", "frag_bits", "frag_off", "ip_options",
          "same_ip", "icmp_type", "icmp_code", "icmp_id", "icmp_seq", "dsize", "ip_proto")
OPS = ("range", "mask", "any")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a rule file; line and column count from 1, in characters."""

    file: str
    line: int
    column: int

    def __str__(self):
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at a place: what, and what to write instead. ``kind`` groups equal reasons in a summary."""

    place: Place
    message: str
    kind: str = "rule"

    def __str__(self):
        return f"{self.place}: {self.message}"


class Refusal(Exception):
    """A rule, or a part of it, cannot be taken; ``offset`` counts characters from the start of the text that was
    parsed.

    ``place`` is set where the fault lies in another file (an address list). ``kind`` is the reason in a summary.
    """

    def __init__(self, message, offset=0, kind=None, place=None):
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.kind = kind
        self.place = place


@dataclass(frozen=True, slots=True)
class AddressSet:
    """IPv4 and IPv6 addresses as closed intervals of integers; hashable, equal sets are equal by value.

    The hash is computed once: a set may hold half a million intervals.
    """

    v4: tuple[tuple[int, int], ...]
    v6: tuple[tuple[int, int], ...]
    hashed: int = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "hashed", hash((self.v4, self.v6)))

    def __hash__(self):
        return self.hashed

    @property
    def is_any(self):
        """Whether every address of both families is in the set."""
        return self.v4 == ((0, V4_LAST),) and self.v6 == ((0, V6_LAST),)

    @property
    def is_empty(self):
        """Whether no address is in the set."""
        return not self.v4 and not self.v6


@dataclass(frozen=True, slots=True)
class PortSet:
    """Ports as closed intervals of integers."""

    intervals: tuple[tuple[int, int], ...]

    @property
    def is_any(self):
        """Whether every port is in the set."""
        return self.intervals == ((0, PORT_LAST),)


ANY_ADDRESS = AddressSet(((0, V4_LAST),), ((0, V6_LAST),))
ANY_PORT = PortSet(((0, PORT_LAST),))


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of one packet field x. Units: as in the packet; ``frag_off`` in bytes.

    ``op`` is "range" (a <= x <= b; empty where a > b), "mask" ((x & a) == b) or "any" ((x & a) != 0); ``negated`` turns
    the answer round. A field that the packet does not have (TCP flags of a UDP packet) makes the test fail, negated or
    not.
    """

    field: str
    op: str
    a: int
    b: int = 0
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Rate:
    """threshold or detection_filter of a rule.

    ``kind``: "limit", "threshold", "both" or "detection_filter"; ``track``: "by_src", "by_dst", "by_both" or "by_rule";
    ``count`` matches within ``seconds``.
    """

    kind: str
    track: str
    count: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Block:
    """TigerFox's own ``block:``: what a drop puts into the block table, and for how many seconds (None: the default).

    ``scope``: "connection", "source", "destination", "pair", or "none" (this packet only).
    """

    scope: str
    seconds: int | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One checked rule.

    ``action`` is one of ACTIONS ("reject" answers to the source, also for `rejectsrc`), ``protocol`` one of PROTOCOLS
    ("icmp" means ICMP and ICMPv6). ``priority`` is 1 (high) to 255. ``conditions`` stand in the order of cost, cheapest
    first. ``metadata`` and ``references`` are pairs of strings, ``target`` is None, "src_ip" or "dest_ip".
    """

    place: Place
    text: str
    action: str
    protocol: str
    src: AddressSet
    sport: PortSet
    bidirectional: bool
    dst: AddressSet
    dport: PortSet
    sid: int
    gid: int = 1
    rev: int = 0
    msg: str = ""
    classtype: str = ""
    category: str = ""
    priority: int = 3
    references: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    conditions: tuple[Condition, ...] = ()
    rate: Rate | None = None
    block: Block | None = None
    noalert: bool = False
    target: str | None = None


@dataclass(frozen=True, slots=True)
class RuleList:
    """What came out of rule files: the rules in the order of the files, what was refused, and what is odd but loads."""

    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    refused: int = 0

    def reasons(self):
        """Return pairs of a reason and how many problems it has, the most frequent first."""
        return Counter(problem.kind for problem in self.problems).most_common()

    def summary(self):
        """Return one line: how many rules were loaded, how many refused, and why."""
        line = f"{len(self.rules)} rules loaded, {self.refused} refused"
        if self.problems:
            reasons = self.reasons()
            line += ": " + ", ".join(f"{kind} {count}" for kind, count in reasons[:8])
            line += f", {len(reasons) - 8} more reasons" if len(reasons) > 8 else ""
        return line
