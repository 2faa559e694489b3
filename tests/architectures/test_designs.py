"""Every design gives each packet exactly one verdict, the sequential one's: under load, stopped, and with full queues."""

import pytest

NAMES = ("sequential", "spin-wait", "thread-per-packet", "queue-per-worker", "condition-variables", "synchronous-pipeline",
         "async-pipeline", "lock-free-pipeline", "run-to-completion")
QUEUED = ("queue-per-worker", "async-pipeline", "lock-free-pipeline")
ENDLESS = 2_000_000
QUICK, SLOW = 8_000, 300         # packets; the second where threads are made for each


def packets_for(name):
    return SLOW if name == "thread-per-packet" else QUICK


def test_the_list_here_is_whole(bench):
    assert [design.name for design in bench.designs.DESIGNS] == list(NAMES)


def test_the_traffic_is_worth_it(bench):
    """Part of it is dropped, by rules of every third of the set."""
    assert 0.05 < sum(bench.reference) / len(bench.reference) < 0.2
    for part in bench.rules.parts(3):
        rules = bench.designs.RuleParts.__new__(bench.designs.RuleParts)
        rules.whole = part
        alone = bench.memory.run(bench.designs.BY_NAME["sequential"], rules, bench.traffic, 4_000)
        assert 0 < alone["dropped"] < sum(bench.reference[:4_000])


@pytest.mark.parametrize("workers", (1, 2, 3, 8))
@pytest.mark.parametrize("name", NAMES)
def test_verdicts_are_the_sequential_ones(bench, name, workers):
    figures = bench.memory.run(bench.designs.BY_NAME[name], bench.rules, bench.traffic, packets_for(name), workers)
    assert figures["packets"] == packets_for(name)
    assert bench.memory.differences(figures, bench.reference) == 0
    assert figures["overflowed"] == 0


@pytest.mark.parametrize("question", ("primitives", "early exit", "pipelining", "batching", "sleep or spin"))
def test_variants_say_the_same(bench, question):
    for design in bench.designs.variants()[question]:
        total = SLOW if design.parameters.get("how") == "create" else QUICK
        figures = bench.memory.run(design, bench.rules, bench.traffic, total)
        assert figures["packets"] == total
        assert bench.memory.differences(figures, bench.reference) == 0


@pytest.mark.parametrize("name", NAMES)
def test_stopped_in_the_middle_nothing_is_left_behind(bench, name):
    """What was taken before the stop has its verdict (memory.run checks that it is exactly one), and the right one."""
    figures = bench.memory.run(bench.designs.BY_NAME[name], bench.rules, bench.traffic, ENDLESS, rate=40_000, stop_after=0.3)
    assert figures["cut"]
    assert 0 < figures["packets"] < ENDLESS
    assert bench.memory.differences(figures, bench.reference * 2) == 0


@pytest.mark.parametrize("full", ("drop", "accept", "hold"))
@pytest.mark.parametrize("name", QUEUED)
def test_overflow_meets_its_policy(bench, name, full):
    """Eight places and slow workers: what finds none is dropped, accepted, or held back, and has one verdict all the same."""
    design = bench.designs.BY_NAME[name].with_parameters(f"{name}, {full}", room=8, full=full)
    figures = bench.memory.run(design, bench.rules, bench.traffic, 4_000, turns=2_000)
    marks = figures["rig"].marks
    overflowed = [mark for mark in marks if mark & bench.memory.MARKS["overflow"]]
    assert figures["packets"] == 4_000
    assert len(overflowed) == figures["overflowed"]
    assert bool(overflowed) == (full != "hold")
    assert {bool(mark & bench.memory.MARKS["drop"]) for mark in overflowed} <= {full == "drop"}
    assert bench.memory.differences(figures, bench.reference) == 0


@pytest.mark.parametrize("name", ("sequential", "condition-variables", "synchronous-pipeline", "run-to-completion", "spin-wait"))
def test_designs_that_wait_keep_the_order(bench, name):
    figures = bench.memory.run(bench.designs.BY_NAME[name], bench.rules, bench.traffic, QUICK)
    assert figures["disordered"] == 0


def test_work_is_divided_with_the_rules(bench):
    """Each worker of the fourth design judges every packet that no other has stopped, by a third of the rules."""
    figures = bench.memory.run(bench.designs.BY_NAME["condition-variables"], bench.rules, bench.traffic, QUICK)
    assert all(QUICK * 0.8 < judged <= QUICK for judged in figures["judged"])
    shared = bench.memory.run(bench.designs.BY_NAME["async-pipeline"], bench.rules, bench.traffic, QUICK)
    assert sum(shared["judged"]) == QUICK
    assert max(shared["judged"]) - min(shared["judged"]) <= 1
