"""Slow scans and credential stuffing: sources whose attempts fail, however much time lies between them.

A threshold counts in a window, and who is slower than the window is not seen. Here a source walks: a first contact with a port that
nobody answers, and a first try of an account that is refused, is a step up; one that is answered is a step down, not below 0. At
``failures`` steps the source is blocked: people fail now and then, a scanner and a list of stolen passwords fail mostly. Only
the first contact counts, so that one who tries a port or mistypes a password again and again goes no further. (Jung et al.,
Threshold Random Walk, with equal steps.)

4,096 sources are kept at most, each for ``seconds`` after its last packet at most, with 32 contacts and 32 that wait for an answer.
It has to see all of a source's connections: one process.

Rules: rules/inspectors/slow-source.rules. Options: ``failures``, ``seconds``, ``block`` (seconds), ``answer`` (seconds after which
a contact without an answer has failed).
"""

import base64
import binascii
import re
from collections import OrderedDict
from collections.abc import Hashable
from urllib.parse import unquote_plus

from tigerfox.inspectors.answer import Answer, block
from tigerfox.inspectors.flowstates import States
from tigerfox.inspectors.packet import TCP, Packet

SOURCES = 4096
CONTACTS = 32
SYN, RST, ACK = 0x02, 0x04, 0x10
BASIC = re.compile(rb"\r\nauthorization: *basic +([a-z0-9+/=]+)", re.IGNORECASE)
FORM = re.compile(rb"(?:^|[&\n?])(?:user(?:name)?|login|log|email)=([^&\s]+)", re.IGNORECASE)
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class Walk:
    """One source: its ``steps``, the contacts that were judged, and those that wait for an answer with their time."""

    __slots__ = ("known", "steps", "waiting")

    def __init__(self) -> None:
        self.steps = 0
        self.known: OrderedDict[int, None] = OrderedDict()
        self.waiting: OrderedDict[int, float] = OrderedDict()

    def begin(self, contact: Hashable, now: float) -> None:
        """A first contact waits for its answer; one that is known does not."""
        key = hash(contact)
        if key in self.known or key in self.waiting:
            return
        self.waiting[key] = now
        if len(self.waiting) > CONTACTS:
            self._judge(next(iter(self.waiting)), False)

    def end(self, contact: Hashable, answered: bool) -> None:
        """The answer to a contact, where one waits for it."""
        if hash(contact) in self.waiting:
            self._judge(hash(contact), answered)

    def expire(self, before: float) -> None:
        """Contacts that have waited since before ``before`` have failed."""
        while self.waiting and next(iter(self.waiting.values())) < before:
            self._judge(next(iter(self.waiting)), False)

    def _judge(self, key: int, answered: bool) -> None:
        del self.waiting[key]
        self.known[key] = None
        if len(self.known) > CONTACTS:
            self.known.popitem(last=False)
        self.steps = max(self.steps - 1, 0) if answered else self.steps + 1


class SlowSource:
    """The inspector."""

    def __init__(self, failures: str = "8", seconds: str = "86400", block: str = "3600", answer: str = "30") -> None:
        self.failures, self.block, self.answer = int(failures), int(block), float(answer)
        self.sources = States(SOURCES, float(seconds), Walk)

    def __call__(self, packet: Packet) -> Answer | None:
        if packet.proto != TCP:
            return None
        from_source = not is_answer(packet)
        walk = self.sources.get(packet.src if from_source else packet.dst, packet.time)
        walk.expire(packet.time - self.answer)
        if from_source:
            self._attempt(walk, packet)
        else:
            self._answered(walk, packet)
        if walk.steps < self.failures:
            return None
        return block("source" if from_source else "destination", self.block)

    def _attempt(self, walk: Walk, packet: Packet) -> None:
        if packet.tcp_flags & SYN:
            walk.begin((packet.dst, packet.dport), packet.time)
        elif name := account(packet.payload):
            packet.flow["account"] = (packet.dst, name)
            walk.begin(packet.flow["account"], packet.time)

    def _answered(self, walk: Walk, packet: Packet) -> None:
        if packet.tcp_flags & (SYN | RST):
            walk.end((packet.src, packet.sport), bool(packet.tcp_flags & SYN))
        elif status := STATUS.match(packet.payload):
            walk.end(packet.flow.pop("account", None), int(status[1]) < 400)


def is_answer(packet: Packet) -> bool:
    """Whether a packet comes from the side that was contacted: by what it says, since a refusal may have no connection."""
    if packet.tcp_flags & RST or packet.tcp_flags & (SYN | ACK) == SYN | ACK:
        return True
    return packet.payload.startswith(b"HTTP/1.")


def account(payload: bytes) -> str:
    """Return the account that an HTTP request logs in to, by Basic authorization or a form; "" where there is none."""
    if found := BASIC.search(payload):
        try:
            return base64.b64decode(found[1]).partition(b":")[0].decode("latin-1")
        except binascii.Error:
            return ""
    found = FORM.search(payload)
    return unquote_plus(found[1].decode("latin-1")) if found else ""
