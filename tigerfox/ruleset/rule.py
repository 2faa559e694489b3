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
          "same_ip", "icmp_type", "icmp_code", "icmp_id", "icmp_seq", "icmp_mtu", "dsize", "ip_proto")
OPS = ("range", "mask", "any")

# Bounds of one rule, as wide as the fields of the image that hold them.
MOST_CHARACTERS = 0xFFFF
MOST_VARIABLES = 64              # image.pxd, RULE_VARIABLES
MOST_TRANSFORMS = 7              # of one buffer
MOST_ASKED = 255                 # names in its flowbits; its stream_size


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


# What a rule looks at beyond the headers: parts, each a buffer with its tests. Numbers that may come from a byte_extract or
# byte_math of the same rule are `int | str`, the string being the variable's name.


@dataclass(frozen=True, slots=True)
class Content:
    """``content``. ``relative``: the offset counts from the end of the match before (distance), or from the start of the
    buffer where none is before it.

    The pattern lies in the ``depth`` bytes from the offset on (within, too, counts behind the distance); None: to the end.
    ``startswith`` is offset 0 with the pattern's length as depth. ``fast``: None,
    or (first byte, length) of what the scan is to look for. ``nocase``: ``pattern`` is in lower case.
    """

    pattern: bytes
    nocase: bool = False
    negated: bool = False
    relative: bool = False
    offset: int | str = 0
    depth: int | str | None = None
    endswith: bool = False
    fast: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Pcre:
    """``pcre``. ``flags``: letters of i s m x A E G, as PCRE's; the letters that name a buffer or R are gone."""

    pattern: bytes
    flags: str = ""
    negated: bool = False
    relative: bool = False


@dataclass(frozen=True, slots=True)
class IsDataAt:
    """``isdataat``."""

    at: int | str
    negated: bool = False
    relative: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """``bsize``, ``urilen``: low <= length of the buffer <= high, or, ``negated``, not."""

    low: int
    high: int
    negated: bool = False


@dataclass(frozen=True, slots=True)
class ByteTest:
    """``byte_test``. ``op``: "<", ">", "=", "<=", ">=", "&", "^". ``base``: 0 binary, else 8, 10 or 16 (string).

    ``count`` 0 with a base: as many digits as there are. ``mask`` 0: none; else the number is ANDed with it and shifted right
    by the zeros at its end. A variable that one part sets holds in the parts behind it too.
    """

    count: int | str
    op: str
    value: int | str
    offset: int | str
    negated: bool = False
    relative: bool = False
    little: bool = False
    base: int = 0
    mask: int = 0


@dataclass(frozen=True, slots=True)
class ByteJump:
    """``byte_jump``. ``origin``: "here", "beginning" or "end" of the buffer; ``align``: to the next multiple of 4."""

    count: int | str
    offset: int | str
    relative: bool = False
    multiplier: int = 1
    little: bool = False
    base: int = 0
    align: bool = False
    origin: str = "here"
    post_offset: int = 0
    mask: int = 0


@dataclass(frozen=True, slots=True)
class ByteExtract:
    """``byte_extract``: a number of the buffer becomes the variable ``name``."""

    count: int
    offset: int
    name: str
    relative: bool = False
    multiplier: int = 1
    little: bool = False
    base: int = 0
    align: int = 0


@dataclass(frozen=True, slots=True)
class ByteMath:
    """``byte_math``: ``op`` is "+", "-", "*", "/", "<<" or ">>"; the result becomes the variable ``name``."""

    count: int | str
    offset: int
    op: str
    operand: int | str
    name: str
    relative: bool = False
    little: bool = False
    base: int = 0
    mask: int = 0


@dataclass(frozen=True, slots=True)
class Base64:
    """``base64_decode``: decode from ``offset`` on, ``count`` bytes or (0) all. The tests behind it in its part look into what
    comes out: those that ``base64_data`` leads."""

    count: int
    offset: int
    relative: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A buffer and what must hold in it, in the order of the rule's text.

    ``buffer`` is a name of buffers.BUFFERS ("payload", "http.uri", ...); ``transforms`` are names as in the rule
    ("dotprefix", ...), applied in order before the tests. A buffer that has several instances (the names of a DNS
    message) needs one in which all tests hold.
    """

    buffer: str
    tests: tuple
    transforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """``flow``. ``direction``: None, "to_server" or "to_client"; ``state``: None, "established", "not_established" or
    "stateless"; ``data``: None, "only_stream" or "no_stream"; ``fragments``: None, "only_frag" or "no_frag".
    """

    direction: str | None = None
    state: str | None = None
    data: str | None = None
    fragments: str | None = None


@dataclass(frozen=True, slots=True)
class Flowbit:
    """``flowbits``. ``op``: "set", "unset", "toggle", "isset", "isnotset"; several ``names`` mean: any of them."""

    op: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StreamSize:
    """``stream_size``. ``side``: "client", "server", "both", "either"; ``op``: "<", ">", "=", "!=", "<=", ">="."""

    side: str
    op: str
    size: int


@dataclass(frozen=True, slots=True)
class AppProtocol:
    """The application protocol of the flow, from the rule's head or ``app-layer-protocol``: "http", "tls", "dns",
    "ssh" or "failed"."""

    name: str
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
class Inspect:
    """TigerFox's own ``inspect:``: the Python inspector that is asked about a packet, and with ``flow`` about the rest of
    its connection.
    """

    name: str
    flow: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """One checked rule.

    ``action`` is one of ACTIONS ("reject" answers to the source, also for `rejectsrc`), ``protocol`` one of PROTOCOLS
    ("icmp" means ICMP and ICMPv6; a rule of http, tls, ssh or dns is one of tcp, udp or ip with ``apps``). ``priority`` is 1
    (high) to 255. ``conditions`` stand in the order of cost, cheapest first. ``metadata`` and ``references`` are pairs of
    strings, ``target`` is None, "src_ip" or "dest_ip". All of ``parts``, ``flow``, ``flowbits``, ``stream_sizes`` and
    ``apps`` must hold. ``payload`` says what the buffer "payload" is in TCP, as Suricata chooses it: "packet" (a
    keyword of the packet's header stands in the rule, or tcp-pkt, or no_stream), "stream" (tcp-stream, only_stream),
    "both" (an offset or depth counts from the start) or "any" (the stream, the packet alone where none is kept).
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
    inspect: Inspect | None = None
    noalert: bool = False
    target: str | None = None
    parts: tuple[Part, ...] = ()
    flow: Flow | None = None
    flowbits: tuple[Flowbit, ...] = ()
    stream_sizes: tuple[StreamSize, ...] = ()
    apps: tuple[AppProtocol, ...] = ()
    payload: str = "any"


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
