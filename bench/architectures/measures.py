"""What the in-memory rig measures: every design at full load, paced, idle, with more workers, with dearer rules; the variants."""

import statistics

from bench.architectures import memory
from bench.architectures.designs import BY_NAME, DESIGNS, variants
from bench.architectures.live import percentiles
from tigerfox.errors import TigerFoxError

PACKETS = 200_000                # in a run at full load
SLOW_PACKETS = {"spin": 20_000, "condition": 20_000, "barrier": 20_000, "latch": 20_000, "futex": 20_000, "hybrid": 5_000, "create": 2_000}
WAITING_PACKETS = 20_000         # where capture waits for each result
WORKERS = (1, 2, 4, 8)
RATES = (5_000, 20_000)          # packets a second of the paced runs
IDLE_RATE = 500
PACED_SECONDS = 1.5
RULE_COSTS_US = (0, 1, 5, 20, 50)      # the plan reckons with 50 microseconds of rules a packet
FAULT_COUNTS = ("late", "missed", "unheard", "repeated")     # what came of a documented fault
WORK_SECONDS = 0.25              # of rule work in a run with dearer rules


class Memory:
    """The rig with its traffic and rules; ``progress(text)`` is told of every run."""

    def __init__(self, rules, traffic, progress):
        self.rules, self.traffic, self.progress = rules, traffic, progress
        first = memory.run(BY_NAME["sequential"], rules, traffic, PACKETS)
        self.reference = memory.verdicts(first)
        self.compared = self.different = 0
        self.turns_per_us = 1000 / memory.nanoseconds_of_turns()

    def run(self, design, total, **options):
        """One run, its verdicts compared with the sequential ones; its figures a packet."""
        found = memory.run(design, self.rules, self.traffic, total, **options)
        different = memory.differences(found, self.reference)
        self.compared += found["packets"]
        self.different += different
        if different:
            raise TigerFoxError(f"{design.name}: {different} verdicts are not the sequential ones")
        rig, packets = found.pop("rig"), max(1, found["packets"])
        row = {"design": design.name, "workers": found["workers"], "packets": packets, "cut": found["cut"],
               "packets_per_second": packets / found["ns"] * 1e9, "ns": found["ns"] / packets, "cpu_ns": found["cpu_ns"] / packets,
               "cpus": found["cpu_ns"] / found["ns"], "switches": (found["switches"] + found["preempted"]) / packets,
               "spins": found["spins"] / packets, "disordered": found["disordered"] / packets, "judged": found["judged"],
               "overflowed": found["overflowed"]} | {name: found[name] for name in FAULT_COUNTS if name in found}
        if options.get("rate"):
            row |= {f"lag_{name}_us": lag / 1000 for name, lag in percentiles(rig.lags).items()}
        return row

    def full_load(self, designs, rounds, workers=None, what="full load"):
        """Every design as fast as it can, in turning order; [median rows]."""
        rows = {design.name: [] for design in designs}
        for turn in range(rounds):
            at = turn % len(designs)
            for design in designs[at:] + designs[:at]:
                self.progress(f"in memory, {what}, round {turn + 1} of {rounds}: {design.name}")
                rows[design.name].append(self.run(design, packets_for(design), workers=workers))
        return [middle(found) for found in rows.values()]

    def paced(self, rate, rounds, seconds=PACED_SECONDS):
        """Every design at a rate of packets; [median rows], ``cut`` where it could not keep up."""
        rows = {design.name: [] for design in DESIGNS}
        for turn in range(rounds):
            for design in DESIGNS:
                self.progress(f"in memory, {rate:,} packets/s, round {turn + 1} of {rounds}: {design.name}")
                rows[design.name].append(self.run(design, int(rate * seconds), rate=rate, stop_after=2 * seconds))
        return [middle(found) for found in rows.values()]

    def dearer_rules(self, rounds):
        """{microseconds of rules a packet: [median rows]} with two workers."""
        found = {}
        for cost in RULE_COSTS_US:
            rows = {design.name: [] for design in DESIGNS}
            for turn in range(rounds):
                for design in DESIGNS:
                    self.progress(f"in memory, rules of {cost} us, round {turn + 1} of {rounds}: {design.name}")
                    total = min(packets_for(design), int(WORK_SECONDS * 1e6 / cost)) if cost else packets_for(design)
                    rows[design.name].append(self.run(design, total, workers=2, turns=round(cost * self.turns_per_us)))
            found[str(cost)] = [middle(one) for one in rows.values()]
        return found

    def everything(self, rounds):
        """All of it, as it goes into the JSON."""
        quick = max(1, rounds - 2)
        result = {"designs": self.full_load(DESIGNS, rounds)}
        result["workers"] = {str(count): self.full_load(DESIGNS, quick, count, f"{count} workers") for count in WORKERS}
        result["variants"] = {question: self.full_load(designs, quick, what=question) for question, designs in variants().items()}
        result["paced"] = {str(rate): self.paced(rate, quick) for rate in RATES}
        result["idle"] = self.paced(IDLE_RATE, 1)
        result["dearer_rules"] = self.dearer_rules(quick)
        return result | {"compared": self.compared, "different": self.different}


def packets_for(design):
    """Packets of a run at full load: a fraction of a second, whatever the design costs."""
    how = design.parameters.get("how")
    if how:
        return min(PACKETS, SLOW_PACKETS[how] * design.parameters.get("batch", 1))
    return WAITING_PACKETS if design.parameters.get("answer") == "wait" else PACKETS


def middle(rows):
    """The median of every figure over the rounds; what is no figure from the first."""
    found = dict(rows[0])
    for name, value in rows[0].items():
        if isinstance(value, float):
            found[name] = round(statistics.median(row[name] for row in rows if name in row), 3)
    found["cut"] = any(row["cut"] for row in rows)
    found["least_ns"] = round(min(row["ns"] for row in rows), 1)
    found["most_ns"] = round(max(row["ns"] for row in rows), 1)
    return found
