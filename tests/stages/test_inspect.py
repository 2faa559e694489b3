"""The full check of a rule: every kind of test by rows, chains against a slow reading of the same words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inspected import Asker, bind, holds, make_rule, part

from tigerfox.dataplane import inspect
from tigerfox.ruleset.rule import Base64, ByteExtract, ByteJump, ByteMath, ByteTest, Content, IsDataAt, Pcre, Size

A = Content(b"abc")

CONTENT = [
    ("anywhere", b"xxabcxx", True, [A]),
    ("nowhere", b"xxabxcx", False, [A]),
    ("case counts", b"xxABCxx", False, [A]),
    ("no case", b"xxAbCxx", True, [Content(b"abc", nocase=True)]),
    ("no case, no letters", b"x1-2x", True, [Content(b"1-2", nocase=True)]),
    ("an @ is no lower-case letter", b"`", False, [Content(b"@", nocase=True)]),
    ("empty buffer", b"", False, [A]),
    ("shorter than the literal", b"ab", False, [A]),
    ("the whole buffer", b"abc", True, [A]),
    ("in the depth", b"xxabc", True, [Content(b"abc", depth=5)]),
    ("one byte beyond the depth", b"xxabc", False, [Content(b"abc", depth=4)]),
    ("behind the offset", b"xxabc", True, [Content(b"abc", offset=2)]),
    ("before the offset", b"xxabc", False, [Content(b"abc", offset=3)]),
    ("depth counts from the offset", b"xxxabc", True, [Content(b"abc", offset=2, depth=4)]),
    ("offset behind the end", b"abc", False, [Content(b"abc", offset=9)]),
    ("startswith", b"abcx", True, [Content(b"abc", depth=3)]),
    ("not at the start", b"xabc", False, [Content(b"abc", depth=3)]),
    ("endswith", b"xabc", True, [Content(b"abc", endswith=True)]),
    ("endswith, an earlier one too", b"abcxabc", True, [Content(b"abc", endswith=True)]),
    ("not at the end", b"abcx", False, [Content(b"abc", endswith=True)]),
    ("endswith, no case", b"xABC", True, [Content(b"abc", endswith=True, nocase=True)]),
    ("endswith beyond its depth", b"xxabc", False, [Content(b"abc", endswith=True, depth=4)]),
    ("absent", b"xyz", True, [Content(b"abc", negated=True)]),
    ("present", b"xabc", False, [Content(b"abc", negated=True)]),
    ("absent in the depth", b"xxabc", True, [Content(b"abc", negated=True, depth=4)]),
    ("absent in no room at all", b"xx", True, [Content(b"abc", negated=True, offset=3)]),
    ("absent in the empty buffer", b"", True, [Content(b"abc", negated=True)]),
    ("ends otherwise", b"abcx", True, [Content(b"abc", negated=True, endswith=True)]),
    ("ends so", b"xabc", False, [Content(b"abc", negated=True, endswith=True)]),
    ("two in any order", b"def abc", True, [A, Content(b"def")]),
    ("behind", b"abcdef", True, [A, Content(b"def", relative=True)]),
    ("not behind", b"defabc", False, [A, Content(b"def", relative=True)]),
    ("distance", b"abc12def", True, [A, Content(b"def", relative=True, offset=2)]),
    ("distance too far", b"abc1def", False, [A, Content(b"def", relative=True, offset=2)]),
    ("a distance back", b"abcd", True, [A, Content(b"cd", relative=True, offset=-1)]),
    ("a distance back over the start", b"abc", True, [A, Content(b"abc", relative=True, offset=-9)]),
    ("within", b"abc1def", True, [A, Content(b"def", relative=True, depth=4)]),
    ("within, too far", b"abc12def", False, [A, Content(b"def", relative=True, depth=4)]),
    ("within counts behind the distance", b"abc12def", True, [A, Content(b"def", relative=True, offset=2, depth=3)]),
    ("the second place of the first", b"abc....abc.def", True, [A, Content(b"def", relative=True, depth=4)]),
    ("places that overlap", b"aaab", True, [Content(b"aa"), Content(b"b", relative=True, depth=1)]),
    ("three in a chain", b"a.b.a.b.c", True,
     [Content(b"a"), Content(b"b", relative=True, depth=2), Content(b"c", relative=True, depth=2)]),
    ("not within behind", b"abc12345def", True, [A, Content(b"def", relative=True, depth=4, negated=True)]),
    ("another place where it is not behind", b"abcdef abcxyz", True,
     [A, Content(b"def", relative=True, depth=3, negated=True)]),
    ("absent anywhere behind: the first place decides", b"aa", False, [Content(b"a"), Content(b"a", relative=True, negated=True)]),
    ("an absent one between: the first place decides", b"abcxabc1", False,
     [A, Content(b"z", negated=True), Content(b"1", relative=True, depth=1)]),
    ("no place where it is not behind", b"abcdef abcdef", False,
     [A, Content(b"def", relative=True, depth=3, negated=True)]),
]

OTHERS = [
    ("data at", b"abc123", True, [A, IsDataAt(3, relative=True)]),
    ("no data at", b"abc123", False, [A, IsDataAt(4, relative=True)]),
    ("no data wanted there", b"abc123", True, [A, IsDataAt(4, relative=True, negated=True)]),
    ("a later place with no data behind", b"abc abc", True, [A, IsDataAt(1, relative=True, negated=True)]),
    ("data at, from the start", b"abc", True, [IsDataAt(2)]),
    ("the size is not data", b"abc", False, [IsDataAt(3)]),
    ("not data at, from the start", b"abc", True, [IsDataAt(3, negated=True)]),
    ("size", b"abc", True, [Size(3, 3)]),
    ("other size", b"abc", False, [Size(4, 9)]),
    ("not of a size", b"abc", True, [Size(4, 9, negated=True)]),
    ("size of nothing", b"", True, [Size(0, 0)]),
    ("expression", b"xx12yy", True, [Pcre(rb"x\d+y")]),
    ("no such expression", b"xxyy", False, [Pcre(rb"x\d+y")]),
    ("not the expression", b"xxyy", True, [Pcre(rb"x\d+y", negated=True)]),
    ("expression without case", b"ABC", True, [Pcre(rb"abc", "i")]),
    ("expression over lines", b"a\nb", True, [Pcre(rb"a.b", "s")]),
    ("expression with anchors at lines", b"a\nb", True, [Pcre(rb"^b", "m")]),
    ("anchored expression", b"xa", False, [Pcre(rb"a", "A")]),
    ("expression with blanks", b"ab", True, [Pcre(rb"a b # c", "x")]),
    ("dollar at the very end alone", b"a\n", False, [Pcre(rb"a$", "E")]),
    ("lazy by default", b"abab", True, [Pcre(rb"a.*b", "G"), Content(b"ab", relative=True, depth=2)]),
    ("expression behind", b"1abc2", True, [A, Pcre(rb"^\d", relative=True)]),
    ("expression not behind", b"1abcx", False, [A, Pcre(rb"\d", relative=True)]),
    ("content behind an expression", b"x1 x2y", True, [Pcre(rb"x\d"), Content(b"y", relative=True, depth=1)]),
    ("content not behind it", b"x1 x2 y", False, [Pcre(rb"x\d"), Content(b"y", relative=True, depth=1)]),
    ("byte test", b"\x01\x02", True, [ByteTest(2, "=", 0x102, 0)]),
    ("byte test, little", b"\x01\x02", True, [ByteTest(2, "=", 0x201, 0, little=True)]),
    ("byte test, text", b"len=0042;", True, [Content(b"len="), ByteTest(4, ">", 41, 0, relative=True, base=10)]),
    ("byte test, hexadecimal text", b"ff", True, [ByteTest(2, "=", 255, 0, base=16)]),
    ("byte test, octal text", b"17", True, [ByteTest(2, "=", 15, 0, base=8)]),
    ("byte test, as many digits as there are", b"123x", True, [ByteTest(0, "=", 123, 0, base=10)]),
    ("byte test, no digits", b"xx", False, [ByteTest(2, "=", 0, 0, base=10)]),
    ("no digits, negated", b"xx", False, [ByteTest(2, "=", 7, 0, base=10, negated=True)]),
    ("byte test, less", b"\x05", True, [ByteTest(1, "<", 6, 0)]),
    ("byte test, at most", b"\x05", True, [ByteTest(1, "<=", 5, 0)]),
    ("byte test, at least", b"\x05", False, [ByteTest(1, ">=", 6, 0)]),
    ("byte test, and", b"\x84", True, [ByteTest(1, "&", 0x80, 0)]),
    ("byte test, xor", b"\x84", False, [ByteTest(1, "^", 0x84, 0)]),
    ("byte test, negated", b"\x84", True, [ByteTest(1, "=", 0x85, 0, negated=True)]),
    ("byte test, mask", b"\xab", True, [ByteTest(1, "=", 0xA, 0, mask=0xF0)]),
    ("byte test over the end", b"\x01", False, [ByteTest(2, "=", 1, 0)]),
    ("byte test before the start", b"abc\x01", False, [A, ByteTest(1, "=", 0x61, -4, relative=True)]),
    ("byte test back", b"abc\x01", True, [A, ByteTest(1, "=", 0x61, -3, relative=True)]),
    ("byte test over the end, negated", b"\x01", False, [ByteTest(2, "=", 9, 0, negated=True)]),
    ("byte test on a later place", b"abc\x01abc\x02", True, [A, ByteTest(1, "=", 2, 0, relative=True)]),
    ("jump", b"\x02..x", True, [ByteJump(1, 0), Content(b"x", relative=True, depth=1)]),
    ("jump with a multiplier", b"\x01..x", True, [ByteJump(1, 0, multiplier=2), Content(b"x", relative=True, depth=1)]),
    ("jump, aligned", b"\x01....x", True, [ByteJump(1, 0, align=True), Content(b"x", relative=True, depth=1)]),
    ("jump from the beginning", b"\x03..x", True, [ByteJump(1, 0, origin="beginning"), Content(b"x", relative=True, depth=1)]),
    ("jump from the end", b"\x00.x.", True, [ByteJump(1, 0, origin="end", post_offset=-2), Content(b"x", relative=True, depth=1)]),
    ("jump and back", b"\x03..x", True, [ByteJump(1, 0, post_offset=-1), Content(b"x", relative=True, depth=1)]),
    ("jump back over the start", b"x\x00", True, [ByteJump(1, 1, post_offset=-9), Content(b"x", relative=True, depth=1)]),
    ("jump over the end", b"\x09..x", False, [ByteJump(1, 0)]),
    ("jump just behind the end", b"\x00", False, [ByteJump(1, 0)]),
    ("jump, text", b"02..x", True, [ByteJump(2, 0, base=10), Content(b"x", relative=True, depth=1)]),
    ("a jump that wraps round", b"\xff" * 8 + b"x", True, [ByteJump(8, 0), Content(b"\xffx", relative=True, depth=2)]),
    ("variable as distance", b"\x02..x", True, [ByteExtract(1, 0, "n"), Content(b"x", relative=True, offset="n", depth=1)]),
    ("variable as within", b"\x03..x", True, [ByteExtract(1, 0, "n"), Content(b"x", relative=True, depth="n")]),
    ("variable as within, too small", b"\x02..x", False, [ByteExtract(1, 0, "n"), Content(b"x", relative=True, depth="n")]),
    ("variable as offset", b"\x03..x", True, [ByteExtract(1, 0, "n"), Content(b"x", offset="n")]),
    ("variable as depth", b"\x03..x", False, [ByteExtract(1, 0, "n"), Content(b"x", depth="n")]),
    ("variable compared", b"\x07\x07", True, [ByteExtract(1, 0, "n"), ByteTest(1, "=", "n", 1)]),
    ("variable as place", b"\x02.\x09", True, [ByteExtract(1, 0, "n"), ByteTest(1, "=", 9, "n")]),
    ("variable as count", b"\x02\x01\x02", True, [ByteExtract(1, 0, "n"), ByteTest("n", "=", 0x102, 1)]),
    ("variable as a count too large", b"\x09" * 12, False, [ByteExtract(1, 0, "n"), ByteTest("n", ">", 0, 1)]),
    ("variable in isdataat", b"\x03..x", True, [ByteExtract(1, 0, "n"), IsDataAt("n")]),
    ("variable in isdataat, beyond", b"\x04..x", False, [ByteExtract(1, 0, "n"), IsDataAt("n")]),
    ("variable in isdataat, far beyond", b"\xff" * 8, True, [ByteExtract(8, 0, "n"), IsDataAt("n", negated=True)]),
    ("extract with multiplier and align", b"\x03" + b"." * 7 + b"x", True,
     [ByteExtract(1, 0, "n", multiplier=2, align=4), Content(b"x", offset="n", depth=1)]),
    ("extract moves on", b"\x01x", True, [ByteExtract(1, 0, "n"), Content(b"x", relative=True, depth=1)]),
    ("math: sum", b"\x02...x", True, [ByteMath(1, 0, "+", 2, "n"), Content(b"x", offset="n", depth=1)]),
    ("math: difference", b"\x06...x", True, [ByteMath(1, 0, "-", 2, "n"), Content(b"x", offset="n", depth=1)]),
    ("math: product", b"\x02...x", True, [ByteMath(1, 0, "*", 2, "n"), Content(b"x", offset="n", depth=1)]),
    ("math: quotient", b"\x08...x", True, [ByteMath(1, 0, "/", 2, "n"), Content(b"x", offset="n", depth=1)]),
    ("math: by zero", b"\x08\x00..x", False, [ByteExtract(1, 1, "z"), ByteMath(1, 0, "/", "z", "n")]),
    ("math: shifted", b"\x01...x", True, [ByteMath(1, 0, "<<", 2, "n"), Content(b"x", offset="n", depth=1)]),
    ("math: shifted down", b"\x10...x", True, [ByteMath(1, 0, ">>", 2, "n"), Content(b"x", offset="n", depth=1)]),
    ("math: shifted out", b"\x01x", True, [ByteMath(1, 0, "<<", 64, "n"), Content(b"x", offset="n"), ByteTest(1, "=", 1, "n")]),
]
DECODED = [
    ("whole", b"YWJj", True, [Base64(0, 0), A]),
    ("padded", b"YWJjZA==", True, [Base64(0, 0), Content(b"abcd"), Size(4, 4)]),
    ("cut in a group", b"YWJjZG", True, [Base64(0, 0), Content(b"abcd"), Size(4, 4)]),
    ("up to a byte that is no digit", b"YWJj YWJj", True, [Base64(0, 0), A, Size(3, 3)]),
    ("so many bytes", b"YWJjZGVm", True, [Base64(4, 0), A, Size(3, 3)]),
    ("from an offset", b"??YWJj", True, [Base64(0, 2), A]),
    ("behind a content", b"k=YWJj", True, [Content(b"k="), Base64(0, 0, True), A]),
    ("behind the second place of a content", b"k=!k=YWJj", True, [Content(b"k="), Base64(0, 0, True), A]),
    ("behind the end", b"k=", False, [Content(b"k="), Base64(0, 1, True), A]),
    ("nothing decoded", b"!!!!", False, [Base64(0, 0), Content(b"x", negated=True)]),
    ("nothing looked for", b"YWJj", False, [Base64(0, 0)]),
    ("counted from its start", b"zzYWJj", True, [Content(b"zz"), Base64(0, 0, True), Content(b"bc", relative=True, offset=1)]),
    ("twice", b"WVdKag==", True, [Base64(0, 0), Content(b"YWJj"), Base64(0, 0), A]),
    ("other bytes", b"YWJk", False, [Base64(0, 0), A]),
]


ROWS = CONTENT + OTHERS + DECODED


@pytest.mark.parametrize("description, data, expected, tests", ROWS, ids=[row[0] for row in ROWS])
def test_rows(description, data, expected, tests):
    assert holds(data, *tests) is expected


TRANSFORMED = [
    (("dotprefix",), b"example.org", b".example.org"),
    (("to_lowercase",), b"AbC@[", b"abc@["),
    (("to_uppercase",), b"aBc`{", b"ABC`{"),
    (("strip_whitespace",), b" a\t b\r\n", b"ab"),
    (("compress_whitespace",), b"a  \t b c", b"a b c"),
    (("url_decode",), b"a%20b+c%zz%4", b"a b c%zz%4"),
    (("header_lowercase",), b"Host: A:B\r\nX-Y: Z\r\nTail", b"host: A:B\r\nx-y: Z\r\ntail"),
    (("strip_pseudo_headers",), b":method: GET\r\nHost: a\r\n", b"Host: a\r\n"),
    (("strip_pseudo_headers",), b"\r\nHost\r\n:path\r\n", b"\r\nHost\r\n"),
    (("strip_whitespace", "to_lowercase", "dotprefix"), b" A B ", b".ab"),
    (("dotprefix",), b"", b"."),
]


@pytest.mark.parametrize("transforms, data, made", TRANSFORMED)
def test_transforms(transforms, data, made):
    asked = Asker(part(Content(made), Size(len(made), len(made)), transforms=transforms))
    assert asked(data)
    assert not asked(data + b"x")


def test_one_instance_must_satisfy_all_tests():
    asked = Asker(part(Content(b"evil"), Content(b"org", endswith=True), buffer="dns.query"))
    assert asked({"dns.query": [b"good.org", b"evil.org"]})
    assert not asked({"dns.query": [b"good.org", b"evil.com"]})


def test_all_parts_must_hold():
    asked = Asker(part(Content(b"GET"), buffer="http.method"), part(Content(b"/x"), buffer="http.uri"))
    assert asked({"http.method": [b"GET"], "http.uri": [b"/x"]})
    assert not asked({"http.method": [b"GET"], "http.uri": [b"/y"]})
    assert not asked({"http.method": [b"GET"]}), "a buffer that is not there holds nothing"


def test_a_variable_holds_in_later_parts():
    asked = Asker(part(ByteExtract(1, 0, "n", base=10), buffer="http.uri"), part(Content(b"x", offset="n", depth=1), buffer="http.host"))
    assert asked({"http.uri": [b"3"], "http.host": [b"...x"]})
    assert not asked({"http.uri": [b"2"], "http.host": [b"...x"]})


def test_a_variable_is_forgotten_before_the_next_inspection():
    rules = bind(make_rule(part(ByteExtract(1, 0, "n"), Content(b"x", offset="n", depth=1)), sid=1),
                 make_rule(part(Content(b"q", negated=True), ByteExtract(1, 5, "m")), part(ByteTest(1, "=", "m", 0), buffer="http.uri"), sid=2))
    hold = inspect.InspectorHold(rules)
    assert inspect.holds(hold, rules, 0, {0: [b"\x03..x"]})
    assert not inspect.holds(hold, rules, 1, {0: [b"short"], 3: [b"\x00"]})


def test_work_has_a_bound():
    """A chain that could be tried in more ways than there are particles."""
    links = [Content(b"a", relative=bool(n), depth=200 if n else None) for n in range(12)]
    asked = Asker(part(*links, Content(b"b", relative=True, depth=1)))
    assert not asked(b"a" * 300)
    assert asked.hold.counts == (0, 1)
    assert asked(b"a" * 12 + b"b"), "and the next inspection begins anew"


def test_an_expression_gives_up_at_its_bound():
    asked = Asker(part(Pcre(rb"(a+)+(b+)+(c+)+$")))
    assert asked(b"aabbcc")
    assert not asked(b"ab" * 2000 + b"aaabbbccc" * 300 + b"x")
    assert not Asker(part(Pcre(rb"^(a?){30}a{30}$", negated=True)))(b"a" * 30), "giving up is no match, negated or not"


def test_expression_error_says_what_and_where():
    assert inspect.expression_error(b"a(b", "") == "missing closing parenthesis at offset 3"
    assert inspect.expression_error(b"a(b)", "ismxAEG") is None
    with pytest.raises(KeyError):
        inspect.expression_error(b"a", "R")


def test_the_image_of_another_rule_set_is_refused():
    one, other = bind(make_rule(part(A))), bind(make_rule(part(A)))
    with pytest.raises(ValueError):
        inspect.holds(inspect.InspectorHold(one), other, 0, {})


# A slow reading of chains: every way to place the literals is tried. Negated contents stand last and are bounded where they
# are relative: before others, or without a bound, the first place of what they count from decides alone, as in Suricata.


def slow(data, tests, at=0):
    if not tests:
        return True
    test, rest = tests[0], tests[1:]
    text = data.lower() if test.nocase else data
    low = (at if test.relative else 0) + test.offset
    high = len(data) if test.depth is None else min(len(data), low + test.depth)
    low = max(0, low)
    places = [n for n in range(low, high - len(test.pattern) + 1) if text[n:n + len(test.pattern)] == test.pattern]
    if test.endswith:
        places = [n for n in places if n + len(test.pattern) == len(data)]
    if test.negated:
        return not places and slow(data, rest, at)
    return any(slow(data, rest, n + len(test.pattern)) for n in places)


@st.composite
def chains(draw):
    made, count = [], draw(st.integers(1, 4))
    for number in range(count):
        pattern = draw(st.binary(min_size=1, max_size=3).map(lambda raw: bytes(b"abA"[byte % 3] for byte in raw)))
        nocase = draw(st.booleans())
        negated = number + 1 == count and draw(st.booleans())
        relative = bool(number) and draw(st.booleans())
        depth = draw(st.integers(len(pattern), 8) if negated and relative else st.none() | st.integers(len(pattern), 8))
        offset = draw(st.integers(-2, 4) if relative else st.integers(0, 4))
        made.append(Content(pattern.lower() if nocase else pattern, nocase, negated, relative, offset, depth,
                            endswith=not negated and draw(st.integers(0, 7)) == 0))
    return made


@settings(max_examples=600, deadline=None)
@given(chains(), st.lists(st.binary(max_size=14).map(lambda raw: bytes(b"abAB"[byte % 4] for byte in raw)), min_size=4, max_size=4))
def test_chains_hold_where_some_placing_does(tests, buffers):
    asked = Asker(part(*tests))
    for data in buffers:
        assert asked(data) == slow(data, tests), (data, tests)
