"""What the shipped inspectors keep is bounded and expires, whatever keys an attacker sends; lists are taken whole."""

import logging
import os

import pytest

from tests.inspectors.timeline import ACK, PSH, SYN, datagram, hello, query, segment
from tigerfox.inspectors import Packet
from tigerfox.inspectors.dnstunnel import DOMAINS, DnsTunnel, question, registered
from tigerfox.inspectors.flowstates import States
from tigerfox.inspectors.segments import RUNS, Segments
from tigerfox.inspectors.slowsource import CONTACTS, SOURCES, SlowSource, Walk
from tigerfox.inspectors.tlswatch import NameList, TlsWatch, hello_names
from tigerfox.inspectors.tlswatch import CONNECTIONS as HELLOS


# States

def test_states_expire_and_give_way():
    states = States(capacity=3, seconds=10, make=list)
    first = states.get("a", 0.0)
    first.append(1)
    assert states.get("a", 9.0) is first
    assert states.get("a", 20.0) == [], "10 s after the last look it is forgotten"
    for key in "bcd":
        states.get(key, 21.0)
    assert (len(states), states.evicted) == (3, 1)
    assert states.get("e", 40.0) == [] and states.evicted == 1, "what is over makes room first"
    for number in range(10):
        states.get("e", 41.0 + number / 100)
    assert len(states) == 1


def test_the_one_asked_for_longest_ago_gives_way():
    states = States(capacity=2, seconds=10)
    old, new = states.get("old", 0.0), states.get("new", 1.0)
    assert states.get("old", 2.0) is old
    states.get("third", 3.0)
    assert states.get("old", 3.0) is old
    assert states.get("new", 3.0) is not new


def test_states_of_domains_are_bounded():
    inspect = DnsTunnel()
    for number in range(DOMAINS + 100):
        packet = datagram("10.0.0.5", 4000, "192.0.2.53", 53, query(f"a-name-of-some-length-as-rules-want.zone{number}.example{number}"))
        assert inspect(Packet.of(packet, 1000.0 + number / 1000)) is None
    assert (len(inspect.domains), inspect.domains.evicted) == (DOMAINS, 100)


def test_states_of_sources_are_bounded():
    inspect = SlowSource(seconds="60")
    for number in range(SOURCES + 100):
        source = f"198.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        inspect(Packet.of(segment(source, 4000, "10.1.2.3", 80, SYN), 1000.0 + number / 1000))
    assert (len(inspect.sources), inspect.sources.evicted) == (SOURCES, 100)
    for number in range(SOURCES):
        inspect(Packet.of(segment("203.0.113.9", 4000, "10.1.2.3", 80, SYN), 2000.0 + number / 1000))
    assert len(inspect.sources) == 1, "an hour without a packet, and it is forgotten"


def test_contacts_of_a_source_are_bounded():
    walk = Walk()
    for number in range(1000):
        walk.begin(("10.0.0.1", number), number)
    assert (len(walk.waiting), len(walk.known), walk.steps) == (CONTACTS, CONTACTS, 1000 - CONTACTS)


def test_hellos_are_bounded(tmp_path):
    (tmp_path / "names").write_text("a.example\n")
    inspect = TlsWatch(str(tmp_path / "names"))
    for number in range(HELLOS + 10):
        packet = segment("10.0.0.5", 1024 + number, "198.51.100.9", 443, PSH | ACK, data=hello("b.example")[:20])
        inspect(Packet.of(packet, 1000.0))
    assert (len(inspect.connections), inspect.connections.evicted) == (HELLOS, 10)


# Segments

def put(segments, place, data):
    return segments.add(Packet.of(segment("10.0.0.5", 4000, "198.51.100.9", 443, PSH | ACK, place % (1 << 32), data=data)))


@pytest.mark.parametrize("start", [1000, (1 << 32) - 5])
def test_segments_in_any_order_and_twice(start):
    segments = Segments(100)
    assert put(segments, start + 6, b"ghi") == b"ghi"
    assert put(segments, start, b"abc") == b"abc"
    assert put(segments, start, b"abcd") == b"abcd"
    assert put(segments, start + 2, b"cdefg") == b"abcdefghi"
    assert not segments.full


def test_segments_are_bounded():
    segments = Segments(10)
    assert put(segments, 0, b"a" * 8) == b"a" * 8
    assert put(segments, 8, b"b" * 8) == b"a" * 8 + b"b" * 2
    assert segments.full
    gaps = Segments(1000)
    for number in range(RUNS + 1):
        assert not gaps.full
        put(gaps, number * 3, b"x")
    assert gaps.full


# Names

@pytest.mark.parametrize(("name", "domain"), [
    ("a.b.example.org", "example.org"), ("example.org", "example.org"), ("org", "org"), ("a.b.example.co.uk", "example.co.uk"),
    ("co.uk", "co.uk"), ("a.co.example", "co.example"), ("a.de.com", "de.com")])
def test_registered_domain(name, domain):
    assert registered(name) == domain


@pytest.mark.parametrize("cut", range(len(query("a.example"))))
def test_a_question_cut_short_is_none(cut):
    assert question(query("a.example")[:cut]) in ("", "a.example")


def test_what_is_no_question():
    message = query("a.example")
    assert question(message) == "a.example"
    assert question(message[:2] + b"\x81" + message[3:]) == "", "an answer"
    assert question(message[:12] + b"\xc0\x0c" + message[14:]) == "", "a pointer"
    assert question(message[:12] + b"\x3fa" * 200) == "", "too long"


@pytest.mark.parametrize("cut", range(len(hello("a.example"))))
def test_a_hello_cut_short_is_waited_for(cut):
    assert hello_names(hello("a.example")[:cut]) is None


def test_hellos():
    whole = hello("a.example", "b.example")
    assert hello_names(whole) == ["a.example", "b.example"]
    assert hello_names(whole[:4] + b"\x10" + whole[5:21] + b"\x16\3\1" + (len(whole) - 21).to_bytes(2, "big") + whole[21:]) == \
        ["a.example", "b.example"], "in two records"
    assert hello_names(b"GET / HTTP/1.1\r\n") == []
    assert hello_names(b"\x16\3\3\0\4\2\0\0\0") == [], "a server's"
    for place in range(5, len(whole)):
        assert isinstance(hello_names(whole[:place] + b"\xff" + whole[place + 1:]), list | None)


# The list

@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "tigerfox.inspectors")
    return caplog


def test_a_list_that_changes_is_taken_whole(tmp_path, said):
    file = tmp_path / "names"
    file.write_text("a.example\n")
    names = NameList(str(file), 0.0)
    assert "www.A.example." in names and "b.example" not in names
    other = tmp_path / "other"
    other.write_text("b.example\n")
    os.replace(other, file)
    names.refresh()
    assert "a.example" not in names and "b.example" in names
    assert "1 names, read again" in said.text


@pytest.mark.parametrize(("content", "words"), [
    (b"a b\n", "line 1 is no name: 'a b'"), (b"ok.example\nhttp://x\n", "line 2"), (b"a.exam", "no end"), (b"", "no end"),
    (b"# none\n", "no name in it"), (b"\xff\xfe\n", "ascii"), (None, "No such file")])
def test_a_broken_list_is_said_once_and_the_old_one_holds(tmp_path, said, content, words):
    file = tmp_path / "names"
    file.write_text("a.example\n")
    names = NameList(str(file), 0.0)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    for _ in range(3):
        names.refresh()
    assert "a.example" in names
    assert said.text.count("the 1 names of before hold") == 1 and words in said.text
    file.write_text("b.example\nc.example\n")
    names.refresh()
    assert "b.example" in names and "a.example" not in names


def test_the_file_is_not_looked_at_more_often_than_wished(tmp_path):
    file = tmp_path / "names"
    file.write_text("a.example\n")
    names = NameList(str(file), 1000.0)
    file.write_text("bb.example\n")
    names.refresh()
    assert "a.example" in names
