"""isdataat, bsize, urilen, byte_test, byte_jump, byte_extract, byte_math and pcre: what is accepted and what it means."""

import pytest
from reading import parts, rule

from tigerfox.ruleset.rule import ByteExtract, ByteJump, ByteMath, ByteTest, Content, IsDataAt, Pcre, Size

TESTS = [
    ("isdataat:10;", IsDataAt(10)),
    ("isdataat:!10;", IsDataAt(10, negated=True)),
    ("isdataat: ! 4 , relative;", IsDataAt(4, negated=True, relative=True)),
    ("isdataat:4,relative,rawbytes;", IsDataAt(4, relative=True)),
    ("isdataat:4,rawbytes;", IsDataAt(4)),
    ("isdataat:!1,relative;", IsDataAt(1, negated=True, relative=True)),
    ("byte_test:2,>,100,0;", ByteTest(2, ">", 100, 0)),
    ("byte_test: 4 , <= , 0x10 , -4 , relative , little ;", ByteTest(4, "<=", 16, -4, relative=True, little=True)),
    ("byte_test:1,!&,0xf,0;", ByteTest(1, "&", 15, 0, negated=True)),
    ("byte_test:1,!,7,0;", ByteTest(1, "=", 7, 0, negated=True)),
    ("byte_test:1,!=,7,0;", ByteTest(1, "=", 7, 0, negated=True)),
    ("byte_test:1,^,7,214748364;", ByteTest(1, "^", 7, 214748364)),
    ("byte_test:0,>=,68000,0,string,dec;", ByteTest(0, ">=", 68000, 0, base=10)),
    ("byte_test:3,=,0x01,0,string,oct,big;", ByteTest(3, "=", 1, 0, base=8)),
    ("byte_test:8,=,18446744073709551615,0;", ByteTest(8, "=", 18446744073709551615, 0)),
    ("byte_test:2,<,0x90a,0,bitmask 0xf8f8;", ByteTest(2, "<", 0x90A, 0, mask=0xF8F8)),
    ("byte_jump:2,0;", ByteJump(2, 0)),
    ("byte_jump:4,8,relative,little,align;", ByteJump(4, 8, relative=True, little=True, align=True)),
    ("byte_jump:2,0,from_beginning,post_offset 4;", ByteJump(2, 0, origin="beginning", post_offset=4)),
    ("byte_jump:0,0,relative,string,from_end,post_offset -3;", ByteJump(0, 0, True, base=10, origin="end", post_offset=-3)),
    ("byte_jump:1,0,multiplier 4,bitmask 0x0f;", ByteJump(1, 0, multiplier=4, mask=15)),
    ("byte_jump:3,0,string,hex;", ByteJump(3, 0, base=16)),
    ("byte_extract:2,0,length;", ByteExtract(2, 0, "length")),
    ("byte_extract:2,-2,a.b-c_1,relative,little,multiplier 2,align 4;",
     ByteExtract(2, -2, "a.b-c_1", relative=True, little=True, multiplier=2, align=4)),
    ("byte_extract:3,0,n,string,dec;", ByteExtract(3, 0, "n", base=10)),
    ("byte_math:bytes 2, offset 1, oper +, rvalue 4, result sum;", ByteMath(2, 1, "+", 4, "sum")),
    ("byte_math: bytes 4,offset -1,oper <<,rvalue 2,result n, relative, endian little, bitmask 0xff;",
     ByteMath(4, -1, "<<", 2, "n", relative=True, little=True, mask=255)),
    ("byte_math:bytes 3, offset 0, oper /, rvalue 2, result n, string hex;", ByteMath(3, 0, "/", 2, "n", base=16)),
    ('pcre:"/ab/";', Pcre(b"ab")),
    ('pcre:!"/ab/i";', Pcre(b"ab", "i", negated=True)),
    ("pcre:/ab/s;", Pcre(b"ab", "s")),
    (r'pcre:"/a\/b\;\"c/smi";', Pcre(rb'a\/b\;\"c', "smi")),
    ('pcre:"/a/b/ismxAEGO";', Pcre(b"a/b", "ismxAEG")),
    ('pcre:"/ab/ii";', Pcre(b"ab", "i")),
    ('pcre:"/ab/B";', Pcre(b"ab")),
    ('pcre:"/é(a)/, flow:name";', Pcre("é(a)".encode())),
    ('pcre:"/(a)(b)/i,pkt:x, flow:y";', Pcre(b"(a)(b)", "i")),
]


@pytest.mark.parametrize(("options", "test"), TESTS, ids=[options for options, _ in TESTS])
def test_in_the_payload(options, test):
    assert parts(options) == [("payload", (test,))]


SIZES = [
    ("http.uri; bsize:10;", Size(10, 10)), ("http.uri; bsize:!10;", Size(10, 10, True)), ("http.uri; bsize:<10;", Size(0, 9)),
    ("http.uri; bsize:=21;", Size(21, 21)), ("http.uri; bsize:>10;", Size(11, 0xFFFFFFFF)),
    ("http.uri; bsize:>=8;", Size(8, 0xFFFFFFFF)),
    ("http.uri; bsize:8<>20;", Size(9, 19)), ("urilen:16;", Size(16, 16)), ("urilen: 16, norm;", Size(16, 16)),
    ("urilen:<70;", Size(0, 69)), ("urilen:5<>10;", Size(6, 9)), ("urilen:20<>21;", Size(21, 20)),
]


@pytest.mark.parametrize(("options", "size"), SIZES)
def test_size(options, size):
    assert parts(options) == [("http.uri", (size,))]


def test_urilen_raw_is_the_uri_as_it_was_sent():
    assert parts("urilen:>5,raw;") == [("http.uri.raw", (Size(6, 0xFFFF),))]


LETTERS = {"U": "http.uri", "I": "http.uri.raw", "H": "http.header", "D": "http.header.raw", "M": "http.method", "C": "http.cookie",
           "P": "http.request_body", "Q": "file.data", "Y": "http.stat_msg", "S": "http.stat_code", "V": "http.user_agent",
           "W": "http.host", "Z": "http.host.raw"}


@pytest.mark.parametrize(("letter", "buffer"), LETTERS.items())
def test_a_letter_names_the_buffer(letter, buffer):
    assert parts(f'content:"x"; pcre:"/ab/{letter}i";') == [("payload", (Content(b"x"),)), (buffer, (Pcre(b"ab", "i"),))]
    word = buffer if buffer != "file.data" else "file_data"
    assert parts(f'{word}; pcre:"/ab/{letter}i";') == [(buffer, (Pcre(b"ab", "i"),))]
    assert bool(rule(f'pcre:"/ab/{letter}";').apps) == (letter != "Q")


CHAINS = [
    ('content:"a"; pcre:"/b/R";', [("payload", (Content(b"a"), Pcre(b"b", relative=True)))]),
    ('content:"a"; http_uri; pcre:"/b/UR";', [("http.uri", (Content(b"a"), Pcre(b"b", relative=True)))]),
    ('http.uri; pcre:"/b/R";', [("http.uri", (Pcre(b"b", relative=True),))]),
    ('content:"a"; http_uri; isdataat:4,relative;', [("http.uri", (Content(b"a"), IsDataAt(4, relative=True)))]),
    ('content:"a"; http_uri; isdataat:4;', [("http.uri", (Content(b"a"),)), ("payload", (IsDataAt(4),))]),
    ('content:"a"; http_uri; byte_test:1,>,1,0,relative;', [("http.uri", (Content(b"a"), ByteTest(1, ">", 1, 0, relative=True)))]),
    ('content:"a"; http_uri; byte_jump:1,0;', [("http.uri", (Content(b"a"),)), ("payload", (ByteJump(1, 0),))]),
    ('http.cookie; byte_extract:4,0,n; http.request_body; byte_test:4,=,n,0;',
     [("http.cookie", (ByteExtract(4, 0, "n"),)), ("http.request_body", (ByteTest(4, "=", "n", 0),))]),
    ("byte_extract:1,0,n; byte_jump:n,0; isdataat:n; byte_test:n,<,n,n; byte_math:bytes n, offset 0, oper *, rvalue n, result m; "
     "isdataat:m;",
     [("payload", (ByteExtract(1, 0, "n"), ByteJump("n", 0), IsDataAt("n"), ByteTest("n", "<", "n", "n"),
                   ByteMath("n", 0, "*", "n", "m"), IsDataAt("m")))]),
]


@pytest.mark.parametrize(("options", "expected"), CHAINS, ids=[options for options, _ in CHAINS])
def test_the_buffer_of_a_test(options, expected):
    assert parts(options) == expected
