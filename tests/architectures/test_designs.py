"""Every design gives each packet exactly one verdict, the sequential one's: under load, stopped, and with full queues."""

import pytest

from tigerfox.errors import UsageError

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


FAULTY = ("condition-variables, flag missed", "spin-wait, flag missed", "spin-wait, flag left up", "synchronous-pipeline, 1 result in 100 lost",
          "synchronous-pipeline, 1 in 100 lost and dropped", "synchronous-pipeline, every result lost")
FEW = 12                         # packets, of which each may wait for 100 ms


def late_marks(bench, figures):
    """Marks of the packets that the policy for a lost result decided."""
    return [mark for mark in figures["rig"].marks if mark & bench.memory.MARKS["late"]]


def test_the_list_of_faults_is_whole(bench):
    assert tuple(bench.designs.faulty()) == FAULTY


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_ends_by_itself_and_the_verdicts_are_right(bench, name):
    figures = bench.memory.run(bench.designs.faulty()[name], bench.rules, bench.traffic, FEW)
    assert figures["packets"] == FEW
    assert bench.memory.differences(figures, bench.reference) == 0


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_design_stops_in_the_middle(bench, name):
    figures = bench.memory.run(bench.designs.faulty()[name], bench.rules, bench.traffic, ENDLESS, rate=40_000, stop_after=0.3)
    assert figures["cut"]
    assert 0 < figures["packets"] < ENDLESS
    assert bench.memory.differences(figures, bench.reference * 2) == 0


def test_a_flag_that_is_reset_unseen_makes_packets_wait(bench):
    """Three threads that spin on two cores are never all there when the flag is down for a moment."""
    figures = bench.memory.run(bench.designs.faulty()["spin-wait, flag missed"], bench.rules, bench.traffic, ENDLESS, stop_after=2)
    assert 0 < figures["late"] <= min(figures["missed"], figures["packets"])
    assert figures["judged"] == [figures["packets"]] * 3


def test_without_the_fault_nothing_waits(bench):
    figures = bench.memory.run(bench.designs.BY_NAME["condition-variables"], bench.rules, bench.traffic, QUICK)
    assert (figures["late"], figures["missed"], figures["repeated"]) == (0, 0, 0)


def test_a_flag_that_nobody_resets_has_one_packet_judged_again_and_again(bench):
    """Each packet has its one verdict all the same: only the first judgement counts."""
    figures = bench.memory.run(bench.designs.faulty()["spin-wait, flag left up"], bench.rules, bench.traffic, 2, rate=10)
    assert figures["packets"] == 2
    assert figures["repeated"] > 1000
    assert sum(figures["judged"]) == 2 * 3 + figures["repeated"]


@pytest.mark.parametrize("late", ("drop", "accept"))
def test_lost_results_meet_their_policy(bench, late):
    design = bench.designs.faulty()["synchronous-pipeline, every result lost"].with_parameters(late, late=late, limit_ms=1)
    figures = bench.memory.run(design, bench.rules, bench.traffic, 50)
    marks = late_marks(bench, figures)
    assert figures["late"] == len(marks) == 50
    assert {bool(mark & bench.memory.MARKS["drop"]) for mark in marks} == {late == "drop"}


def test_of_a_hundred_results_one_is_lost_and_the_others_are_right(bench):
    design = bench.designs.faulty()["synchronous-pipeline, 1 result in 100 lost"].with_parameters("lost", limit_ms=20)
    figures = bench.memory.run(design, bench.rules, bench.traffic, 3_000)
    assert figures["late"] == len(late_marks(bench, figures)) >= 30
    assert bench.memory.verdicts(figures).count(None) == figures["late"]
    assert bench.memory.differences(figures, bench.reference) == 0


def test_a_result_that_comes_too_late_is_not_the_next_packets(bench):
    """A worker that needs longer than the limit: its results come while later packets are waited for."""
    design = bench.designs.BY_NAME["synchronous-pipeline"].with_parameters("slow", lose=10**9, limit_ms=1)
    turns = int(1.5e6 / bench.memory.nanoseconds_of_turns())
    figures = bench.memory.run(design, bench.rules, bench.traffic, 100, workers=1, turns=turns)
    assert figures["packets"] == 100
    assert figures["late"] == len(late_marks(bench, figures)) > 0
    assert bench.memory.differences(figures, bench.reference) == 0


@pytest.mark.parametrize("name, changes", (("condition-variables", {"fault": "reset", "batch": 4}), ("condition-variables", {"fault": "again"}),
                                           ("synchronous-pipeline", {"lose": 1, "limit_ms": 0}), ("async-pipeline", {"lose": 1})))
def test_a_fault_that_a_design_cannot_have_is_refused(bench, name, changes):
    with pytest.raises(UsageError):
        bench.memory.run(bench.designs.BY_NAME[name].with_parameters("refused", **changes), bench.rules, bench.traffic, FEW)
