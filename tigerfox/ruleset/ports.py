"""Ports as they stand in rules: `80`, `1:1024`, `1024:`, `:1024`, `any`."""

import re

from tigerfox.ruleset.rule import PORT_LAST

_RANGE = re.compile(r"\s*([0-9]*)\s*(?:(:)\s*([0-9]*)\s*)?\Z")


def read_port(text):
    """Return one pair of family number (always 0) and interval; raises ValueError that says what to write."""
    if text.lower() == "any":
        return ((0, (0, PORT_LAST)),)
    match = _RANGE.match(text)
    if not match or not (match[1] or match[2]):
        if "!" in text:
            raise ValueError(f"{text[:80]!r}: no ! inside a range; write !1:1024 for what is outside it")
        raise ValueError(f"{text[:80]!r} is not a port; write one like 80, 1:1024, 1024:, $NAME or any")
    first = int(match[1][:6] or 0)
    last = int(match[3][:6] or PORT_LAST) if match[2] else first
    if max(first, last) > PORT_LAST:
        raise ValueError(f"{text[:80]!r}: a port is 0 to {PORT_LAST}; write one in that range")
    if first > last:
        raise ValueError(f"{text[:80]!r}: the range is the wrong way round; write the lower port first")
    return ((0, (first, last)),)
