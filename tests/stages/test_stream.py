"""TCP streams: what is inspected is what the end host reads, or the packet does not pass."""

import os
import random
import signal
import time

import pytest
from connections import ESTABLISHED, Ends
from hypothesis import given, settings
from hypothesis import strategies as st

from tigerfox.dataplane.stream import StreamProbe

WINDOW, KEEP, UNHEARD, RUNS = 131072, 4096, 32768, 32
PASSED = ("nothing", "new", "waiting")
TEXT = bytes(random.Random(1).randbytes(1 << 20))


class Connection:
    """A probe behind a handshake; positions are stream offsets of the client's bytes, the client's ISN is ``isn``.

    The server's ``window`` is 128 times as large when it is ``wide``.
    """

    def __init__(self, isn=1000, depth=0, window=65535, wide=False):
        self.isn, self.ends, self.window = isn, Ends(), window
        self.probe = StreamProbe(depth)
        for side, flags, seq, ack in ESTABLISHED:
            shift = isn - 1000
            moved = (seq + shift, ack) if side == "c" else (seq, ack + shift)
            scale = bytes([3, 3, 7, 1]) if wide and "S" in flags else b""
            self.probe.take(self.ends.packet(side, flags, *moved, window=window, options=scale))
        if wide:
            self.confirm(0)

    def send(self, start, data=b"", flags="A"):
        return self.probe.take(self.ends.packet("c", flags, self.isn + 1 + start, 5001, data))

    def confirm(self, end):
        return self.probe.take(self.ends.packet("s", "A", 5001, self.isn + 1 + end, window=self.window))

    def all_of(self, *pieces):
        """Answers to pieces of TEXT: (start, end), or (start, bytes); and what was inspected."""
        found = [self.send(start, end if isinstance(end, bytes) else TEXT[start:end]) for start, end in pieces]
        return " ".join(one["answer"] for one in found), b"".join(one["fresh"] for one in found)


def other(start, end):
    return start, bytes(value ^ 0x20 for value in TEXT[start:end])


# description, pieces, answers, bytes of TEXT that are inspected
ROWS = [
    ("in order", [(0, 5), (5, 9)], "new new", 9),
    ("again", [(0, 5), (0, 5)], "new nothing", 5),
    ("again, and more", [(0, 5), (3, 9)], "new new", 9),
    ("a gap, then filled", [(5, 9), (0, 5)], "waiting new", 9),
    ("a gap that is overfilled", [(5, 9), (0, 12)], "waiting new", 12),
    ("two gaps", [(4, 6), (8, 10), (0, 4), (6, 8)], "waiting waiting new new", 10),
    ("runs that touch become one", [(4, 6), (8, 10), (6, 8), (0, 4)], "waiting waiting waiting new", 10),
    ("runs that overlap", [(4, 8), (6, 10), (2, 5), (0, 2)], "waiting waiting waiting new", 10),
    ("a run within a run", [(4, 10), (5, 7), (0, 4)], "waiting waiting new", 10),
    ("around a run", [(5, 7), (3, 10), (0, 3)], "waiting waiting new", 10),
    ("other bytes again", [(0, 5), other(0, 5)], "new overlap", 5),
    ("other bytes within", [(0, 9), other(3, 5)], "new overlap", 9),
    ("other bytes, and more", [(0, 5), other(3, 9)], "new overlap", 5),
    ("other bytes behind a gap", [(5, 9), other(4, 6), (0, 5)], "waiting overlap new", 9),
    ("other bytes around a run", [(5, 7), (0, TEXT[:5] + b"??" + TEXT[7:9]), (0, 5)], "waiting overlap new", 7),
    ("one other byte at the end", [(5, 9), (0, TEXT[:8] + b"?"), (0, 5)], "waiting overlap new", 9),
    ("before the beginning", [(-4, TEXT[:4]), (0, 5)], "nothing new", 5),
    ("from before the beginning", [(-4, b"...." + TEXT[:5])], "new", 5),
    ("nothing", [(0, b""), (0, 5), (5, b"")], "nothing new nothing", 5),
    ("behind the window", [(65536, b"x"), (0, 5)], "outside new", 5),
]


@pytest.mark.parametrize("isn", [1000, 2**32 - 1, 2**32 - 4, 2**31 - 3])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_rows(row, isn):
    _, pieces, answers, end = row
    assert Connection(isn).all_of(*pieces) == (answers, TEXT[:end])


def test_data_in_the_syn_is_the_beginning():
    probe, ends = StreamProbe(), Ends()
    assert probe.take(ends.packet("c", "S", 1000, 0, b"GET "))["fresh"] == b"GET "
    probe.take(ends.packet("s", "SA", 5000, 1001))
    assert probe.take(ends.packet("c", "A", 1001, 5001, b"PUT "))["answer"] == "overlap"
    assert probe.take(ends.packet("c", "A", 1001, 5001, b"GET /"))["fresh"] == b"/"


def test_the_stream_begins_with_the_syn_that_is_answered():
    probe, ends = StreamProbe(), Ends()
    probe.take(ends.packet("c", "S", 1000, 0, b"innocent"))
    assert probe.take(ends.packet("c", "S", 2000, 0, b"evil"))["answer"] == "outside"
    probe.take(ends.packet("s", "SA", 5000, 2001))
    assert probe.take(ends.packet("c", "A", 2001, 5001, b"evil"))["fresh"] == b"evil"
    assert probe.take(ends.packet("c", "A", 1001, 5001, b"innocent"))["answer"] == "nothing", "long before the beginning"


def test_both_directions_are_apart():
    one = Connection()
    assert one.send(0, b"ask")["side"] == 0
    answer = one.probe.take(one.ends.packet("s", "A", 5001, one.isn + 4, b"answer"))
    assert (answer["side"], answer["fresh"], answer["at"]) == (1, b"answer", 0)


@pytest.mark.parametrize("flags, seq, ack", [("R", 1001, 0), ("RA", 1001, 5001)])
def test_what_a_reset_carries_is_no_data(flags, seq, ack):
    one = Connection()
    assert one.probe.take(one.ends.packet("c", flags, seq, ack, b"evil"))["answer"] == "nothing"
    assert one.send(0, b"evil")["fresh"] == b"evil", "and a stream does not end with it"


def test_what_the_receiver_ignores_is_not_taken():
    one = Connection()
    ends = one.ends
    for packet in (ends.packet("c", "R", 9000, 0, b"x"), ends.packet("c", "S", 77, 0, b"x"), ends.packet("c", "A", 1001, 5001 + 70_000, b"x"),
                   ends.packet("c", "SA", 1001, 5001, b"x")):
        assert one.probe.take(packet)["answer"] == "outside"
    assert one.send(0, b"real")["fresh"] == b"real"


def test_a_connection_without_its_beginning_is_not_followed():
    packet = Ends().packet("c", "A", 1001, 5001, b"data")
    assert StreamProbe().take(packet)["answer"] == "unknown"
    assert StreamProbe(midstream=True).take(packet)["fresh"] == b"data"


def test_urgent_data_stays_in_its_place():
    one = Connection()
    assert one.send(0, b"abc", flags="AU")["fresh"] == b"abc"
    assert one.send(3, b"def")["fresh"] == b"def"


def test_the_end():
    one = Connection()
    assert not one.send(5, b"56789", flags="FA")["ended"], "there is a gap before it"
    assert one.send(0, b"01234")["ended"]
    one = Connection()
    assert one.send(0, b"", flags="FA")["ended"]
    assert not one.send(0, b"more")["ended"], "the FIN did not arrive, or the end host does not mind"


def test_a_keep_alive_is_no_contradiction():
    one = Connection()
    one.send(0, b"data")
    assert one.send(3, b"\0")["answer"] == "overlap", "not confirmed, so it may still count"
    one.confirm(4)
    assert one.send(3, b"\0")["answer"] == "nothing"
    assert one.send(2, b"\0\0")["answer"] == "overlap"


def test_a_window_that_slides_keeps_what_was_inspected():
    one = Connection(2**32 - 300_000, window=60_000)
    read = b""
    for start in range(0, 900_000, 1460):
        found = one.send(start, TEXT[start : start + 1460])
        assert found["answer"] == "new" and found["at"] == len(read)
        read += found["fresh"]
        one.confirm(len(read))
        held = found["held"]
        assert len(held) >= min(len(read), KEEP + 1460) and read.endswith(held)
    assert read == TEXT[: len(read)]
    assert one.send(len(read) - 2000, TEXT[len(read) - 2000 : len(read)])["answer"] == "nothing"
    assert one.send(*other(len(read) - 2000, len(read)))["answer"] == "overlap"
    assert one.send(*other(0, 1460))["answer"] == "nothing", "the receiver has it since long, and ignores this"


ISNS = [1000, 2**32 - 70_000, 2**31 - 30_000]


@pytest.mark.parametrize("isn", ISNS)
@pytest.mark.parametrize("step", [500, 1460, 60_000])
def test_what_is_not_confirmed_stays(isn, step):
    """As much as fits the window is under way; the rest comes again, and whatever is sent again is compared."""
    one, end = Connection(isn, wide=True), 0
    while (found := one.send(end, TEXT[end:end + step]))["answer"] == "new":
        end += step
    assert found["answer"] == "limit" and WINDOW - step < end <= WINDOW
    assert one.all_of((0, 1000), other(0, 1000), (end - 1000, end), other(end - 1, end))[0] == "nothing overlap nothing overlap"
    assert one.send(end, TEXT[end:end + step])["answer"] == "limit", "its receiver has confirmed nothing since"
    one.confirm(WINDOW - 60_000)
    assert one.send(end, TEXT[end:end + step])["fresh"] == TEXT[end:end + step]
    assert one.all_of(other(WINDOW - 60_000, WINDOW - 59_000), (WINDOW - 60_000, end))[0] == "overlap nothing"
    assert one.send(*other(0, 1000))["answer"] == "nothing", "the receiver has it"


def test_a_wide_stream_holds_four_times_as_much():
    one, end = Connection(wide=True), 0
    one.probe.widen("c")
    while (found := one.send(end, TEXT[end:end + 1000]))["answer"] == "new":
        end += 1000
    assert found["answer"] == "limit" and 4 * WINDOW - 1000 < end <= 4 * WINDOW
    assert one.all_of((0, 1000), other(0, 1000), (end - 1000, end), other(end - 1, end))[0] == "nothing overlap nothing overlap"


@pytest.mark.parametrize("isn", ISNS)
@pytest.mark.parametrize("flight", [20_000, 50_000, 64_000])
def test_half_a_window_is_always_under_way(isn, flight):
    one = Connection(isn, wide=True)
    for start in range(0, 600_000, 1000):
        found = one.send(start, TEXT[start:start + 1000])
        assert found["answer"] == "new" and found["held"].endswith(TEXT[max(0, start + 1000 - flight):start + 1000])
        oldest = max(0, start + 1000 - flight)
        if start % 7000 == 0:
            assert one.all_of((oldest, start), other(oldest, oldest + 2))[0] == "nothing overlap"
        one.confirm(max(0, start + 2000 - flight))


@pytest.mark.parametrize("isn", ISNS)
def test_a_loss_behind_us_is_mended_however_much_is_under_way(isn):
    """The receiver lacks the first segment of a flight larger than the window, and gets the same bytes."""
    one, host, sent = Connection(isn, wide=True), Host(False, 2 * WINDOW), 0
    for number in range(7):
        lost = sent
        while (found := one.send(sent, TEXT[sent:sent + 1000]))["answer"] in PASSED:
            if sent != lost:
                host.receive(sent, TEXT[sent:sent + 1000])
            sent += 1000
        assert found["answer"] == "limit"
        one.confirm(lost)
        assert one.send(*other(lost, lost + 1000))["answer"] == ("overlap" if sent > lost else "limit")
        assert one.send(lost, TEXT[lost:lost + 1000])["answer"] == "nothing"
        host.receive(lost, TEXT[lost:lost + 1000])
        one.confirm(len(host.read))
        assert len(host.read) == sent and sent - lost > 60_000, number
    assert host.read == TEXT[:sent]


def test_an_end_behind_what_is_not_confirmed():
    one = Connection(wide=True)
    for start in range(0, 120_000, 1000):
        one.send(start, TEXT[start:start + 1000], flags="FA" if start == 119_000 else "A")
    assert one.send(119_000, TEXT[119_000:120_000], flags="FA")["ended"]
    assert one.all_of((0, 1000), other(0, 1000))[0] == "nothing overlap"
    one.confirm(120_001)
    assert one.all_of((0, 1000), other(0, 1000))[0] == "nothing nothing"


def test_what_is_neither_kept_nor_confirmed_is_said():
    """Half a connection, taken up in its middle: nobody hears what the receiver confirms."""
    ends, probe = Ends(), StreamProbe(midstream=True)

    def send(start, data):
        return probe.take(ends.packet("c", "A", 1001 + start, 5001, data))["answer"]

    for start in range(0, 400_000, 1000):
        assert send(start, TEXT[start:start + 1000]) == "new"
    assert send(400_000 - UNHEARD, TEXT[400_000 - UNHEARD:400_000]) == "nothing"
    assert send(*other(400_000 - UNHEARD, 400_000)) == "overlap"
    assert send(0, TEXT[:1000]) == "unseen"
    probe.take(ends.packet("s", "A", 5001, 2001, window=60_000))
    assert send(0, TEXT[:1000]) == "nothing"
    assert send(500, TEXT[500:1500]) == "unseen"
    assert [send(start, TEXT[start:start + 1000]) for start in range(400_000, 540_000, 1000)][-1] == "limit", "it is heard now"


def test_more_gaps_than_can_be_noted():
    one = Connection()
    pieces = [(2 * n + 1, 2 * n + 2) for n in range(RUNS + 1)]
    answers, _ = one.all_of(*pieces)
    assert answers == " ".join(["waiting"] * RUNS + ["limit"])
    assert one.all_of((2 * RUNS, 2 * RUNS + 1))[0] == "waiting", "it touches a run"
    fresh = b"".join(one.send(2 * n, TEXT[2 * n : 2 * n + 1])["fresh"] for n in range(RUNS + 1))
    assert fresh == TEXT[: 2 * RUNS + 1]


def test_bytes_too_far_behind_a_gap():
    one = Connection(window=65535)
    ends, probe = one.ends, StreamProbe()
    scale = bytes([3, 3, 7, 1])
    for packet in (ends.packet("c", "S", 1000, 0, options=scale), ends.packet("s", "SA", 5000, 1001, options=scale),
                   ends.packet("c", "A", 1001, 5001), ends.packet("s", "A", 5001, 1001, window=60_000)):
        probe.take(packet)
    assert probe.take(ends.packet("c", "A", 1001 + WINDOW - 10, 5001, bytes(10)))["answer"] == "waiting"
    assert probe.take(ends.packet("c", "A", 1001 + WINDOW - 9, 5001, bytes(10)))["answer"] == "limit"
    assert probe.take(ends.packet("c", "A", 1001, 5001, b"a"))["fresh"] == b"a"


def test_segments_of_64_kilobytes():
    one = Connection(window=65535)
    size, read = 65000, b""
    for start in range(0, 15 * size, size):
        read += one.send(start, TEXT[start : start + size])["fresh"]
        one.confirm(len(read))
    assert read == TEXT[: 15 * size]
    assert one.send(15 * size + 100, TEXT[15 * size + 100 : 16 * size])["answer"] == "waiting"
    assert one.send(15 * size, TEXT[15 * size : 16 * size])["fresh"] == TEXT[15 * size : 16 * size]


def test_the_depth():
    one = Connection(depth=100)
    assert one.all_of((0, 60), (80, 120), (150, 160))[0] == "new waiting nothing"
    found = one.send(60, TEXT[60:80])
    assert found["fresh"] == TEXT[60:100]
    assert one.all_of((60, 100), other(60, 70), (100, 200), (200, 300))[0] == "nothing overlap nothing nothing"
    last = one.send(5000, TEXT[:1000])
    assert (last["answer"], last["skipped"], last["held"]) == ("nothing", 0, TEXT[:100])
    one.confirm(100)
    last = one.send(6000, TEXT[:1000])
    assert (last["answer"], last["skipped"], last["held"]) == ("nothing", 6900, b"")
    assert one.all_of((0, 100), other(0, 100), (7000, 7100))[0] == "nothing nothing nothing"
    assert one.send(7100, b"", flags="FA")["ended"]


@pytest.mark.parametrize("isn", [1000, 2**32 - 150, 2**31 - 50])
def test_what_was_inspected_stays_at_the_depth_until_it_is_confirmed(isn):
    one = Connection(isn, depth=100)
    one.all_of((0, 100), (100, 900))
    assert one.all_of((0, 100), (50, 150), other(50, 150), other(99, 100))[0] == "nothing nothing overlap overlap"
    assert one.all_of((300, 400), other(300, 400))[0] == "nothing nothing", "unconfirmed, and never held: it was not inspected"
    one.confirm(60)
    assert one.all_of(other(0, 60), (60, 900), other(60, 900))[0] == "overlap nothing overlap", "what is held is compared"
    one.confirm(900)
    assert one.all_of(other(0, 900), (900, 1000))[0] == "nothing nothing"


def test_the_end_beyond_the_depth_needs_no_further_data():
    one = Connection(depth=100)
    one.all_of((0, 100), (100, 900))
    assert not one.send(900, b"", flags="FA")["ended"], "what was inspected may have to be sent again"
    one.confirm(901)
    found = one.send(901)
    assert (found["ended"], found["skipped"], found["lost"]) == (True, 800, 0)


def test_half_a_connection_goes_beyond_its_depth_at_once():
    ends, probe = Ends(), StreamProbe(depth=100, midstream=True)
    probe.take(ends.packet("c", "A", 1001, 5001, TEXT[:100]))
    assert probe.take(ends.packet("c", "A", 1101, 5001, TEXT[100:200]))["skipped"] == 100
    assert probe.take(ends.packet("c", "A", 1001, 5001, TEXT[:100]))["answer"] == "unseen"


def test_a_stream_beyond_its_depth_may_be_longer_than_sequence_numbers():
    one = Connection(depth=10, window=65535)
    one.send(0, TEXT[:60_000])
    sent = 60_000
    while sent < 2**32 + 2**20:
        one.confirm(sent)
        found = one.send(sent, bytes(65000))
        sent += 65000
        assert found["answer"] == "nothing"
    assert found["skipped"] == sent - 10


def test_a_hole_in_a_capture():
    one = Connection()
    assert one.all_of((0, 10), (20, 30), (40, 50))[0] == "new waiting waiting"
    one.confirm(50)
    found = one.send(50, TEXT[50:60])
    assert (found["answer"], found["holed"], found["at"], found["fresh"]) == ("new", True, 20, TEXT[20:30])
    found = one.send(60, TEXT[60:70])
    assert (found["answer"], found["holed"], found["at"], found["fresh"], found["lost"]) == ("new", True, 40, TEXT[40:70], 20)
    assert not one.send(70, TEXT[70:80])["holed"]


def test_a_hole_is_not_lost_on_a_packet_that_is_refused():
    one = Connection()
    one.all_of((0, 10), (20, 30))
    one.confirm(30)
    assert one.send(*other(20, 30))["answer"] == "overlap"
    found = one.send(30, TEXT[30:40])
    assert (found["fresh"], found["holed"]) == (TEXT[20:40], True)


def test_a_segment_that_was_not_captured_to_its_end():
    one = Connection()
    packet = one.ends.packet("c", "A", 1001, 5001, b"0123456789")
    found = one.probe.take(packet[:-4], wirelen=len(packet))
    assert found["fresh"] == b"012345"
    one.confirm(10)
    assert one.send(10, b"next")["fresh"] == b"next"


# Against a model of a receiving host

class Host:
    """Reads in order, within a window; of two copies of a waiting byte it takes the first or the last."""

    def __init__(self, last_wins, window=65535):
        self.last_wins, self.window, self.read, self.waiting = last_wins, window, bytearray(), {}

    def receive(self, start, data):
        for at, value in enumerate(data, start):
            if len(self.read) <= at < len(self.read) + self.window and (self.last_wins or at not in self.waiting):
                self.waiting[at] = value
        while len(self.read) in self.waiting:
            self.read.append(self.waiting.pop(len(self.read)))


def run(connection, host, steps, unit):
    """Send what ``steps`` say; the host receives what passes; returns what was inspected."""
    inspected = bytearray()
    for start, length, forged, arrives, confirms in steps:
        data = TEXT[start * unit : (start + length) * unit]
        if forged is not None and data:
            at = forged % len(data)
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        found = connection.send(start * unit, data)
        assert found["lost"] == 0
        if found["fresh"]:
            assert found["at"] == len(inspected)
            inspected += found["fresh"]
            assert inspected.endswith(found["held"]) and len(found["held"]) >= min(len(inspected), KEEP)
        if found["answer"] in PASSED and arrives:
            host.receive(start * unit, data)
        assert inspected.startswith(host.read), "the host has read what was not inspected"
        if confirms:
            connection.confirm(len(host.read))
    return inspected


STEP = st.tuples(st.integers(0, 60), st.integers(1, 12), st.one_of(st.none(), st.none(), st.integers(0, 10_000)), st.booleans(), st.booleans())


@settings(max_examples=int(os.environ.get("TIGERFOX_EXAMPLES", "300")), deadline=None)
@given(st.lists(STEP, max_size=60), st.sampled_from([1, 3, 700, 1400]), st.booleans(), st.sampled_from([1000, 2**32 - 2, 2**32 - 9000, 2**31]))
def test_what_the_host_reads_was_inspected(steps, unit, last_wins, isn):
    host = Host(last_wins)
    run(Connection(isn), host, steps, unit)


@settings(max_examples=int(os.environ.get("TIGERFOX_EXAMPLES", "200")), deadline=None)
@given(st.lists(STEP, max_size=40), st.randoms(use_true_random=False), st.sampled_from([1, 700]), st.sampled_from([1000, 2**32 - 2000]))
def test_an_honest_sender_gets_everything_through(steps, chance, unit, isn):
    connection, host = Connection(isn), Host(False)
    honest = [(start, length, None, arrives, confirms) for start, length, _, arrives, confirms in steps]
    rest = [(start, 5, None, True, True) for start in range(0, 75, 5)]
    chance.shuffle(rest)
    inspected = run(connection, host, honest + rest + sorted(rest), unit)
    assert host.read == inspected == TEXT[: len(inspected)] and len(inspected) >= 75 * unit


def test_a_successor_finds_a_stream_that_a_killed_worker_can_have_left():
    """Whatever instant it was killed at, an honest sender gets through, and only true bytes are offered."""
    chance = random.Random(9)
    for _ in range(40):
        connection = Connection(2**32 - 60_000, window=65535)
        starts = list(range(0, 120_000, 700))
        packets = []
        for at in range(0, len(starts), 8):
            group = starts[at : at + 8]
            chance.shuffle(group)
            packets += [connection.ends.packet("c", "A", connection.isn + 1 + start, 5001, TEXT[start : start + 700]) for start in group]
            packets.append(connection.ends.packet("s", "A", 5001, connection.isn + 1 + group[0] // 5600 * 5600, window=65535))
        pid = os.fork()
        if not pid:
            time.sleep(0.002)
            connection.probe.pound(packets, 0, 1, 1)
            os._exit(0)
        time.sleep(0.002 + chance.random() * 0.004)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        connection.probe.flows.recover()
        reached = None
        for start in range(0, 130_000, 700):
            found = connection.send(start, TEXT[start : start + 700])
            assert found["answer"] in PASSED and found["lost"] == 0
            if found["fresh"]:
                assert TEXT.startswith(found["fresh"], found["at"]) and reached in (None, found["at"])
                reached = found["at"] + len(found["fresh"])
            connection.confirm(start + 700)
        assert reached == 130_200


# Replies that are left to the kernel


def unseen(sent=0, window=65535, isn=1000):
    """A connection whose replies are not seen from here on, with so many bytes sent, and none of them known to be confirmed."""
    link = Connection(isn, window=window)
    link.probe.leave_replies()
    assert sent == 0 or link.send(0, TEXT[:sent])["answer"] == "new"
    return link


def acks(link, ack, start, data=b"", window=65535):
    """What the client sends while it confirms the server's bytes up to ``ack``, the first of them being 5001."""
    return link.probe.take(link.ends.packet("c", "A", link.isn + 1 + start, ack, data, window=window))


@pytest.mark.parametrize("isn", [1000, 2**32 - 100, 2**31 - 700])
@pytest.mark.parametrize("window", [100, 1000, 65000])
def test_what_a_server_may_have_offered_unseen_is_not_outside(isn, window):
    """The last window that was seen is full; the server has read on and opened it."""
    link = unseen(window, window, isn)
    assert link.send(window, TEXT[window:window + 500])["answer"] == "new"
    assert link.send(window + 600, TEXT[window + 600:window + 700])["answer"] == "waiting"
    assert link.send(window + 500, TEXT[window + 500:window + 600])["fresh"] == TEXT[window + 500:window + 700]
    assert link.send(window + 700 + 65536, b"x")["answer"] == "outside"


def test_what_a_server_may_have_offered_does_not_grow_by_what_lies_beyond():
    link = unseen(100)
    assert link.send(100 + 65535, b"x" * 100)["answer"] in ("limit", "waiting")
    assert link.send(100 + 65535 + 100, b"x")["answer"] == "outside"
    assert Connection().send(65535 + 1, b"x")["answer"] == "outside"


def test_where_replies_are_seen_the_window_is_the_last_one():
    link = Connection(window=1000)
    assert link.send(0, TEXT[:1000])["answer"] == "new"
    assert link.send(1001, b"x")["answer"] == "outside"


def test_what_may_have_been_confirmed_unseen_is_compared():
    link = unseen(3000)
    assert link.send(0, TEXT[:3000])["answer"] == "nothing"
    assert link.all_of(other(0, 3000))[0] == "overlap"
    assert link.all_of(other(2999, 3000))[0] == "overlap"        # no sign of life, as far as is known
    assert link.all_of((1000, 2000), other(1500, 1501))[0] == "nothing overlap"
    link.confirm(3000)
    assert link.all_of(other(2999, 3000))[0] == "nothing"


def test_what_may_not_have_arrived_stays():
    link = unseen()
    for start in range(0, 131_000, 1000):
        assert link.send(start, TEXT[start:start + 1000])["answer"] == "new"
    assert link.send(131_000, TEXT[131_000:132_000])["answer"] == "limit"
    assert link.all_of((0, 1000), other(0, 1000))[0] == "nothing overlap"
    link.confirm(131_000)
    assert link.all_of((131_000, 132_000), (0, 1000))[0] == "new nothing"


@pytest.mark.parametrize("step", [65535, 60_000])
def test_a_client_that_confirms_four_gigabytes_unseen_is_heard(step):
    """Sequence numbers of the server wrap, and are more than half way round from the last that were seen."""
    link, at, place = unseen(), 5001, 0
    for number in range(2**32 // step + 2):
        at += step
        found = acks(link, at, place, TEXT[place:place + 7] if number % 1000 == 0 else b"")
        assert found["answer"] == ("new" if number % 1000 == 0 else "nothing")
        place += len(found["fresh"])
    server = link.probe.flow()["tcp"][1]
    assert server["acked"] == server["high_seq"] == at % 2**32
    assert link.probe.take(link.ends.packet("s", "A", at, link.isn + 1 + place, b"reply"))["side"] == 1
    assert link.probe.flow()["tcp"][0]["acked"] == link.isn + 1 + place


def test_a_confirmation_beyond_what_a_server_can_have_sent_does_not_count():
    link = unseen()
    assert acks(link, 5001 + 65535 + 1, 0, b"a")["answer"] == "new"               # one byte: is the window open again?
    assert acks(link, 5001 + 2 * 65535 + 3, 1, b"b")["answer"] == "outside"
    assert acks(link, 5001 + 2 * 65535 + 2, 1, b"b")["answer"] == "new"


@pytest.mark.parametrize("seq, counts", [(5001, True), (5001 + 20_000, True), (5001 + 65536, True), (5001 + 65537, False), (5000, False)])
def test_a_reset_counts_where_the_server_may_stand(seq, counts):
    link = unseen(10)
    acks(link, 5001, 10)
    link.probe.take(link.ends.packet("s", "R", seq, 0))
    assert (link.probe.flow()["state"] == "closed") is counts


def test_fins_end_a_connection_whose_replies_were_left():
    link = unseen(10)
    link.probe.take(link.ends.packet("s", "FA", 5001 + 30_000, link.isn + 11))
    assert link.probe.flow()["state"] == "closing"
    link.probe.take(link.ends.packet("c", "FA", link.isn + 11, 5001 + 30_001))
    link.probe.take(link.ends.packet("s", "A", 5001 + 30_001, link.isn + 12))
    assert link.probe.flow()["state"] == "closed"
