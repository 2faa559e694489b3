"""HTTP messages that are whole in one packet are read in the worker's draft: rules see what they see of any other message.

Another connection speaks between any two packets, so what stood in the draft is gone by then.
"""

import gzip

import pytest
from connections import ESTABLISHED, Ends
from test_fast import Run, frame

RULES = [
    'alert http any any -> any any (flow:to_client; file.data; content:"left|0d 0a|right"; sid:1;)',
    'alert http any any -> any any (flow:to_client; http.header; content:"X-One|3a| 1"; file.data; content:"right"; fast_pattern; sid:2;)',
    'alert http any any -> any any (flow:to_client; http.stat_code; content:"200"; file.data; content:"le"; depth:2; sid:3;)',
    'alert http any any -> any any (flow:to_server; http.uri; content:"/second"; http.header; content:"X-Two"; sid:4;)',
    'alert http any any -> any any (flow:to_server; http.request_body; content:"left|0d 0a|right"; sid:5;)',
    'alert http any any -> any any (flow:to_client; file.data; content:"foreign"; sid:6;)',
    'alert http any any -> any any (flow:to_server; http.uri; content:"/foreign"; sid:7;)',
]
GET = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: a\r\nX-Two: 2\r\n\r\n"
OTHER_GET = b"GET /other HTTP/1.1\r\nHost: foreign\r\nX-Other: foreign\r\n\r\n"
OTHER_OK = b"HTTP/1.1 404 Not Found\r\nX-Other: foreign\r\nContent-Length: 64\r\n\r\n" + b"other " * 10 + b"done"


def response(body, head=b"X-One: 1\r\n"):
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)


def chunked(*pieces):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nX-One: 1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


PACKED = gzip.compress(b"left")

# description, what is said (side, bytes of one packet), sids that match
TALKS = [
    ("a response", [("c", GET), ("s", response(b"left\r\nright"))], {1, 2, 3}),
    ("more behind its end", [("c", GET), ("s", response(b"left")), ("s", b"\r\nright\n")], {1, 2, 3}),
    ("more behind its end and a packet of blanks", [("c", GET), ("s", response(b"left")), ("s", b"\r\n"), ("s", b"right\n")],
     {1, 2, 3}),
    ("more, and the next response behind it", [("c", GET + SECOND), ("s", response(b"left")), ("s", b"\r\nright\n"),
                                               ("s", response(b"nothing", b""))], {1, 2, 3, 4}),
    ("more behind more", [("c", GET), ("s", response(b"le")), ("s", b"ft\r\n"), ("s", b"right\n")], {1, 2, 3}),
    ("more behind two responses in a packet", [("c", GET + SECOND), ("s", response(b"nothing", b"") + response(b"left")),
                                               ("s", b"\r\nright\n")], {1, 2, 3, 4}),
    ("more behind chunks", [("c", GET), ("s", chunked(b"le", b"ft")), ("s", b"\r\nright\n")], {1, 2, 3}),
    ("more behind what was packed", [("c", GET), ("s", response(PACKED, b"X-One: 1\r\nContent-Encoding: gzip\r\n")),
                                     ("s", b"\r\nright\n")], {1, 2, 3}),
    ("more behind a response that nobody asked for", [("s", response(b"left")), ("s", b"\r\nright\n")], {1, 2, 3}),
    ("more behind an interim response", [("c", GET), ("s", b"HTTP/1.1 103 Early\r\n\r\n" + response(b"left")), ("s", b"\r\nright\n")],
     {1, 2, 3}),
    ("more behind a response that the stream lets go of", [("c", GET), ("s", response(b"left" + b"." * 5000)), ("s", b"right\n")],
     {2, 3}),
    ("a head in two packets", [("c", GET), ("s", response(b"left\r\nright")[:25]), ("s", response(b"left\r\nright")[25:])], {1, 2, 3}),
    ("a body in two packets", [("c", GET), ("s", response(b"left\r\nright")[:-7]), ("s", response(b"left\r\nright")[-7:])], {1, 2, 3}),
    ("a response and half of the next", [("c", GET + SECOND), ("s", response(b"nothing", b"") + response(b"left\r\nright")[:-7]),
                                         ("s", response(b"left\r\nright")[-7:])], {1, 2, 3, 4}),
    ("requests, one cut in its head", [("c", GET + SECOND[:30]), ("c", SECOND[30:])], {4}),
    ("a request's body in three packets", [("c", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nle"), ("c", b"ft\r\nri"),
                                           ("c", b"ght")], {5}),
]


def packets(talk):
    """The talk, and between its packets an exchange of another connection."""
    ends, other = Ends(), Ends(client=bytes([10, 0, 0, 9]), sport=41000)
    high, far = {"c": 1001, "s": 5001}, {"c": 1001, "s": 5001}
    found = [ends.packet(*one) for one in ESTABLISHED] + [other.packet(*one) for one in ESTABLISHED]
    for side, data in talk:
        found.append(ends.packet(side, "PA", high[side], high["s" if side == "c" else "c"], data))
        high[side] += len(data)
        for speaker, said in (("c", OTHER_GET), ("s", OTHER_OK)):
            found.append(other.packet(speaker, "PA", far[speaker], far["s" if speaker == "c" else "c"], said))
            far[speaker] += len(said)
    return found


def matched(folder, talk):
    folder.mkdir()
    return {sid for kind, _, sid in Run(folder, [frame(one) for one in packets(talk)], RULES).events() if kind == 1}


@pytest.mark.parametrize(("talk", "sids"), [row[1:] for row in TALKS], ids=[row[0] for row in TALKS])
def test_rules_see_a_message_however_it_came(talk, sids, tmp_path):
    bytewise = [(side, data[at:at + 1]) for side, data in talk if len(data) < 1000 for at in range(len(data))]
    assert matched(tmp_path / "as it came", talk) == sids
    if len(bytewise) == sum(len(data) for _, data in talk):
        assert matched(tmp_path / "byte by byte", bytewise) == sids
