"""content, its modifiers and what they say together: what is accepted and what it means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import parts, read, rule

from tigerfox.ruleset.check import load_rules
from tigerfox.ruleset.contents import read_pattern
from tigerfox.ruleset.rule import Content, Refusal

PAYLOAD = [
    ('content:"abc";', Content(b"abc")),
    ('content: "a b" ;', Content(b"a b")),
    ('content:!"abc";', Content(b"abc", negated=True)),
    ('content:! "abc";', Content(b"abc", negated=True)),
    ('content:"|41 42|c|0d0A|";', Content(b"ABc\r\n")),
    ('content:"|4 1,42|";', Content(b"AB")),
    ('content:"||a";', Content(b"a")),
    (r'content:"\;\:\"\\";', Content(b';:"\\')),
    ('content:"a:b(c)";', Content(b"a:b(c)")),
    ('content:"é";', Content(b"\xc3\xa9")),
    ('content:"AbC"; nocase;', Content(b"abc", nocase=True)),
    ('content:"|C1|A"; nocase;', Content(b"\xc1a", nocase=True)),
    ('content:"ab"; offset:3;', Content(b"ab", offset=3)),
    ('content:"ab"; depth:4;', Content(b"ab", depth=4)),
    ('content:"ab"; depth:4; offset:3;', Content(b"ab", offset=3, depth=4)),
    ('content:"ab"; offset:3; depth:4;', Content(b"ab", offset=3, depth=4)),
    ('content:"ab"; distance:-2;', Content(b"ab", relative=True, offset=-2)),
    ('content:"ab"; within:9;', Content(b"ab", relative=True, depth=9)),
    ('content:"ab"; within:9; distance:3;', Content(b"ab", relative=True, offset=3, depth=9)),
    ('content:"ab"; distance:-1048576;', Content(b"ab", relative=True, offset=-1048576)),
    ('content:"ab"; startswith;', Content(b"ab", depth=2)),
    ('content:"ab"; endswith;', Content(b"ab", endswith=True)),
    ('content:"ab"; startswith; endswith;', Content(b"ab", depth=2, endswith=True)),
    ('content:"ab"; endswith; endswith;', Content(b"ab", endswith=True)),
    ('content:"ab"; within:9; endswith;', Content(b"ab", relative=True, depth=9, endswith=True)),
    ('content:"abcd"; fast_pattern;', Content(b"abcd", fast=(0, 4))),
    ('content:"abcd"; fast_pattern:only;', Content(b"abcd", fast=(0, 4))),
    ('content:"abcd"; fast_pattern:1,2;', Content(b"abcd", fast=(1, 2))),
    ('content:"abcd"; fast_pattern: 1 , 3;', Content(b"abcd", fast=(1, 3))),
    ('content:!"abcd"; fast_pattern;', Content(b"abcd", negated=True, fast=(0, 4))),
    ('content:"abcd"; nocase; prefilter;', Content(b"abcd", nocase=True, fast=(0, 4))),
    ('content:"ab"; rawbytes;', Content(b"ab")),
    ('content:"ab"; isdataat:!1,relative;', Content(b"ab", endswith=True)),
]


@pytest.mark.parametrize(("options", "content"), PAYLOAD, ids=[options for options, _ in PAYLOAD])
def test_content(options, content):
    assert parts(options) == [("payload", (content,))]


FITS = [
    'dsize:10; content:"|05 01 00 01|"; depth:4; content:"|00 19|"; offset:8; depth:2;', 'dsize:>3; content:"abcdef";',
    'dsize:!3; content:"abcdef";', 'dsize:6; content:"abc"; content:"def"; distance:0;', 'dsize:6; content:"abcde"; content:"bcd";',
    'dsize:6; content:"abc"; content:!"toolong";',
]


@pytest.mark.parametrize("options", FITS)
def test_contents_that_fit_their_size(options):
    assert rule(options).payload == "packet"


def test_the_last_content_takes_the_modifier_in_whatever_buffer():
    assert parts('content:"A"; http.uri; content:"B"; nocase; pkt_data; content:"C"; offset:1;') == [
        ("payload", (Content(b"A"), Content(b"C", offset=1))), ("http.uri", (Content(b"b", nocase=True),))]


def test_isdataat_not_1_is_the_end_of_the_content_before_it_also_a_negated_one():
    assert parts('content:"a"; content:!"b"; within:3; isdataat:!1,relative;') == [
        ("payload", (Content(b"a"), Content(b"b", negated=True, relative=True, depth=3, endswith=True)))]


def test_variables_stand_where_numbers_stand():
    tests = parts('byte_extract:1,0,n; content:"ab"; offset:n; depth:n; content:"cd"; distance:n; within:n;')[0][1]
    assert tests[1:] == (Content(b"ab", offset="n", depth="n"), Content(b"cd", relative=True, offset="n", depth="n"))


def test_prefilter_behind_a_header_test_changes_nothing():
    assert rule("dsize:10; prefilter;").parts == ()


def test_bytes_of_the_file_are_the_bytes_looked_for(tmp_path):
    path = tmp_path / "latin.rules"
    path.write_bytes(b'alert tcp any any -> any any (msg:"\xe9"; content:"\xe9\xc3\xa9"; nocase; sid:1;)\n')
    loaded = load_rules([path]).rules[0]
    assert loaded.parts[0].tests == (Content(b"\xe9\xc3\xa9", nocase=True),)
    assert loaded.msg == "\ufffd"
    loaded.text.encode()


@given(st.binary(min_size=1, max_size=40), st.data())
def test_every_byte_can_be_written_in_both_ways(wanted, data):
    text = ""
    for byte in wanted:
        if 0x20 <= byte < 0x7f and chr(byte) not in '|"\\' and data.draw(st.booleans()):
            text += chr(byte)
        else:
            text += f"|{byte:02x}|"
    assert read_pattern(text) == wanted
    assert read_pattern(text.replace("||", " ")) == wanted


@given(st.text("|\"\\;: aAfg09é", max_size=12))
def test_a_pattern_is_read_or_refused_inside_it(text):
    try:
        assert isinstance(read_pattern(text), bytes)
    except Refusal as refusal:
        assert 0 <= refusal.offset < len(text)


def test_all_faults_of_a_rule_are_told():
    found = read('content:"a"; depth:0; content:"|4|"; nocase; nocase; http.method; content:"X ";')
    assert [problem.kind for problem in found.problems] == ["depth", "content", "nocase"]
