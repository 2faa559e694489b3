"""The in-memory rig: packets of a capture, no kernel, so that what is left is the cost of the design."""

import threading
from itertools import islice

from bench.architectures.port import MARKS
from tigerfox.errors import TigerFoxError

LIMIT_SECONDS = 20               # no run takes longer: it is stopped and says so


def run(design, rules, traffic, total, workers=None, rate=0, turns=0, stop_after=None):
    """Run a design once; its figures with verdicts checked for number. ``stop_after``: end in the middle, after so many seconds."""
    count = design.count(workers)
    rig = rules.rig(design, workers, turns).memory(traffic, total, count if design.feeds else 1, rate)
    timer = threading.Timer(stop_after or LIMIT_SECONDS, rig.stop)
    timer.daemon = True
    timer.start()
    figures = design.run(rig, workers)
    timer.cancel()
    marks = rig.marks
    check_once(design, rig, marks)
    given = rig.given
    figures |= {"design": design.name, "workers": count, "packets": given, "cut": given < total,
                "dropped": sum(1 for mark in marks if mark & MARKS["drop"]), "disordered": rig.disordered()}
    return figures | {"rig": rig}


def check_once(design, rig, marks):
    """Every packet that was taken has exactly one verdict, no other has one."""
    given = len(marks) - marks.count(0)
    twice = sum(1 for value in set(marks) if value & MARKS["twice"])
    if given != rig.taken or rig.given != rig.taken or twice:
        raise TigerFoxError(f"{design.name}: {rig.taken} packets were taken, {given} have a verdict, {rig.given} verdicts were given")


def verdicts(figures):
    """True by packet number where the rules' verdict is drop; None where a policy for a full queue or a lost result decided."""
    policy = MARKS["overflow"] | MARKS["late"]
    return [None if mark & policy or not mark else bool(mark & MARKS["drop"]) for mark in figures["rig"].marks]


def differences(figures, reference):
    """Packets whose verdict by rules is not that of the reference run over the same capture."""
    return sum(1 for mine, its in zip(verdicts(figures), reference) if mine is not None and mine != its)


def nanoseconds_of_turns():
    """Nanoseconds that one turn of extra work takes: the quickest of some tries."""
    from bench.architectures.port import time_turns

    return min(time_turns(200_000) for _ in islice(iter(int, 1), 7)) / 200_000
