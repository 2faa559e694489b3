"""Addresses as they stand in rules and lists: one address, a prefix, a netmask, a range, `any`.

IPv4 and IPv6 become closed intervals of integers. Host bits below a prefix are masked away, as Suricata and the kernel
do.
"""

import gzip
import re
import socket

from tigerfox.ruleset.groups import merge
from tigerfox.ruleset.rule import V4_LAST, V6_LAST, Place, Refusal
from tigerfox.ruleset.source import resting_collector

_SPARE_BITS = 8
_SPARE_MASK = (1 << _SPARE_BITS) - 1
_WORD = re.compile(r"[^\s,;#]+")


def read_address(text):
    """Return pairs of family number (0: IPv4, 1: IPv6) and interval; raises ValueError that says what to write."""
    if text.lower() == "any":
        return (0, (0, V4_LAST)), (1, (0, V6_LAST))
    if "/" in text:
        return (_prefix(text),)
    if "-" in text:
        return (_range(text),)
    family, value = _number(text, text)
    return ((family, (value, value)),)


def _number(word, text):
    """Return family number and integer of one address."""
    word = word.strip()
    try:
        if ":" in word:
            return 1, int.from_bytes(socket.inet_pton(socket.AF_INET6, word))
        return 0, int.from_bytes(socket.inet_pton(socket.AF_INET, word))
    except (OSError, ValueError):
        raise ValueError(f"{text[:80]!r} is not an address; write one like 192.0.2.1, 192.0.2.0/24, 2001:db8::/32, "
                         "192.0.2.1-192.0.2.9, $NAME or any") from None


def _prefix(text):
    word, _, length = text.partition("/")
    family, value = _number(word, text)
    width = 128 if family else 32
    length = length.strip()
    if family == 0 and "." in length:
        bits = _mask_bits(length, text)
    elif length.isascii() and length.isdigit() and int(length[:4]) <= width:
        bits = int(length)
    else:
        raise ValueError(f"{text[:80]!r}: the prefix length is 0 to {width}; write one like /{width // 4 * 3}")
    spare = width - bits
    low = value >> spare << spare
    return family, (low, low | ((1 << spare) - 1))


def _mask_bits(mask, text):
    family, value = _number(mask, text)
    spare = ((1 << 32) - 1 - value).bit_length()
    if family or value != V4_LAST >> spare << spare:
        raise ValueError(f"{text[:80]!r}: the netmask has gaps; write a prefix length")
    return 32 - spare


def _range(text):
    first, _, last = text.partition("-")
    (low_family, low), (high_family, high) = _number(first, text), _number(last, text)
    if low_family != high_family:
        raise ValueError(f"{text[:80]!r}: a range has both ends in one family; write two ranges")
    if low > high:
        raise ValueError(f"{text[:80]!r}: the range is the wrong way round; write the lower address first")
    return low_family, (low, high)


def read_address_list(path):
    """Return the intervals of both families in a list file, sorted and disjoint.

    One address, prefix or range a line; `#` and `;` begin a comment, what follows the address is ignored. A name ending
    in `.gz` is unpacked. Raises Refusal with the place of a bad line, or when the file cannot be read. Half a million
    lines take about a second: prefixes are kept as one integer (first address and spare bits) until they are merged,
    and the garbage collector rests meanwhile.
    """
    with resting_collector():
        return _read_list(str(path), _read_lines(path))


def _read_list(path, lines):
    keys, odd = ([], []), ([], [])
    families = (keys[0].append, 32, socket.AF_INET), (keys[1].append, 128, socket.AF_INET6)
    pton, from_bytes = socket.inet_pton, int.from_bytes
    for number, line in enumerate(lines, 1):
        if not (words := line.split(None, 1)):
            continue
        address = words[0]
        append, width, kind = families[":" in address]
        try:
            spare = 0
            if "/" in address:
                address, _, length = address.partition("/")
                spare = width - int(length) if length.isdigit() else -1
            append(from_bytes(pton(kind, address)) >> spare << spare + _SPARE_BITS | spare)
        except (OSError, ValueError, OverflowError):
            _add_slowly(odd, words[0], Place(path, number, line.index(words[0]) + 1))
    return _join(keys[0], odd[0]), _join(keys[1], odd[1])


def _join(keys, odd):
    """Merge prefixes, each one integer, with the intervals that were none."""
    keys.sort()
    merged, low, high = [], 0, -2
    for key in keys:
        first = key >> _SPARE_BITS
        last = first + (1 << (key & _SPARE_MASK)) - 1
        if first > high + 1:
            merged.append((low, high))
            low, high = first, last
        elif last > high:
            high = last
    merged.append((low, high))
    return merge(merged[1:] + odd) if odd else tuple(merged[1:])


def _add_slowly(found, word, place):
    """Take what the quick way could not: a comment, a range, a netmask, or text that clings to the address."""
    match = _WORD.match(word)
    if not match:
        return
    try:
        for family, interval in read_address(match[0]):
            found[family].append(interval)
    except ValueError as error:
        raise Refusal(f"{error}; or make the line a comment with #", kind="address list", place=place) from None


def _read_lines(path):
    try:
        opener = gzip.open if str(path).endswith(".gz") else open
        with opener(path, "rb") as stream:
            return stream.read().decode("latin-1").split("\n")
    except (OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Refusal(f"the address list {path} cannot be read ({reason}); check the name behind @",
                      kind="address list") from None
