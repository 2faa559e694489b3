"""One direction of a TLS connection, and the certificates in it: the first byte chooses the room, the second the cuts."""

import tempfile
from pathlib import Path

from cuts import pieces
from guarded import Guarded
from test_fuzz_app import ANSWERS, ROOMS
from test_fuzz_app import seeds as messages

from tigerfox.dataplane.app.tls import TLS_FAULTS, TlsParser, probe_tls
from tigerfox.dataplane.app.x509 import X509_FAULTS, certificate_text

MEMORY = Guarded(16)
WORDS = [b"\x16\3\1", b"\x16\3\3", b"\x0b\0", b"\1\0\0", b"\2\0\0", b"\0\0", b"\0\x10", b"\0\x2b", b"\0\x0a", b"\0\x0b",
         b"\x30\x82", b"\x30\x80", b"\x31", b"\x06\3\x55\4\3", b"\x06\3\x55\4\x0a", b"\x0c", b"\x13", b"\x1e", b"\x1c",
         b"\x17\x0d", b"\x18\x0f", b"\xa0\3\2\1\2", b"\x02\1", b"\x80\x2e\1", b"\x14\3\3\0\1\1", b"\x15\3\3\0\2"]


def seeds():
    with tempfile.TemporaryDirectory() as folder:
        found = messages(Path(folder))
    return [b"\5\3" + one for one in found] + [b"\5\x83" + one[one.find(b"\x30\x82"):] for one in found if b"\x30\x82" in one]


def feed(parts, room):
    """The last answer, and what is known after all parts."""
    parser, answer = TlsParser(room), "need_more"
    for part in parts:
        answer = parser.feed(MEMORY.at_the_end(part))
    return answer, parser.fields()


def check(data):
    if len(data) < 2:
        return
    room, seed, data = ROOMS[data[0] % len(ROOMS)], data[1], bytes(data[2:])
    if seed & 0x80:
        assert certificate_text(MEMORY.at_the_end(data), room)["fault"] in X509_FAULTS
        return
    assert probe_tls(MEMORY.at_the_end(data)) in ("yes", "no", "more")
    answer, fields = feed([data] if data else [], room)
    assert feed(pieces(data, seed), room) == (answer, fields)
    assert answer in ANSWERS and fields["fault"] in TLS_FAULTS and fields["x509_fault"] < len(X509_FAULTS)
    assert len(fields["sni"]) <= 255 and len(fields["ja3_hash"]) in (0, 32) and len(fields["fingerprint"]) in (0, 59)
    for der in fields["certs"]:
        assert certificate_text(MEMORY.at_the_end(der), room)["fault"] in X509_FAULTS
