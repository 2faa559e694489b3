"""isdataat, bsize, urilen, byte_test, byte_jump, byte_extract, byte_math and pcre: what is accepted, where a fault is told."""

import pytest
from reading import fault, parts, rule

from tigerfox.ruleset import expressions
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


REFUSED = [
    ("isdataat:~x;", "'x' is set nowhere before it; write a number, or byte_extract:...,x; before it"),
    ("isdataat:~65536;", "is not a place; write a number from 0 to 65535"),
    ("isdataat:~4,relativ;", "does not fit; write isdataat:10"),
    ("bsize:~5;", "no sticky buffer stands before it"),
    ("http.uri; bsize:~x;", "is not a comparison"),
    ("http.uri; bsize:~5<>6;", "nothing lies between 5 and 6"),
    ("urilen:~70000;", "70000 is over 65535"),
    ("urilen:~5,both;", "is not a comparison"),
    ("byte_test:~1,>,1;", "at least 4 values"),
    ("byte_test:~9,>,1,0;", "9 bytes are too many; write at most 8"),
    ("byte_test:~24,>,1,0,string;", "is not a number of bytes; write a number from 0 to 23"),
    ("byte_test:1,~=>,1,0;", "'=>' is not a comparison; write one of"),
    ("byte_test:~1,,1,0;", "at least 4 values"),
    ("byte_test:1,~!!,1,0;", "'!!' is not a comparison"),
    ("byte_test:1,>,~1x,0;", "is not a value; write a number like 100 or 0x64"),
    ("byte_test:1,>,~other,0;", "'other' is set nowhere before it"),
    ("byte_test:1,>,1, ~1.5;", "is not an offset"),
    ("byte_test:1,>,1,0,~relatve;", "'relatve' is not one of its options; write some of relative big"),
    ("byte_test:1,>,1,0,relative,~relative;", "relative stands twice"),
    ("byte_test:1,>,1,0,~hex;", "hex goes with string alone; write string,hex"),
    ("byte_test:1,>,1,0,string,hex,~dec;", "a number has one base"),
    ("byte_test:1,>,1,0,big,~little;", "big and little; take one away"),
    ("byte_test:1,>,1,0,~bitmask;", "bitmask takes one value"),
    ("byte_test:1,>,1,0,bitmask ~0xg;", "is not a mask"),
    ("byte_test:1,>,1,0,~relative 5;", "relative takes no value; take it away"),
    ("byte_test:4,>,1,0,~dce;", "DCE/RPC is not supported yet"),
    ("byte_jump:~2;", "at least 2 values"),
    ("byte_jump:2,0,from_beginning,~from_end;", "from_beginning and from_end; take one away"),
    ("byte_jump:2,0,multiplier ~0;", "multiplier '0' is not a number from 1 to 65535"),
    ("byte_jump:2,0,post_offset ~70000;", "post_offset '70000' is not a number from -65535 to 65535"),
    ("byte_extract:~x,0,n;", "'x' is not a number from 1 to 23"),
    ("byte_extract:1,0,~7n;", "'7n' is not a name"),
    ("byte_extract:1,0,n,align ~3;", "write align 4"),
    ("byte_extract:1,0,n,align ~8;", "is not a number from 2 to 4"),
    ("byte_extract:2,0,n,~string,hex,little;", "big and little do not go with string"),
    ("byte_math:~bytes 1, offset 0, oper +, rvalue 1;", "at least 5 values"),
    ("byte_math:~bytes 1, offset 0, oper +, rvalue 1, relative;", "result is missing"),
    ("byte_math:bytes 1, offset 0, oper ~%, rvalue 1, result n;", "oper '%' is unknown; write one of"),
    ("byte_math:bytes 1, offset 0, oper /, rvalue ~0, result n;", "rvalue 0 changes nothing"),
    ("byte_math:bytes ~m, offset 0, oper +, rvalue 1, result n;", "'m' is set nowhere before it"),
    ("byte_math:bytes ~9, offset 0, oper +, rvalue 1, result n;", "write at most 8"),
    ('pcre:"~ab";', "is not an expression; write \"/EXPRESSION/FLAGS\""),
    ('pcre:"/ab/i~q";', "'q' is not a flag; write some of i s m x"),
    ('pcre:"/ab/U~H";', "H names a second buffer"),
    ('pcre:"/ab/~,alert:x, flow:y";', "',' is not a flag"),
    ('pcre:"/ab/~R";', "R counts from the match before, and there is none in this buffer"),
    ('content:"a"; pcre:"/ab/~UR";', "R counts from the match before"),
    ('http.uri; content:"x"; pcre:"/ab/~P";', "the flag P means http.request_body, but http.uri is set"),
    ('pcre:"/~Ab/W";', "http.host is in lower case, this expression is not"),
    ('content:"a"; fast_pattern:only; pcre:"~/b/R";', "which leaves no place to count from"),
    ('pcre:~"/ab/;', "the closing quote is missing"),
    ("pcre:~;", "the value is missing"),
]


@pytest.mark.parametrize(("marked", "message"), REFUSED, ids=[marked for marked, _ in REFUSED])
def test_refused_at_its_place(marked, message):
    assert message in fault(marked)


def test_what_pcre2_refuses_is_told_where(monkeypatch):
    """The hook of the inspection engine says at which byte; the place counts characters."""
    asked = []

    def judge(pattern, flags):
        asked.append((pattern, flags))
        return "missing closing parenthesis at offset 4" if b"(" in pattern else None

    monkeypatch.setattr(expressions, "_judge", lambda: judge)
    expressions.expression_error.cache_clear()
    assert "PCRE2 refuses the expression: missing closing parenthesis" in fault('pcre:"/é(b~c/i";')
    assert parts('pcre:"/bc/s";') == [("payload", (Pcre(b"bc", "s"),))]
    assert asked == [("é(bc".encode(), "i"), (b"bc", "s")]
    expressions.expression_error.cache_clear()
