"""Address and port expressions: lists, negation, nesting and variables.

`[10.0.0.0/8,!10.1.0.0/16,$OTHER]` is what stands without `!`, less what stands with it. As in Suricata 7, a list or
variable without `!` hands its negated parts on to the list around it, while one with `!` is first worked out by itself;
where a family has only negated parts, they are taken away from the whole family. So `!$HOME_NET` with IPv4 networks is
all other IPv4 addresses and no IPv6 address.

The engine knows neither addresses nor ports: a family is a range of integers, and a function reads one leaf.
"""

import re
from difflib import get_close_matches
from typing import NamedTuple

from tigerfox.ruleset.rule import Refusal

DEPTH = 64
_TOKEN = re.compile(r"\s*(?:(?P<mark>[\[\],!])|(?P<leaf>[^\[\],!\s][^\[\],]*))")


class Item(NamedTuple):
    """One element of an expression: a leaf, a variable or a list."""

    kind: str
    value: object
    negated: bool
    offset: int


class Ready(NamedTuple):
    """A variable's value that needs no parsing: intervals of each family, out of a file."""

    families: tuple


def nearest(word, choices):
    """Return ` (did you mean X?)` for the choice that resembles the word most, or an empty string."""
    found = get_close_matches(word, choices, 1, 0.6)
    return f" (did you mean {found[0]}?)" if found else ""


def parse_group(text):
    """Return the items of an expression; raises Refusal at the character that is wrong."""
    items, end = _parse_list(text, 0, 0)
    if end < len(text):
        raise Refusal("this ] has no [ before it; take it away", end)
    return items


def _parse_list(text, at, depth):
    """Read items from `at` to the closing bracket or the end; return them and where that is."""
    items, negated, expected = [], False, True
    if depth > DEPTH:
        raise Refusal(f"lists nested deeper than {DEPTH}; write them flat", at)
    while match := _TOKEN.match(text, at):
        mark, start, at = match["mark"], match.start(match.lastgroup), match.end()
        if mark == "]":
            _check_end(negated, start)
            return items, start
        if mark == ",":
            _check_comma(expected, negated, start)
            expected = True
        elif mark == "!":
            if negated or not expected:
                raise Refusal("this ! is in the wrong place; write one ! before what it negates", start)
            negated = True
        else:
            if not expected:
                raise Refusal("a comma is missing before this; write [a,b]", start)
            item, at = _parse_item(text, match, negated, depth)
            items.append(item)
            negated = expected = False
    _check_end(negated, len(text))
    return items, len(text)


def _parse_item(text, match, negated, depth):
    start = match.start(match.lastgroup)
    if match["mark"]:
        inner, end = _parse_list(text, match.end(), depth + 1)
        if end >= len(text):
            raise Refusal("this [ is never closed; write ] at the end of the list", start)
        return Item("list", inner, negated, start), end + 1
    leaf = match["leaf"].rstrip()
    if leaf.startswith("$"):
        return Item("variable", leaf[1:], negated, start), match.end()
    return Item("leaf", leaf, negated, start), match.end()


def _check_comma(expected, negated, offset):
    if expected or negated:
        raise Refusal("nothing stands before this comma; take it away or write what is missing", offset)


def _check_end(negated, offset):
    if negated:
        raise Refusal("nothing stands after the !; write what it negates", max(offset - 1, 0))


def merge(intervals):
    """Return the intervals sorted and disjoint, neighbours joined."""
    if len(intervals) < 2:
        return tuple(intervals)
    ordered = sorted(intervals)
    merged = []
    low, high = ordered[0]
    for first, last in ordered:
        if first > high + 1:
            merged.append((low, high))
            low, high = first, last
        elif last > high:
            high = last
    merged.append((low, high))
    return tuple(merged)


def subtract(intervals, taken):
    """Return `intervals` without `taken`; both sorted and disjoint."""
    if not taken:
        return tuple(intervals)
    left, at = [], 0
    for first, last in intervals:
        while at < len(taken) and taken[at][1] < first:
            at += 1
        i = at
        while i < len(taken) and taken[i][0] <= last:
            if taken[i][0] > first:
                left.append((first, taken[i][0] - 1))
            first = taken[i][1] + 1
            i += 1
        if first <= last:
            left.append((first, last))
    return tuple(left)


class Evaluator:
    """Works out expressions of one kind.

    ``noun``: "address" or "port", for messages; ``spaces``: last integer of each family; ``leaf``: function of a text
    that returns pairs of family number and interval, or raises ValueError; ``lookup``: function of a variable's name
    that returns a text, a Ready, or raises Refusal.
    """

    def __init__(self, noun, spaces, leaf, lookup):
        self.noun = noun
        self.spaces = spaces
        self.leaf = leaf
        self.lookup = lookup
        self.open_names = []

    def evaluate(self, text):
        """Return the intervals of each family; raises Refusal."""
        return self._close(parse_group(text), 0)

    def _close(self, items, at):
        """The set that the items of a list at `at` describe, worked out by itself."""
        wanted, taken = [[] for _ in self.spaces], [[] for _ in self.spaces]
        empty_lists = [0, 0]
        self._collect(items, wanted, taken, empty_lists)
        wanted = [merge(family) for family in wanted]
        taken = [merge(family) for family in taken]
        offset = items[0].offset if items else at
        if not any((*wanted, *taken, *empty_lists)):
            raise Refusal(f"an empty list; write any, or each {self.noun} that is meant", offset)
        if taken[0] == ((0, self.spaces[0]),):
            raise Refusal(f"this negates every {self.noun}, so nothing is left; write which to match", offset)
        whole = not any(wanted) and not any(taken) and empty_lists[1] and not empty_lists[0]
        for i, last in enumerate(self.spaces):
            if whole or (not wanted[i] and taken[i]):
                wanted[i] = ((0, last),)
        left = tuple(subtract(wanted[i], taken[i]) for i in range(len(self.spaces)))
        if not any(left) and not empty_lists[0]:
            raise Refusal(f"the negated parts leave no {self.noun}; take one of the conflicting parts away", offset)
        return left

    def _collect(self, items, wanted, taken, empty_lists):
        for item in items:
            if item.kind == "leaf":
                self._add_leaf(item, taken if item.negated else wanted)
            elif item.kind == "list":
                self._add(item.value, item, wanted, taken, empty_lists)
            else:
                self._add_variable(item, wanted, taken, empty_lists)

    def _add(self, items, around, wanted, taken, empty_lists):
        if not around.negated:
            self._collect(items, wanted, taken, empty_lists)
            return
        for family, found in zip(taken, self._close(items, around.offset), strict=True):
            family.extend(found)

    def _add_leaf(self, item, families):
        try:
            for family, interval in self.leaf(item.value):
                families[family].append(interval)
        except ValueError as error:
            raise Refusal(str(error), item.offset, self.noun) from None

    def _add_variable(self, item, wanted, taken, empty_lists):
        name = item.value
        if name in self.open_names:
            chain = " -> ".join("$" + other for other in [*self.open_names, name])
            raise Refusal(f"variables in a loop: {chain}; give one of them a value of its own", item.offset,
                          "variable loop")
        self.open_names.append(name)
        try:
            value = self.lookup(name)
            if isinstance(value, Ready):
                for family, found in zip(taken if item.negated else wanted, value.families, strict=True):
                    family.extend(found)
                empty_lists[item.negated] += not any(value.families)
            else:
                self._add(parse_group(value), item, wanted, taken, empty_lists)
        except Refusal as refusal:
            inside = "" if refusal.message.startswith(("$", "variables in a loop")) else f"in ${name}: "
            raise Refusal(inside + refusal.message, item.offset, refusal.kind, refusal.place) from None
        finally:
            self.open_names.pop()
