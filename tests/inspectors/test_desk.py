"""A desk: what an inspector's answers, faults and times become, in verdicts, counters, blocks, events and the log."""

import logging

import pytest

from tests.inspectors.timeline import datagram
from tigerfox.dataplane.blocks import Blocks
from tigerfox.dataplane.handover import HandoverBook
from tigerfox.dataplane.stats import WorkerPage
from tigerfox.errors import ConfigError, UsageError
from tigerfox.inspectors import ACCEPT, DROP, block, wanted
from tigerfox.inspectors.desk import Desk, Tally
from tigerfox.inspectors.flowstates import CAPACITY, SECONDS
from tigerfox.telemetry.eve import Writer

PACKET = datagram("10.0.0.1", 4000, "10.0.0.2", 53, b"asked")
NOW = 1_700_000_000.0


class Room:
    """A desk with all that it needs."""

    def __init__(self, function, policy="open", noted=True):
        self.book = HandoverBook.create([(100, 1, policy == "open")])
        self.blocks = Blocks.create(None, 1024)
        self.page = WorkerPage.create(None, queue=100, ring_slots=64)
        self.desk = Desk("mine", function, policy, self.book, self.blocks, Tally(), logging.getLogger("tigerfox"), self.page)
        self.noted = noted

    def judge(self, packet=PACKET, now=NOW):
        if self.noted:
            self.book.note(1, packet, 77)
        return self.desk.judge(packet, now)

    def counts(self):
        found = self.desk.tally.counts()
        return {name: value for name, value in found.items() if value and name not in ("heartbeat", "p50_us", "p99_us")}

    def events(self):
        return self.page.reader().drain()


def answering(answer):
    return lambda packet: answer


def failing(packet):
    raise ValueError("on purpose")


ROWS = [
    ("nothing", answering(None), "closed", True, {"accepted": 1}),
    ("accept", answering(ACCEPT), "closed", True, {"accepted": 1}),
    ("drop", answering(DROP), "open", False, {"dropped": 1}),
    ("block", answering(block("source", 60)), "open", False, {"dropped": 1, "blocked": 1}),
    ("raises, open", failing, "open", True, {"raised": 1}),
    ("raises, closed", failing, "closed", False, {"raised": 1}),
    ("no answer, open", answering(True), "open", True, {"raised": 1}),
    ("no answer, closed", answering("drop"), "closed", False, {"raised": 1}),
]


@pytest.mark.parametrize(("function", "policy", "passes", "counts"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_answers(function, policy, passes, counts):
    room = Room(function, policy)
    assert room.judge() is passes
    assert room.counts() == counts
    assert room.desk.tally.counts()["heartbeat"] == 1
    assert len(room.events()) == (not passes)


def test_what_it_drops_is_an_event():
    room = Room(answering(DROP))
    room.judge()
    made = Writer(lambda generation: []).object(room.events()[0])
    assert made | {"flow_id": 0} == {
        "timestamp": "2023-11-14T22:13:20.000000+0000", "flow_id": 0, "event_type": "drop", "src_ip": "10.0.0.1", "src_port": 4000,
        "dest_ip": "10.0.0.2", "dest_port": 53, "proto": "UDP",
        "drop": {"len": len(PACKET), "ttl": 64, "reason": "inspector", "sid": 77}}


@pytest.mark.parametrize("packet", [b"", b"\x45", b"\0" * 40, PACKET[:24], b"\x60" + bytes(7)])
def test_what_is_no_packet_gets_an_answer_too(packet):
    room = Room(answering(DROP), noted=False)
    assert room.judge(packet) is False
    assert room.counts() == {"dropped": 1, "notes_lost": 1}


def test_a_block_holds_for_its_time():
    room = Room(answering(block("source", 60)))
    room.judge()
    entry, = room.blocks.entries(now=int(NOW))
    assert (entry.scope, entry.src, entry.sid, entry.expires) == ("source", "10.0.0.1", 77, int(NOW) + 60)


def test_the_note_says_which_rule():
    asked = []
    room = Room(asked.append)
    room.judge()
    room.noted = False
    other = datagram("10.0.0.9", 4000, "10.0.0.2", 53, b"never noted")
    room.judge(other)
    assert [packet.sid for packet in asked] == [77, 0]
    assert room.counts()["notes_lost"] == 1


def test_states_of_connections_are_bounded_and_expire():
    def count(packet):
        packet.flow["seen"] = packet.flow.get("seen", 0) + 1
        found.append(packet.flow["seen"])
    found = []
    room = Room(count, noted=False)
    for port in range(CAPACITY + 5):
        room.judge(datagram("10.0.0.1", port, "10.0.0.2", 53, b"asked"), NOW)
    assert set(found) == {1}
    assert room.counts()["flows_evicted"] == 5
    last = datagram("10.0.0.1", CAPACITY + 4, "10.0.0.2", 53, b"asked")
    room.judge(last, NOW + SECONDS - 1)
    room.judge(last, NOW + 2 * SECONDS)
    assert found[-2:] == [2, 1]


def test_tracebacks_are_rate_limited(caplog):
    room = Room(failing)
    for _ in range(50):
        room.judge()
    assert caplog.text.count("Traceback") == 1
    assert "on purpose" in caplog.text and "accepted by its policy" in caplog.text
    room.desk._logged -= 10.0            # as if 10 s had gone by
    room.judge()
    assert caplog.text.count("Traceback") == 2
    assert "49 more since the last one" in caplog.text


def test_times_are_percentiles():
    tally = Tally()
    assert tally.counts()["p50_us"] is None
    for _ in range(98):
        tally.took(10_000)
    tally.took(1_000_000)
    tally.took(1_000_000)
    counts = tally.counts()
    assert 10 <= counts["p50_us"] <= 12.5
    assert 1000 <= counts["p99_us"] <= 1250


# What is wanted

@pytest.mark.parametrize(("text", "expected"), [
    ("a.b:c", ("a.b:c", "open", 1, {})),
    ("a:c,closed", ("a:c", "closed", 1, {})),
    ("a:c, processes=3, limit=20 ,open", ("a:c", "open", 3, {"limit": "20"})),
])
def test_wanted(text, expected):
    found = wanted.read("mine", text)
    assert (found.target, found.policy, found.processes, found.options) == expected


@pytest.mark.parametrize("text", ["", "a", ":c", "a:", "a:c,shut", "a:c,processes=0", "a:c,processes=65", "a:c,processes=x"])
def test_what_is_not_understood_is_refused(text):
    with pytest.raises(ConfigError, match="inspector mine"):
        wanted.read("mine", text)


@pytest.mark.parametrize(("text", "words"), [
    ("tigerfox.absent:x", "No module"), ("tigerfox.inspectors:absent", "no attribute"), ("tigerfox.inspectors:DROP", "cannot be called"),
    ("tigerfox.inspectors:block,limit=3", "takes no options; take limit= away"),
    ("tigerfox.inspectors.slowsource:SlowSource,absent=3", "absent"), ("tigerfox.inspectors.slowsource:SlowSource,failures=x", "invalid literal"),
    ("tigerfox.inspectors.tlswatch:TlsWatch,file=/absent", "No such file")])
def test_what_cannot_be_made_is_said(text, words):
    with pytest.raises(UsageError, match=words):
        wanted.read("mine", text).make()


def test_a_class_gets_its_options():
    made = wanted.read("mine", "tigerfox.inspectors.slowsource:SlowSource,failures=3,block=60").make()
    assert (made.failures, made.block) == (3, 60)


@pytest.mark.parametrize(("scope", "seconds"), [("host", 60), ("source", 0), ("source", 10 ** 10)])
def test_a_block_that_will_not_do(scope, seconds):
    with pytest.raises(ValueError, match="write"):
        block(scope, seconds)
