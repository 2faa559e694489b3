"""What the demo sends, and what should become of it: one table.

Every step is sent twice, without TigerFox and with it: what is stopped with it must have been answered without it, or
the demo would prove nothing.
"""

from dataclasses import dataclass

from tigerfox.demo.topology import SERVER, SOURCES, families
from tigerfox.demo.traffic import ANSWERED, REFUSED, SILENT

TCP_PORTS = (80, 8080, 23, 445, 3306, 113)
UDP_PORTS = (53, 161)
CLOSED_PORT = 81
_SYN, _NULL, _XMAS, _SYN_FIN = 0x02, 0x00, 0x29, 0x03
_SYN_LIMIT, _PING_LIMIT, _DNS_LIMIT = 500, 100, 300      # the counts in rules/scans.rules


@dataclass(frozen=True)
class Step:
    """One thing that is sent: ``expect`` is the outcome with TigerFox, ``answers`` how many must come back at most."""

    phase: int
    what: str
    kind: str
    source: str
    port: int = 0
    expect: str = ANSWERED
    count: int = 1
    answers: int = 1
    flags: object = None
    only: tuple = (4, 6)

    def jobs(self, number):
        """Return the jobs of this step, one for each IP version it is sent with; ``number`` tells steps apart."""
        return [{"kind": self.kind, "family": family, "source": SOURCES[self.source, family], "target": SERVER[family],
                 "port": self.port, "count": self.count, "flags": self.flags, "first": 10000 + 800 * number}
                for family in families() if family in self.only]

    def expected(self):
        """Return what should happen, in words."""
        if self.expect == ANSWERED and self.count > 1:
            return f"{self.answers} of {self.count} answered"
        return self.expect

    def happened(self, answer):
        """Return what did happen, in words; equal to ``expected`` when all is well."""
        if answer["outcome"] == ANSWERED and self.count > 1:
            return f"{answer['answers']} of {self.count} answered"
        return answer["outcome"]

    def without(self):
        """Return what should happen without TigerFox."""
        return f"{self.count} of {self.count} answered" if self.count > 1 else ANSWERED


STEPS = (
    Step(1, "HTTP on port 80", "http", "honest", 80),
    Step(1, "HTTP on port 8080", "http", "honest", 8080),
    Step(1, "8 MiB over HTTP, every byte compared", "http", "honest", 80, flags="bulk"),
    Step(1, "DNS-sized UDP to port 53", "udp", "honest", 53, count=20, answers=20),
    Step(1, "ping", "ping", "honest", count=5, answers=5),
    Step(2, "Telnet, dropped", "connect", "honest", 23, SILENT),
    Step(2, "SMB, dropped", "connect", "honest", 445, SILENT),
    Step(2, "MySQL, dropped", "connect", "honest", 3306, SILENT),
    Step(2, "SNMP, dropped", "udp", "honest", 161, SILENT),
    Step(2, "ident, rejected", "connect", "honest", 113, REFUSED),
    Step(2, "HTTP from a listed source", "http", "listed", 80, SILENT),
    Step(2, "ping from a listed source", "ping", "listed", expect=SILENT),
    Step(2, "null scan", "segment", "flooding", CLOSED_PORT, SILENT, flags=_NULL),
    Step(2, "xmas scan", "segment", "flooding", CLOSED_PORT, SILENT, flags=_XMAS),
    Step(3, f"SYN flood, {_SYN_LIMIT} in 10 s allowed", "segment", "flooding", 80, count=700, answers=_SYN_LIMIT, flags=_SYN),
    Step(3, f"ping flood, {_PING_LIMIT} in 10 s allowed", "ping", "flooding", count=200, answers=_PING_LIMIT),
    Step(3, f"DNS flood, {_DNS_LIMIT} in 10 s allowed", "udp", "flooding", 53, count=450, answers=_DNS_LIMIT),
    Step(4, "HTTP after the floods", "http", "honest", 80),
)
