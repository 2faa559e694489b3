"""threshold and detection_filter: the four kinds, tracking, windows, full tables, several processes."""

import os
import socket
import struct

import pytest

from tigerfox.dataplane.rates import Rates
from tigerfox.errors import SharedMemoryError

NOW = 1_800_000_000
A, B, C = (socket.inet_aton(text) for text in ("192.0.2.1", "192.0.2.2", "192.0.2.3"))
A6, B6 = (socket.inet_pton(socket.AF_INET6, text) for text in ("2001:db8::1", "2001:db8::2"))
LETTERS = {"fire": "F", "act": "a", "silent": "."}


def answers(kind, count, seconds, times, track="by_src", rates=None):
    rates = rates or Rates.create(None, 1024)
    return "".join(LETTERS[rates.count(kind, track, count, seconds, 1, A, B, NOW + at)] for at in times)


# kind, count, seconds, times of the matches, answers (Suricata 7, "Thresholding Keywords")
KINDS = [
    ("limit", 1, 60, range(5), "Faaaa"),
    ("limit", 3, 60, range(6), "FFFaaa"),
    ("limit", 2, 10, [0, 1, 2, 10, 11, 12, 13], "FFaaFFa"),
    ("threshold", 1, 60, range(3), "FFF"),
    ("threshold", 3, 60, range(9), "..F..F..F"),
    ("threshold", 3, 10, [0, 5, 11, 12, 13], "....F"),
    ("threshold", 2, 10, [0, 1, 2, 11, 12], ".F..F"),
    ("both", 1, 60, range(4), "Faaa"),
    ("both", 3, 60, range(6), "..Faaa"),
    ("both", 2, 10, [0, 1, 2, 11, 12, 13], ".Fa.Fa"),
    ("both", 1, 10, [0, 1, 11, 12], "FaFa"),
    ("detection_filter", 1, 60, range(4), ".FFF"),
    ("detection_filter", 3, 60, range(6), "...FFF"),
    ("detection_filter", 2, 10, [0, 1, 2, 3, 11, 12, 13], "..FF..F"),
]


@pytest.mark.parametrize("kind, count, seconds, times, expected", KINDS)
def test_kinds(kind, count, seconds, times, expected):
    assert answers(kind, count, seconds, times) == expected


@pytest.mark.parametrize("at, expected", [(10.0, "Fa"), (10.000001, "FF"), (-5, "Fa"), (-6, "FF"), (-3600, "FF")])
def test_the_last_instant_of_a_window_still_belongs_to_it(at, expected):
    assert answers("limit", 1, 10, [0, at]) == expected


@pytest.mark.parametrize("track, same, other", [
    ("by_src", (A, C), (C, B)),
    ("by_dst", (C, B), (A, C)),
    ("by_both", (B, A), (A, C)),
    ("by_rule", (C, C), None),
])
def test_tracking(track, same, other):
    rates = Rates.create(None, 1024)
    assert rates.count("limit", track, 1, 60, 1, A, B, NOW) == "fire"
    assert rates.count("limit", track, 1, 60, 1, *same, NOW) == "act"
    assert rates.count("limit", track, 1, 60, 2, *same, NOW) == "fire", "another rule"
    if other:
        assert rates.count("limit", track, 1, 60, 1, *other, NOW) == "fire"


def test_ipv6_and_ipv4_do_not_meet():
    rates = Rates.create(None, 1024)
    assert rates.count("limit", "by_src", 1, 60, 1, A6, B6, NOW) == "fire"
    assert rates.count("limit", "by_src", 1, 60, 1, A6, B6, NOW) == "act"
    assert rates.count("limit", "by_src", 1, 60, 1, B6, A6, NOW) == "fire"
    assert rates.count("limit", "by_src", 1, 60, 1, A6[:4], B, NOW) == "fire"
    assert rates.counters()["used"] == 3


def test_in_a_full_bucket_the_oldest_window_gives_way():
    rates = Rates.create(None, 16)
    for host in range(16):
        rates.count("limit", "by_src", 1, 1000, 1, bytes([10, 0, 0, host]), B, NOW + host)
    assert rates.count("limit", "by_src", 1, 1000, 1, bytes([10, 0, 0, 99]), B, NOW + 20) == "fire"
    assert rates.counters() == {"used": 16, "size": 16, "displaced": 1, "rejected": 0}
    assert rates.count("limit", "by_src", 1, 1000, 1, bytes([10, 0, 0, 15]), B, NOW + 21) == "act"
    assert rates.count("limit", "by_src", 1, 1000, 1, bytes([10, 0, 0, 0]), B, NOW + 22) == "fire", "this one had to go"


def test_windows_that_are_over_give_way_uncounted():
    rates = Rates.create(None, 16)
    for host in range(40):
        rates.count("limit", "by_src", 1, 5, 1, bytes([10, 0, 0, host]), B, NOW + 10 * host)
    assert rates.counters() == {"used": 16, "size": 16, "displaced": 0, "rejected": 0}


def test_many_processes_count_together(tmp_path):
    path = str(tmp_path / "r")
    mine = Rates.create(path, 1024)
    assert mine.count("detection_filter", "by_rule", 40_000, 1000, 7, A, B, NOW) == "silent"
    pids = []
    for _ in range(4):
        pid = os.fork()
        if not pid:
            rates = Rates.open(path, writable=True)
            fired = sum(rates.count("detection_filter", "by_rule", 40_000, 1000, 7, A, B, NOW) == "fire" for _ in range(10_000))
            os._exit(min(fired, 255))
        pids.append(pid)
    fired = sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
    assert fired == 1, "40,001 matches were counted, none of them lost or twice"


def test_the_claim_of_a_dead_worker_does_not_hold_for_ever(tmp_path):
    path = tmp_path / "r"
    rates = Rates.create(str(path), 16)
    with open(path, "r+b") as stream:
        for tracker in range(16):
            stream.seek(192 + 64 * tracker)
            stream.write(struct.pack("<II", 1, NOW))
    assert rates.count("limit", "by_src", 1, 60, 1, A, B, NOW + 1) == "fire"
    assert rates.count("limit", "by_src", 1, 60, 1, A, B, NOW + 1) == "fire", "no tracker to be had"
    assert rates.counters()["rejected"] == 2
    assert rates.count("limit", "by_src", 1, 60, 1, A, B, NOW + 10) == "fire"
    assert rates.count("limit", "by_src", 1, 60, 1, A, B, NOW + 10) == "act"
    assert rates.counters()["rejected"] == 2


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "r"
    Rates.create(str(path), 1024)
    with open(path, "r+b") as stream:
        stream.seek(128)
        stream.write(struct.pack("<Q", 1 << 30))
    with pytest.raises(SharedMemoryError, match="do not fit"):
        Rates.open(str(path))


def test_a_table_opened_for_reading_does_not_count(tmp_path):
    path = str(tmp_path / "r")
    Rates.create(path, 1024)
    with pytest.raises(SharedMemoryError, match="writable=True"):
        Rates.open(path).count("limit", "by_src", 1, 60, 1, A, B, NOW)
