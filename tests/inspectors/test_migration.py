"""The filter of docs/migration.md: the NetfilterQueue script and its TigerFox form give every packet the same verdict."""

import runpy
import sys
import types

from bench.inspectors import FORM, MIGRATION, RULES
from bench.migration import longnames
from tests.inspectors.timeline import SYN, Timeline, datagram, segment
from tigerfox.control.rulefiles import compile_files
from tigerfox.inspectors import wanted
from tigerfox.offline.replay import Run

MOST = 20


def capture():
    """Packets with what is to become of them."""
    line, passes = Timeline(), []
    for port, wanted_ in ((22, True), (23, False), (80, True), (445, False)):
        line.add(segment("10.0.0.5", 4000, "192.0.2.1", port, SYN))
        passes.append(wanted_)
    line.add(datagram("10.0.0.5", 4000, "192.0.2.1", 3389, b"any"))
    passes.append(False)
    for name, wanted_ in (("good.example", True), ("bad.example", False), ("www.WORSE.example", False), ("notbad.example", True)):
        line.ask(name, client="10.0.0.6")
        passes.append(wanted_)
    for number in range(MOST + 5):
        line.ask(f"{number}.a-name-of-more-than-thirty-letters.example", client="10.0.0.7")
        passes.append(number < MOST)
    line.ask("good.example", client="10.0.0.7")
    line.ask("good.example", client="10.0.0.8")
    return line, [*passes, False, True]


class Asked:
    """A packet as NetfilterQueue gives it."""

    def __init__(self, data):
        self.data, self.passes = data, None

    def get_payload(self):
        return self.data

    def accept(self):
        self.passes = True

    def drop(self):
        self.passes = False


def test_the_script(monkeypatch):
    line, passes = capture()
    asked = [Asked(packet) for _, packet in line.packets]

    class Queue:
        def bind(self, number, judge, max_len):
            self.judge = judge

        def run(self):
            self.judge.__globals__["MOST"] = MOST
            for packet in asked:
                self.judge(packet)

    monkeypatch.setitem(sys.modules, "netfilterqueue", types.SimpleNamespace(NetfilterQueue=Queue))
    monkeypatch.setattr(sys, "argv", ["script.py", "0"])
    runpy.run_path(str(MIGRATION / "script.py"))
    assert [packet.passes for packet in asked] == passes


def test_its_tigerfox_form(tmp_path, monkeypatch):
    line, passes = capture()
    monkeypatch.setattr(longnames, "MOST", MOST)
    monkeypatch.setattr(longnames, "asked", longnames.States())
    table = wanted.assignments([FORM])
    run = Run(line.write(tmp_path / "made.pcap"), compile_files([str(RULES)], {}, False, 600, "none", list(table)), False,
              wanted.read_all(table))
    dropped = {event.number for events in run.events() for event in events if event.kind != 1}
    assert [number not in dropped for number in range(1, len(passes) + 1)] == passes


def test_the_script_is_as_long_as_it_is_said_to_be():
    assert 40 <= len((MIGRATION / "script.py").read_text().splitlines()) <= 50
