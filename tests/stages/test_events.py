"""The event ring and the page of one worker: order, loss, torn events, files."""

import os
import signal
import struct

import pytest

from tigerfox.dataplane.events import ALERT, DROP, NO_RULE
from tigerfox.dataplane.stats import WorkerPage
from tigerfox.errors import SharedMemoryError

A, B = "192.0.2.1", "192.0.2.2"


def test_what_goes_in_comes_out():
    page = WorkerPage.create(None, 3, 16)
    reader = page.reader()
    page.push(ALERT, A, B, time_ns=5, number=9, sport=1000, dport=80, proto=6, rule=4, generation=2, sid=77, action=1, reason=3)
    page.push(DROP, "2001:db8::1", "2001:db8::2", proto=58)
    one, two = reader.drain()
    assert (one.sequence, one.kind, one.time_ns, one.number) == (1, ALERT, 5, 9)
    assert (one.src, one.dst, one.sport, one.dport) == (A, B, 1000, 80)
    assert (one.proto, one.version, one.rule, one.generation, one.sid, one.action, one.reason) == (6, 4, 4, 2, 77, 1, 3)
    assert (two.sequence, two.kind, two.src, two.dst, two.version, two.rule) == (2, DROP, "2001:db8::1", "2001:db8::2", 6, NO_RULE)
    assert reader.drain() == []
    assert reader.lost == 0


def test_limit_and_waiting():
    page = WorkerPage.create(None, 0, 16)
    reader = page.reader()
    page.push(ALERT, A, B, count=10)
    assert [event.number for event in reader.drain(4)] == [0, 1, 2, 3]
    assert reader.waiting == 6
    assert len(reader.drain()) == 6
    assert reader.waiting == 0


@pytest.mark.parametrize("written, lost", [(16, 0), (17, 1), (100, 84)])
def test_overrun_is_counted_exactly(written, lost):
    page = WorkerPage.create(None, 0, 16)
    reader = page.reader()
    page.push(ALERT, A, B, count=written)
    assert [event.number for event in reader.drain()] == list(range(lost, written))
    assert reader.lost == lost


def test_readers_begin_at_the_oldest_or_at_the_next():
    page = WorkerPage.create(None, 0, 16)
    page.push(ALERT, A, B, count=20)
    oldest, following = page.reader(), page.reader(from_start=False)
    assert (len(oldest.drain()), oldest.lost) == (16, 0)
    assert following.drain() == []
    page.push(DROP, A, B)
    assert [event.sequence for event in following.drain()] == [21]


def test_an_event_being_written_is_not_handed_out(tmp_path):
    path = tmp_path / "w"
    page = WorkerPage.create(str(path), 0, 4)
    reader = page.reader()
    page.push(ALERT, A, B, count=4)
    place = path.stat().st_size - 4 * 96
    with open(path, "r+b") as stream:
        stream.seek(place)
        stream.write(struct.pack("<Q", 0))
    assert [event.sequence for event in reader.drain()] == [2, 3, 4]
    assert reader.lost == 1
    page.push(ALERT, A, B)
    assert [event.sequence for event in reader.drain()] == [5]


def test_a_worker_that_runs_over_its_reader_never_hands_out_a_mixture(tmp_path):
    path = str(tmp_path / "w")
    page = WorkerPage.create(path, 0, 64)
    reader = WorkerPage.open(path).reader()
    total = 3_000_000
    pid = os.fork()
    if not pid:
        writer = WorkerPage.open(path, writable=True)
        done = 0
        while done < total:
            writer.push(ALERT, A, B, count=1000, number=done + 1)
            done += 1000
        os._exit(0)
    got, last = 0, 0
    try:
        while last < total:
            for event in reader.drain(500):
                assert event.number == event.sequence > last
                last = event.sequence
                got += 1
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert got + reader.lost == total
    assert page.snapshot()["events_written"] == total


def test_counters_have_names_and_the_page_survives_its_writer(tmp_path):
    path = str(tmp_path / "w")
    page = WorkerPage.create(path, 5, 64)
    counts = page.snapshot()
    assert (counts["queue"], counts["cpu"], counts["packets"], counts["events_slots"]) == (5, None, 0, 64)
    assert len(counts["reasons"]) == 64
    assert len(counts["batches"]) == 65
    page.count_restart()
    page.push(DROP, A, B)
    del page
    again = WorkerPage.open(path)
    assert (again.counters()["restarts"], again.counters()["events_written"]) == (1, 1)
    assert not {"reasons", "batches"} & set(again.counters())
    with pytest.raises(SharedMemoryError, match="reading only"):
        again.count_restart()


def test_a_ring_is_a_power_of_two():
    with pytest.raises(ValueError, match="power of two"):
        WorkerPage.create(None, 0, 100)


@pytest.mark.parametrize("slots", [0, 3, 128, 1 << 40])
def test_a_damaged_page_is_refused(tmp_path, slots):
    path = tmp_path / "w"
    WorkerPage.create(str(path), 0, 64)
    ring = path.stat().st_size - 64 * 96 - 64
    with open(path, "r+b") as stream:
        stream.seek(ring + 8)
        stream.write(struct.pack("<Q", slots))
    with pytest.raises(SharedMemoryError, match="does not fit"):
        WorkerPage.open(str(path))
