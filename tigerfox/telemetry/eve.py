"""Events as Suricata's EVE JSON, and the process that writes them to a file.

One object a line, event types ``alert`` and ``drop``, fields and spellings as Suricata 7 writes them (user guide, "EVE
JSON Format"). The writer drains the rings of all workers; a ring that it cannot follow overwrites its oldest events, a
file that cannot be written loses lines: both are counted and shown by ``tigerfox status``, and neither delays a packet.
"""

import contextlib
import json
import os
import signal
import time
from hashlib import blake2b

from tigerfox.control.instance import write_atomically
from tigerfox.ruleset.protocols import NUMBERS

_NAMES = {4: "IP-in-IP", 0: "HOPOPT", 41: "IPv6", 58: "IPv6-ICMP", 89: "OSPF", 112: "VRRP"}
for _name, _number in NUMBERS.items():
    if not _name.islower():
        _NAMES.setdefault(_number, _name)

ICMP = (1, 58)
NO_RULE = 0xffffffff
ALERT = 1                            # EventKind
WAITING_BYTES = 1 << 20              # of lines that could not be written yet
_TICK = 0.02                         # seconds between two looks at the rings
_REPORT_SECONDS = 0.5
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
_BLOCKED = ("drop", "reject", "rejectsrc", "rejectdst", "rejectboth")


def protocol_name(number):
    """Return the name of an IP protocol as EVE writes it; three digits where it has none."""
    return _NAMES.get(number) or f"{number:03d}"


def timestamp(time_ns):
    """Return Unix time in nanoseconds as EVE writes it: 2026-11-20T23:59:59.123456+0000."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction // 1000:06d}+0000"


def flow_id(event):
    """Return the number of a connection: the same for both directions, safe as a JSON number (53 bits)."""
    ends = sorted(((event.src, event.sport), (event.dst, event.dport)))
    digest = blake2b(repr((ends, event.proto)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 11


class Writer:
    """Turns events into EVE objects. ``metadata(generation)`` gives the rows of rulefiles.RuleImage.metadata."""

    def __init__(self, metadata, numbered=False):
        from tigerfox.dataplane.reason import REASONS

        self._metadata = metadata
        self._numbered = numbered
        self._reasons = [row[0] for row in REASONS]

    def line(self, event):
        """Return the event as one line of JSON, without a line break."""
        return json.dumps(self.object(event), separators=(",", ":"), ensure_ascii=False)

    def object(self, event):
        """Return the event as an EVE object."""
        made = {"timestamp": timestamp(event.time_ns), "flow_id": flow_id(event)}
        if self._numbered:
            made["pcap_cnt"] = event.number
        made["event_type"] = "alert" if event.kind == ALERT else "drop"
        made["src_ip"] = event.src
        if event.proto in ICMP:
            made |= {"dest_ip": event.dst, "proto": protocol_name(event.proto), "icmp_type": event.icmp_type,
                     "icmp_code": event.icmp_code}
        elif event.sport or event.dport:
            made |= {"src_port": event.sport, "dest_ip": event.dst, "dest_port": event.dport,
                     "proto": protocol_name(event.proto)}
        else:
            made |= {"dest_ip": event.dst, "proto": protocol_name(event.proto)}
        if event.kind != ALERT:
            made["drop"] = {"len": event.ip_len, "ttl": event.ttl, "reason": self._reason(event)}
            if event.sid:
                made["drop"]["sid"] = event.sid
        if event.rule != NO_RULE:
            made["alert"] = self._alert(event)
        return made

    def _reason(self, event):
        """The name; the number where a worker's page holds nonsense."""
        return self._reasons[event.reason] if event.reason < len(self._reasons) else str(event.reason)

    def _alert(self, event):
        rows = self._metadata(event.generation)
        if event.rule >= len(rows):
            return {"action": "allowed", "gid": 1, "signature_id": event.sid, "rev": 0, "signature": "", "category": "",
                    "severity": 3}
        action, gid, sid, rev, message, category, severity = rows[event.rule]
        return {"action": "blocked" if action in _BLOCKED else "allowed", "gid": gid, "signature_id": sid, "rev": rev,
                "signature": message, "category": category, "severity": severity}


class Metadata:
    """What rules say in events, by generation, read from the run directory when an event first asks for it."""

    def __init__(self, instance):
        self._instance = instance
        self._rows = {}

    def __call__(self, generation):
        if generation not in self._rows:
            rows = []
            with contextlib.suppress(OSError, ValueError):
                rows = json.loads(self._instance.metadata(generation).read_text(encoding="utf-8"))
            self._rows[generation] = rows
            for old in [number for number in self._rows if number < generation - 3]:
                del self._rows[old]
        return self._rows[generation]


class File:
    """An EVE file that is appended to. What cannot be written waits, up to a bound; beyond it lines are lost and
    counted.
    """

    def __init__(self, path, written=0, lost=0):
        self.path = path
        self.written = written
        self.lost = lost
        self.error = ""
        self._descriptor = -1
        self._waiting = b""
        self._begun = False          # the first line that waits is in the file in part
        self.reopen()

    def reopen(self):
        """Open the file anew, as after log rotation; a line that was begun in the old file is lost."""
        self.close()
        if self._begun:
            self._waiting = self._waiting[self._waiting.index(b"\n") + 1:]
            self._begun = False
            self.lost += 1
        try:
            self._descriptor = os.open(self.path, _APPEND, 0o640)
            self.error = ""
        except OSError as error:
            self.error = error.strerror

    def write(self, lines):
        """Append whole lines, after those that wait."""
        self._waiting += b"".join(lines)
        if self._descriptor < 0:
            self.reopen()
        if self._waiting and self._descriptor >= 0:
            try:
                self._taken(os.write(self._descriptor, self._waiting))
            except OSError as error:
                self.error = error.strerror
        if len(self._waiting) > WAITING_BYTES:
            self._lose()

    def _taken(self, count):
        gone, self._waiting = self._waiting[:count], self._waiting[count:]
        self.written += gone.count(b"\n")
        self._begun = bool(self._waiting) and not gone.endswith(b"\n")
        self.error = ""

    def _lose(self):
        keep = self._waiting.index(b"\n") + 1 if self._begun else 0
        self.lost += self._waiting.count(b"\n", keep)
        self._waiting = self._waiting[:keep]

    def close(self):
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


class Source:
    """The ring of one worker. ``position`` is the number of the last event read, ``taken`` how many were read in all.
    """

    def __init__(self, page, position=0, taken=0):
        self._reader = page.reader(from_start=True)
        self.position = position
        self.taken = taken

    @property
    def lost(self):
        """Events that were overwritten before they were read: events are numbered from 1 without gaps."""
        return self.position - self.taken

    def take(self):
        """Return new events; those that a predecessor had taken are passed over."""
        events = self._reader.drain()
        if events and events[0].sequence <= self.position:
            events = [event for event in events if event.sequence > self.position]
        if events:
            self.position = events[-1].sequence
            self.taken += len(events)
        return events


class Drain:
    """Moves events from the rings of all workers to the file. ``pages`` are WorkerPages by queue number."""

    def __init__(self, path, instance, pages):
        before = read_report(instance)
        self._instance = instance
        self._sources = {number: Source(page, *before.get("sources", {}).get(str(number), (0, 0)))
                         for number, page in pages.items()}
        self._writer = Writer(Metadata(instance))
        self.file = File(path, before.get("written", 0), before.get("lost_lines", 0))
        self._reported = 0.0

    def turn(self):
        """Write what the rings hold; return how many events that were."""
        lines = [self._writer.line(event).encode() + b"\n"
                 for source in self._sources.values() for event in source.take()]
        self.file.write(lines)
        if time.monotonic() - self._reported >= _REPORT_SECONDS:
            self.report()
        return len(lines)

    def report(self):
        """Say in the run directory how far it is and what was lost."""
        self._reported = time.monotonic()
        report = {"written": self.file.written, "lost_lines": self.file.lost, "error": self.file.error,
                  "lost_events": sum(source.lost for source in self._sources.values()),
                  "sources": {str(number): (source.position, source.taken) for number, source in self._sources.items()}}
        with contextlib.suppress(OSError):
            write_atomically(self._instance.telemetry, json.dumps(report))

    def finish(self):
        """Write what is left and the last report."""
        while self.turn():
            pass
        self.report()
        self.file.close()


def read_report(instance):
    """Return the writer's last report from the run directory; empty where there is none yet."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(instance.telemetry.read_text(encoding="utf-8"))
    return {}


def run(eve, instance, pages, cpus, forget, parent):
    """Be the event writer's process: drain the rings until SIGTERM, open the file again at SIGHUP."""
    from tigerfox.control import pinning, privileges, process

    asked = set()
    process.settle("tigerfox-eve", [forget])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: asked.add(got))
    pinning.pin_self(cpus)
    os.nice(10)
    privileges.lower((privileges.CAP_DAC_OVERRIDE,), None)     # the file may lie in somebody else's folder
    privileges.die_with_parent(signal.SIGTERM, parent)
    drain = Drain(eve.file, instance, pages)
    while signal.SIGTERM not in asked:
        if signal.SIGHUP in asked:
            asked.discard(signal.SIGHUP)
            drain.file.reopen()
        if not drain.turn():
            time.sleep(min(_TICK, eve.flush_seconds))
    drain.finish()
