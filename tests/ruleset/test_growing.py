"""Negated contents while a message grows, and messages that are never finished: what Suricata 7.0.10 says, inline, and what we say.

A row has the first packet of its exchange with which each rule is told (0: behind the last one, when the flow is given up).
Suricata tells a rule of negated contents alone again with every further packet of the message; here each is told once a message.
"""

import json
import re
import shutil
import subprocess

import pytest
from exchanges import Capture
from growing import GET, HELLO, OK, PAGE, POST, QUERY, body, chunked, client, http, packed, page, rules_text

from bench.filters import SURICATA

# Why we say something else.
SOONER = "the match is complete with this packet, and must not pass; Suricata tells it with a later one, or behind the last"
OVER = "the rule can be told no sooner than with the end, and behind the last packet nothing is judged here"
CUT = "sooner too; and a server may take a head that a FIN cuts as whole, so its Host counts"
WINDOW = "the whole body is looked at; Suricata's window has left its beginning behind"
MOST = "Suricata counts the alerts of both requests against its 15 a packet"

# Before what in the benches' configuration: bodies as they come, and no size is drawn by lot.
NEUTRAL = {"response-body-limit": "http-body-inline: auto, randomize-inspection-sizes: no",
           "depth: 1mb": "randomize-chunk-size: no"}

CASES = [               # name, exchange, its end, what Suricata says, what we say instead, why
    ("body grows, evil last", body(b"user=a", b"&x=", b"evil"), "closed",
     {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 7: 10, 10: 12, 12: 4, 13: 4, 15: 4, 16: 12}, {}, None),
    ("body grows, clean", body(b"user=a", b"&x=", b"good"), "closed",
     {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 10: 12, 12: 4, 13: 4, 15: 4, 16: 12}, {}, None),
    ("body grows, evil first", body(b"evil&", b"user=a"), "closed",
     {3: 8, 5: 8, 6: 6, 8: 6, 10: 10, 12: 4, 13: 4, 15: 4, 16: 10}, {}, None),
    ("evil cut in two", body(b"user=a&ev", b"il"), "closed",
     {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 7: 8, 10: 10, 12: 4, 13: 4, 15: 4, 16: 10}, {}, None),
    ("evil far behind", body(b"user=a", b"&x=" + b"b" * 30, b"evil"), "closed",
     {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 7: 10, 10: 12, 12: 4, 13: 4, 15: 4, 16: 12}, {}, None),
    ("at once, clean", http((True, POST + b"Content-Length: 6\r\n\r\nuser=a"), OK), "closed",
     {1: 4, 2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 10: 6, 12: 4, 13: 4, 15: 4, 16: 6}, {}, None),
    ("at once, evil", http((True, POST + b"Content-Length: 11\r\n\r\nuser=a&evil"), OK), "closed",
     {5: 4, 7: 4, 10: 6, 12: 4, 13: 4, 15: 4, 16: 6}, {}, None),
    ("pipelined", http((True, (POST + b"Content-Length: 6\r\n\r\nuser=a") * 2), OK, OK), "closed",
     {1: 4, 2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 10: 6, 12: 4, 13: 4, 16: 6}, {15: 4}, MOST),
    ("chunks, evil last", chunked(b"6\r\nuser=a\r\n", b"5\r\n&evil\r\n", b"0\r\n\r\n"), "closed",
     {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 7: 8, 12: 4, 13: 4, 15: 4}, {}, None),
    ("large", body(b"user=" + b"a" * 40000, b"evil"), "closed",
     {1: 6, 2: 6, 3: 6, 4: 6, 7: 36, 8: 30, 10: 38, 12: 4, 13: 4, 15: 4, 16: 38}, {8: None}, WINDOW),
    ("page grows", page(b"<html>hello", b" more", b"</html>", size=23), "closed",
     {9: 8, 10: 8, 11: 4, 12: 4, 13: 4, 14: 4, 15: 4, 16: 6}, {}, None),
    ("page grows, bad", page(b"<html>hello", b" bad", b"</html>", size=22), "closed",
     {9: 8, 10: 8, 11: 4, 12: 4, 13: 4, 14: 4, 15: 4, 16: 6}, {}, None),
    ("packed page grows", packed(PAGE[:30], PAGE[30:60], PAGE[60:]), "closed",
     {9: 10, 10: 10, 11: 4, 12: 4, 13: 4, 14: 4, 15: 4, 16: 6}, {10: 8}, SOONER),
    ("body open", body(b"user=a", size=100, answer=False), "open",
     {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 12: 4, 13: 4, 15: 4}, {}, None),
    ("body open, evil", body(b"user=a", b"evil", size=100, answer=False), "open",
     {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 7: 8, 12: 4, 13: 4, 15: 4}, {}, None),
    ("body open, closed", body(b"user=a", size=100, answer=False), "closed",
     {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 12: 4, 13: 4, 15: 4}, {}, None),
    ("body open, half", body(b"user=a", size=100, answer=False), "half",
     {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 12: 4, 13: 4, 15: 4}, {}, None),
    ("body open, reset", body(b"user=a", size=100, answer=False), "reset",
     {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 12: 4, 13: 4, 15: 4}, {}, None),
    ("no byte of a body", body(size=6, answer=False), "open", {12: 4, 13: 4, 15: 4}, {}, None),
    ("chunks open", chunked(b"6\r\nuser=a\r\n"), "open", {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 12: 4, 13: 4, 15: 4}, {}, None),
    ("chunk cut", chunked(b"20\r\nuser=a"), "open", {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 12: 4, 13: 4, 15: 4}, {}, None),
    ("head open", http((True, GET[:-2])), "open", {11: 4, 12: 4, 13: 0, 14: 0}, {13: None, 14: None}, OVER),
    ("head open, closed", http((True, GET[:-2])), "closed", {11: 4, 12: 4, 13: 8, 14: 8}, {13: 6, 14: 6, 15: 6}, CUT),
    ("head cut in a field", http((True, GET[:-8])), "open", {11: 4, 12: 4, 13: 0}, {13: None}, OVER),
    ("head cut in a field, closed", http((True, GET[:-8])), "closed", {11: 4, 12: 4, 13: 8}, {13: 6, 14: 6, 15: 6}, CUT),
    ("line without its end", http((True, GET[:18])), "open", {11: 0, 12: 0}, {11: None, 12: None}, OVER),
    ("line without its end, closed", http((True, GET[:18])), "closed", {11: 8, 12: 8}, {11: 6, 12: 6}, SOONER),
    ("line alone", http((True, GET[:20])), "open", {11: 0, 12: 0}, {11: 4, 12: 4}, SOONER),
    ("line alone, closed", http((True, GET[:20])), "closed", {11: 8, 12: 8}, {11: 4, 12: 4}, SOONER),
    ("page open", page(b"<html>hello", size=100), "open", {9: 8, 10: 8, 11: 4, 12: 4, 13: 4, 14: 4, 15: 4, 16: 6}, {}, None),
    ("page open, closed", page(b"<html>hello", size=100), "closed",
     {9: 8, 10: 8, 11: 4, 12: 4, 13: 4, 14: 4, 15: 4, 16: 6}, {}, None),
    ("page to the end", page(b"<html>hello", b"</html>"), "closed",
     {9: 8, 10: 8, 11: 4, 12: 4, 13: 4, 14: 4, 15: 4, 16: 6}, {}, None),
    ("page to the end, open", page(b"<html>hello"), "open", {9: 8, 10: 8, 11: 4, 12: 4, 13: 4, 14: 4, 15: 4, 16: 6}, {}, None),
    ("packed page open", packed(PAGE[:-30]), "open",
     {9: 0, 10: 0, 11: 4, 12: 4, 13: 4, 14: 4, 15: 4, 16: 6}, {9: 8, 10: 8}, SOONER),
    ("answer's head open", http((True, GET), (False, b"HTTP/1.1 200 OK\r\nServer: x\r\n")), "open",
     {11: 4, 12: 4, 13: 4, 14: 4, 15: 4, 16: 6}, {}, None),
    ("answer's line without its end", http((True, GET), (False, b"HTTP/1.1 200 OK")), "open",
     {11: 4, 12: 4, 13: 4, 14: 4, 15: 4, 16: 0}, {16: None}, OVER),
    ("answer's line without its end, closed", http((True, GET), (False, b"HTTP/1.1 200 OK")), "closed",
     {11: 4, 12: 4, 13: 4, 14: 4, 15: 4, 16: 0}, {16: 9}, SOONER),
    ("stream grows, evil last", client(9000, b"user=a", b"&x=", b"evil"), "closed", {21: 4, 22: 4, 24: 4}, {}, None),
    ("stream grows, clean", client(9000, b"user=a", b"&x=", b"good"), "closed", {21: 4, 22: 4, 24: 4}, {}, None),
    ("stream grows, evil first", client(9000, b"evil=", b"user=a", b"good"), "closed", {22: 6, 23: 4, 24: 6}, {}, None),
    ("stream, evil cut in two", client(9000, b"us", b"er=a e", b"vil"), "open", {21: 6, 22: 6, 24: 6}, {}, None),
    ("hello in two", client(443, HELLO[:40], HELLO[40:]), "open", {31: 6, 32: 6, 33: 6}, {}, None),
    ("hello cut", client(443, HELLO[:-5]), "open", {}, {}, None),
    ("hello cut, closed", client(443, HELLO[:-5]), "closed", {}, {}, None),
    ("query in two", client(53, QUERY[:9], QUERY[9:]), "open", {34: 6}, {}, None),
    ("query cut, closed", client(53, QUERY[:-3]), "closed", {}, {}, None),
    ("version in two", client(22, b"SSH-2.0-evi", b"l_1\r\n"), "open", {35: 6}, {}, None),
    ("version without its end, closed", client(22, b"SSH-2.0-evil"), "closed", {}, {}, None),
]


def captured():
    """The capture of all rows, and for each its client port and how many packets stand before it."""
    capture, places = Capture(), []
    for _, exchange, end, *_ in CASES:
        places.append((len(capture.packets), capture.add(exchange, end)))
    return capture, [(port, before) for before, port in places]


def firsts(events, before):
    """{sid: the first packet of an exchange that it is told with, 0 behind the last}."""
    found = {}
    for event in events:
        if event["event_type"] == "alert":
            packet = event["pcap_cnt"] - before if event.get("pcap_cnt") else 0
            found.setdefault(event["alert"]["signature_id"], []).append(packet)
    return {sid: min(filter(None, packets), default=0) for sid, packets in found.items()}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """What replay says of every row."""
    folder = tmp_path_factory.mktemp("growing")
    (folder / "made.rules").write_text(rules_text())
    capture, places = captured()
    found = capture.replay(folder, "--rules", folder / "made.rules", "--no-cache")
    return {row[0]: firsts(found.get(port, []), before) for row, (port, before) in zip(CASES, places, strict=True)}


@pytest.mark.parametrize(("name", "suricata", "instead", "why"), [(row[0], *row[3:]) for row in CASES],
                         ids=[row[0] for row in CASES])
def test_rules_are_told_with_the_packet_of_suricata_or_sooner(ours, name, suricata, instead, why):
    assert ours[name] == {sid: packet for sid, packet in {**suricata, **instead}.items() if packet is not None}
    late = {sid for sid, packet in instead.items() if packet and suricata.get(sid) and packet > suricata[sid]}
    assert not late and bool(instead) == bool(why)


def installed():
    """The version of Suricata that is here."""
    if shutil.which("suricata") is None:
        return None
    return re.search(r"[0-9.]+", subprocess.run(["suricata", "-V"], capture_output=True, text=True, check=False).stdout)[0]


@pytest.mark.skipif(installed() != "7.0.10", reason="Suricata 7.0.10 is not here, whose word the rows are")
def test_rows_are_what_suricata_says(tmp_path):
    capture, places = captured()
    (tmp_path / "made.rules").write_text(rules_text())
    settings = SURICATA.format(folder=tmp_path)
    for place, more in NEUTRAL.items():
        settings = settings.replace(place, f"{more}, {place}")
    (tmp_path / "suricata.yaml").write_text(settings)
    command = ["suricata", "-c", tmp_path / "suricata.yaml", "-r", capture.write(tmp_path), "-S", tmp_path / "made.rules",
               "-l", tmp_path, "-k", "none", "--runmode", "single", "--simulate-ips"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = {}
    for line in (tmp_path / "eve.json").read_text().splitlines():
        event = json.loads(line)
        found.setdefault(max(event["src_port"], event["dest_port"]), []).append(event)
    said = {row[0]: firsts(found.get(port, []), before) for row, (port, before) in zip(CASES, places, strict=True)}
    assert said == {row[0]: row[3] for row in CASES}
