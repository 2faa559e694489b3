"""Both directions of an HTTP connection: the first two bytes choose sizes and cuts, MARK changes the direction.

However the bytes are cut, the same is seen; buffers stay within their sizes; decoders come back.
"""

import random

from cuts import pieces
from guarded import Guarded

from tigerfox.dataplane.app.httpparser import HttpParser, probe
from tigerfox.dataplane.app.httpuri import normalise
from test_fuzz_http import PIECES, look

MARK = b"\xfe\xff"
SIZES = ((16384, 102400), (16384, 102400), (4096, 2048), (300, 40), (1, 1), (0, 0), (65535, 4096), (64, 100_000))
BODIES = ("file.data", "http.request_body", "http.response_body")
WORDS = [MARK, *PIECES]
MEMORY = Guarded(16)


def seeds():
    chance = random.Random(5)
    asked = b"GET /a/../b?x=%41 HTTP/1.1\r\nHost: a.example:80\r\nCookie: x=1\r\nAccept: */*\r\nUser-Agent: u\r\nReferer: r\r\n\r\n"
    sent = b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;e=x\r\nhello\r\n0\r\nT: x\r\n\r\n"
    made = [b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.0 200 OK\r\n\r\nuntil the end"]
    for coding, body in ((b"gzip", PIECES[-6]), (b"deflate", PIECES[-5]), (b"gzip", PIECES[-2]), (b"gzip", PIECES[-1])):
        made.append(b"HTTP/1.1 200 OK\r\nContent-Encoding: " + coding + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    found = [b"\0\3" + asked + MARK + one for one in made] + [b"\1\2" + sent + asked + MARK + made[0] + made[0]]
    found.append(b"\0\1CONNECT a:1 HTTP/1.1\r\n\r\n" + MARK + b"HTTP/1.1 200 OK\r\n\r\n" + MARK + asked)
    return found + [bytes((n % 8, n)) + b"".join(chance.choices(PIECES + [MARK], k=12)) for n in range(60)]


def play(flow, cut, head, body):
    """What is seen at every answer and at the end; `cut` makes pieces of a side's bytes."""
    parser, seen, ended = HttpParser(head_size=head, body_size=body, decoders=1), ([], []), set()
    for response, data in flow:
        left = [piece for piece in cut(data) if piece]
        while left and response not in ended:
            answer, taken = parser.feed(response, MEMORY.at_the_end(left[0]))
            assert taken == len(left[0]) or answer != "more", (answer, taken)
            assert taken <= len(left[0])
            left[:1] = [left[0][taken:]] if taken < len(left[0]) else []
            if answer != "more":
                seen[response].append((answer, bounded(look(parser, response), head, body)))
            if answer in ("tunnel", "broken"):
                ended.add(response)
    for response in (False, True):
        seen[response].append(bounded(look(parser, response), head, body))
        seen[response].append((parser.close(response), bounded(look(parser, response), head, body)))
    assert parser.decoders_used() == 0
    return seen


def bounded(looked, head, body):
    for name, value in looked[-1]:
        assert len(value) <= (body if name in BODIES else head), (name, len(value))
    return looked


def check(data):
    if len(data) < 2:
        return
    data = bytes(data)
    head, body = SIZES[data[0] % len(SIZES)]
    parts = data[2:].split(MARK)
    flow = [(bool(place & 1), part) for place, part in enumerate(parts)]
    whole = play(flow, lambda part: [part], head, body)
    cut = play(flow, lambda part: pieces(part, data[1]), head, body)
    assert cut == whole, (whole, cut)
    for part in parts[:2]:
        probe(part), probe(part, True)
    normal, _ = normalise(parts[0])
    assert len(normal) <= len(parts[0])
    path = normal.split(b"?")[0].split(b"#")[0]
    assert not path.startswith(b"/") or b"/../" not in path and b"/./" not in path, normal
