"""The shipped inspectors on captures: each stops what it is for, however slow, and is silent about what is ordinary."""

import base64
import hashlib

import pytest

from tests.inspectors.timeline import Judged, Timeline, hello, query
from tigerfox.errors import CaptureError

SERVER, OUT = "10.1.2.3", "198.51.100.9"
HOSTILE = {                          # captures of the corpus that show what an inspector is for
    "et-ndpi-dns-tunnel-iodine": "dns-tunnel",           # iodine at work
    "et-zeek-rotation": "slow-source",                   # SYNs to one port after the other
}
ASKED = 20                           # captures in which an inspector has to be asked for its silence to mean anything


def digest(number):
    return hashlib.sha256(str(number).encode()).digest()


def letters(number, count):
    """Data as a tunnel puts it into a name."""
    return base64.b32encode(digest(number) * 2).decode().lower()[:count]


@pytest.fixture
def judged(tmp_path):
    def judge(line, name, *options, **variables):
        found = Judged(line.write(tmp_path / "made.pcap"), name, *options, **variables)
        assert found.raised == found.counts["notes_lost"] == 0
        return found
    return judge


@pytest.fixture
def names(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("# watched\nwatched.example\n*.bad.example   # and below\n")
    return file


# DNS tunnels

def tunnel(seconds=5.0, count=100, domain="tunnel.example", ask=Timeline.ask, **more):
    line = Timeline()
    for number in range(count):
        ask(line, f"{letters(number, 50)}.{letters(number + 1000, 20)}.{domain}", **more)
        line.wait(seconds)
    return line


def over_tcp(line, name, size=1400, **_):
    message = query(name)
    line.connection("10.0.0.5", "192.0.2.53", 53, (True, len(message).to_bytes(2, "big") + message), size=size)


@pytest.mark.parametrize("line", [
    tunnel(), tunnel(seconds=40), tunnel(domain="tunnel.co.uk"), tunnel(port=5353), tunnel(kind=1),
    tunnel(ask=over_tcp), tunnel(ask=lambda line, name: over_tcp(line, name, size=11)),
], ids=["quick", "slow", "below a shared name", "another port", "addresses", "TCP", "TCP in pieces"])
def test_a_tunnel_is_found(judged, line):
    found = judged(line, "dns-tunnel")
    assert found.dropped >= 25, "from about the 30th name on"
    assert found.drops["inspector"] == found.dropped


def test_only_the_tunnel_is_held_and_not_for_ever(judged):
    line = tunnel()
    line.ask("a-long-name-that-everybody-may-ask-for.of-another.example")
    before = judged(line, "dns-tunnel").dropped
    line.wait(4000)
    line.ask(f"{letters(1, 50)}.tunnel.example")
    assert judged(line, "dns-tunnel").dropped == before
    assert 60 < before < 90


def test_a_tunnel_blocks_its_source_where_that_is_wished(judged):
    found = judged(tunnel(), "dns-tunnel", "block=60")
    assert found.counts["blocked"] and found.drops["blocked_source"]


def ordinary_names():
    """(what, Timeline) of names that are asked for every day."""
    made = {
        "one CDN, repeated": [f"{letters(number % 30, 30)}.cdn.example" for number in range(600)],
        "many zones": [f"{letters(number, 40)}.host{number}.example" for number in range(300)],
        "readable names": [f"www{number}.department-of-something.with-a-long-name.example" for number in range(300)],
        "reverse IPv6": [f"{'.'.join(digest(number).hex()[:32])}.ip6.arpa" for number in range(300)],
        "block lists": [f"{number}.2.0.192.a-list-with-a-long-name.zen.spamhaus.example" for number in range(255)],
        "a few": [f"{letters(number, 50)}.tunnel.example" for number in range(30)],
        "what is trusted": [f"{letters(number, 50)}.av.example" for number in range(300)],
    }
    for what, names in made.items():
        line = Timeline()
        for name in names:
            line.ask(name)
            line.wait(7)
        yield pytest.param(line, id=what)


@pytest.mark.parametrize("line", list(ordinary_names()))
def test_ordinary_names_are_none(judged, line):
    found = judged(line, "dns-tunnel", "trusted=av.example")
    assert found.asked >= 30
    assert found.dropped == 0


# Slow sources

def scan(seconds, count=14, attempt=Timeline.refused):
    line = Timeline()
    for number in range(count):
        attempt(line, OUT, f"10.1.2.{number % 7}", 1000 + number)
        line.wait(seconds)
    return line


@pytest.mark.parametrize("attempt", [Timeline.refused, Timeline.unanswered], ids=["refused", "unanswered"])
@pytest.mark.parametrize("seconds", [0.5, 60, 1800])
def test_a_scan_is_found_however_slow(judged, seconds, attempt):
    found = judged(scan(seconds, 80 if seconds < 1 else 14, attempt), "slow-source")
    assert found.counts["blocked"] >= 1
    assert found.drops["blocked_source"] >= 1


def test_a_scan_that_hits_some_is_found(judged):
    line = Timeline()
    for number in range(30):
        line.connection(OUT, SERVER, 80) if number % 5 == 0 else line.refused(OUT, SERVER, 1000 + number)
        line.wait(600)
    assert judged(line, "slow-source").counts["blocked"] >= 1


def login(line, user, status, basic=True, client=OUT):
    if basic:
        word = base64.b64encode(f"{user}:secret".encode())
        request = b"GET /mail HTTP/1.1\r\nHost: a\r\nAuthorization: Basic " + word + b"\r\n\r\n"
    else:
        body = f"user={user}&password=secret".encode()
        request = b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    answer = b"HTTP/1.1 %d x\r\nContent-Length: 2\r\n\r\nok" % status
    line.connection(client, SERVER, 80, (True, request), (False, answer))


@pytest.mark.parametrize("basic", [True, False], ids=["basic", "form"])
@pytest.mark.parametrize("seconds", [1, 1800])
def test_stolen_passwords_are_found_however_slow(judged, basic, seconds):
    line = Timeline()
    for number in range(30):
        login(line, f"user{number}", 200 if number % 10 == 9 else 401, basic)
        line.wait(seconds)
    found = judged(line, "slow-source")
    assert found.counts["blocked"] >= 1


def ordinary_connections():
    """(what, Timeline) of sources that are no scanners."""
    line = Timeline()
    for number in range(200):
        line.connection(OUT, f"10.1.2.{number % 9}", 443, (True, b"hello"), (False, b"hello"))
        line.wait(60)
    yield pytest.param(line, id="it is served")
    line = Timeline()
    for _ in range(200):
        line.refused(OUT, SERVER, 25)
        line.wait(60)
    yield pytest.param(line, id="one port again and again")
    line = Timeline()
    for number in range(60):
        line.refused(OUT, SERVER, 2000 + number) if number % 3 == 0 else line.connection(OUT, "10.1.2.9", 8000 + number)
        line.wait(60)
    yield pytest.param(line, id="a third fails")
    line = Timeline()
    for number in range(60):
        line.refused(f"198.51.100.{number}", SERVER, 3000 + number)
        line.wait(60)
    yield pytest.param(line, id="each of many fails once")
    line = Timeline()
    for number in range(7):
        line.refused(OUT, SERVER, 3000 + number)
    line.wait(100_000)
    line.refused(OUT, SERVER, 3100)
    yield pytest.param(line, id="the day before is forgotten")
    for basic in (True, False):
        line = Timeline()
        for _ in range(30):
            login(line, "somebody", 401, basic)
        yield pytest.param(line, id=f"one forgot a password, {basic}")
        line = Timeline()
        for number in range(60):
            login(line, f"user{number}", 401 if number % 3 == 0 else 200, basic)
        yield pytest.param(line, id=f"an office behind one address, {basic}")


@pytest.mark.parametrize("line", list(ordinary_connections()))
def test_ordinary_sources_are_none(judged, line):
    found = judged(line, "slow-source")
    assert found.asked >= 14
    assert found.dropped == 0


# Watched names

def secure(*names, size=1400, padding=0, port=443, before=()):
    line = Timeline()
    line.connection("10.0.0.5", OUT, port, *before, (True, hello(*names, padding=padding)), size=size)
    return line


@pytest.mark.parametrize("line", [
    secure("watched.example"), secure("WWW.Watched.EXAMPLE"), secure("a.b.bad.example"), secure("watched.example", size=3),
    secure("watched.example", size=100, padding=4000), secure("watched.example", port=993), secure("fine.example", padding=9000),
    secure("fine.example", padding=15000, size=20000), secure("fine.example", "watched.example"),
], ids=["its name", "in any letters", "below", "in pieces", "behind much else", "another port", "too long", "too long, at once", "two"])
def test_a_watched_name_is_stopped(judged, names, line):
    found = judged(line, "tls-watch", f"file={names}")
    assert found.dropped >= 1


def test_segments_of_a_hello_in_any_order(judged, names):
    line = secure("watched.example", size=40)
    syn, begun = line.packets[:3], line.packets[3:]
    line.packets = syn + [(when, packet) for (when, _), (_, packet) in zip(begun, [begun[1], begun[0], *begun[2:]], strict=True)]
    assert judged(line, "tls-watch", f"file={names}").dropped == 1


@pytest.mark.parametrize("line", [
    secure("fine.example"), secure("unwatched.example"), secure("watched.example.org"), secure("example"), secure(),
    secure("fine.example", padding=4000), secure("fine.example", size=3), secure("notbad.example", port=993),
], ids=["another", "ends like it", "begins like it", "above it", "none", "much else", "in pieces", "another port"])
def test_other_names_pass(judged, names, line):
    found = judged(line, "tls-watch", f"file={names}")
    assert found.asked >= 1
    assert found.dropped == 0


# All that is ordinary in the corpus

@pytest.mark.corpus
@pytest.mark.parametrize("name", ["dns-tunnel", "slow-source", "tls-watch"])
def test_silent_on_what_is_ordinary(corpus, names, name):
    """Every capture that has packets of its rules, both ends at home and outside; what a capture shows on purpose aside."""
    options = [f"file={names}"] if name == "tls-watch" else []
    asked, dropped = 0, []
    for capture in sorted([*corpus.glob("cases/*/input.pcap"), *corpus.glob("robustness/*.pcap*")]):
        if "http-evader" in capture.parent.name or capture.suffix == ".jsonl":
            continue
        try:
            found = Judged(capture, name, *options, home="any", outside="any")
        except CaptureError:
            continue
        asked += found.asked > 0
        if found.dropped or found.raised:
            dropped.append(capture.parent.name)
    assert asked >= ASKED
    assert dropped == [case for case, what in HOSTILE.items() if what == name]
