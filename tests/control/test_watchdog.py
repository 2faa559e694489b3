"""Progress is not life, and a worker that keeps dying is forked ever more slowly."""

import pytest

from tigerfox.control.watchdog import Backoff, Progress


@pytest.mark.parametrize(("what", "looks", "stuck"), [
    ("moves, packets wait", [(0, 1, 5), (2, 2, 5), (4, 3, 5), (6, 4, 5)], False),
    ("stands still, nothing waits", [(0, 1, 0), (9, 1, 0)], False),
    ("stands still, packets wait", [(0, 1, 5), (2.9, 1, 5), (3, 1, 5)], True),
    ("stood still idly for long, then packets come", [(0, 1, 0), (100, 1, 7), (102, 1, 7)], False),
    ("and are still there", [(0, 1, 0), (100, 1, 7), (103, 1, 7)], True),
    ("the wait is interrupted", [(0, 1, 5), (2, 1, 0), (4, 1, 5)], False),
])
def test_stuck(what, looks, stuck):
    progress = Progress(3.0, 0)
    answers = [progress.stuck(*look) for look in looks]
    assert answers == [False] * (len(looks) - 1) + [stuck], what


def test_a_new_worker_begins_anew():
    progress = Progress(3.0, 0)
    progress.stuck(0, 1, 5)
    progress.restart(10)
    assert not progress.stuck(10, 1, 5)
    assert progress.age(12) == 2


def test_backoff_doubles_and_forgets():
    backoff = Backoff(longest=1.0, steady=10.0)
    assert [backoff.after_death(0.1) for _ in range(7)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.after_death(60) == 0.0
    assert backoff.deaths == 1
