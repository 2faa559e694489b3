"""The plan of CPUs."""

import os

import pytest

from tigerfox.control import pinning
from tigerfox.errors import UsageError


@pytest.mark.parametrize(("pin", "count", "cpus", "workers", "rest"), [
    ("auto", 2, (0, 1, 2, 3), (2, 3), (0, 1)),
    ("auto", 4, (0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3)),
    ("auto", 5, (0, 1), (0, 1, 0, 1, 0), (0, 1)),
    ("auto", 1, (4, 6), (6,), (4,)),
    ("none", 3, (0, 1), (None, None, None), (0, 1)),
    ("1,3", 3, (0, 1, 2, 3), (1, 3, 1), (0, 2)),
    ("0-1", 2, (0, 1), (0, 1), (0, 1)),
])
def test_plan(pin, count, cpus, workers, rest):
    assert pinning.plan(pin, count, cpus) == pinning.Plan(workers, rest)


def test_a_cpu_that_is_not_there():
    with pytest.raises(UsageError, match="CPU 9 cannot be used here. Choose from 0, 1"):
        pinning.plan("0,9", 1, (0, 1))


def test_pin_self_binds_this_process():
    before = os.sched_getaffinity(0)
    try:
        pinning.pin_self(min(before))
        assert os.sched_getaffinity(0) == {min(before)}
        pinning.pin_self(None)
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)
