"""A rule's text, cut into its head and its options, with the offset of each part.

    action protocol source port direction destination port ( name: value; name; ... )

A head's list may hold blanks between its brackets. An option ends at the first `;` without a backslash before it, also
between quotes: that is how Suricata 7 reads rules.
"""

import re
from typing import NamedTuple

from tigerfox.ruleset.rule import MOST_CHARACTERS, Refusal

_PARTS = ("action", "protocol", "source address", "source port", "direction", "destination address", "destination port")
_PLAIN_HEAD = re.compile(r"\s*([^\s(]+)" + r"\s+([^\s(]+)" * 6 + r"\s*\(")
_BLANKS = re.compile(r"\s*")
_RUN = re.compile(r"[^\s\[\](]*")
_BRACKET = re.compile(r"[\[\]]")
_OPTION = re.compile(r"\s*([^:;]*)(?::((?:[^;]|(?<=\\);)*))?;")


class Part(NamedTuple):
    """A piece of the rule's text and where it begins."""

    text: str
    offset: int


class Option(NamedTuple):
    """One option; ``value`` is None where there is no colon, and stands without blanks around it."""

    name: str
    offset: int
    value: str | None
    value_offset: int


def split_head(text):
    """Return the seven parts of the head and the offset behind the opening parenthesis; raises Refusal."""
    if len(text) > MOST_CHARACTERS:
        raise Refusal(f"{len(text)} characters are too many; write at most {MOST_CHARACTERS}", MOST_CHARACTERS, "rule length")
    match = _PLAIN_HEAD.match(text)
    if match and all(part.count("[") == part.count("]") for part in match.groups()):
        return [Part(match[i], match.start(i)) for i in range(1, 8)], match.end()
    parts, at = [], 0
    for what in _PARTS:
        at = _BLANKS.match(text, at).end()
        end = _part_end(text, at)
        if end == at:
            raise Refusal(f"the {what} is missing; write action protocol source port -> destination port (options)",
                          at, "rule head")
        parts.append(Part(text[at:end], at))
        at = end
    at = _BLANKS.match(text, at).end()
    if text[at:at + 1] != "(":
        raise Refusal("the options must begin here; write ( before them", at, "rule head")
    return parts, at + 1


def _part_end(text, at):
    """Return where the part that begins at `at` ends; blanks between brackets belong to it."""
    while True:
        at = _RUN.match(text, at).end()
        if text[at:at + 1] not in ("[", "]"):
            return at
        depth = 0
        for bracket in _BRACKET.finditer(text, at):
            depth += 1 if bracket[0] == "[" else -1
            if depth <= 0:
                break
        if depth > 0:
            raise Refusal("this [ is never closed; write ] at the end of the list", at, "rule head")
        at = bracket.end()


def split_options(text, at):
    """Return the Options that begin at offset `at`; raises Refusal."""
    end = len(text.rstrip())
    if end <= at or text[end - 1] != ")":
        behind = text.rfind(")", at, end) + 1
        if behind and ";" not in text[behind:]:
            raise Refusal("this stands behind the closing ); take it away, or make it a line of its own with # before it",
                          _BLANKS.match(text, behind).end(), "rule end")
        raise Refusal("the options are never closed; write ) at the end of the rule", max(end - 1, 0), "rule end")
    end -= 1
    options = []
    while match := _OPTION.match(text, at, end):
        name, value = match[1], match[2]
        start = match.start(2)
        if value is not None:
            start += len(value) - len(value.lstrip())
            value = value.strip()
        options.append(Option(name.rstrip(), match.start(1), value, start))
        at = match.end()
    rest = text[at:end]
    if rest.strip(" \t\r)"):
        raise Refusal("no ; ends this option; write ; behind it", at + len(rest) - len(rest.lstrip()), "missing ;")
    return options
