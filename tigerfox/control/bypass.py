"""Connections left to the kernel, and when they are taken back: new rules, or a block that holds for them.

A worker says of a connection, or of its replies alone, that no rule can match them any more; the chain keeps that in two bits of
its mark, one for each direction, and takes them away where the worker asks for that. Here those bits are cleared: of all when every
worker has taken up other rules (what an old rule set said is not to hold under a new one), of those that are blocked when the
block table has grown, and of all before the first packet and after the last.
"""

import time

from tigerfox.control import conntrack
from tigerfox.errors import TigerFoxError

PAUSE_TIMES = 10                     # looking for blocked connections takes a tenth of this process's time at most


class Bypass:
    """The bits of one instance. ``netfilter`` is that part of the Config; without our own chain nothing is left to the kernel."""

    def __init__(self, netfilter, log):
        self._log = log
        self._mask = int(netfilter.bypass_mark, 16) if netfilter.install and netfilter.bypass == "on" else 0
        self._generation = 0
        self._blocks = None
        self._again = False
        self._not_before = 0.0

    @property
    def mask(self):
        """The two bits of the packet mark by which a worker sends a packet back to the chain; 0: none is."""
        return self._mask

    def begin(self):
        """Clear what an earlier instance left; returns whether this kernel can do it."""
        return not self._mask or self._take_back("at start")

    def turn(self, crew, blocks):
        """Take back what other rules or a block concern."""
        if not self._mask:
            return
        if crew.generation != self._generation and not crew.behind():
            if self._take_back("for new rules"):
                self._generation = crew.generation
        counts = blocks.counters()
        grown = counts["inserted"], counts["prolonged"]
        now = time.monotonic()
        if (grown == self._blocks and not self._again) or now < self._not_before:
            return
        # Once more with the next turn: a worker may have judged a packet just before the block, and answers just behind it.
        self._again, self._blocks = grown != self._blocks, grown
        if not self._take_back("of blocked hosts", lambda connection: _is_blocked(blocks, connection)):
            self._again = True
        self._not_before = now + PAUSE_TIMES * (time.monotonic() - now)

    def end(self):
        """Leave no bit behind."""
        if self._mask:
            self._take_back("at the end")

    def _take_back(self, why, wanted=lambda connection: True):
        try:
            conntrack.take_back(self._mask, wanted)
        except (OSError, TigerFoxError) as error:
            self._log.error("connections left to the kernel cannot be taken back %s: %s", why, error)
            return False
        return True


def _is_blocked(blocks, connection):
    """Whether a block holds for either direction, as the hook sees it: behind the translation of destinations."""
    original, reply = connection.original, connection.reply
    ends = {original[:4], (original.src, reply.src, original.sport, reply.sport), (reply.dst, reply.src, reply.dport, reply.sport)}
    for src, dst, sport, dport in ends:
        if blocks.lookup(src, dst, sport, dport, original.proto) or blocks.lookup(dst, src, dport, sport, original.proto):
            return True
    return False
