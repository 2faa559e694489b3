"""Tests of buffers as rows of the image; literals and expressions each stored once."""

import struct

from tigerfox.dataplane import inspect
from tigerfox.ruleset.literals import rarest
from tigerfox.ruleset.rule import Base64, ByteExtract, ByteJump, ByteMath, ByteTest, Content, IsDataAt, Pcre, Size

_CONTENT, _PCRE, _DATA_AT, _SIZE, _BYTES, _JUMP, _EXTRACT, _MATH, _BASE64 = range(9)
_NEGATED, _RELATIVE, _NOCASE, _AT_END, _BOUNDED, _OFFSET_VARIABLE, _DEPTH_VARIABLE, _COUNT_VARIABLE = (1 << n for n in range(8))
_VALUE_VARIABLE, _LITTLE, _ALIGN, _FROM_BEGINNING, _FROM_END, _BASE_OF_NEXT, _ALONE = (1 << n for n in range(8, 15))
_BYTE_OPS = ("<", ">", "=", "<=", ">=", "&", "^")
_MATH_OPS = ("+", "-", "*", "/", "<<", ">>")
_ORIGINS = {"here": 0, "beginning": _FROM_BEGINNING, "end": _FROM_END}
_LARGEST = 0xFFFFFFFF
_FORM = struct.Struct("<BBBBHBBIIiiIIIIQ")


class Tests:
    """Runs of tests; equal runs share their rows."""

    def __init__(self):
        self._rows = bytearray()
        self._runs = {}
        self._literals = bytearray()
        self._places = {}
        self._expressions = {}
        self._texts = []

    def add(self, tests, variables):
        """Pack the tests of a part; return the number of the first and their count.

        ``variables`` maps the names of the rule's variables to their numbers, and grows.
        """
        bases = _bases(tests)
        packed = b"".join(self._row(test, bases[number], variables) for number, test in enumerate(tests))
        if packed not in self._runs:
            self._runs[packed] = len(self._rows) // _FORM.size
            self._rows += packed
        return self._runs[packed], len(tests)

    def rows(self):
        """The section of tests."""
        return bytes(self._rows)

    def literals(self):
        """The section of literals."""
        return bytes(self._literals)

    def expressions(self):
        """The section of expressions."""
        return b"".join(self._texts)

    def _row(self, test, base, variables):
        flags, fields = _PACKERS[type(test)](self, test, _Variables(variables))
        flags |= base | (_NEGATED if getattr(test, "negated", False) else 0)
        flags |= _RELATIVE if getattr(test, "relative", False) else 0
        if flags & _ALONE and (flags & (_RELATIVE | _BOUNDED | _OFFSET_VARIABLE) or fields.get("offset")):
            flags &= ~_ALONE
        return _FORM.pack(fields["kind"], fields.get("op", 0), fields.get("base", 0), fields.get("count", 0), flags,
                          fields.get("target", 0), fields.get("align", 0), fields.get("literal", 0), fields.get("length", 0),
                          fields.get("offset", 0), fields.get("depth", 0), fields.get("mask", 0), fields.get("multiplier", 0),
                          fields.get("rare", 0), 0, fields.get("value", 0))

    def _place(self, text):
        """Where a text stands among the literals."""
        if text not in self._places:
            self._places[text] = len(self._literals)
            self._literals += text
        return self._places[text]

    def _content(self, test, variables):
        flags = (_NOCASE if test.nocase else 0) | (_AT_END if test.endswith else 0) | (_BOUNDED if test.depth is not None else 0)
        offset, one = variables.read(test.offset, _OFFSET_VARIABLE)
        depth, two = variables.read(test.depth or 0, _DEPTH_VARIABLE)
        fields = dict(kind=_CONTENT, literal=self._place(test.pattern), length=len(test.pattern), offset=offset, depth=depth,
                      rare=rarest(test.pattern, test.nocase))
        return flags | one | two, fields

    def _pcre(self, test, variables):
        key = test.pattern, test.flags
        if key not in self._expressions:
            self._expressions[key] = len(self._texts)
            self._texts.append(struct.pack("<IIII", self._place(test.pattern), len(test.pattern),
                                           inspect.expression_options(test.flags), 0))
        return 0, dict(kind=_PCRE, literal=self._expressions[key])

    def _data_at(self, test, variables):
        at, flags = variables.read(test.at, _OFFSET_VARIABLE)
        return flags, dict(kind=_DATA_AT, offset=at)

    def _size(self, test, variables):
        low, high = min(test.low, _LARGEST), min(test.high, _LARGEST)
        return 0, dict(kind=_SIZE, value=low | high << 32)

    def _bytes(self, test, variables):
        flags, fields = self._number(test, variables)
        value, more = variables.read(test.value, _VALUE_VARIABLE)
        return flags | more, fields | dict(kind=_BYTES, op=_BYTE_OPS.index(test.op), value=value, mask=test.mask)

    def _jump(self, test, variables):
        flags, fields = self._number(test, variables)
        flags |= _ORIGINS[test.origin] | (_ALIGN if test.align else 0)
        return flags, fields | dict(kind=_JUMP, multiplier=test.multiplier, depth=test.post_offset, mask=test.mask)

    def _extract(self, test, variables):
        flags, fields = self._number(test, variables)
        return flags, fields | dict(kind=_EXTRACT, target=variables.write(test.name), multiplier=test.multiplier, align=test.align)

    def _math(self, test, variables):
        flags, fields = self._number(test, variables)
        operand, more = variables.read(test.operand, _VALUE_VARIABLE)
        return flags | more, fields | dict(kind=_MATH, op=_MATH_OPS.index(test.op), value=operand, mask=test.mask,
                                           target=variables.write(test.name))

    def _base64(self, test, variables):
        return 0, dict(kind=_BASE64, offset=test.offset, depth=test.count)

    def _number(self, test, variables):
        """What the tests of numbers have in common."""
        count, one = variables.read(test.count, _COUNT_VARIABLE)
        offset, two = variables.read(test.offset, _OFFSET_VARIABLE)
        return one | two | (_LITTLE if test.little else 0), dict(count=count, offset=offset, base=test.base)


_PACKERS = {Content: Tests._content, Pcre: Tests._pcre, IsDataAt: Tests._data_at, Size: Tests._size, ByteTest: Tests._bytes,
            ByteJump: Tests._jump, ByteExtract: Tests._extract, ByteMath: Tests._math, Base64: Tests._base64}


class _Variables:
    """Names of a rule's variables by number."""

    def __init__(self, numbers):
        self._numbers = numbers

    def read(self, value, flag):
        """(the number, 0), or of a name (its number, the flag)."""
        return (self.write(value), flag) if isinstance(value, str) else (value, 0)

    def write(self, name):
        """The number of a name."""
        return self._numbers.setdefault(name, len(self._numbers))


def _bases(tests):
    """For each test the flags that what counts from it makes: _BASE_OF_NEXT, _ALONE."""
    flags = [_ALONE if isinstance(test, Content) else 0 for test in tests]
    base = None
    for number, test in enumerate(tests):
        if getattr(test, "relative", False) and base is not None:
            flags[base] &= ~_ALONE
            bounded = not isinstance(test, Content) or test.depth is not None
            if bounded or isinstance(tests[base], Pcre):
                flags[base] |= _BASE_OF_NEXT
        if isinstance(test, Content | Pcre):
            base = number
        elif isinstance(test, Base64):
            base = None
    return flags
