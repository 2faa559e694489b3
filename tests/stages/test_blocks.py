"""The block table: scopes, expiry, full buckets, collisions, damaged files, and several processes at once."""

import ipaddress
import os
import random
import signal
import struct
import sys
import time

import pytest

from tigerfox.dataplane.blockbulk import copy_blocks, insert_packed, lookup_packed, read_blocks
from tigerfox.dataplane.blocks import NEVER, Blocks
from tigerfox.errors import SharedMemoryError

NOW = 1_800_000_000
STATE = 128                      # offsets of the layout in blocks.pyx
TAGS = 320
LINE = 64
BUCKET = 31


def address(number):
    return str(ipaddress.IPv4Address(0x0A000000 + number))


def packed(numbers):
    """FlowTuples of IPv4 packets from 10.0.0.0 + number to 192.0.2.1."""
    return b"".join(struct.pack(">I12s4s12sHHBBH", 0x0A000000 + n, b"", bytes([192, 0, 2, 1]), b"", 0, 0, 6, 4, 0) for n in numbers)


def in_child(work, *arguments):
    """Fork; the child runs work(*arguments) and ends with 0, or with 1 when it raised. Returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work(*arguments)
        status = 0
    except BaseException as error:
        sys.stderr.write(f"child: {error!r}\n")
    finally:
        os._exit(status)


def ended_well(*pids):
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * len(pids)


A4, B4, C4 = "192.0.2.7", "198.51.100.9", "203.0.113.1"
A6, B6, C6 = "2001:db8::7", "2001:db8::9", "2001:db8:1::1"

# entry; packet (src, dst, sport, dport, proto); blocked?
MATCHES = [
    (("source", A4), (A4, B4, 1, 2, 6), True),
    (("source", A4), (B4, A4, 1, 2, 6), False),
    (("source", A4), (C4, B4, 1, 2, 6), False),
    (("destination", "", B4), (A4, B4, 1, 2, 17), True),
    (("destination", "", B4), (B4, A4, 1, 2, 17), False),
    (("pair", A4, B4), (A4, B4, 1, 2, 6), True),
    (("pair", A4, B4), (B4, A4, 7, 8, 17), True),
    (("pair", A4, B4), (A4, C4, 1, 2, 6), False),
    (("connection", A4, B4, 1000, 80, 6), (A4, B4, 1000, 80, 6), True),
    (("connection", A4, B4, 1000, 80, 6), (B4, A4, 80, 1000, 6), True),
    (("connection", A4, B4, 1000, 80, 6), (A4, B4, 80, 1000, 6), False),
    (("connection", A4, B4, 1000, 80, 6), (A4, B4, 1000, 80, 17), False),
    (("connection", A4, B4, 1000, 80, 6), (A4, B4, 1001, 80, 6), False),
    (("connection", A4, A4, 1000, 80, 6), (A4, A4, 80, 1000, 6), True),
    (("source", A6), (A6, B6, 1, 2, 6), True),
    (("source", A6), (B6, A6, 1, 2, 6), False),
    (("destination", "", B6), (A6, B6, 1, 2, 6), True),
    (("pair", B6, A6), (A6, B6, 1, 2, 58), True),
    (("connection", B6, A6, 443, 5000, 6), (A6, B6, 5000, 443, 6), True),
    (("source", "10.1.2.3"), ("a01:203::", C6, 0, 0, 6), False),      # the same 16 bytes, another version
]


@pytest.mark.parametrize("entry, packet, blocked", MATCHES)
def test_scopes(entry, packet, blocked):
    blocks = Blocks.create(None, 1000)
    assert blocks.insert(*entry, sid=42, now=NOW) == 1
    assert blocks.lookup(*packet, now=NOW) == ((entry[0], 42) if blocked else None)


def test_lookup_in_all_scopes_and_the_first_that_holds():
    blocks = Blocks.create(None, 1000)
    blocks.insert("pair", A4, B4, sid=4, now=NOW)
    blocks.insert("destination", "", B4, sid=3, now=NOW)
    blocks.insert("source", A4, sid=2, now=NOW)
    blocks.insert("connection", A4, B4, 1, 2, 6, sid=1, now=NOW)
    assert blocks.lookup(A4, B4, 1, 2, 6, now=NOW) == ("connection", 1)
    assert blocks.lookup(A4, C4, 1, 2, 6, now=NOW) == ("source", 2)
    assert blocks.lookup(C4, B4, 1, 2, 6, now=NOW) == ("destination", 3)
    assert blocks.lookup(B4, A4, 9, 9, 6, now=NOW) == ("pair", 4)
    assert [blocks.counters()[f"used_{scope}"] for scope in ("connection", "source", "destination", "pair")] == [1, 1, 1, 1]


def test_expiry_prolonging_and_sweep():
    blocks = Blocks.create(None, 1000)
    assert blocks.insert("source", A4, expires=NOW + 10, sid=1, now=NOW) == 1
    assert blocks.lookup(A4, B4, now=NOW + 9)
    assert blocks.lookup(A4, B4, now=NOW + 10) is None
    assert blocks.insert("source", A4, expires=NOW + 20, sid=9, now=NOW + 1) == 2
    assert blocks.lookup(A4, B4, now=NOW + 19) == ("source", 1)
    assert blocks.insert("source", A4, expires=NOW + 15, now=NOW + 1) == 2, "never shorter"
    assert blocks.lookup(A4, B4, now=NOW + 19)
    assert list(blocks.entries(now=NOW + 20)) == []
    assert len(blocks) == 1
    assert blocks.sweep(now=NOW + 20) == 1
    assert len(blocks) == 0
    assert blocks.insert("source", A4, expires=NOW + 5, now=NOW + 5) == 0, "in the past"
    counters = blocks.counters()
    assert (counters["inserted"], counters["prolonged"], counters["expired"]) == (1, 1, 1)


def test_never_expires_and_can_be_removed():
    blocks = Blocks.create(None, 1000)
    blocks.insert("source", A4, now=NOW)
    assert blocks.lookup(A4, B4, now=0xfffffffe)
    assert blocks.sweep(now=0xfffffffe) == 0
    assert blocks.remove("source", A4)
    assert not blocks.remove("source", A4)
    assert blocks.lookup(A4, B4, now=NOW) is None
    assert len(blocks) == 0


def test_an_expired_entry_comes_back_as_a_new_one():
    blocks = Blocks.create(None, 1000)
    blocks.insert("source", A4, expires=NOW + 1, sid=1, now=NOW)
    assert blocks.insert("source", A4, expires=NOW + 50, sid=2, now=NOW + 10) == 1
    (record,) = blocks.entries(now=NOW + 10)
    assert (record.sid, record.since, record.expires) == (2, NOW + 10, NOW + 50)
    assert len(blocks) == 1


def test_hits_are_counted_where_the_table_may_be_written(tmp_path):
    blocks = Blocks.create(str(tmp_path / "t"), 1000)
    blocks.insert("source", A4, now=NOW)
    for _ in range(3):
        blocks.lookup(A4, B4, now=NOW)
    reader = Blocks.open(str(tmp_path / "t"))
    assert reader.lookup(A4, B4, now=NOW)
    assert [record.hits for record in reader.entries(now=NOW)] == [3]
    with pytest.raises(SharedMemoryError, match="writable=True"):
        reader.insert("source", B4)


def same_place(count):
    """A table of one bucket, and two addresses of the same bucket and tag."""
    blocks = Blocks.create(None, 16)
    seen = {}
    for number in range(count):
        place = blocks.place("source", address(number))
        if place in seen:
            return blocks, seen[place], address(number)
        seen[place] = address(number)
    raise AssertionError("no two of these addresses share a tag")


def test_keys_of_one_bucket_and_tag_are_told_apart():
    blocks, first, second = same_place(20000)
    assert blocks.place("source", first) == blocks.place("source", second)
    blocks.insert("source", first, sid=1, now=NOW)
    assert blocks.lookup(second, A4, now=NOW) is None
    blocks.insert("source", second, sid=2, now=NOW)
    assert blocks.lookup(first, A4, now=NOW) == ("source", 1)
    assert blocks.lookup(second, A4, now=NOW) == ("source", 2)
    assert blocks.remove("source", first)
    assert blocks.lookup(first, A4, now=NOW) is None
    assert blocks.lookup(second, A4, now=NOW) == ("source", 2)


def test_in_a_full_table_what_expires_first_gives_way():
    blocks = Blocks.create(None, 16)
    for number in range(16):
        blocks.insert("source", address(number), expires=NOW + 1000 + number, now=NOW)
    assert blocks.insert("source", address(99), expires=NOW + 100, now=NOW) == 1
    assert blocks.lookup(address(0), A4, now=NOW) is None
    assert all(blocks.lookup(address(number), A4, now=NOW) for number in [*range(1, 16), 99])
    counters = blocks.counters()
    assert (counters["used"], counters["size"], counters["displaced"], counters["rejected"]) == (16, 16, 1, 0)


def test_what_is_there_for_ever_does_not_give_way():
    blocks = Blocks.create(None, 16)
    answers = [blocks.insert("source", address(number), now=NOW) for number in range(100)]
    assert answers == [1] * blocks.slots + [0] * (100 - blocks.slots)
    assert blocks.counters()["rejected"] == 100 - blocks.slots
    assert blocks.counters()["displaced"] == 0


def test_an_expired_entry_gives_way_without_being_called_displaced():
    blocks = Blocks.create(None, 16)
    for number in range(16):
        blocks.insert("source", address(number), expires=NOW + (1 if number == 7 else 1000), now=NOW)
    assert blocks.insert("source", address(99), now=NOW + 5) == 1
    assert (blocks.counters()["displaced"], blocks.counters()["expired"]) == (0, 1)


def test_filled_to_capacity_nothing_is_lost():
    blocks = Blocks.create(None, 20000)
    assert insert_packed(blocks, "source", packed(range(20000))) == 0
    assert lookup_packed(blocks, packed(range(20000))) == 20000
    assert lookup_packed(blocks, packed(range(20000)), batched=False) == 20000
    assert lookup_packed(blocks, packed(range(20000, 40000))) == 0
    assert blocks.counters()["displaced"] == 0
    assert {record.src for record in blocks.entries()} == {address(number) for number in range(20000)}
    for number in range(0, 20000, 2):
        assert blocks.remove("source", address(number))
    assert lookup_packed(blocks, packed(range(20000))) == 10000
    assert blocks.flush() == 10000
    assert len(blocks) == 0
    assert lookup_packed(blocks, packed(range(20000))) == 0


def test_overflow_counts_go_back_to_nothing(tmp_path):
    """Entries that went past full buckets are found, and leave no trace when they are gone."""
    path = tmp_path / "t"
    blocks = Blocks.create(str(path), 20_000)
    insert_packed(blocks, "source", packed(range(20_000)))
    lines = path.read_bytes()[TAGS : TAGS + LINE * (blocks.slots // BUCKET)]
    assert any(struct.unpack_from("<H", lines, place + 62)[0] for place in range(0, len(lines), LINE))
    assert lookup_packed(blocks, packed(range(20_000))) == 20_000
    blocks.flush()
    assert set(path.read_bytes()[TAGS : TAGS + len(lines)]) == {0}


def test_copy_keeps_cause_time_and_hits():
    one, other = Blocks.create(None, 100), Blocks.create(None, 5000)
    one.insert("pair", A4, B4, expires=NOW + 100, sid=77, now=NOW)
    one.insert("source", A6, sid=78, now=NOW)
    one.insert("source", B6, expires=NOW + 1, now=NOW)
    one.lookup(A4, B4, now=NOW)
    assert copy_blocks(one, other, now=NOW + 10) == (2, 0)
    assert sorted(one.entries(now=NOW + 10)) == sorted(other.entries(now=NOW + 10))
    assert {record.hits for record in other.entries(now=NOW + 10)} == {0, 1}


# The text form

TEXT = """
# comment
192.0.2.1
2001:db8::1   # behind
source 192.0.2.2 expires=never sid=5
destination 192.0.2.3 expires=1800000100
pair 192.0.2.5 192.0.2.4
connection udp 192.0.2.7 53 192.0.2.6 5353 since=7 hits=8
connection 132 192.0.2.7 1 192.0.2.6 2
source 192.0.2.8 expires=1799999999\r
"""


def test_text_is_read_line_by_line():
    blocks = Blocks.create(None, 1000)
    result = read_blocks(TEXT.encode(), blocks, sid=9, now=NOW)
    assert (result.lines, result.entries, result.inserted, result.expired, result.bad) == (10, 8, 7, 1, 0)
    found = {(record.scope, record.src, record.dst, record.sport, record.dport, record.proto, record.sid)
             for record in blocks.entries(NOW)}
    assert ("source", "192.0.2.1", "", 0, 0, 0, 9) in found
    assert ("source", "2001:db8::1", "", 0, 0, 0, 9) in found
    assert ("source", "192.0.2.2", "", 0, 0, 0, 5) in found
    assert ("destination", "192.0.2.3", "", 0, 0, 0, 9) in found
    assert ("pair", "192.0.2.4", "192.0.2.5", 0, 0, 0, 9) in found
    assert blocks.lookup("192.0.2.6", "192.0.2.7", 5353, 53, 17, now=NOW) == ("connection", 9)
    assert {(record.since, record.hits) for record in blocks.entries(NOW) if record.proto == 17} == {(7, 9)}


BAD_LINES = ["x", "192.0.2.256", "192.0.2.0/24", "source", "pair 192.0.2.1", "pair 192.0.2.1 ::1",
             "connection tcp 192.0.2.1 1 192.0.2.2",
             "connection icmp 192.0.2.1 1 192.0.2.2 2", "connection tcp 192.0.2.1 65536 192.0.2.2 2", "192.0.2.1 expires=soon",
             "192.0.2.1 sid=4294967296", "192.0.2.1 sid=-1", "192.0.2.1 sid=", "192.0.2.1 who=me", "192.0.2.1 192.0.2.2",
             "a" * 500, "\0", "1.2.3.4\0"]


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_lines_are_named(line):
    blocks = Blocks.create(None, 1000)
    result = read_blocks(f"192.0.2.77\n{line}\n192.0.2.78".encode(), blocks)
    assert [number for number, _ in result.errors] == [2]
    assert (result.bad, result.inserted, result.lines) == (1, 2, 3)


def test_random_text_never_breaks_the_reader():
    chooser = random.Random(7)
    pieces = ["source", "pair", "connection", "tcp", "192.0.2.1", "::1", "expires=", "=", "never", "\n", " ", "#", "\0", "65535",
              "sid=1", "/"]
    for _ in range(2000):
        text = "".join(chooser.choice(pieces) + chooser.choice(["", " "]) for _ in range(chooser.randrange(12)))
        result = read_blocks(text.encode(), Blocks.create(None, 16))
        assert result.bad + result.entries <= result.lines == text.count("\n") + (bool(text) and not text.endswith("\n"))


# Damaged files

DAMAGE = [
    (0, b"GARBAGE!", "not a TigerFox file"),
    (8, struct.pack("<I", 2), "not a TigerFox file of kind"),
    (12, struct.pack("<I", 999), "layout 999"),
    (16, struct.pack("<Q", 5), "its header says 5"),
    (STATE, struct.pack("<Q", 1 << 40), "buckets do not fit"),
    (STATE, struct.pack("<Q", 0), "buckets do not fit"),
]


@pytest.mark.parametrize("offset, content, message", DAMAGE)
def test_a_damaged_header_is_refused(tmp_path, offset, content, message):
    path = tmp_path / "t"
    Blocks.create(str(path), 1000)
    with open(path, "r+b") as stream:
        stream.seek(offset)
        stream.write(content)
    with pytest.raises(SharedMemoryError, match=message):
        Blocks.open(str(path))


@pytest.mark.parametrize("length", [0, 127, 128, 200, 320, 5000])
def test_a_file_cut_short_is_refused(tmp_path, length):
    path = tmp_path / "t"
    Blocks.create(str(path), 1000)
    os.truncate(path, length)
    with pytest.raises(SharedMemoryError):
        Blocks.open(str(path))


def use_everything(path):
    blocks = Blocks.open(path, writable=True)
    lookup_packed(blocks, packed(range(3000)))
    insert_packed(blocks, "source", packed(range(3000)), expires=NOW + 99, now=NOW)
    for scope in ("source", "destination", "pair", "connection"):
        blocks.insert(scope, A4, B4, 1, 2, 6, now=NOW)
        blocks.remove(scope, A4, B4, 1, 2, 6)
    assert len(list(blocks.entries(now=NOW))) <= blocks.slots
    blocks.counters()
    copy_blocks(blocks, Blocks.create(None, 100), now=NOW)
    blocks.flush()


@pytest.mark.parametrize("seed", range(8))
def test_garbage_behind_the_header_crashes_nobody(tmp_path, seed):
    path = tmp_path / "t"
    size = os.path.getsize(Blocks.create(str(path), 1000).path)
    chooser = random.Random(seed)
    with open(path, "r+b") as stream:
        for _ in range(400 if seed % 2 else 1):
            stream.seek(chooser.randrange(STATE + 8, size - 64))
            stream.write(chooser.randbytes(64))
        if seed % 2 == 0:
            stream.seek(STATE + 8)
            stream.write(chooser.randbytes(size - STATE - 8))
    assert ended_well(in_child(use_everything, str(path)))


# Several processes

def test_what_one_process_inserts_all_others_see(tmp_path):
    path = str(tmp_path / "t")
    mine = Blocks.create(path, 100_000)
    parts = [range(start, start + 10_000) for start in range(0, 40_000, 10_000)]
    pids = [in_child(insert_packed, Blocks.open(path, writable=True), "source", packed(part)) for part in parts]
    assert ended_well(*pids)
    assert lookup_packed(mine, packed(range(40_000))) == 40_000
    assert mine.counters()["used_source"] == mine.counters()["inserted"] == 40_000


def test_the_same_keys_from_many_processes_give_one_entry_each(tmp_path):
    path = str(tmp_path / "t")
    mine = Blocks.create(path, 20_000)
    flows = packed(range(15_000))

    def insert(expires):
        insert_packed(Blocks.open(path, writable=True), "source", flows, expires=expires, now=NOW)

    for _ in range(5):
        assert ended_well(*[in_child(insert, NOW + 100 * turn) for turn in (3, 1, 4, 2)])
        records = list(mine.entries(now=NOW))
        assert len({record.src for record in records}) == len(records) == 15_000 == len(mine)
        assert {record.expires for record in records} == {NOW + 400}
        assert mine.flush() == 15_000


def test_a_reader_never_gets_the_cause_of_another_entry(tmp_path):
    """A writer reuses the slots of a tiny table all the time; sid and address always belong together."""
    path = str(tmp_path / "t")
    mine = Blocks.create(path, 16)
    count = 64

    def churn():
        writer = Blocks.open(path, writable=True)
        while True:
            for number in range(count):
                writer.insert("source", address(number), sid=number + 1, expires=NOW + 1000 + number % 7, now=NOW)
                writer.remove("source", address(number - 8 if number > 8 else 0))

    pids = [in_child(churn) for _ in range(2)]
    try:
        found = 0
        for turn in range(60_000):
            number = turn % count
            answer = mine.lookup(address(number), A4, now=NOW)
            assert answer in (None, ("source", number + 1))
            found += answer is not None
        listed = [record for _ in range(300) for record in mine.entries(now=NOW)]
        assert all(record.src == address(record.sid - 1) for record in listed)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert found


def prefix_of(blocks, count):
    """How many of the first `count` addresses are blocked, and whether they are the first ones without a gap."""
    found = [blocks.lookup(address(number), A4, now=NOW) is not None for number in range(count)]
    return sum(found), found == sorted(found, reverse=True)


def test_killed_writers_lose_at_most_the_entry_in_hand(tmp_path):
    """SIGKILL at random moments: what was inserted before is all there, and the table goes on working."""
    path = str(tmp_path / "t")
    mine = Blocks.create(path, 1 << 16)
    count, kills, chooser = 30_000, 40, random.Random(1)
    flows = packed(range(count))

    def insert_for_ever():
        writer = Blocks.open(path, writable=True)
        insert_packed(writer, "source", flows, expires=NOW + 100, now=NOW)
        while True:
            insert_packed(writer, "pair", flows, expires=NOW + 100, now=NOW)
            writer.flush()

    reclaimed = 0
    for _ in range(kills):
        pid = in_child(insert_for_ever)
        while not len(mine):
            time.sleep(0.0002)
        time.sleep(chooser.random() * 0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        before = mine.counters()["reclaimed"]
        if not mine.counters()["used_pair"] and not mine.counters()["removed"]:
            assert prefix_of(mine, count)[1], "an entry that had been inserted is gone"
        live = len(list(mine.entries(now=NOW)))
        assert 0 <= len(mine) - live <= 1, "more than the entry in hand is unreadable"
        assert mine.sweep(now=NOW) <= 1
        reclaimed += mine.counters()["reclaimed"] - before
        assert insert_packed(mine, "destination", flows[:4000], now=NOW) == 0
        mine = fresh(path)
    assert reclaimed <= kills


def fresh(path):
    os.unlink(path)
    return Blocks.create(path, 1 << 16)


def test_a_killed_writer_does_not_stop_the_others(tmp_path):
    path = str(tmp_path / "t")
    mine = Blocks.create(path, 1 << 16)
    flows = packed(range(20_000))
    victim = in_child(lambda: [insert_packed(Blocks.open(path, writable=True), "source", flows) for _ in range(10_000)])
    others = [in_child(insert_packed, Blocks.open(path, writable=True), "source", packed(range(start, start + 20_000)))
              for start in (10_000, 20_000)]
    time.sleep(0.003)
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    assert ended_well(*others)
    mine.sweep()
    assert insert_packed(mine, "source", packed(range(40_000))) == 0
    assert lookup_packed(mine, packed(range(40_000))) == 40_000
    records = list(mine.entries())
    assert len({record.src for record in records}) == len(records) == 40_000


def test_the_claim_of_a_dead_process_is_taken_back(tmp_path):
    path = tmp_path / "t"
    blocks = Blocks.create(str(path), 16)
    blocks.insert("source", A4, expires=NOW + 50, now=NOW)
    dead = in_child(lambda: None)
    assert ended_well(dead)
    data = path.read_bytes()
    place = next(offset for offset in range(TAGS + LINE, len(data), 64) if data[offset : offset + 8] != bytes(8))
    sequence, expires = struct.unpack_from("<II", data, place)
    assert expires == NOW + 50
    for owner, freed in ((os.getpid(), 0), (dead, 1)):
        with open(path, "r+b") as stream:
            stream.seek(place)
            stream.write(struct.pack("<II", sequence + 1, owner))
        assert blocks.lookup(A4, B4, now=NOW) is None, "an entry that is being written does not match"
        assert list(blocks.entries(now=NOW)) == []
        assert blocks.sweep(now=NOW) == freed
    assert blocks.counters()["reclaimed"] == 1
    assert blocks.insert("source", A4, now=NOW) == 1
    assert blocks.lookup(A4, B4, now=NOW)


