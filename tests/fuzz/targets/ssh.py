"""The version line of one direction of SSH; the first byte chooses the cuts."""

from cuts import pieces
from test_ssh import COMPLETE, MORE, NOT_THIS, ROWS

from tigerfox.dataplane.app.ssh import feed

WORDS = [b"SSH-", b"-", b"\r\n", b"\n", b" ", b"2.0", b"1.99", b"SSH-2.0-"]


def seeds():
    return [b"\3" + data for _, data, *_ in ROWS]


def check(data):
    if not data:
        return
    data, seed = bytes(data[1:]), data[0]
    found = feed([data])
    assert feed([bytes(piece) for piece in pieces(data, seed)]) == found
    answer, proto, software = found
    assert answer in (MORE, COMPLETE, NOT_THIS)
    assert bool(proto) == (answer == COMPLETE)
    assert len(proto) + len(software) < 255
    assert answer != COMPLETE or b"SSH-" + proto + b"-" + software in data
