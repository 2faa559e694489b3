"""DNS messages, as datagrams and as streams: the first byte chooses the room for texts, the second the cuts."""

from cuts import pieces
from guarded import Guarded
from test_fuzz_app import DNS_SEEDS, ROOMS, check_dns_bytes

MEMORY = Guarded(16)
WORDS = [b"\xc0\x0c", b"\xc0\x0d", b"\x3f", b"\x40", b"\0\1\0\1", b"\0\x29", b"\0\5", b"\0\6", b"\0\x0f", b"\0\x10",
         b"\0\x21", b"\0\x1c", b"\x81\x80", b"\1\0", b"\0\x0c", b"\xff\xff"]


def seeds():
    return [bytes((room, 3)) + one for one in DNS_SEEDS for room in (5, 2)]


def check(data):
    if len(data) < 2:
        return
    room, seed, data = ROOMS[data[0] % len(ROOMS)], data[1], bytes(data[2:])
    check_dns_bytes(MEMORY.at_the_end(data), room, (MEMORY.at_the_end(piece) for piece in pieces(data, seed)))
