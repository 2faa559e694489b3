"""The table of designs: each a module that runs it and the parameters that make it this design.

A variant that a document asks about is the same design with another parameter; ``variants`` has those, by the question that
they answer.
"""

from dataclasses import dataclass, field

from bench.architectures import direct, lanes, team
from bench.architectures.port import Rig
from tigerfox.ruleset.check import load_rules
from tigerfox.ruleset.compile import compile_rules

WORKERS = 3                      # what the history has


@dataclass(frozen=True)
class Design:
    """How to run a design: ``module.run(rig, workers=…, **parameters)``."""

    name: str
    what: str
    module: object
    parameters: dict = field(default_factory=dict)
    workers: int | None = WORKERS        # None: one, whatever is asked for
    feeds: bool = False                  # a feed for each worker

    def with_parameters(self, name, **changes):
        """The same design, called ``name``, with other parameters."""
        return Design(name, self.what, self.module, self.parameters | changes, self.workers, self.feeds)

    def run(self, rig, workers=None):
        """Run it on a rig; the figures of Meter."""
        return self.module.run(rig, workers=self.count(workers), **self.parameters)

    def count(self, workers=None):
        """Workers that it has when asked for ``workers``."""
        return 1 if self.workers is None else workers or self.workers

    def partitions(self):
        """Whether it divides the rules over its workers."""
        return self.module is team and self.parameters.get("partition", True)


DESIGNS = [
    Design("sequential", "one thread: a packet, a verdict, a send", direct, workers=None),
    Design("spin-wait", "history 1: workers spin, all judge the same packet", team, {"how": "spin", "partition": False, "early": False}),
    Design("thread-per-packet", "history 2: threads created and joined for each packet", team,
           {"how": "create", "partition": False, "early": False}),
    Design("queue-per-worker", "history 3: a locked queue for each worker, round robin, the worker answers", lanes,
           {"answer": "worker", "room": 10_000}),
    Design("condition-variables", "history 4: rules divided over workers, all on one packet, early exit", team, {"how": "condition"}),
    Design("synchronous-pipeline", "plan, before: capture waits for the worker's result of each packet", lanes, {"answer": "wait"}),
    Design("async-pipeline", "plan, phase 1: capture, workers, verdict thread; queues of 10,000, up to 100 verdicts at once", lanes,
           {"answer": "thread"}),
    Design("lock-free-pipeline", "plan, phase 2: the same on lock-free single-producer single-consumer rings", lanes,
           {"answer": "thread", "lock_free": True}),
    Design("run-to-completion", "TigerFox: one loop for each queue, batches of 64, nothing crosses a thread", direct, {"batch": 64},
           workers=1, feeds=True),
]
BY_NAME = {design.name: design for design in DESIGNS}


def variants():
    """{question: designs} of what the documents ask about beyond the designs themselves."""
    condition, pipeline, rings = (BY_NAME[name] for name in ("condition-variables", "async-pipeline", "lock-free-pipeline"))
    waits = ("barrier", "latch", "futex", "hybrid", "spin", "create")
    return {
        "primitives": [condition, *(condition.with_parameters(f"partitioned, {how}", how=how) for how in waits)],
        "early exit": [condition, condition.with_parameters("without early exit", early=False)],
        "pipelining": [condition, condition.with_parameters("condition variables, pipelined", pipelined=True),
                       condition.with_parameters("futex", how="futex"),
                       condition.with_parameters("futex, pipelined", how="futex", pipelined=True)],
        "batching": [condition, *(condition.with_parameters(f"condition variables, {n} packets", batch=n) for n in (4, 16, 64)),
                     *(pipeline.with_parameters(f"async-pipeline, {n} packets", batch=n, sends=n) for n in (4, 16, 64)),
                     *(rings.with_parameters(f"lock-free-pipeline, {n} packets", batch=n, sends=n) for n in (4, 16, 64)),
                     *(BY_NAME["sequential"].with_parameters(f"sequential, {n} packets", batch=n) for n in (4, 16, 64))],
        "sleep or spin": [rings, *(rings.with_parameters(f"lock-free-pipeline, {n} looks before sleeping", spin=n) for n in (200, 2000))],
    }


def faulty():
    """The designs with the faults that their documents describe, by name; docs/architectures.md says what each does."""
    spin, condition, waiting = (BY_NAME[name] for name in ("spin-wait", "condition-variables", "synchronous-pipeline"))
    found = [condition.with_parameters("condition-variables, flag missed", fault="reset"),
             spin.with_parameters("spin-wait, flag missed", fault="reset"),
             spin.with_parameters("spin-wait, flag left up", fault="again"),
             waiting.with_parameters("synchronous-pipeline, 1 result in 100 lost", lose=100),
             waiting.with_parameters("synchronous-pipeline, 1 in 100 lost and dropped", lose=100, late="drop"),
             waiting.with_parameters("synchronous-pipeline, every result lost", lose=1)]
    return {design.name: design for design in found}


class RuleParts:
    """The rules of a file, whole and divided: ``rig(design, workers)`` makes the Rig of one run."""

    def __init__(self, path):
        self.rules = load_rules([path]).rules
        self.whole = self._compiled(self.rules)
        self._parts = {}

    @staticmethod
    def _compiled(rules):
        from tigerfox.dataplane.image import CompiledRules

        return CompiledRules.from_buffer(compile_rules(rules).image, 1)

    def parts(self, count):
        """The rules in ``count`` parts of equal size, in their order: 24 in three are 8 + 8 + 8."""
        if count not in self._parts:
            size = -(-len(self.rules) // count)
            self._parts[count] = [self._compiled(self.rules[at:at + size]) for at in range(0, count * size, size)]
        return self._parts[count]

    def rig(self, design, workers=None, turns=0):
        """A Rig with the rules as the design has them."""
        return Rig(self.whole, self.parts(design.count(workers)) if design.partitions() else [], turns)
