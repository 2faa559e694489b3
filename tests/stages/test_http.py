"""HTTP/1.x by rows: bytes in, what rules see out; bounds, odd framing, decoders."""

import gzip
import zlib

import pytest

from tigerfox.dataplane.app.httpparser import HttpParser, probe
from tigerfox.dataplane.app.httpuri import normalise

OK = b"HTTP/1.1 200 OK\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def run(parser, response, data, cut=None):
    """All messages of a direction: [(answer, buffers, state)], the last one as it is at the end."""
    out = []
    for at in range(0, len(data), cut or len(data)):
        piece = data[at:at + (cut or len(data))]
        while piece:
            answer, taken = parser.feed(response, piece)
            piece = piece[taken:]
            if answer not in ("more", "head"):
                out.append((answer, parser.buffers(response), parser.state(response)))
            if answer in ("tunnel", "broken"):
                return out
    return out


def request(data, cut=None):
    return run(HttpParser(), False, data, cut)[-1][1]


def response(data, asked=GET, close=False, **sizes):
    parser = HttpParser(**sizes)
    run(parser, False, asked)
    run(parser, True, data)
    if close:
        parser.close(True)
    return parser.buffers(True), parser.state(True)


@pytest.mark.parametrize("data, answer", [
    (b"GET / HTTP/1.1", "yes"), (b"\r\nPOST /", "yes"), (b"GE", "more"), (b"QUERY /a HTTP/1.1\r\n", "yes"),
    (b"\x16\x03\x01\x02\x00", "no"), (b"EHLO me\r\n", "no"), (b"", "more"), (b"QUERY /a", "more")])
def test_probe_of_a_request(data, answer):
    assert probe(data) == answer


@pytest.mark.parametrize("data, answer", [(b"HTTP/1.1 200", "yes"), (b"HT", "more"), (b"SSH-2.0", "no"), (b" \0http", "yes")])
def test_probe_of_a_response(data, answer):
    assert probe(data, True) == answer


@pytest.mark.parametrize("target, normal", [
    (b"/a/./b/../c", b"/a/c"), (b"/../../x", b"/x"), (b"//a///b", b"/a/b"), (b"\\a\\b", b"/a/b"), (b"/%41%2f%2e%2e/b", b"/b"),
    (b"/%u0041%U0042", b"/AB"), (b"/%uff0f%uff41", b"/a"), (b"/a%zz%4", b"/a%zz%4"), (b"/A+b?c+d=%41%u0041", b"/A+b?c+d=A%u0041"),
    (b"/a?b#c%41", b"/a?b#c%41"), (b"http://u:p@Host:8/p?q", b"/p?q"), (b"/x/..", b"/"), (b"/x/.", b"/x/"), (b"*", b"*"),
    (b"/caf\xc3\xa9", b"/caf\xe9"), (b"/\xc0\xaf", b"//"), (b"/\xff", b"/?"), (b"/a%00b", b"/a\0b"), (b"", b""), (b"/a/b/../../../c/.", b"/c/"),
    (b"../a", b"a"), (b"./a", b"a"), (b"/..a/.b./...", b"/..a/.b./...")])
def test_target_in_normal_form(target, normal):
    assert normalise(target)[0] == normal


@pytest.mark.parametrize("odd", [b"%41", b"\\", b"//", b"/./", b"/..", b"/.b", b"a/../b", b"\xc3\xa9", b"\xff", b"#x", b"?a=//", b"\0", b"/"])
def test_target_in_its_message_is_normal_wherever_it_is_odd(odd):
    """A target that is in normal form already is not copied; sixteen bytes are looked at at a time."""
    for before in range(36):
        target = b"/" + b"a" * before + odd + b"b" * (40 - before)
        assert request(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")["http.uri"] == normalise(target)[0]


def test_host_in_lower_case_wherever_a_capital_stands():
    for place in range(40):
        host = b"a" * place + b"Z" + b"[@`{" + b"a" * (20 - place)
        seen = request(b"GET / HTTP/1.1\r\nHost:" + host + b"\r\n\r\n")
        assert seen["http.host"] == host.lower() and seen["http.host.raw"] == host


@pytest.mark.parametrize("start, asked", [(b"GET / HTTP/1.1\r\n", None), (OK, GET)])
@pytest.mark.parametrize("odd", [b"", b":", b": ", b"\r", b"\n", b"\0", b"\t", b" ", b"\r\n ", b"\n\r", b"\r\r\n", b"\r\n\0", b"\x0b", b"\x80",
                                 b"\r\nhost:", b"\r\nHost: b\r\n", b"\r\n\r\n"])
def test_fields_are_the_same_however_they_are_cut(start, asked, odd):
    """Plain fields are read sixteen bytes at a time: byte by byte the same is seen, and as early, wherever something else stands."""
    for place in range(0, 40):
        line = b"Cookie: " + b"v" * 32
        data = start + b"Host: a.example\r\n" + line[:place] + odd + line[place:] + b"\r\nX: y \r\nReferer: r\r\n\r\n"
        for part in (data, data[:-2], data[:-17]):
            seen = []
            for cut in (None, 1, 17):
                parser = HttpParser()
                if asked:
                    run(parser, False, asked)
                run(parser, asked is not None, part, cut)
                seen.append((parser.buffers(asked is not None), parser.state(asked is not None)))
            assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("name", [b"Host", b"User-Agent", b"Cookie", b"Content-Type", b"Content-Length", b"Referer", b"Accept",
                                  b"Accept-Language", b"Accept-Encoding", b"Connection"])
def test_a_field_is_known_by_its_whole_name_in_any_case(name):
    buffer = {b"Content-Length": "http.content_len", b"Accept-Encoding": "http.accept_enc", b"Accept-Language": "http.accept_lang"}.get(
        name, "http." + name.decode().lower().replace("-", "_"))
    for field in (name, name.upper(), name.lower(), name.swapcase()):
        assert request(b"GET / HTTP/1.1\r\n" + field + b": 0\r\n\r\n")[buffer] == b"0"
    for place in range(len(name)):
        wrong = name[:place] + bytes([name[place] ^ 0x20 if name[place] == 45 else name[place] ^ 1]) + name[place + 1:]
        assert buffer not in request(b"GET / HTTP/1.1\r\n" + wrong + b": 0\r\n\r\n")
        assert buffer not in request(b"GET / HTTP/1.1\r\n" + name[:place] + name[place + 1:] + b": 0\r\n\r\n")


def test_buffers_of_a_request():
    seen = request(b"POST /a%20b?x=1 HTTP/1.1\r\nHost: Ex.AMPLE:80\r\nUser-Agent: ua\r\nCookie: c=1\r\nX-A: 1\r\nx-a: 2\r\n"
                   b"Accept: */*\r\nX-Fold: a\r\n b\r\nContent-Length: 3\r\n\r\nabc")
    assert seen["http.method"] == b"POST" and seen["http.uri"] == b"/a b?x=1" and seen["http.uri.raw"] == b"/a%20b?x=1"
    assert seen["http.host"] == b"ex.ample" and seen["http.host.raw"] == b"Ex.AMPLE:80" and seen["http.cookie"] == b"c=1"
    assert seen["http.header"] == (b"Host: Ex.AMPLE:80\r\nUser-Agent: ua\r\nX-A: 1, 2\r\nAccept: */*\r\nX-Fold: a b\r\n"
                                   b"Content-Length: 3\r\n")
    assert seen["http.header_names"] == b"\r\nHost\r\nUser-Agent\r\nCookie\r\nX-A\r\nAccept\r\nX-Fold\r\nContent-Length\r\n\r\n"
    assert seen["http.header.raw"].startswith(b"Host: Ex") and seen["http.header.raw"].endswith(b" b\r\nContent-Length: 3\r\n\r\n")
    assert seen["http.start"].startswith(b"POST /a%20b?x=1 HTTP/1.1\r\nHost: ") and seen["http.start"].endswith(b": 3\r\n\r\n")
    assert seen["http.request_line"] == b"POST /a%20b?x=1 HTTP/1.1" and seen["http.protocol"] == b"HTTP/1.1"
    assert seen["http.request_body"] == seen["file.data"] == b"abc" and seen["http.content_len"] == b"3"
    assert "http.referer" not in seen and seen["http.accept"] == b"*/*" and seen["http.user_agent"] == b"ua"


@pytest.mark.parametrize("fields, header", [
    (b"A: b\r\nC: \r\n", b"A: b\r\nC: \r\n"), (b"A:b\r\nC:  d\r\n", b"A: b\r\nC: d\r\n"), (b"A:\r\nC: d\r\n", b"A: \r\nC: d\r\n"),
    (b"A: b \r\n", b"A: b\r\n"), (b"A: b\nC: d\r\n", b"A: b\r\nC: d\r\n"), (b"A : b\r\n", b"A: b\r\n"), (b"A: b\0c\r\n", b"A: b\r\n"),
    (b"A: b\r\nCookie: c\r\nD: e\r\n", b"A: b\r\nD: e\r\n"), (b"A: b\r\nC: d\r\nA: e\r\n", b"A: b, e\r\nC: d\r\n"),
    (b"A: b\r\n c\r\nD: e\r\n", b"A: b c\r\nD: e\r\n"), (b"none\r\nA: b\r\n", b": none\r\nA: b\r\n")])
def test_fields_of_a_request_as_rules_see_them(fields, header):
    assert request(b"GET / HTTP/1.1\r\n" + fields + b"\r\n")["http.header"] == header


def test_buffers_of_a_response():
    seen, state = response(OK + b"Server: s\r\nLocation: /x\r\nSet-Cookie: k=v\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi")
    assert seen["http.stat_code"] == b"200" and seen["http.stat_msg"] == b"OK" and seen["http.response_line"] == OK[:-2]
    assert seen["http.server"] == b"s" and seen["http.location"] == b"/x" and seen["http.cookie"] == b"k=v"
    assert b"Set-Cookie" not in seen["http.header"] and seen["file.data"] == b"hi"
    assert state["progress"] == "complete" and not state["events"]


def test_pipelined_requests_and_their_responses():
    parser = HttpParser()
    asked = run(parser, False, b"HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\n" + GET * 2)
    assert [one[0] for one in asked] == ["complete"] * 3 and asked[0][1]["http.uri"] == b"/1"
    answers = run(parser, True, OK + b"Content-Length: 5\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nab"
                  + b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n")
    assert [one[0] for one in answers] == ["complete", "complete", "interim", "complete"]
    assert [one[2]["transaction"] for one in answers] == [1, 2, 3, 3] and answers[1][1]["file.data"] == b"ab"
    assert "file.data" not in answers[0][1]


@pytest.mark.parametrize("head, body, visible, event", [
    (b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n", b"abcde", "chunk_odd"),
    (b"Transfer-Encoding: xchunked\r\nContent-Length: 1\r\n\r\n", b"2\r\nab\r\n0\r\n\r\n", b"ab", "length_ambiguous"),
    (b"Transfer-Encoding: chunked\r\n\r\n", b"plain text", b"plain text", "chunk_broken"),
    (b"Transfer-Encoding: chunked\r\n\r\n", b"ffffffff\r\nab", b"ffffffff\r\nab", "chunk_broken"),
    (b"Content-Length: 2\r\nContent-Length: 4\r\n\r\n", b"abcd", b"abcd", "length_ambiguous"),
    (b"Content-Length: x\r\n\r\n", b"abcd", b"abcd", "length_invalid"),
    (b"Content-Length: 2\r\n\r\n", b"ab\r\nmore", b"ab\r\nmore", "body_unexpected"),
    (b"\r\n", b"to the end", b"to the end", None),
    (b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"abc"), b"abc", None),
    (b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"abc") + gzip.compress(b"def"), b"abcdef", None),
    (b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"abc") + b"junk", b"abc", "encoding_trailing"),
    (b"Content-Encoding: deflate\r\n\r\n", zlib.compress(b"abc"), b"abc", "encoding_false"),
    (b"Content-Encoding: deflate\r\n\r\n", zlib.compress(b"abc")[2:-4], b"abc", None),
    (b"Content-Encoding: deflate, gzip\r\n\r\n", gzip.compress(zlib.compress(b"abc")), b"abc", "encoding_false"),
    (b"Content-Encoding: gzip, gzip, gzip\r\n\r\n", gzip.compress(gzip.compress(b"abc")), b"abc", "encoding_deep"),
    (b"Content-Encoding: gzip\r\n\r\n", b'{"plain": "text"}', b'{"plain": "text"}', "encoding_false"),
    (b"Content-Encoding: lzma\r\n\r\n", b"\x5d\0\0", b"\x5d\0\0", "encoding_lzma"),
    (b"Content-Encoding: br\r\n\r\n", b"xyz", b"xyz", "encoding_unknown"),
    (b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"abc")[:-8] + bytes(8), b"abc", "encoding_broken"),
])
@pytest.mark.parametrize("cut", [None, 1, 7])
def test_what_is_visible_of_a_body(head, body, visible, event, cut):
    parser = HttpParser()
    run(parser, False, GET)
    run(parser, True, OK + head + body, cut)
    parser.close(True)
    state = parser.state(True)
    assert parser.buffers(True)["file.data"] == visible
    assert event is None or event in state["events"]
    assert event or not state["events"] - {"encoding_false"}
    assert parser.decoders_used() == 0


def test_decompression_bomb_is_bounded():
    seen, state = response(OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(50 << 20)))
    assert len(seen["file.data"]) == 102400 and "body_full" in state["events"]
    twice = gzip.compress(gzip.compress(bytes(200 << 20)))
    seen, state = response(OK + b"Content-Encoding: gzip, gzip\r\n\r\n" + twice)
    assert len(seen["file.data"]) <= 102400 and {"bomb", "body_full"} & state["events"]
    inside = gzip.compress(b"") * 200000      # the first layer makes much, the second nothing
    seen, state = response(OK + b"Content-Encoding: gzip, gzip\r\n\r\n" + gzip.compress(inside))
    assert "bomb" in state["events"] and not seen.get("file.data")


def test_bodies_have_a_bound():
    seen, state = response(OK + b"Content-Length: 5000\r\n\r\n" + b"x" * 5000, body_size=1000)
    assert len(seen["file.data"]) == 1000 and state["body_total"] == 5000 and "body_full" in state["events"]


def test_heads_have_a_bound():
    parser = HttpParser(head_size=1000)
    assert run(parser, False, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500)[-1][0] == "broken"
    assert "head_full" in parser.state(False)["events"]
    assert parser.feed(False, b"more") == ("broken", 0)


def test_more_fields_than_the_table_has():
    data = b"GET / HTTP/1.1\r\n" + b"".join(b"N%d: v\r\n" % i for i in range(200)) + b"\r\n"
    (answer, seen, state), = run(HttpParser(), False, data)
    assert answer == "complete" and "fields_full" in state["events"] and b"N199: v" in seen["http.header.raw"]


def test_without_a_free_decoder_the_body_is_as_it_came():
    data = gzip.compress(b"abc")
    seen, state = response(OK + b"Content-Encoding: gzip\r\n\r\n" + data, decoders=0)
    assert seen["file.data"] == data and "decoder_none" in state["events"]


def test_a_successor_without_the_decoder_says_so():
    parser = HttpParser()
    run(parser, False, GET)
    data = gzip.compress(b"abc" * 1000)
    run(parser, True, OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data) + data[:-9])
    before = parser.buffers(True)["file.data"]
    parser.lose_decoders()
    run(parser, True, data[-9:] + OK + b"Content-Length: 1\r\n\r\n")
    assert before and parser.state(True)["progress"] == "head"
    assert parser.state(True)["transaction"] == 2


@pytest.mark.parametrize("line", [b"GET /x\r\n\r\n", b"GET /x\r\n"])
def test_http_09(line):
    parser = HttpParser()
    done = run(parser, False, line)
    assert (done[0][1] if done else parser.buffers(False))["http.uri"] == b"/x"
    run(parser, True, b"<html>old</html>\n")
    assert parser.buffers(True)["file.data"] == b"<html>old</html>\n"


def test_a_missing_protocol_is_not_http_09():
    seen = request(b"GET /x\r\nHost: a\r\n\r\n")
    assert seen["http.host"] == b"a"


def test_connect_then_a_tunnel_and_then_http():
    ask = b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"
    assert [one[0] for one in run(HttpParser(), False, ask + b"\x16\x03\x01")] == ["complete", "tunnel"]
    parser = HttpParser()
    assert [one[0] for one in run(parser, False, ask + GET)] == ["complete", "complete"]
    assert run(parser, True, OK + b"\r\n" + OK + b"Content-Length: 0\r\n\r\n")[-1][0] == "complete"


def test_101_ends_http_in_both_directions():
    parser = HttpParser()
    run(parser, False, GET)
    assert run(parser, True, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n\0\0")[-1][0] == "tunnel"
    assert parser.feed(False, b"PRI") == ("tunnel", 0)


def test_junk_before_a_status_line_is_body():
    seen, state = response(b"\r\n \r\njunk\n" + OK + b"Content-Length: 1\r\n\r\na")
    assert seen["http.stat_code"] == b"200" and seen["file.data"] == b"junk\na" and "leading_junk" in state["events"]


@pytest.mark.parametrize("cut", [1, 7, 99, None])
def test_a_line_larger_than_the_head_is_what_its_first_bytes_say(cut):
    """However it is cut: body where no status line can be, a tunnel behind CONNECT, else the end of the parsing."""
    def direction(response, data, asked=GET):
        parser = HttpParser(head_size=100)
        run(parser, False, asked)
        return run(parser, response, data, cut), parser

    _, parser = direction(True, b"<html>" + bytes(300) + b"\n" + OK + b"Content-Length: 1\r\n\r\na")
    assert parser.buffers(True)["file.data"] == b"<html>" + bytes(300) + b"\na" and "head_full" not in parser.state(True)["events"]
    (*_, last), parser = direction(False, b"\x16\3\1" + b"x" * 300, b"CONNECT a:1 HTTP/1.1\r\n\r\n")
    assert last[0] == "tunnel" and parser.state(False)["events"] == {"upgrade"}
    (*_, last), parser = direction(False, b"GET /" + b"x" * 300)
    assert last[0] == "broken" and "head_full" in parser.state(False)["events"]


@pytest.mark.parametrize("cut", [1, 9, None])
def test_a_full_head_leaves_the_same_room_however_it_is_cut(cut):
    """What is derived from the line before the head was full is there or not, whatever the cut."""
    parser = HttpParser(head_size=64)
    run(parser, False, b"HEAD X-A: b\r\nA: " + b"x" * 99, cut)
    assert "http.uri" not in parser.buffers(False) and parser.state(False)["events"] >= {"head_full", "derived_full"}


def test_a_cut_stream():
    seen, state = response(OK + b"A: b\r\nContent-Le", close=True)
    assert seen["http.header"].startswith(b"A: b\r\n") and "body_cut" in state["events"]


def test_state_is_small():
    assert HttpParser().state_size < 4096
