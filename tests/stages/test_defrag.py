"""Fragments put together: every overlap, duplicate and gap, in both families, against RFC 791, 815, 5722 and 8200."""

import random
import struct

import pytest
from packets import DST4, SRC4, ah, extension, fragment6, icmp, ipv4, ipv6, tcp, udp

from tigerfox.dataplane.defrag import Reassembly
from tigerfox.dataplane.parse import parse_bytes

DATA = bytes(range(48))
OTHER = bytes(255 - value for value in DATA)


def part4(start, end, *, more=None, data=DATA, ident=9, proto=253, size=len(DATA), options=b""):
    """Bytes start to end of a datagram's ``data``; ``more`` unless it ends where the datagram does."""
    more = end < size if more is None else more
    return ipv4(proto, data[start:end], offset=start, flags=int(more), ident=ident, options=options)


def part6(start, end, *, more=None, data=DATA, ident=9, proto=253, size=len(DATA)):
    more = end < size if more is None else more
    return ipv6(44, fragment6(proto, data[start:end], offset=start, more=more, ident=ident))


def whole4(data=DATA):
    return ipv4(253, data, ident=9)


def whole6(data=DATA):
    return ipv6(253, data)


def fed(parts, now=0):
    """Reasons, what came out (or None), and the counters."""
    made = Reassembly()
    reasons, came = [], None
    for part in parts:
        reason, packet = made.add(part, now)
        reasons.append(reason)
        came = packet or came
    return reasons, came, made.counts


NONE = "none"
OVERLAP, END, LIMIT = "fragment_overlap", "fragment_end", "fragment_limit"

# description, (start, end, options) of each fragment, reason of each in IPv4, data that comes out, the same in IPv6
ROWS = [
    ("in order", [(0, 16), (16, 32), (32, 48)], [NONE] * 3, DATA, [NONE] * 3, DATA),
    ("backwards", [(32, 48), (16, 32), (0, 16)], [NONE] * 3, DATA, [NONE] * 3, DATA),
    ("middle last", [(0, 16), (32, 48), (16, 32)], [NONE] * 3, DATA, [NONE] * 3, DATA),
    ("a gap", [(0, 16), (24, 48)], [NONE] * 2, None, [NONE] * 2, None),
    ("no first", [(16, 32), (32, 48)], [NONE] * 2, None, [NONE] * 2, None),
    ("no last", [(0, 16), (16, 40)], [NONE] * 2, None, [NONE] * 2, None),
    ("the same twice", [(0, 16), (0, 16), (16, 48)], [NONE] * 3, DATA, [NONE] * 3, DATA),
    ("the last twice", [(16, 48), (16, 48), (0, 16)], [NONE] * 3, DATA, [NONE] * 3, DATA),
    ("inside, the same bytes", [(0, 32), (8, 16), (32, 48)], [NONE] * 3, DATA, [NONE] * 3, DATA),
    ("inside two that touch", [(0, 16), (16, 32), (8, 24), (32, 48)], [NONE] * 4, DATA, [NONE] * 4, DATA),
    ("overlap to the right, the same bytes", [(0, 24), (16, 48)], [NONE] * 2, DATA, [NONE, OVERLAP], None),
    ("overlap to the left, the same bytes", [(16, 48), (0, 24)], [NONE] * 2, DATA, [NONE, OVERLAP], None),
    ("around, the same bytes", [(16, 24), (8, 48), (0, 8)], [NONE] * 3, DATA, [NONE, OVERLAP, OVERLAP], None),
    ("overlap to the right, other bytes: the first copy holds", [(0, 24), (16, 48, OTHER)], [NONE, OVERLAP],
     DATA[:24] + OTHER[24:], [NONE, OVERLAP], None),
    ("overlap to the left, other bytes", [(16, 48), (0, 24, OTHER)], [NONE, OVERLAP], OTHER[:16] + DATA[16:],
     [NONE, OVERLAP], None),
    ("around, other bytes", [(16, 24), (8, 48, OTHER), (0, 8)], [NONE, OVERLAP, NONE],
     DATA[:8] + OTHER[8:16] + DATA[16:24] + OTHER[24:], [NONE, OVERLAP, OVERLAP], None),
    ("twice with other bytes", [(0, 16), (0, 16, OTHER), (16, 48)], [NONE, OVERLAP, NONE], DATA, [NONE, OVERLAP, OVERLAP], None),
    ("inside, other bytes", [(0, 32), (8, 16, OTHER), (32, 48)], [NONE, OVERLAP, NONE], DATA, [NONE, OVERLAP, OVERLAP], None),
    ("over two gaps, other bytes", [(8, 16), (24, 32), (0, 40, OTHER), (40, 48)], [NONE, NONE, OVERLAP, NONE],
     OTHER[:8] + DATA[8:16] + OTHER[16:24] + DATA[24:32] + OTHER[32:40] + DATA[40:], [NONE, NONE, OVERLAP, OVERLAP], None),
    ("a second end before the first", [(32, 48), (16, 24, None, False), (0, 16)], [NONE, END, END], None,
     [NONE, END, END], None),
    ("a second end behind the first", [(16, 24, None, False), (32, 48), (0, 16)], [NONE, END, END], None,
     [NONE, END, END], None),
    ("an end before what is there", [(32, 48, None, True), (16, 24, None, False)], [NONE, END], None, [NONE, END], None),
    ("beyond the end", [(16, 24, None, False), (24, 40, None, True), (0, 16)], [NONE, END, END], None, [NONE, END, END], None),
    ("more to come, but at the end", [(32, 48), (16, 48, None, True), (0, 16)], [NONE] * 3, DATA, [NONE, OVERLAP, OVERLAP], None),
]


@pytest.mark.parametrize("parts, reasons, data", [row[1:4] for row in ROWS], ids=[row[0] for row in ROWS])
def test_ipv4(parts, reasons, data):
    found, came, _ = fed([part4(start, end, data=(rest[0] if rest and rest[0] else DATA),
                                more=rest[1] if len(rest) > 1 else None) for start, end, *rest in parts])
    assert found == reasons
    assert came == (whole4(data) if data else None)


@pytest.mark.parametrize("parts, reasons, data", [(row[1], *row[4:]) for row in ROWS], ids=[row[0] for row in ROWS])
def test_ipv6(parts, reasons, data):
    found, came, _ = fed([part6(start, end, data=(rest[0] if rest and rest[0] else DATA),
                                more=rest[1] if len(rest) > 1 else None) for start, end, *rest in parts])
    assert found == reasons
    assert came == (whole6(data) if data else None)


def test_counters():
    assert fed([part4(0, 16), part4(0, 16), part4(8, 32, data=OTHER), part4(32, 48)])[2] == dict(
        completed=1, duplicates=1, overlaps=1, expired=0, displaced=0, rejected=0, used=0)


@pytest.mark.parametrize("other", [dict(ident=10), dict(proto=17)])
def test_ipv4_datagrams_are_told_apart(other):
    assert fed([part4(0, 16), part4(16, 48, **other)])[1:] == (None, {**fed([])[2], "used": 2})


def test_ipv6_datagrams_are_told_apart_by_identification_and_not_by_next_header():
    assert fed([part6(0, 16), part6(16, 48, ident=10)])[1] is None
    assert fed([part6(0, 16), part6(16, 48, proto=17)])[1] == whole6()


def test_other_addresses_make_another_datagram():
    strange = part4(16, 48).replace(SRC4 + DST4, DST4 + SRC4)
    assert fed([part4(0, 16), strange])[1] is None


def test_ipv4_middle_fragment_counts_to_the_last_multiple_of_eight_as_in_linux():
    odd = ipv4(253, DATA[:19], flags=1, ident=9)
    assert fed([odd, part4(16, 48)])[1] == whole4()


def test_ipv6_middle_fragment_that_is_no_multiple_of_eight_is_no_part():
    odd = ipv6(44, fragment6(253, DATA[:19], more=True, ident=9))
    assert fed([odd, part6(16, 48)])[1] is None


def test_fragments_without_data():
    assert fed([part4(0, 48, more=True), ipv4(253, offset=48, ident=9)])[1] == whole4()      # it says where the end is
    assert fed([part4(0, 16), ipv4(253, offset=16, flags=1, ident=9)])[2]["used"] == 1
    assert fed([ipv4(253, offset=16, flags=1, ident=9)])[2]["used"] == 0
    assert fed([part6(0, 48, more=True), ipv6(44, fragment6(253, offset=48, ident=9))])[1] is None


def test_beyond_65535_bytes_is_no_part():
    assert fed([ipv4(253, bytes(40), offset=65512, ident=9)])[2]["used"] == 0
    assert fed([ipv6(44, fragment6(253, bytes(40), offset=65512, ident=9))])[2]["used"] == 0


def test_longest_packets():
    tail = bytes(65515 - 65488)
    parts = [ipv4(253, bytes(8) * 4093, flags=1), ipv4(253, bytes(8) * 4093, flags=1, offset=32744), ipv4(253, tail, offset=65488)]
    made = Reassembly(65535)
    assert [made.add(part)[1] for part in parts[:2]] == [None, None]
    assert made.add(parts[2])[1] == ipv4(253, bytes(65515))
    long_header = ipv4(253, bytes(8) * 4093, flags=1, options=bytes([7, 8, 4]) + bytes(5))
    assert [made.add(part)[0] for part in (parts[2], parts[1], long_header)][-1] == "fragment_oversize"


def test_headers_are_those_of_the_first_fragment():
    options = b"\x94\x04\0\0"
    first = ipv4(253, DATA[:16], flags=1, ident=9, options=options, ttl=7, tos=4)
    assert fed([part4(16, 48), first])[1] == ipv4(253, DATA, ident=9, options=options, ttl=7, tos=4)
    dont = ipv4(253, DATA[:16], flags=3, ident=9)
    assert fed([part4(16, 48), dont])[1] == ipv4(253, DATA, ident=9, flags=2)


@pytest.mark.parametrize("before, chain", [
    (lambda data: extension(44, data), lambda data: (0, extension(253, data))),
    (lambda data: extension(60, extension(43, extension(44, data), size=24)),
     lambda data: (0, extension(60, extension(43, extension(253, data), size=24)))),
    (lambda data: extension(51, ah(44, data)), lambda data: (0, extension(51, ah(253, data)))),
])
def test_ipv6_headers_before_the_fragment_header_stay(before, chain):
    parts = [ipv6(0, before(fragment6(253, DATA[start:end], offset=start, more=end < 48))) for start, end in ((0, 16), (16, 48))]
    assert fed(parts)[1] == ipv6(*chain(DATA))


def test_ipv6_headers_behind_the_fragment_header_are_data():
    data = extension(17, udp(1, 53, bytes(32)))
    parts = [part6(start, start + 8, data=data, proto=60, size=len(data)) for start in range(0, len(data), 8)]
    assert parse_bytes(fed(parts)[1])["dport"] == 53


def test_ipv6_headers_too_long_to_keep():
    first = ipv6(0, extension(44, fragment6(253, DATA[:16], more=True, ident=9), size=256))
    assert fed([part6(16, 48), first, part6(16, 48)])[0] == [NONE, LIMIT, LIMIT]


def test_fragments_within_fragments_are_not_followed():
    """Linux discards them; whoever does not must not get them either."""
    nested = fragment6(17, udp(1, 53, bytes(32)), more=True, ident=3)
    parts = [part6(start, min(start + 16, len(nested)), data=nested, proto=44, size=len(nested)) for start in range(0, len(nested), 16)]
    assert fed(parts)[0][-1] == LIMIT


def test_lengths_that_contradict_the_packet_are_no_part():
    assert fed([ipv4(253, DATA[:16], flags=1, total=60)])[2]["used"] == 0
    assert fed([ipv6(44, fragment6(253, DATA[:16], more=True), length=60)])[2]["used"] == 0


def test_bytes_behind_the_packet_belong_to_nobody():
    assert fed([part4(0, 16) + OTHER, part4(16, 48)])[1] == whole4()


# What is kept, and what is not captured

def test_only_the_first_bytes_are_kept():
    data = random.Random(3).randbytes(4000)
    made = Reassembly(128)
    parts = [part4(start, min(start + 1480, 4000), data=data, size=4000) for start in (2960, 1480, 0)]
    came = [made.add(part)[1] for part in parts][-1]
    assert came == ipv4(253, data, ident=9)[:148]


def test_what_was_not_captured_ends_what_can_be_read():
    made = Reassembly(128)
    first, last = part4(0, 40), part4(40, 48)
    assert made.add(first[:60 - 16], wirelen=60) == (NONE, None)
    assert made.add(last) == (NONE, whole4()[:44])


def test_overlap_of_bytes_that_were_not_captured_is_not_compared_and_not_read():
    made = Reassembly(128)
    assert made.add(part4(0, 40)[:44], wirelen=60) == (NONE, None)
    assert made.add(part4(32, 48, data=OTHER)) == (NONE, whole4()[:44])


# Bounds and time

def test_a_datagram_waits_a_minute_and_no_longer():
    made = Reassembly()
    made.add(part4(0, 16), 1000)
    assert made.add(part4(16, 48), 1059)[1] == whole4()
    made.add(part4(0, 16), 2000)
    assert made.add(part4(16, 48), 2060)[1] is None
    assert made.counts["expired"] == 1 and made.counts["used"] == 1


def test_a_clock_that_is_set_back_does_not_keep_datagrams_for_ever():
    made = Reassembly()
    made.add(part4(0, 16), 100_000)
    made.add(part4(0, 16, ident=10), 1000)
    assert made.counts["expired"] == 1 and made.counts["used"] == 1


def test_the_oldest_gives_way_and_what_comes_of_it_later_is_refused():
    made = Reassembly()
    for ident in range(1025):
        assert made.add(part4(0, 16, ident=ident), 1000) == (NONE, None)
    assert made.counts["displaced"] == 1 and made.counts["used"] == 1024
    assert made.add(part4(16, 48, ident=0), 1059) == (LIMIT, None)
    assert made.counts["rejected"] == 1
    assert made.add(part4(16, 48, ident=1), 1059)[1] is not None
    assert made.add(part4(0, 16, ident=0), 1060) == (NONE, None)


def test_too_many_gaps_end_the_datagram():
    made = Reassembly()
    data = bytes(8 * 200)
    parts = [part4(start, start + 8, data=data, size=len(data)) for start in range(0, 8 * 130, 16)]
    reasons = [made.add(part)[0] for part in parts]
    assert reasons == [NONE] * 64 + [LIMIT]
    assert made.add(part4(8, 16, data=data, size=len(data)))[0] == LIMIT
    assert made.counts["rejected"] == 1


def test_memory_is_found_again_however_datagrams_end():
    made, dice = Reassembly(), random.Random(5)
    for turn in range(20_000):
        ident = dice.randrange(3000)
        start = dice.choice((0, 8, 16, 24, 32, 40))
        end = dice.randrange(start + 8, 49, 8)
        now = turn // 100 if turn < 10_000 else turn // 5
        made.add(part4(start, end, ident=ident, data=dice.choice((DATA, DATA, OTHER)), more=start == 0 or end < 48), now)
    counts = made.counts
    assert 0 < counts["used"] <= 1024 and counts["completed"] and counts["displaced"] and counts["expired"]
    for ident in range(5000, 6024):
        made.add(part4(0, 16, ident=ident), 10_000)
    assert made.counts["used"] == 1024
    assert all(made.add(part4(16, 48, ident=ident), 10_000)[1] for ident in range(5000, 6024))
    assert made.counts["used"] == 0


# Known attacks

def test_teardrop():
    """CVE-1997-0015: the second lies inside the first and ends before it."""
    parts = [ipv4(17, bytes(36), flags=1, ident=242), ipv4(17, bytes(4), offset=24, ident=242)]
    assert fed(parts)[0] == [NONE, END]


def test_rose():
    """A first and a last fragment, far apart, of ever new datagrams: memory does not grow, what had room is refused later."""
    made = Reassembly()
    for ident in range(4000):
        made.add(ipv4(17, bytes(8), flags=1, ident=ident), ident // 1000)
        made.add(ipv4(17, bytes(8), offset=64800, ident=ident), ident // 1000)
    assert made.counts["used"] == 1024 and made.counts["displaced"] >= 4000 - 1024 - 200


def test_jolt():
    """Fragments of one ping beyond 65,535 bytes."""
    made = Reassembly()
    data = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + bytes(372)
    came = [made.add(ipv4(1, data[:376], offset=offset, flags=1, ident=1))[1] for offset in range(0, 65160, 376)]
    assert came == [None] * len(came)
    assert made.add(ipv4(1, bytes(380), offset=65536 - 376 - 8, ident=1))[1] is None
    assert made.counts["completed"] == 0


def test_first_and_later_fragments_of_tcp_and_icmp_are_read_as_one():
    made = Reassembly()
    data = tcp(4000, 80, bytes(40))
    parts = [part4(start, min(start + 24, 60), data=data, size=60, proto=6) for start in (0, 24, 48)]
    assert parse_bytes([made.add(part)[1] for part in parts][-1])["dport"] == 80
    ping = icmp(8, 0, 3, 4, bytes(40))
    parts = [part4(start, start + 24, data=ping, proto=1) for start in (0, 24)]
    assert parse_bytes([made.add(part)[1] for part in parts][-1])["icmp_id"] == 3


def test_what_is_no_fragment_is_refused():
    with pytest.raises(ValueError, match="not a fragment"):
        Reassembly().add(ipv4(17, udp(1, 2)))
