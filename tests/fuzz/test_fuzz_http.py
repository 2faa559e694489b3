"""Any bytes in any cut: the HTTP parser stays in its memory, shows the same, gives its decoders back, and moves on."""

import gzip
import random
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from tigerfox.dataplane.app.httpparser import HttpParser
from tigerfox.dataplane.app.httpuri import normalise

PIECES = [
    b"GET ", b"POST ", b"HEAD ", b"CONNECT ", b"/a/../%2e%u0041?x=%41#f", b"http://u@Host:80/p", b" HTTP/1.1", b" HTTP/1.0", b"HTTP/1.1 ",
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 S\r\n\r\n", b"204 no", b"\r\n", b"\n", b"\r", b"\r\n\r\n",
    b" ", b"\t", b"\0", b":", b",", b"Host: a\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"Content-Encoding: deflate, gzip\r\n", b"Cookie: x\r\n", b"X-A: b\r\n",
    b" folded\r\n", b"5\r\nhello\r\n", b"0\r\n", b"0\r\n\r\n", b"3;e=x\r\nabc\r\n", b"ffffffff", b"hello", gzip.compress(b"hello hello"),
    zlib.compress(b"hello")[2:-4], zlib.compress(b"x" * 5000), b"\x1f\x8b\x08\x20\0\0\0\0\0\x03", b"\x1f\x8b\x08\xe8\0\0\0\0\0\x03na"]
pieces = st.one_of(st.sampled_from(PIECES), st.binary(max_size=12))
messages = st.lists(pieces, max_size=24).map(b"".join)
traffic = st.lists(st.tuples(st.booleans(), messages), max_size=6)
STARTS = (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n")


def look(parser, response):
    """All of a direction that a rule could see, in a form that can be compared."""
    state = parser.state(response)
    return state["transaction"], state["progress"], state["status"], state["body_total"], tuple(sorted(state["events"])), \
        tuple(sorted(parser.buffers(response).items()))


def play(flow, cuts, **sizes):
    """What is seen at every answer and at the end; `cuts` chooses the length of each piece."""
    parser, seen, ended = HttpParser(decoders=1, **sizes), ([], []), set()
    for response, data in flow:
        while data and response not in ended:
            piece = data[:cuts()]
            answer, taken = parser.feed(response, piece)
            assert taken == len(piece) or answer != "more"
            assert taken or answer != "more"
            data = data[taken:]
            if answer != "more":
                seen[response].append((answer, look(parser, response)))
            if answer in ("tunnel", "broken"):
                ended.add(response)
    for response in (False, True):
        seen[response].append(look(parser, response))
        seen[response].append((parser.close(response), look(parser, response)))
    assert parser.decoders_used() == 0
    return seen


@settings(max_examples=400, deadline=None)
@given(traffic, st.integers(0, 2**32), st.booleans())
def test_cut_does_not_matter(flow, seed, started):
    if started:
        flow = [(response, STARTS[response] + data) for response, data in flow]
    choose = random.Random(seed)
    whole = play(flow, lambda: 1 << 20)
    assert play(flow, lambda: 1) == whole
    assert play(flow, lambda: choose.randint(1, 9)) == whole


@settings(max_examples=200, deadline=None)
@given(traffic, st.integers(0, 300), st.integers(0, 40))
def test_small_memory_is_kept_to(flow, head, body):
    flow = [(response, STARTS[response] + data) for response, data in flow]
    seen = play(flow, lambda: 7, head_size=head, body_size=body)
    for side in seen:
        for one in side:
            for name, value in dict(one[-1] if len(one) == 6 else one[1][-1]).items():
                assert len(value) <= (body if name in ("file.data", "http.request_body", "http.response_body") else head)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([b"/", b".", b"..", b"%2e", b"%2f", b"\\", b"%u002e", b"\xc0\xae", b"?", b"#", b"http:", b"@", b"["]),
                          st.binary(max_size=4)), max_size=20).map(b"".join))
def test_normal_form_is_never_longer_and_stays(target):
    normal, _ = normalise(target)
    assert len(normal) <= len(target)
    path = normal.split(b"?")[0].split(b"#")[0]
    if path.startswith(b"/"):
        assert b"/../" not in path and b"/./" not in path
