"""The header keywords: from an option's value to tests of one packet field.

Every function takes the value, without blanks around it, and returns a tuple of Conditions; it raises Refusal. What is
refused and what a value means follow Suricata 7.0; each row of keywords.py names the chapter.
"""

import re

from tigerfox.ruleset.groups import nearest
from tigerfox.ruleset.protocols import NUMBERS
from tigerfox.ruleset.rule import Condition, Refusal

U8, U16, U32 = 0xFF, 0xFFFF, 0xFFFFFFFF
FLAG_BITS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "2": 64, "E": 64, "1": 128, "C": 128}
FRAG_BITS = {"M": 1, "D": 2, "R": 4}
OPTION_BITS = {"rr": 1, "eol": 2, "nop": 4, "ts": 8, "sec": 16, "esec": 32, "lsrr": 64, "ssrr": 128, "satid": 256,
               "any": 512}

_NUMBER = re.compile(r"([0-9]+)(kib|kb|mib|mb|gib|gb)?", re.I)
_UNITS = {"k": 10, "m": 20, "g": 30}
_COMPARE = re.compile(r"(<=|>=|!=|<|>|!|=)?\s*([0-9]+[a-z]*)(?:\s*(?:<>|-)\s*([0-9]+[a-z]*))?\Z", re.I)
_FLAGS = re.compile(r"([+*!]?)\s*([SAPRFU120CE+*!]+)(?:\s*,\s*([SAPRFU12CE]+))?\Z")
_EXACT = re.compile(r"(!?)\s*([0-9]{1,10})\Z")
_TOS = re.compile(r"(!?)\s*(?:([0-9]{1,3})|[xX]([0-9a-fA-F]{1,2}))\Z")
_FRAG = re.compile(r"([+*!]?)\s*([MDR]+)(.*)\Z", re.S)
_OFFSET = re.compile(r"([<>!]?)\s*([0-9]{1,9})\Z")
_PROTO = re.compile(r"([!<>]?)\s*(\S+)\Z")


def compare(field, most, empty=False):
    """Return the parser of a field compared by < > <= >= ! or by a range `a<>b`, whose ends are not in it.

    ``empty``: a range may have nothing in it.
    """

    def parse(value):
        match = _COMPARE.match(value)
        if not match:
            raise Refusal(f"{value[:60]!r} is not a comparison; write 8, <8, >8, <=8, >=8, !8 or 5<>10")
        op = match[1] or "="
        a = _amount(match[2], most, match.start(2))
        if match[3] is None:
            return (_one_sided(field, op, a, most),)
        b = _amount(match[3], most, match.start(3))
        if op not in "=!" or match[1] == "=":
            raise Refusal(f"{op} does not go with a range; write {a}<>{b} or !{a}<>{b}")
        if b < a + 2 and not (empty and b == a + 1):
            raise Refusal(f"nothing lies between {a} and {b}: the ends are not in a range; write {a}<>{a + 2} or more")
        return (Condition(field, "range", a + 1, b - 1, op == "!"),)

    return parse


def _amount(text, most, offset):
    match = _NUMBER.fullmatch(text)
    if not match:
        raise Refusal(f"{text[:60]!r} is not a number; write digits", offset)
    number = int(match[1][:20]) << (_UNITS[match[2][0].lower()] if match[2] else 0)
    if number > most:
        raise Refusal(f"{text[:60]} is over {most}; write 0 to {most}", offset)
    return number


def _one_sided(field, op, a, most):
    if op in ("<", ">=") and a == 0 or op in (">", "<=") and a == most:
        raise Refusal(f"{op}{a} is {'never' if op in '<>' else 'always'} true; write another number")
    low, high = {"<": (0, a - 1), "<=": (0, a), ">": (a + 1, most), ">=": (a, most)}.get(op, (a, a))
    return Condition(field, "range", low, high, op in ("!", "!="))


def exact(field, most, negatable=False):
    """Return the parser of a field that is compared with one number, where `negatable` also by `!`."""

    def parse(value):
        match = _EXACT.match(value)
        if not match or match[1] and not negatable or int(match[2]) > most:
            form = f"a number from 0 to {most}" + (", or ! and a number" if negatable else "")
            raise Refusal(f"{value[:60]!r} does not fit; write {form}")
        number = int(match[2])
        return (Condition(field, "range", number, number, bool(match[1])),)

    return parse


def tcp_flags(value):
    """`[!*+]FLAGS[,IGNORED]`: the flags are exactly these; + these and any; * any of these; ! not all of these."""
    match = _FLAGS.match(value)
    if not match:
        raise Refusal(f"{value[:60]!r} are not TCP flags; "
                      "write e.g. S, SA, A+, *SF, !R or S,12 (F S R P A U C E 1 2, 0 for none)")
    marks = match[1] + "".join(c for c in match[2] if c in "+*!")
    letters = [c for c in match[2] if c not in "+*!"]
    if len(marks) > 1 or not letters:
        raise Refusal(f"{value[:60]!r}: one of + * ! and at least one flag; write e.g. A+")
    wanted = 0
    for letter in letters:
        wanted = 0 if letter == "0" else wanted | FLAG_BITS[letter]
    kept = U8
    for letter in match[3] or "":
        kept &= ~FLAG_BITS[letter]
    if marks == "*":
        return (Condition("tcp_flags", "any", wanted & kept),)
    if not wanted:
        return (Condition("tcp_flags", "mask", U8, 0, marks == "!"),)
    return (Condition("tcp_flags", "mask", wanted & kept if marks else kept, wanted, marks == "!"),)


def tos(value):
    """`[!]NUMBER`, decimal or x and two hexadecimal digits."""
    match = _TOS.match(value)
    number = int(match[2]) if match and match[2] else int(match[3], 16) if match else U16
    if number > U8:
        raise Refusal(f"{value[:60]!r} is not a type of service; write 0 to 255, x00 to xff, or ! and one of these")
    return (Condition("tos", "range", number, number, bool(match[1])),)


def frag_bits(value):
    """`[!*+]BITS` of M D R: exactly these; + these and others; * any of these; ! not all of these."""
    match = _FRAG.match(value)
    if not match or match[3] not in ("", "+", "*", "!"):
        raise Refusal(f"{value[:60]!r} are not fragment bits; "
                      "write e.g. M, !D, +M or *MR (M more fragments, D don't, R reserved)")
    wanted = 0
    for letter in match[2]:
        wanted |= FRAG_BITS[letter]
    if match[1] == "*":
        return (Condition("frag_bits", "any", wanted),)
    if match[1] == "+":
        return Condition("frag_bits", "mask", wanted, wanted), Condition("frag_bits", "any", 7 & ~wanted)
    if match[1] == "!":
        return (Condition("frag_bits", "mask", wanted, wanted, True),)
    return (Condition("frag_bits", "mask", 7, wanted),)


def frag_offset(value):
    """`[<>!]NUMBER` in units of eight bytes, as in the IP header; the Condition is in bytes."""
    match = _OFFSET.match(value)
    if not match or int(match[2]) > U16:
        raise Refusal(f"{value[:60]!r} is not a fragment offset; write e.g. 0, >0, <100 or !0 (units of 8 bytes)")
    offset = int(match[2]) * 8
    if match[1] == "<":
        if not offset:
            raise Refusal("<0 is never true; write another number")
        return (Condition("frag_off", "range", 0, offset - 1),)
    if match[1] == ">":
        return (Condition("frag_off", "range", offset + 1, U32),)
    return (Condition("frag_off", "range", offset, offset, match[1] == "!"),)


def ip_options(value):
    """The name of one IPv4 option, or any."""
    bit = OPTION_BITS.get(value.lower())
    if bit is None:
        raise Refusal(f"{value[:60]!r} is not an IP option{nearest(value, OPTION_BITS)}; "
                      f"write one of {' '.join(OPTION_BITS)}")
    return (Condition("ip_options", "any", bit),)


def same_ip(value):
    """No value: source and destination address are equal."""
    return (Condition("same_ip", "range", 1, 1),)


def ip_proto(value):
    """`[!<>]PROTOCOL`, a number or a name of the registry in its own spelling or in lower case."""
    match = _PROTO.match(value)
    if not match:
        raise Refusal(f"{value[:60]!r} is not a protocol; write a number from 0 to 255 or a name like tcp, GRE, !udp")
    op, name = match[1], match[2]
    if name[0] in "0123456789":
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 9 else U16
    else:
        number = NUMBERS.get(name, -1)
    if number < 0:
        raise Refusal(f"{name[:60]!r} is not a protocol's name{nearest(name.lower(), NUMBERS)}; write its number",
                      match.start(2))
    if number > U8:
        raise Refusal(f"{name[:60]} is not a protocol's number; write 0 to 255", match.start(2))
    if op == "<":
        return (Condition("ip_proto", "range", 0, number - 1) if number else Condition("ip_proto", "range", 1, 0),)
    if op == ">":
        return (Condition("ip_proto", "range", number + 1, U8),)
    return (Condition("ip_proto", "range", number, number, op == "!"),)
