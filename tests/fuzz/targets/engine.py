"""Packets through all stages, with rules that look into everything; every packet gets one verdict, and tables stay sound.

The first byte chooses. Even: an exchange (MARK changes the direction) sent whole and sent in other segments must alert the
same (what a body does not have is answered as it grows: no rule of these asks for that). Odd: records of segments.py, each
with up to 255 bytes of data behind it (a byte says how many).
"""

import random
import struct
import tempfile
from pathlib import Path

from cuts import pieces
from http1 import MARK, PIECES
from http1 import seeds as exchanges
from segments import MOST, Ends, Sender
from test_fuzz_app import DNS_SEEDS, TLS_SEEDS

from tigerfox._fast import Replay
from tigerfox.dataplane.blocks import Blocks
from tigerfox.dataplane.capture import Capture
from tigerfox.dataplane.detect import Detection
from tigerfox.dataplane.flow import Flows
from tigerfox.dataplane.image import CompiledRules
from tigerfox.dataplane.rates import Rates
from tigerfox.dataplane.session import SessionTable
from tigerfox.dataplane.stats import WorkerPage
from tigerfox.ruleset.check import load_rules
from tigerfox.ruleset.compile import compile_rules

POLICIES = {"malformed": "accept", "unparsed": "accept", "no_verdict": "drop"}
HTTP = """\
alert http any any -> any any (msg:"1"; http.method; content:"POST"; sid:1;)
alert http any any -> any any (msg:"2"; http.uri; content:"/b"; pcre:"/x=./R"; sid:2;)
alert http any any -> any any (msg:"3"; http.header; content:"Host"; nocase; http.cookie; content:"x"; sid:3;)
alert http any any -> any any (msg:"4"; flow:established,to_client; file.data; content:"hello"; sid:4;)
alert http any any -> any any (msg:"5"; flow:to_client; http.stat_code; content:"200"; file.data; content:"lo"; sid:5;)
alert http any any -> any any (msg:"6"; http.request_body; content:"hel"; content:"lo"; distance:0; within:2; sid:6;)
alert http any any -> any any (msg:"7"; http.user_agent; content:"u"; bsize:1; flowbits:set,seen; sid:7;)
alert http any any -> any any (msg:"8"; flow:to_client; flowbits:isset,seen; http.header_names; content:"Server"; sid:8;)
alert http any any -> any any (msg:"9"; http.host; content:"example"; endswith; http.uri.raw; content:"%"; sid:9;)
"""
REST = """\
alert dns any any -> any any (msg:"11"; dns.query; content:"example"; nocase; sid:11;)
alert tls any any -> any any (msg:"12"; tls.sni; dotprefix; content:".example.com"; endswith; sid:12;)
alert tls any any -> any any (msg:"13"; tls.certs; content:"|30 82|"; startswith; sid:13;)
alert tls any any -> any any (msg:"14"; ja3.string; content:"771"; sid:14;)
alert tcp any any -> any any (msg:"15"; content:"GET"; content:"HTTP"; distance:0; flowbits:toggle,odd; sid:15;)
alert tcp any any -> any any (msg:"16"; flow:established,only_stream; content:"a"; byte_test:1,>,64,0,relative; sid:16;)
alert tcp any any -> any any (msg:"17"; stream_size:client,>,100; content:!"zz"; sid:17;)
drop tcp any any -> any any (msg:"18"; content:"EVIL"; block:none; sid:18;)
alert tcp any any -> any any (msg:"19"; flow:not_established; flags:S; sid:19;)
alert udp any any -> any any (msg:"20"; content:"|c0 0c|"; byte_jump:2,0,relative; isdataat:1,relative; sid:20;)
pass tcp any any -> any any (msg:"21"; content:"PASSME"; sid:21;)
alert tcp any any -> any any (msg:"22"; app-layer-protocol:failed; sid:22;)
drop http any any -> any any (msg:"23"; http.uri; content:"/etc/passwd"; sid:23;)
"""
FOLDER = tempfile.TemporaryDirectory()
WORDS = [MARK, *PIECES, b"EVIL", b"PASSME", b"/etc/passwd", b"\xc0\x0c"]


def compiled(text, name):
    path = Path(FOLDER.name) / name
    path.write_text(text)
    return CompiledRules.from_buffer(compile_rules(load_rules([path]).rules).image, 1)


PLAIN, ALL = compiled(HTTP, "http.rules"), compiled(HTTP + REST, "all.rules")


def seeds():
    found = [b"\0" + one[1:] for one in exchanges()]
    for one in (*DNS_SEEDS, *TLS_SEEDS, b"GET /etc/passwd HTTP/1.1\r\n\r\n", b"EVIL", b"PASSMEEVIL"):
        whole = b"\1\0" + b"".join(bytes((0, 0, 0, 0, len(part))) + part for part in
                                   [one[at:at + 200] for at in range(0, len(one), 200)] + [b"x"])
        found += [whole, b"\3" + whole[1:], b"\5" + whole[1:]]
    return found


class Tables:
    """Flows, their sessions and what looks into them, made once: the next input comes an hour later, when all flows are over."""

    def __init__(self, midstream):
        self.flows, self.sessions = Flows.create(None, 16, midstream), SessionTable.create(2)
        self.blocks, self.rates, self.now = Blocks.create(None, 64), Rates.create(None, 64), 1_700_000_000
        self.detection = Detection(self.flows, self.sessions)


TABLES = {midstream: Tables(midstream) for midstream in (False, True)}


def judged(packets, rules, midstream=False):
    """Alerts of packets, (seconds, bytes), in one pass."""
    path, tables = Path(FOLDER.name) / "one.pcap", TABLES[midstream]
    tables.now += 3600 + (packets[-1][0] if packets else 0)
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + b"".join(
        struct.pack("<IIII", tables.now + at & 0xffffffff, 0, len(one), len(one)) + one for at, one in packets))
    page, events, going_on = WorkerPage.create(None, ring_slots=1024), [], True
    reader = page.reader()
    replay = Replay(Capture(str(path)), page, tables.blocks, tables.rates, rules, POLICIES, tables.detection)
    while going_on:
        going_on = replay.run()
        events += reader.drain(1024)
    counts = page.snapshot()
    assert counts["packets"] == counts["accepted"] + counts["dropped"] == len(packets)
    assert tables.flows.faults() == [] and 0 <= tables.sessions.used <= 2
    return {event.rule for event in events if event.kind == 1}


def exchange(parts, cut):
    """The packets of a connection whose sides say ``parts`` in turn."""
    sender, packets = Sender(), []
    packets += sender.handshake()
    for place, part in enumerate(parts):
        side = place & 1
        for piece in cut(part):
            packets.append(sender.ends.packet("cs"[side], "PA", sender.high[side], sender.high[1 - side], piece))
            sender.high[side] += len(piece)
    for side in (0, 1):
        packets.append(sender.ends.packet("cs"[side], "FA", sender.high[side], sender.high[1 - side]))
    return [(0, one) for one in packets]


def check(data):
    if len(data) < 2:
        return
    data = bytes(data)
    if data[0] & 1:
        mixed(data)
        return
    parts = data[2:].split(MARK)
    whole = judged(exchange(parts, lambda part: [part] if part else []), PLAIN)
    cut = judged(exchange(parts, lambda part: pieces(part, data[1])), PLAIN)
    assert whole == cut, (whole, cut)


def mixed(data):
    chosen, at, packets, now = data[0], 2, [], 0
    sender, beside = Sender(((1000, 5000), (2**32 - 4, 2**31 - 3))[chosen >> 4 & 1]), Ends(sport=5353, dport=53)
    packets += [] if chosen & 8 else sender.handshake()
    packets = [(0, one) for one in packets]
    while at + 5 <= len(data) and len(packets) < MOST:
        record, size = data[at:at + 4], data[at + 4]
        text = data[at + 5:at + 5 + size]
        at += 5 + size
        now += record[3] >> 6
        if chosen & 2:
            packets.append((now, beside.datagram("cs"[record[0] & 1], text)))
            chosen ^= (chosen & 4) >> 1
        else:
            packets.append((now, sender.packet(record, lambda side, seq, size, text=text: text)[1]))
    judged(packets, ALL, bool(chosen & 32))
