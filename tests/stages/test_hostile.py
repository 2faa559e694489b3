"""What is sent to exhaust: bombs, heads and chunks without end, connections that never open.

Memory keeps its bound, what is refused is counted, and the traffic beside it goes on.
"""

import gzip
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from connections import ESTABLISHED, Ends

from tigerfox._fast import Replay
from tigerfox.dataplane.app.httpparser import HttpParser
from tigerfox.dataplane.blocks import Blocks
from tigerfox.dataplane.capture import Capture
from tigerfox.dataplane.detect import Detection
from tigerfox.dataplane.flow import Flows
from tigerfox.dataplane.image import CompiledRules
from tigerfox.dataplane.rates import Rates
from tigerfox.dataplane.reason import reason_number
from tigerfox.dataplane.session import SessionTable
from tigerfox.dataplane.stats import WorkerPage
from tigerfox.ruleset.check import load_rules
from tigerfox.ruleset.compile import compile_rules

HERE = Path(__file__).resolve().parent
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
HEAD, BODY, WINDOW = 16384, 102400, 131072
NOW = 1_800_000_000


def bomb():
    """256 MiB of zeros, packed twice: a few kilobytes."""
    once, packer, block = [], zlib.compressobj(9, wbits=31), bytes(1 << 20)
    for _ in range(256):
        once.append(packer.compress(block))
    packed = gzip.compress(b"".join([*once, packer.flush()]))
    return OK + b"Content-Encoding: gzip, gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed


def endless_chunk(pieces=4000):
    """One chunk of 4 GiB that goes on for 256 MB."""
    yield OK + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n"
    block = b"x" * 65536
    for _ in range(pieces):
        yield block


def endless_chunks(pieces=2000):
    """Chunks of one byte, each with an extension of a kilobyte."""
    yield OK + b"Transfer-Encoding: chunked\r\n\r\n"
    block = (b"1;" + b"e" * 1024 + b"\r\nx\r\n") * 60
    for _ in range(pieces):
        yield block


def endless_header(pieces=2000):
    yield OK + b"X: "
    for _ in range(pieces):
        yield b"y" * 65536


def endless_fields(pieces=1000):
    yield OK
    for number in range(pieces):
        yield b"".join(b"N%d: v\r\n" % (number * 1000 + place) for place in range(1000))


HOSTILE = {"bomb": lambda: [bomb()], "endless_chunk": endless_chunk, "endless_chunks": endless_chunks,
           "endless_header": endless_header, "endless_fields": endless_fields}
EVENT = {"bomb": {"bomb", "body_full"}, "endless_chunk": {"body_full"}, "endless_chunks": {"body_full", "chunk_odd"},
         "endless_header": {"head_full"}, "endless_fields": {"head_full"}}


def suffered(name):
    """Feed a parser with it; how many bytes it took, what it says in the end, and the most that a buffer held."""
    parser, most, taken = HttpParser(head_size=HEAD, body_size=BODY), 0, 0
    parser.feed(False, GET)
    for piece in HOSTILE[name]():
        while piece:
            answer, used = parser.feed(True, piece)
            piece, taken = piece[used:], taken + used
            if answer == "broken":
                break
        most = max(most, *map(len, parser.buffers(True).values())) if parser.buffers(True) else most
        if answer == "broken":
            break
    return taken, answer, parser.state(True)["events"], most


@pytest.mark.parametrize(("name", "end", "least"), [
    ("bomb", "complete", 500), ("endless_chunk", "more", 1 << 27), ("endless_chunks", "more", 1 << 26),
    ("endless_header", "broken", HEAD - 100), ("endless_fields", "broken", HEAD - 100)])
def test_memory_of_a_connection_is_bounded(name, end, least):
    """In a process of its own that may have 32 MiB more than it has before, which is less than what it is sent."""
    program = f"""
import resource, sys
sys.path.insert(0, {str(HERE)!r})
import test_hostile as hostile
if {name!r} == "bomb":
    made = hostile.HOSTILE["bomb"]()
    hostile.HOSTILE["bomb"] = lambda: made
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (32 << 20),) * 2)
taken, answer, events, most = hostile.suffered({name!r})
sys.stdout.write(" ".join([str(taken), answer, str(most), *events]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    taken, answer, most, *events = done.stdout.split()
    assert answer == end and int(taken) >= least and int(most) <= max(HEAD, BODY)
    assert EVENT[name] & set(events), events


@pytest.mark.parametrize("size, answer", [(15_000, "complete"), (64 << 10, "broken")])
def test_a_head_of_64_kilobytes_ends_the_parsing_and_says_so(size, answer):
    parser = HttpParser(head_size=HEAD)
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * size + b"\r\n\r\n"
    assert parser.feed(False, head)[0] == answer
    assert ("head_full" in parser.state(False)["events"]) == (answer == "broken")
    assert all(len(value) <= HEAD for value in parser.buffers(False).values())
    other = HttpParser(head_size=HEAD)
    assert other.feed(False, GET)[0] == "complete", "another connection is not concerned"


def test_100_000_half_open_connections_do_not_push_out_open_ones():
    flows, friend, number = Flows.create(None, 4096), Ends(client=bytes([10, 9, 9, 9])), 0
    for packet in ESTABLISHED:
        known = flows.track(friend.packet(*packet), NOW)
    for number in range(100_000):
        client = bytes([172, 16 + (number >> 16), number >> 8 & 255, number & 255])
        made = flows.track(Ends(client=client, sport=1024 + number % 60_000).packet("c", "S", number), NOW + number / 50_000)
        assert made is not None, f"connection {number} found no place"
    counts = flows.counters()
    assert counts["used"] <= 4096 and counts["evicted"] >= 100_000 + 1 - 4096 and counts["rejected"] == 0
    again = flows.track(friend.packet("c", "PA", 1001, 5001, b"still here"), NOW + 3)
    assert again["id"] == known["id"] and again["established"]
    assert flows.faults() == []


# The same through all stages

RULES = """\
drop http any any -> any any (msg:"an attack"; flow:established,to_server; http.uri; content:"/etc/passwd"; sid:1;)
drop http any any -> any any (msg:"an answer"; flow:established,to_client; file.data; content:"never there"; sid:2;)
"""
POLICIES = {"malformed": "accept", "unparsed": "accept", "no_verdict": "drop"}
ATTACK = b"GET /x/../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"


class Talk:
    """A connection that goes on, packet by packet; ``packets`` is all of it."""

    def __init__(self, number):
        self.ends, self.high = Ends(client=bytes([10, 8, number >> 8, number & 255])), [1001, 5001]
        self.packets = [self.ends.packet(*packet) for packet in ESTABLISHED]

    def say(self, side, data, segment=16_384):
        for at in range(0, len(data), segment):
            piece = data[at:at + segment]
            self.packets.append(self.ends.packet("cs"[side], "PA", self.high[side], self.high[1 - side], piece))
            self.high[side] += len(piece)
            self.packets.append(self.ends.packet("sc"[side], "A", self.high[1 - side], self.high[side]))
        return self


@pytest.fixture
def replay(tmp_path):
    def run(packets, flows=4096, sessions=64, unparsed="accept", pauses=()):
        """Counters, and the sids that stopped something. ``pauses``: numbers of the packets before which 3 s pass."""
        rules, path = tmp_path / "hostile.rules", tmp_path / "hostile.pcap"
        rules.write_text(RULES)
        path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + b"".join(
            struct.pack("<IIII", NOW + number // 50_000 + 3 * sum(number >= at for at in pauses), number % 50_000 * 20,
                        len(one), len(one)) + one
            for number, one in enumerate(packets)))
        page, table = WorkerPage.create(None, ring_slots=1024), SessionTable.create(sessions)
        reader, flow_table = page.reader(), Flows.create(None, flows)
        image = CompiledRules.from_buffer(compile_rules(load_rules([rules]).rules).image, 1)
        going = Replay(Capture(str(path)), page, Blocks.create(None, 64), Rates.create(None, 64), image,
                       POLICIES | {"unparsed": unparsed},
                       Detection(flow_table, table))
        stopped = []
        while going.run():
            stopped += reader.drain(1024)
        stopped += reader.drain(1024)
        assert flow_table.faults() == [] and table.used <= sessions
        return page.snapshot(), [event.sid for event in stopped if event.kind == 2]

    return run


def test_hostile_answers_stop_neither_the_worker_nor_the_connection_beside(replay):
    packets = []
    for number, name in enumerate(("bomb", "endless_chunk", "endless_chunks", "endless_header", "endless_fields")):
        body = b"".join(HOSTILE[name](60) if name != "bomb" else HOSTILE[name]())[:2 << 20]
        packets += Talk(number).say(0, GET).say(1, body).packets
    clean, attack = Talk(300).say(0, GET).say(1, OK + b"Content-Length: 2\r\n\r\nhi"), Talk(301).say(0, ATTACK)
    counts, stopped = replay(packets + clean.packets + attack.packets)
    assert counts["packets"] == len(packets) + len(clean.packets) + len(attack.packets)
    assert set(stopped) == {1}, "the attack, and nothing else"
    assert counts["accepted"] >= len(packets) + len(clean.packets)


def test_100_000_half_open_connections_leave_the_inspection_going(replay):
    flood = []
    for number in range(100_000):
        client = bytes([172, 16 + (number >> 16), number >> 8 & 255, number & 255])
        flood.append(Ends(client=client, sport=1024 + number % 60_000).packet("c", "S", number))
    begun, later = Talk(1), Talk(2)
    opening, late = list(begun.packets), later.say(0, ATTACK).packets
    rest = begun.say(0, ATTACK).packets[len(opening):]
    counts, stopped = replay(opening + flood + rest + late)
    assert counts["flows_evicted"] >= 100_000 - 4096 and counts["flows_rejected"] == 0
    assert stopped.count(1) == len(stopped) >= 2, "in the connection of before, and in the one of after"
    assert counts["accepted"] >= 100_000


WIDE, FLIGHT, PIECE, SCALE = 128, 200_000, 10_000, bytes([3, 3, 7, 0])


def flight(number, at=0, confirmed=None):
    """200 KB from the client of a connection that nobody confirms, with its beginning; or from `at` on, behind a confirmation."""
    ends, packets = Talk(number).ends, []
    if not at:
        packets = [ends.packet("c", "S", 1000, options=SCALE), ends.packet("s", "SA", 5000, 1001, options=SCALE),
                   ends.packet("c", "A", 1001, 5001), ends.packet("s", "A", 5001, 1001, window=60_000)]
    if confirmed:
        packets.append(ends.packet("s", "A", 5001, 1001 + confirmed, window=60_000))
    return packets + [ends.packet("c", "A", 1001 + at + start, 5001, bytes(PIECE)) for start in range(0, FLIGHT, PIECE)]


def test_how_many_connections_may_hold_much_is_bounded(replay):
    """Where it is used up, what is under way is bounded as ever; whoever has got through with it gives it back."""
    limit = reason_number("stream_limit")
    counts, _ = replay([one for number in range(WIDE) for one in flight(number)], sessions=WIDE + 8, unparsed="drop")
    assert counts["reasons"][limit] == 0
    more = [one for number in range(WIDE + 4) for one in flight(number)]
    counts, _ = replay(more, sessions=WIDE + 8, unparsed="drop")
    assert counts["reasons"][limit] == 4 * (FLIGHT // PIECE - WINDOW // PIECE)
    back = [one for number in range(4) for one in flight(number, FLIGHT, FLIGHT)[:2]]
    late = [one for number in range(WIDE, WIDE + 4) for one in flight(number)]
    counts, _ = replay(more[:WIDE * len(flight(0))] + back + late, sessions=WIDE + 8, unparsed="drop")
    assert counts["reasons"][limit] == 0


BEGUN, REST = ATTACK[:12], ATTACK[12:]
assert b"/etc/passwd" not in BEGUN


def refused(counts):
    return counts["reasons"][reason_number("stream_sessions")]


def half_attacks(count):
    """So many connections, each with the first half of the attack in it, and the packets that bring the second halves."""
    talks = [Talk(number).say(0, BEGUN) for number in range(count)]
    begun = [one for talk in talks for one in talk.packets]
    return begun, [talk.say(0, REST).packets[-2] for talk in talks]


@pytest.mark.parametrize(("unparsed", "lost"), [("drop", 32 * 2), ("accept", 0)])
def test_more_connections_than_can_be_followed(replay, unparsed, lost):
    """What there is no session for does not pass, or does by policy; what has one is judged as ever."""
    begun, rest = half_attacks(40)
    counts, stopped = replay(begun + rest, sessions=8, unparsed=unparsed)
    assert stopped.count(1) == 8
    assert refused(counts) == counts["streams_unfollowed"] == counts["sessions_rejected"] == 32 * 2
    assert counts["dropped"] == 8 + lost and counts["accepted"] == len(begun + rest) - 8 - lost


def test_idle_connections_give_way_and_are_not_forgotten_about(replay):
    """Whoever holds all sessions keeps nobody out for long, and does not get the other half of his requests through by it."""
    begun, rest = half_attacks(8)
    other = Talk(100).say(0, ATTACK).packets[:-1]
    counts, stopped = replay(begun + other + rest, sessions=8, unparsed="drop", pauses=[len(begun)])
    assert stopped.count(1) == 8, "the other's attack, and the halves of seven"
    assert counts["sessions_displaced"] == refused(counts) == 1
    assert counts["accepted"] == len(begun + other) - 1


def test_a_connection_in_use_does_not_give_way(replay):
    begun, rest = half_attacks(8)
    other = Talk(100).say(0, ATTACK).packets[:-1]
    counts, stopped = replay(begun + other + rest, sessions=8, unparsed="drop")
    assert stopped.count(1) == 8 and counts["sessions_displaced"] == 0
    assert refused(counts) == 1, "of the one that came late"


def ended(talk):
    """A connection that both ends close."""
    (mine, other), ends = talk.high, talk.ends
    talk.packets += [ends.packet("c", "FA", mine, other), ends.packet("s", "FA", other, mine + 1),
                     ends.packet("c", "A", mine + 1, other + 1)]
    return list(talk.packets)


def test_a_connection_that_both_ends_have_closed_holds_no_session(replay):
    talks = [Talk(number).say(0, GET).say(1, OK + b"Content-Length: 2\r\n\r\nhi") for number in range(40)]
    packets = [one for talk in talks for one in ended(talk)]
    counts, stopped = replay(packets + Talk(100).say(0, ATTACK).packets, sessions=1)
    assert counts["sessions_opened"] == 41 and counts["sessions_rejected"] == counts["sessions_displaced"] == 0
    assert set(stopped) == {1}, "the attack, and nothing else"


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_request_goes_not_on_behind_a_fin(replay, confirmed):
    """A FIN that may not reach the server (a small TTL) is not a way to have the rest of a request read by it alone."""
    talk = Talk(1).say(0, BEGUN)
    talk.packets.append(talk.ends.packet("c", "FA", talk.high[0], talk.high[1]))
    if confirmed:
        talk.packets.append(talk.ends.packet("s", "A", talk.high[1], talk.high[0] + 1))
    again = talk.ends.packet("c", "PA", talk.high[0] - len(BEGUN), talk.high[1], BEGUN)
    counts, _ = replay([*talk.packets, again, talk.say(0, REST).packets[-2]], unparsed="drop")
    assert counts["reasons"][reason_number("stream_outside")] == counts["dropped"] == 1
