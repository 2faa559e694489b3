"""The order of the stages, seen through Replay: one verdict a packet, its events, its block, tunnels and policies."""

import socket
import struct

import dpkt
import pytest

from tigerfox._fast import Replay
from tigerfox.dataplane.blocks import Blocks
from tigerfox.dataplane.capture import Capture
from tigerfox.dataplane.image import CompiledRules
from tigerfox.dataplane.rates import Rates
from tigerfox.dataplane.stats import WorkerPage
from tigerfox.errors import ConfigError, UsageError
from tigerfox.ruleset.check import load_rules
from tigerfox.ruleset.compile import compile_rules

POLICIES = {"malformed": "drop", "unparsed": "drop", "no_verdict": "accept"}
ALERT = 'alert udp any any -> any 53 (msg:"seen"; sid:10;)'
DROP = 'drop udp any any -> any 7001 (msg:"closed"; block: none; sid:20;)'


def ip(data, proto=17, src="192.0.2.1", dst="198.51.100.2"):
    made = dpkt.ip.IP(src=socket.inet_aton(src), dst=socket.inet_aton(dst), p=proto, data=data)
    made.len = 20 + len(bytes(data))
    return bytes(made)


def udp(dport, sport=4000):
    return dpkt.udp.UDP(sport=sport, dport=dport, ulen=13, data=b"hello")


def frame(packet, ethertype=0x0800):
    return bytes(12) + struct.pack(">H", ethertype) + packet


class Run:
    """A replay of frames, one a second, under rule lines."""

    def __init__(self, folder, frames, rules=(), policies=None):
        capture, rule_file = folder / "in.pcap", folder / "in.rules"
        records = (struct.pack("<IIII", 1_700_000_000 + at, 0, len(one), len(one)) + one for at, one in enumerate(frames))
        capture.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(records))
        rule_file.write_text("\n".join(rules) + "\n")
        image = compile_rules(load_rules([rule_file]).rules).image
        self.page, self.blocks = WorkerPage.create(None), Blocks.create(None, 1024)
        self.reader = self.page.reader()
        self.replay = Replay(Capture(str(capture)), self.page, self.blocks, Rates.create(None, 1024),
                             CompiledRules.from_buffer(image, 1), policies or POLICIES)

    def events(self):
        """(kind, packet number, sid) of all events."""
        found = []
        more = True
        while more:
            more = self.replay.run()
            found += [(record.kind, record.number, record.sid) for record in self.reader.drain(1 << 20)]
        return found

    def counts(self):
        return self.page.snapshot()


@pytest.fixture
def replay(tmp_path):
    return lambda *arguments, **options: Run(tmp_path, *arguments, **options)


def test_every_packet_gets_one_verdict_one_reason_and_its_events(replay):
    run = replay([frame(ip(udp(53))), frame(ip(udp(7001))), frame(ip(udp(9)))], [ALERT, DROP])
    assert run.events() == [(1, 1, 10), (1, 2, 20), (2, 2, 20)]
    counts = run.counts()
    assert (counts["packets"], counts["accepted"], counts["dropped"], counts["alerts"]) == (3, 2, 1, 2)
    assert sum(counts["reasons"]) == 3


def test_drop_blocks_the_connection_both_ways_in_the_captures_own_time(replay):
    back = ip(dpkt.udp.UDP(sport=7001, dport=4000, ulen=13, data=b"hello"), src="198.51.100.2", dst="192.0.2.1")
    rule = 'drop udp any any -> any 7001 (msg:"closed"; block: connection, 2s; sid:20;)'
    run = replay([frame(ip(udp(7001))), frame(back), frame(ip(udp(7002))), frame(ip(udp(9))), frame(back)], [rule])
    assert run.events() == [(1, 1, 20), (2, 1, 20), (2, 2, 20)]
    assert run.counts()["blocks_added"] == 1


@pytest.mark.parametrize("outer, inner, dropped, events", [
    ([], 7001, 1, [(1, 1, 20), (2, 1, 20)]),
    ([], 53, 0, [(1, 1, 10)]),
    (['drop ip any any -> any any (msg:"tunnel"; ip_proto:4; block: none; sid:30;)'], 53, 1, [(1, 1, 30), (2, 1, 30)]),
])
def test_of_a_tunnel_and_its_load_the_stricter_verdict_holds(replay, outer, inner, dropped, events):
    run = replay([frame(ip(ip(udp(inner), src="10.0.0.1", dst="10.0.0.2"), proto=4))], [ALERT, DROP, *outer])
    assert run.events() == events
    assert run.counts()["dropped"] == dropped


def test_tunnel_in_a_tunnel_does_not_pass(replay):
    run = replay([frame(ip(ip(ip(udp(7001)), proto=4), proto=4))], [DROP])
    assert run.events() == [(2, 1, 0)]


@pytest.mark.parametrize("word, dropped", [("drop", 1), ("accept", 0)])
def test_malformed_packet_meets_the_policy(replay, word, dropped):
    run = replay([frame(ip(udp(53))[:20] + b"\0\1")], [ALERT], policies=POLICIES | {"malformed": word})
    assert len(run.events()) == dropped
    assert run.counts()["dropped"] == dropped and run.counts()["accepted"] == 1 - dropped


def test_faulty_headers_are_judged_by_what_can_be_read(replay):
    """Linux accepts a segment whose options are broken, so the rules must see it; a pass rule does not lift the policy."""
    segment = dpkt.tcp.TCP(sport=4000, dport=7001, opts=b"\x08\x63\0\0")
    segment.off = 6
    drop = 'drop tcp any any -> any 7001 (msg:"closed"; sid:40;)'
    stopped = replay([frame(ip(segment, proto=6))], [drop], policies=POLICIES | {"malformed": "accept"})
    assert stopped.events() == [(1, 1, 40), (2, 1, 40)] and stopped.counts()["blocks_added"] == 1
    passed = replay([frame(ip(segment, proto=6))], ["pass tcp any any -> any any (sid:41;)"], policies=POLICIES | {"malformed": "drop"})
    assert passed.events() == [(2, 1, 0)] and passed.counts()["dropped"] == 1


def test_frame_without_ip_passes_unjudged(replay):
    run = replay([frame(bytes(28), ethertype=0x0806)], [ALERT, DROP], policies=POLICIES | {"malformed": "drop"})
    assert run.events() == []
    assert run.counts()["accepted"] == 1


def test_no_event_is_lost_however_small_the_slices(replay):
    run = replay([frame(ip(udp(53))) for _ in range(2000)], [ALERT])
    numbers, turns, more = [], 0, True
    while more:
        more = run.replay.run(61)
        numbers += [record.number for record in run.reader.drain(1 << 20)]
        turns += 1
    assert numbers == list(range(1, 2001)) and run.reader.lost == 0 and turns > 30


def test_slice_too_small_for_one_packet_is_refused(replay):
    with pytest.raises(UsageError, match="61 events"):
        replay([frame(ip(udp(53)))], [ALERT]).replay.run(60)


def test_policy_must_be_there_and_be_a_verdict(replay):
    with pytest.raises(ConfigError, match="unparsed"):
        replay([], [ALERT], policies={"malformed": "drop"})
    with pytest.raises(ConfigError, match="perhaps"):
        replay([], [ALERT], policies=POLICIES | {"no_verdict": "perhaps"})
