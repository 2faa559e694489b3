"""A rule while it is read: options fill it, `finish` checks what they say together and makes the Rule."""

from tigerfox.ruleset import consistency
from tigerfox.ruleset.body import Body
from tigerfox.ruleset.classtypes import DEFAULT_PRIORITY
from tigerfox.ruleset.groups import nearest
from tigerfox.ruleset.rule import AddressSet, AppProtocol, Problem, Refusal, Rule
from tigerfox.ruleset.source import readable

_IP = ("ip", "ipv4", "ipv6")
_NO_VERSION_4 = ("ipv6", "icmpv6")
_VERSION_4 = {"ip": "ipv4", "icmp": "icmpv4"}


class Draft:
    """What is known of a rule so far; ``problems`` and ``warnings`` collect what was found.

    ``broken``: the text could not be cut into its parts, so nothing is said about what is missing.
    """

    def __init__(self, source):
        self.source = source
        self.problems, self.warnings = [], []
        self.action = self.protocol = self.src = self.sport = self.dst = self.dport = None
        self.bidirectional = False
        self.noalert = None              # as the action has it
        self.sid = self.rate = self.block = self.inspect = self.target = self.priority = self.category = None
        self.gid, self.rev, self.msg, self.classtype = 1, 0, "", ""
        self.references, self.metadata, self.conditions = [], [], []
        self.keywords = {}
        self.body = Body()
        self.app = self.flow = self.option = self.last_keyword = None
        self.flowbits, self.stream_sizes, self.apps = [], [], []
        self.payload = "any"
        self.negated = self.broken = False

    def refuse(self, refusal, offset, keyword=None):
        """Note a Refusal of the text that begins at `offset`, of a keyword where there is one."""
        message = f"{keyword}: {refusal.message}" if keyword else refusal.message
        place = refusal.place or self.source.place(offset + refusal.offset)
        self.problems.append(Problem(place, readable(message), readable(refusal.kind or keyword or "rule head")))

    def warn(self, message, kind):
        """Note what is odd about the option that is being read, but loads."""
        offset = self.option.offset if self.option else 0
        self.warnings.append(Problem(self.source.place(offset), readable(message), kind))

    def set_app(self, name):
        """The rule is one of this application protocol; raises Refusal where it is one of another already."""
        if self.app not in (None, name):
            raise Refusal(f"a keyword of {name} does not go with {self.app}, which the rule's head or another keyword says; "
                          f"write one of the two")
        self.app = name

    def seen(self, row, option):
        """Note that a keyword stands in the rule."""
        self.keywords.setdefault(row.name, (row, []))[1].append(option)

    def finish(self):
        """Check what the parts say together; return the Rule, or None when there are problems."""
        if not self.broken:
            self._check(self._check_sid)
        if not self.problems:
            self._check(self._check_block)
            self._check(self._check_inspect)
            self._check(self._check_ip_proto)
            consistency.check(self)
        if not self.problems:
            self._warn_never()
        return None if self.problems else self._rule()

    def _check(self, check):
        try:
            check()
        except Refusal as refusal:
            self.refuse(refusal, 0)

    def _rule(self):
        row = self.category
        default = row.priority if row else DEFAULT_PRIORITY
        same = self.src == self.dst and self.sport == self.dport
        text = self.source.text
        if self.app in ("http", "tls", "ssh") and self.protocol == "ip":
            self.protocol = "tcp"
        return Rule(
            place=self.source.place(len(text) - len(text.lstrip())), text=readable(text.strip()), action=self.action,
            protocol=self.protocol, src=self.src, sport=self.sport, bidirectional=self.bidirectional and not same,
            dst=self.dst, dport=self.dport, sid=self.sid, gid=self.gid, rev=self.rev, msg=self.msg,
            classtype=self.classtype, category=row.category if row else "", priority=self.priority or default,
            references=tuple(self.references), metadata=tuple(self.metadata),
            conditions=tuple(found for _, found in sorted(self.conditions, key=lambda pair: pair[0])), rate=self.rate,
            block=self.block, inspect=self.inspect,
            noalert=self.action == "pass" if self.noalert is None else self.noalert, target=self.target, parts=self.body.parts(),
            flow=self.flow,
            flowbits=tuple(self.flowbits), stream_sizes=tuple(self.stream_sizes),
            apps=(*((AppProtocol(self.app),) if self.app else ()), *self.apps), payload=self.payload,
        )

    def narrow(self, shared):
        """Keywords that look at IPv4 alone leave only IPv4 packets; `shared` finds the one object for equal sets."""
        if not any(row.ipv4 for row, _ in self.keywords.values()) or self.src is None or self.dst is None:
            return
        if self.protocol in _VERSION_4:
            self.protocol = _VERSION_4[self.protocol]
        elif self.protocol not in ("ipv4", "icmpv4"):
            self.src, self.dst = shared(AddressSet(self.src.v4, ())), shared(AddressSet(self.dst.v4, ()))

    def _check_sid(self):
        if "sid" not in self.keywords:
            raise Refusal("sid is missing; write sid:NUMBER; in the options", len(self.source.text.rstrip()) - 1, "sid")

    def _check_block(self):
        if self.block and self.action in ("alert", "pass"):
            offset = self.keywords["block"][1][0].offset
            raise Refusal(f"block: {self.action} drops nothing that could be blocked; write drop or reject as the action",
                          offset, "block")

    def _check_inspect(self):
        if self.inspect and self.action != "alert":
            offset = self.keywords["inspect"][1][0].offset
            raise Refusal(f"inspect: the action {self.action} decides already, so nobody is asked; write alert as the action",
                          offset, "inspect")

    def check_inspector(self, names):
        """Refuse an inspector that is none of `names` (None: all are known)."""
        if self.inspect is None or names is None or self.inspect.name in names:
            return
        name, there = self.inspect.name, f"; there are {', '.join(names)}" if names else ""
        mend = f"start with --inspector {name}=package.module:function, or name one that runs{there}"
        message = f"no inspector {name!r} runs{nearest(name, names)}; {mend}"
        self.refuse(Refusal(message), self.keywords["inspect"][1][0].value_offset, "inspect")

    def _check_ip_proto(self):
        """As Suricata: one number alone, or < > and any number of !, with the < above the >."""
        if "ip_proto" not in self.keywords:
            return
        options = self.keywords["ip_proto"][1]
        offset = options[-1].value_offset
        if self.protocol not in _IP:
            raise Refusal(f"ip_proto: the rule's protocol is {self.protocol} already; write ip, ipv4 or ipv6 there",
                          offset, "ip_proto")
        ops = [option.value[0] if option.value[0] in "!<>" else "=" for option in options]
        if "=" in ops and len(ops) > 1 or ops.count("<") > 1 or ops.count(">") > 1:
            raise Refusal("ip_proto: these do not go together; write one number, or < > and ! once each", offset,
                          "ip_proto")
        ranges = [found for _, found in self.conditions if found.field == "ip_proto" and not found.negated]
        if len(ranges) > 1 and max(found.a for found in ranges) > min(found.b for found in ranges):
            raise Refusal("ip_proto: nothing lies between these two; write the lower number behind >", offset,
                          "ip_proto")

    def _warn_never(self):
        """Warn about keywords that the rule's packets do not have."""
        if self.app in ("http", "tls", "ssh") and self.protocol not in ("tcp", *_IP):
            self.option = None
            self.warn(f"{self.protocol} packets carry no {self.app}, so this rule never matches; write {self.app} or tcp as its "
                      "protocol", "never matches")
        for row, options in self.keywords.values():
            never = row.protocols and self.protocol not in (*row.protocols, *_IP)
            if never or row.ipv4 and self.protocol in _NO_VERSION_4:
                self.option = options[0]
                need = " or ".join(row.protocols or ("ipv4",))
                self.warn(f"{row.name}: {self.protocol} packets have none, so this rule never matches; "
                          f"write {need} as its protocol", "never matches")
