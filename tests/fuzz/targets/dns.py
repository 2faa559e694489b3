"""DNS messages, as datagrams and as streams: the first byte chooses the room for texts, the second the cuts."""

from cuts import pieces
from guarded import Guarded
from test_fuzz_app import DNS_SEEDS, ROOMS

from tigerfox.dataplane.app.dns import ANSWERS, DNS_FAULTS, DnsParser, probe_dns

MEMORY = Guarded(16)
WORDS = [b"\xc0\x0c", b"\xc0\x0d", b"\x3f", b"\x40", b"\0\1\0\1", b"\0\x29", b"\0\5", b"\0\6", b"\0\x0f", b"\0\x10",
         b"\0\x21", b"\0\x1c", b"\x81\x80", b"\1\0", b"\0\x0c", b"\xff\xff"]


def seeds():
    return [bytes((room, 3)) + one for one in DNS_SEEDS for room in (5, 2)]


def check(data):
    if len(data) < 2:
        return
    room, seed, data = ROOMS[data[0] % len(ROOMS)], data[1], bytes(data[2:])
    view = MEMORY.at_the_end(data)
    one = DnsParser(room).datagram(view)
    assert one["answer"] in ANSWERS and one["fault"] in DNS_FAULTS
    assert all(len(text) <= min(1025, room) for text, _, _ in one["questions"])
    assert len(one["records"]) <= min(64, one["records_walked"])
    assert probe_dns(view) in ("yes", "no") and probe_dns(view, stream=True) in ("yes", "no", "more")
    whole, parser = DnsParser(room).feed(view), DnsParser(room)
    assert [found for piece in pieces(data, seed) for found in parser.feed(MEMORY.at_the_end(piece))] == whole
