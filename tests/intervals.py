"""Closed intervals of integers, as address and port sets are made of."""


def merged(intervals):
    """The same numbers as sorted, disjoint intervals that do not touch."""
    out = []
    for first, last in sorted(intervals):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return tuple(out)


def complement(intervals, top):
    """What lies outside sorted, disjoint intervals, from 0 to ``top``."""
    out, here = [], 0
    for first, last in intervals:
        if first > here:
            out.append((here, first - 1))
        here = last + 1
    return (*out, (here, top)) if here <= top else tuple(out)


def within(intervals, value):
    """Whether the value lies in one of the intervals."""
    return any(first <= value <= last for first, last in intervals)
