"""``tigerfox replay``: a capture through the stages that judge live packets, in inline mode.

No privilege, no queue: packets come from a file, verdicts become EVE events (``--json``) or a summary. The clock is the
capture's own, so that blocks, thresholds and timestamps are those of the day it was taken.
"""

import json
import logging
import sys
from collections import Counter
from dataclasses import dataclass, field

from tigerfox.config import Blocks, Failure, assignments
from tigerfox.control.rulefiles import compile_files, summary
from tigerfox.inspectors import wanted
from tigerfox.offline.output import write_lines

RING_SLOTS = 8192
BLOCK_CAPACITY = 1 << 16
RATE_CAPACITY = 1 << 16
FLOW_CAPACITY, SESSION_CAPACITY = 1 << 17, 1 << 13
ALERT = 1                            # EventKind


@dataclass
class Tally:
    """What a replay came to; ``alerts`` counts by rule row, ``drops`` by reason."""

    packets: int = 0
    accepted: int = 0
    dropped: int = 0
    rules: int = 0
    alerts: Counter = field(default_factory=Counter)
    drops: Counter = field(default_factory=Counter)
    inspectors: list = field(default_factory=list)


def replay(pcap, rules, variables=(), lenient=False, midstream=False, as_json=False, cache="auto", inspectors=()):
    """Judge the packets of ``pcap`` (pcap or pcapng) by ``rules`` (files); writes EVE lines or a summary to standard
    output.

    ``variables`` are texts NAME=VALUE; ``lenient`` leaves refused rules out and says so on standard error;
    ``midstream`` inspects TCP connections whose beginning is not in the capture (it matters to rules that look at
    connections); ``cache`` is as the setting ``rules.cache``; ``inspectors`` are texts as
    of ``--inspector``. Raises RuleError, ConfigError, CaptureError.
    """
    table = wanted.assignments(inspectors)
    made = compile_files([str(name) for name in rules], assignments(variables), lenient, Blocks().seconds, cache, list(table))
    for line in [*made.warnings, *summary(made.refused, made.left_out)]:
        sys.stderr.write(f"tigerfox: {line}\n")
    run = Run(pcap, made, midstream, wanted.read_all(table))
    if as_json:
        run.write_events(sys.stdout.buffer)
    else:
        sys.stdout.write(_text(run.tally()))
    for warning in run.warnings():
        sys.stderr.write(f"tigerfox: {warning}\n")


class Run:
    """One pass over a capture by a RuleImage, with the inspectors ``wishes`` (Wanted, in the order in which the rules number them).
    """

    def __init__(self, pcap, made, midstream=False, wishes=()):
        from tigerfox._fast import Replay
        from tigerfox.control.worker import policies
        from tigerfox.dataplane.blocks import Blocks as BlockTable
        from tigerfox.dataplane.capture import Capture
        from tigerfox.dataplane.detect import Detection
        from tigerfox.dataplane.flow import Flows
        from tigerfox.dataplane.image import CompiledRules
        from tigerfox.dataplane.rates import Rates
        from tigerfox.dataplane.session import SessionTable

        self._made = made
        self._page = _page()
        self._reader = self._page.reader()
        self._capture = Capture(str(pcap))
        blocks = BlockTable.create(None, BLOCK_CAPACITY)
        self.desks, book = _desks(wishes, blocks)
        self._replay = Replay(self._capture, self._page, blocks,
                              Rates.create(None, RATE_CAPACITY), CompiledRules.from_buffer(made.image, 1),
                              policies(Failure()),
                              Detection(Flows.create(None, FLOW_CAPACITY, midstream), SessionTable.create(SESSION_CAPACITY)),
                              book, lambda queue, data, time_ns: self.desks[queue - 1].judge(data, time_ns / 1e9))

    def warnings(self):
        """Return what of the capture could not be read, as lines of text."""
        return [text for text in (self._capture.cut, self._capture.unread) if text]

    def step(self):
        """Judge one packet more and forget its events; False: the capture has none."""
        wanted = self._capture.advance()
        self._replay.run()
        self._reader.drain(RING_SLOTS)
        return self._capture.read == wanted

    def watch(self, wanted, buffers):
        """Return a Watch on the stages, for explanations: ``wanted`` rule numbers, ``buffers`` whether their bytes are kept."""
        from tigerfox.dataplane.explain import Watch

        return Watch(self._replay, wanted, buffers)

    @property
    def path(self):
        """The capture's name."""
        return self._capture.path

    def packets_read(self):
        """Return how many packets have come so far."""
        return self._capture.read

    def events(self):
        """Yield lists of events, in the order of the packets."""
        going_on = True
        while going_on:
            going_on = self._replay.run()
            yield self._reader.drain(RING_SLOTS)

    def write_events(self, stream):
        """Write every event as one EVE line to ``stream``, a binary one."""
        from tigerfox.telemetry.eve import Writer

        writer = Writer(lambda generation: self._made.metadata, numbered=True)
        for events in self.events():
            write_lines(stream, "".join(f"{writer.line(event)}\n" for event in events).encode())
        stream.flush()

    def tally(self):
        """Return the Tally of the whole capture."""
        from tigerfox.dataplane.reason import REASONS

        tally = Tally(rules=self._made.count)
        for events in self.events():
            for event in events:
                if event.kind == ALERT:
                    row = self._made.metadata[event.rule]
                    tally.alerts[row[1], row[2], row[3], row[4]] += 1
                else:
                    tally.drops[REASONS[event.reason][0], event.sid] += 1
        counts = self._page.snapshot()
        tally.packets, tally.accepted, tally.dropped = counts["packets"], counts["accepted"], counts["dropped"]
        tally.inspectors = [(desk.name, desk.tally.counts()) for desk in self.desks]
        return tally


def _desks(wishes, blocks):
    """Return the Desk of each inspector, and the HandoverBook by which packets come to them; its queues count from 1."""
    if not wishes:
        return [], None
    from tigerfox.dataplane.handover import HandoverBook
    from tigerfox.inspectors.desk import Desk, Tally

    book = HandoverBook.create([(number, 1, wish.policy == "open") for number, wish in enumerate(wishes, 1)])
    return [Desk(wish.name, wish.make(), wish.policy, book, blocks, Tally(), logging.getLogger("tigerfox.inspectors"))
            for wish in wishes], book


def _page():
    from tigerfox.dataplane.stats import WorkerPage

    return WorkerPage.create(None, ring_slots=RING_SLOTS)


def _text(tally):
    lines = [f"packets {tally.packets}   accepted {tally.accepted}   dropped {tally.dropped}   rules {tally.rules}"]
    if tally.alerts:
        lines += ["", "alerts  rule"]
        lines += [f"{count:6}  [{gid}:{sid}:{rev}] {json.dumps(message, ensure_ascii=False)}"
                  for (gid, sid, rev, message), count in tally.alerts.most_common()]
    if tally.drops:
        lines += ["", " drops  reason"]
        lines += [f"{count:6}  {reason}" + (f" (sid {sid})" if sid else "")
                  for (reason, sid), count in tally.drops.most_common()]
    for name, counts in tally.inspectors:
        lines += ["", f"inspector {name}: accepted {counts['accepted']}, dropped {counts['dropped']}, blocked {counts['blocked']}, "
                      f"raised {counts['raised']}; {counts['p50_us']} us a packet (p50), {counts['p99_us']} us (p99)"]
    return "\n".join(lines) + "\n"
