"""The supervisor's side of Python inspectors: queues given out, processes that end, what the status says of them."""

import logging
import os
import signal
import time

import pytest

from tests.inspectors.timeline import datagram
from tests.netns.test_supervisor_live import wait_for
from tigerfox.config import Config, Inspectors, Queues, Watchdog
from tigerfox.control import inspecting, process, settling
from tigerfox.control.inspecting import Inspecting, Seat
from tigerfox.errors import UsageError

SLOW = "tigerfox.inspectors.slowsource:SlowSource"
PACKET = datagram("10.0.0.1", 4000, "10.0.0.2", 53, b"asked")


def config(run, first=100, **more):
    return Config(queues=Queues(numbers="0:3"), inspectors=Inspectors(first_queue=first, run=run, **more))


class Stub:
    """A queue that nobody has bound."""

    def __init__(self, number):
        self.number = number

    def close(self):
        pass


def opened(run, **more):
    """An Inspecting with a seat for each queue, as open() makes them, but no processes."""
    made = Inspecting(config(run, **more), logging.getLogger("tigerfox"), lambda: None)
    for wish, (first, count, _) in zip(made.wishes, inspecting.desks(made.config), strict=True):
        made.seats += [Seat(wish, Stub(number), Watchdog()) for number in range(first, first + count)]
    return made


@pytest.fixture
def settled(monkeypatch):
    """What was settled: (queue, verdict)."""
    done = []
    monkeypatch.setattr(settling, "settle_taken", lambda queue, verdict: done.append((queue.number, verdict)))
    return done


def test_queues_are_given_out_in_order():
    run = {"one": SLOW, "two": f"{SLOW},closed,processes=3", "three": SLOW}
    assert inspecting.desks(config(run)) == [(100, 1, True), (101, 3, False), (104, 1, True)]
    assert inspecting.desks(config(run, policy="closed")) == [(100, 1, False), (101, 3, False), (104, 1, False)]


@pytest.mark.parametrize(("first", "words"), [(2, "queue 2 cannot be both"), (65535, "over 65535")])
def test_numbers_that_will_not_do(first, words):
    with pytest.raises(UsageError, match=words):
        inspecting.desks(config({"one": f"{SLOW},processes=2"}, first))


def test_what_cannot_run_is_proved_before_the_start(monkeypatch):
    monkeypatch.setattr(inspecting, "require_package", lambda: None)
    inspecting.prove(config({"one": SLOW}))
    with pytest.raises(UsageError, match="inspector two"):
        inspecting.prove(config({"one": SLOW, "two": "tigerfox.absent:x"}))


def end_of(seat, code=None):
    """Give the seat a process that has ended, by an exit code or (None) killed."""
    seat.pid = process.fork(lambda: code if code is not None else os.kill(os.getpid(), signal.SIGKILL))
    seat.born = time.monotonic()


@pytest.mark.parametrize(("policy", "verdict"), [("open", settling.ACCEPT), ("closed", settling.DROP)])
@pytest.mark.parametrize(("code", "words"), [(3, "ended with status 3"), (None, "killed by signal 9")])
def test_what_a_dead_one_had_taken_gets_the_policys_verdict(settled, caplog, policy, verdict, code, words):
    made = opened({"one": f"{SLOW},{policy}"})
    seat, = made.seats
    end_of(seat, code)
    wait_for("its end", lambda: made.reap() or not seat.pid)
    assert settled == [(100, verdict)]
    assert seat.restarts == 1
    assert words in caplog.text and "inspector one" in caplog.text


def test_the_pause_grows_and_nobody_follows_at_the_end(settled):
    made = opened({"one": SLOW})
    seat, = made.seats
    pauses = []
    for _ in range(4):
        end_of(seat, 1)
        wait_for("its end", lambda: made.reap() or not seat.pid)
        pauses.append(seat.due - time.monotonic())
    assert pauses[-1] > pauses[1] > 0.01
    end_of(seat, 1)
    wait_for("its end", lambda: made.reap(restart=False) or not seat.pid)
    assert seat.restarts == 4
    assert len(settled) == 5


def test_one_that_lives_is_left_alone(settled):
    made = opened({"one": f"{SLOW},processes=2"})
    first, second = made.seats
    first.pid = process.fork(lambda: time.sleep(60))
    end_of(second, 1)
    wait_for("its end", lambda: made.reap() or not second.pid)
    assert first.pid and settled == [(101, settling.ACCEPT)]
    os.kill(first.pid, signal.SIGKILL)
    wait_for("its end", lambda: made.reap() or not first.pid)


def test_one_that_stands_still_while_packets_wait_is_killed(settled, caplog):
    made = opened({"one": SLOW})
    seat, = made.seats
    seat.pid = process.fork(lambda: time.sleep(60))
    seat.progress.stuck(time.monotonic() - 100, 0, 1)
    pid = seat.pid
    made.turn({100: {"waiting": 1}})
    assert "has not answered for" in caplog.text and str(pid) in caplog.text
    wait_for("its end", lambda: made.reap() or not seat.pid)
    assert seat.restarts == 1


def test_policy_verdicts_are_what_nobody_else_answered():
    made = opened({"one": SLOW})
    seat, = made.seats
    for _ in range(10):
        made.book.note(1, PACKET, 5)
    seat.tally.add("accepted", 3)
    seat.tally.add("dropped", 2)
    seat.tally.add("raised")
    row, = made.report({100: {"waiting": 4}})
    assert (row["given"], row["waiting"], row["policy_verdicts"]) == (10, 4, 1)
    assert (row["name"], row["queue"], row["state"], row["policy"], row["raised"]) == ("one", 100, "down", "open", 1)
    row, = made.report({})
    assert row["policy_verdicts"] == 5
