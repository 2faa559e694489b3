"""What rules look for, in any bytes: a few hundred rules made at random, and those that the fuzzer's bytes are held against.

The first two bytes choose the rule; MARK stands between buffers.
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "stages"))
from guarded import Guarded  # noqa: E402
from inspected import bind, make_rule, part  # noqa: E402

from tigerfox.dataplane import inspect  # noqa: E402
from tigerfox.ruleset.buffers import BY_NAME, TRANSFORMS  # noqa: E402
from tigerfox.ruleset.rule import ByteExtract, ByteJump, ByteMath, ByteTest, Content, IsDataAt, Pcre, Size  # noqa: E402

MARK = b"\xfe\xff"
BUFFERS = ("payload", "http.uri", "dns.query", "file.data")
EXPRESSIONS = (rb"a+b", rb"^a", rb"b$", rb"(a|b)*c", rb"(?<=a)b", rb"\d{1,4}", rb"[^a]{2}", rb"(a+)+c", rb"\x00", rb"(?i)AB")
BASES = (0, 0, 8, 10, 16)
WORDS = [MARK, b"a", b"ab", b"abc", b"AB", b"0x10", b"12", b"\0\0\0\1", b"\xff\xff\xff\xff"]


def any_test(chance, first, names):
    """One test; relative ones and variables only where there is something before."""
    relative = not first and chance.random() < 0.6
    sign = chance.randint(-6, 9) if relative else chance.randint(0, 9)
    number = chance.choice(sorted(names)) if names and chance.random() < 0.5 else sign
    kind, base = chance.randrange(13), chance.choice(BASES)
    count = chance.randint(1, 8) if base else chance.choice((1, 2, 4))
    little, mask = base == 0 and chance.random() < 0.3, chance.choice((0, 0, 0, 0xf0, 0xffff))
    if kind == 0:
        flags = "".join(chance.sample("ismxEG", chance.randrange(3)))
        return Pcre(chance.choice(EXPRESSIONS), flags, chance.random() < 0.2, relative)
    if kind == 1:
        return IsDataAt(number, chance.random() < 0.4, relative)
    if kind == 2:
        return Size(chance.randint(0, 9), chance.randint(9, 60), chance.random() < 0.2)
    if kind == 3:
        op, value = chance.choice(("<", ">", "=", "<=", ">=", "&", "^")), chance.choice((0, 1, 9, 255, 1 << 31))
        return ByteTest(count, op, value, number, chance.random() < 0.2, relative, little, base, mask)
    if kind == 4:
        return ByteJump(count, number, relative, chance.choice((1, 1, 3, 65535)), little, base, chance.random() < 0.3,
                        chance.choice(("here", "beginning", "end")), chance.choice((0, -3, 3, 65535, -65535)), mask)
    if kind == 5 and len(names) < 6:
        names.add(name := f"v{len(names)}")
        return ByteExtract(count, sign, name, relative, chance.choice((1, 4)), little, base, chance.choice((0, 2, 4)))
    if kind == 6 and len(names) < 6:
        operand = chance.choice((1, 0, 7, 40, 0xffffffff))
        names.add(name := f"v{len(names)}")
        return ByteMath(count, sign, chance.choice(("+", "-", "*", "/", "<<", ">>")), operand, name, relative, little, base, mask)
    pattern = bytes(chance.choices(b"abAB0\x00", k=chance.randint(1, 4)))
    nocase, end = chance.random() < 0.4, chance.random() < 0.1
    depth = chance.choice((None, None, len(pattern), len(pattern) + chance.randrange(12)))
    negated = chance.random() < 0.2
    return Content(pattern.lower() if nocase else pattern, nocase, negated, relative, number, depth, end and not relative)


def any_rule(seed):
    chance, names, parts = random.Random(seed), set(), []
    for buffer in chance.sample(BUFFERS, chance.choice((1, 1, 2))):
        tests = [any_test(chance, not place, names) for place in range(chance.randint(1, 5))]
        parts.append(part(*tests, buffer=buffer, transforms=tuple(chance.sample(TRANSFORMS, chance.choice((0, 0, 1, 2))))))
    return make_rule(*parts, sid=seed + 1)


RULES = [any_rule(seed) for seed in range(400)]
IMAGE = bind(*RULES)
HOLD = inspect.InspectorHold(IMAGE)
ORDER = IMAGE.rule_count
MEMORY = [Guarded() for _ in range(8)]


def seeds():
    chance = random.Random(9)
    return [number.to_bytes(2, "big") + MARK.join(bytes(chance.choices(b"abAB0\x00 12", k=24)) for _ in range(4))
            for number in range(0, 400, 2)]


def check(data):
    if len(data) < 2:
        return
    data = bytes(data)
    number, parts = int.from_bytes(data[:2], "big") % ORDER, data[2:].split(MARK)[:8]
    buffers = {}
    for memory, place, one in zip(MEMORY, range(8), parts, strict=False):
        buffers.setdefault(BY_NAME[BUFFERS[place % 4]], []).append(memory.at_the_end(one[:4096]))
    assert inspect.holds(HOLD, IMAGE, number, buffers) in (True, False)
