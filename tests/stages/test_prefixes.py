"""The prefix table against a plain comparison with every interval."""

import random

import pytest
from intervals import merged, within

from tigerfox.dataplane.prefixes import Classes, Prefixes

LENGTHS = {32: (0, 1, 8, 9, 15, 16, 17, 20, 24, 31, 32), 128: (0, 3, 16, 17, 32, 48, 64, 65, 124, 127, 128)}


def random_set(source, width):
    intervals = []
    for _ in range(source.randint(1, 40)):
        length = source.choice(LENGTHS[width][1:])
        first = source.getrandbits(width) >> (width - length) << (width - length)
        intervals.append((first, first + (1 << (width - length)) - 1))
    return merged(intervals)


def interesting(source, width, sets):
    top = (1 << width) - 1
    edges = {edge for one in sets for first, last in one for edge in (first, last, max(first - 1, 0), min(last + 1, top))}
    return sorted(edges) + [source.getrandbits(width) for _ in range(500)] + [0, top]


@pytest.mark.parametrize("width", [32, 128])
@pytest.mark.parametrize("seed", range(5))
def test_class_of_every_address_tells_its_sets(width, seed):
    source = random.Random(seed)
    sets = [random_set(source, width) for _ in range(source.randint(1, 30))]
    classes = Classes(len(sets))
    classes.sweep(width, sets)
    runs = classes.memberships()
    table = Prefixes(width, sets)
    for address in interesting(source, width, sets):
        found = table.lookup(address.to_bytes(width // 8, "big"))
        for one, members in zip(sets, runs):
            assert within(one, address) == within(members, found)


@pytest.mark.parametrize("width", [32, 128])
def test_no_sets_is_class_zero(width):
    assert Prefixes(width, []).lookup(bytes(width // 8)) == 0


@pytest.mark.parametrize("width", [32, 128])
def test_everything_is_one_class(width):
    table = Prefixes(width, [[(0, (1 << width) - 1)]])
    assert {table.lookup(bytes([byte]) * (width // 8)) for byte in range(256)} == {1}


@pytest.mark.parametrize("width", [32, 128])
def test_single_address_and_its_neighbours(width):
    address = 0xC0000207 << (width - 32)
    table = Prefixes(width, [[(address, address)]])
    answers = [table.lookup((address + step).to_bytes(width // 8, "big")) for step in (-1, 0, 1)]
    assert answers == [0, 1, 0]


def test_two_families_share_their_classes():
    classes = Classes(2)
    classes.sweep(32, [[(10 << 24, (11 << 24) - 1)], []])
    classes.sweep(128, [[(0, 5)], [(3, 9)]])
    assert classes.count == 4            # none, first alone, both, second alone
    assert classes.memberships() == [[(1, 2)], [(2, 3)]]


def test_equal_neighbours_collapse():
    spread = [[(block << 8, (block << 8) + 255) for block in range(0, 1 << 16, 2)]]
    solid = [[(0, (1 << 24) - 1)]]
    assert Prefixes(32, solid).size < Prefixes(32, spread).size


def test_address_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="32 bits"):
        Prefixes(32, []).lookup(bytes(16))
