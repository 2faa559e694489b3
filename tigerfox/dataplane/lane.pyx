"""Binding a lane to its tables.

What it owns
    The Lane of one worker: pointers to the tables that it uses, the packet being judged, and what was decided on it.

Layout
    Private memory of one process. `outer` is the packet, `inner` what it carries when it is a tunnel. Each has its own
    fragments, and `packet` there is the fragment first, then what it completes.

Invariants
    Pointers are set at bind and stay; only `rules` changes, between two batches.

Who may write what
    Its worker alone, all of it.

What happens when full or broken
    Nothing fills up; a policy that is missing or unknown is a ConfigError before the first packet.
"""

import os

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from tigerfox.dataplane.blocks cimport Blocks
from tigerfox.dataplane.defrag cimport Reassembly
from tigerfox.dataplane.detect cimport Detection
from tigerfox.dataplane.flow cimport Flows
from tigerfox.dataplane.image cimport ACTION_DROP
from tigerfox.dataplane.queue cimport queue_bind, queue_free, queue_widen
from tigerfox.dataplane.rates cimport Rates
from tigerfox.dataplane.reason cimport R_INSPECTOR
from tigerfox.dataplane.session cimport SessionTable
from tigerfox.dataplane.stats cimport WorkerPage

from tigerfox.errors import ConfigError, UsageError

OWN_FLOWS, OWN_SESSIONS = 4096, 256
VERDICTS = {"accept": VERDICT_ACCEPT, "drop": VERDICT_DROP}


cdef void inspector_ask(CaptureLane hold, Packet *p) noexcept with gil:
    """What the inspector's process does live, done here at once."""
    cdef Lane *lane = &hold.lane
    if hold.ask(p.handover >> 16, PyBytes_FromStringAndSize(<const char *>p.data, p.caplen), p.time_ns):
        p.verdict = VERDICT_ACCEPT
        return
    p.verdict = VERDICT_DROP
    lane.stats.accepted -= 1
    lane.stats.dropped += 1
    lane.stats.reasons[<int>lane.outer.reason] -= 1
    lane.stats.reasons[<int>R_INSPECTOR] += 1
    event_push(lane.events, EVENT_DROP, p, NO_RULE, lane.rules.generation, hold.book.read(
        PyBytes_FromStringAndSize(<const char *>p.data, p.caplen)).sid, ACTION_DROP, <uint8_t>R_INSPECTOR)

# ---- Public API


cdef class LaneHold:
    """``policies`` maps ``malformed``, ``unparsed`` and ``no_verdict`` to ``"accept"`` or ``"drop"``.

    ``replies`` are the descriptors of reply.open_reply_sockets, (-1, -1) for none. ``detection``: flows and sessions of the queue;
    None makes small ones of its own. ``book``: the Python inspectors that rules may name. ``bypass_mark``: see LiveLane.
    Raises ConfigError.
    """

    def __init__(self, WorkerPage page not None, Blocks blocks not None, Rates rates not None,
                 CompiledRules rules not None, policies, replies=(-1, -1), Detection detection=None, HandoverBook book=None,
                 uint32_t bypass_mark=0):
        memset(&self.lane, 0, sizeof(Lane))
        self.lane.bypass_bit = bypass_mark & -bypass_mark
        self.lane.return_bit = bypass_mark ^ self.lane.bypass_bit
        self.tables = (page, blocks, rates)
        self.lane.blocks = &blocks.table
        self.lane.rates = &rates.table
        self.lane.events = &page.ring
        self.lane.stats = page.stats
        self.lane.lost_before = page.stats.lost_ids
        self.lane.outer.packet, self.lane.inner.packet = &self.lane.packets[0], &self.lane.inner_packet
        self.outer_parts, self.inner_parts = Reassembly(), Reassembly()
        self.lane.outer.defrag, self.lane.inner.defrag = &self.outer_parts.defrag, &self.inner_parts.defrag
        self.reaching = ReachHold()
        self.lane.reach = &self.reaching.reach
        self.detection = detection or Detection(Flows.create(None, OWN_FLOWS), SessionTable.create(OWN_SESSIONS))
        self.lane.detect = self.detection.detect
        self.lane.replies.v4, self.lane.replies.v6 = replies
        self.book = book
        if book is not None:
            self.lane.desks = book.desks
        try:
            self.lane.policies.malformed = VERDICTS[policies["malformed"]]
            self.lane.policies.unparsed = VERDICTS[policies["unparsed"]]
            self.lane.policies.no_verdict = VERDICTS[policies["no_verdict"]]
        except KeyError as unknown:
            raise ConfigError(f"failure policies: {unknown}; give malformed, unparsed and no_verdict, each accept or "
                              "drop") from None
        self.set_rules(rules)

    def set_rules(self, CompiledRules rules not None):
        """Judge by these rules from the next packet on; only between two calls of ``run``. Raises MemoryError."""
        self.outer_parts.widen(rules.rules.copy_range)
        self.inner_parts.widen(rules.rules.copy_range)
        self.detection.use(rules)
        if self.lane.bypass_bit:     # nobody else asks
            self.reaching.use(rules)
        self.rules = rules
        self.lane.rules = &rules.rules
        self.lane.stats.generation = rules.rules.generation


cdef class LiveLane(LaneHold):
    """The lane of a queue: its netlink socket, number and copy range in bytes, tables and policies (LaneHold), the
    control page. By the lower bit of ``bypass_mark`` in the packet mark the chain leaves a connection that no rule can match any
    more, or its replies, to the kernel, by the upper one it takes them back (up.sh --bypass-mark); 0: none.

    Raises MemoryError besides.
    """

    def __init__(self, int queue_fd, int queue_number, int copy_range, page, blocks, rates,
                 CompiledRules rules not None, policies, replies, ControlPage control not None, detection=None,
                 uint32_t bypass_mark=0, book=None):
        if queue_bind(&self.queue, queue_fd, queue_number, copy_range):
            raise MemoryError
        self.control, self.generation = control, rules.rules.generation
        LaneHold.__init__(self, page, blocks, rates, rules, policies, replies, detection, book, bypass_mark)

    def __dealloc__(self):
        queue_free(&self.queue)

    def set_rules(self, CompiledRules rules not None):
        """As LaneHold; asks the kernel for more of each packet when these rules need it. Raises OSError."""
        LaneHold.set_rules(self, rules)
        if queue_widen(&self.queue, rules.rules.copy_range):
            raise OSError(self.queue.error, os.strerror(self.queue.error))

    @property
    def error(self):
        """What the socket said last, after FAILED."""
        return os.strerror(self.queue.error)


cdef class CaptureLane(LaneHold):
    """The lane of a capture: the Capture, tables and policies (LaneHold).

    ``ask(queue, data, Unix time in ns)`` is called at once with each packet that is handed over, and says whether it passes.
    """

    def __init__(self, Capture capture not None, page, blocks, rates, rules, policies, detection=None, book=None, ask=None):
        LaneHold.__init__(self, page, blocks, rates, rules, policies, (-1, -1), detection, book)
        self.capture, self.ask = capture, ask

    cdef uint64_t events_end(self, uint64_t limit) except 0:
        """Where in the event stream to pause so that at most ``limit`` events (0: a ring full) wait."""
        cdef uint64_t slots = self.lane.events.mask + 1
        cdef uint64_t room = limit if 0 < limit < slots else slots
        if room < EVENTS_PER_PACKET:
            raise UsageError(f"a packet may have {EVENTS_PER_PACKET} events: let at least as many wait")
        return self.lane.events.written[0] + room
