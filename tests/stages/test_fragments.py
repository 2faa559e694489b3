"""Fragments through all stages (Replay): what is hidden in pieces is judged, and what was stopped stays stopped."""

import struct

import pytest
from packets import extension, fragment6, gre, ipv4, ipv6, tcp, udp

from tigerfox._fast import Replay
from tigerfox.dataplane.blocks import Blocks
from tigerfox.dataplane.capture import Capture
from tigerfox.dataplane.image import CompiledRules
from tigerfox.dataplane.rates import Rates
from tigerfox.dataplane.reason import reason_number
from tigerfox.dataplane.stats import WorkerPage
from tigerfox.ruleset.check import load_rules
from tigerfox.ruleset.compile import compile_rules

CLOSED = {"malformed": "accept", "unparsed": "drop", "no_verdict": "drop"}
OPEN = CLOSED | {"unparsed": "accept"}
DROP_7001 = 'drop udp any any -> any 7001 (msg:"closed"; block: none; sid:20;)'
ALERT_53 = 'alert udp any any -> any 53 (msg:"seen"; sid:10;)'


class Run:
    """Packets, a tenth of a second apart unless ``times`` (seconds) says otherwise, under rule lines."""

    def __init__(self, folder, packets, rules, policies, times=None, snaplen=1 << 16):
        capture, rule_file = folder / "in.pcap", folder / "in.rules"
        times = times or [number / 10 for number in range(len(packets))]
        records = (struct.pack("<IIII", 1_700_000_000 + int(at), round(at % 1 * 1e6), min(len(one), snaplen), len(one)) + one[:snaplen]
                   for at, one in zip(times, packets, strict=True))
        capture.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + b"".join(records))
        rule_file.write_text("\n".join(rules) + "\n")
        page = WorkerPage.create(None)
        reader = page.reader()
        image = CompiledRules.from_buffer(compile_rules(load_rules([rule_file]).rules).image, 1)
        replay = Replay(Capture(str(capture)), page, Blocks.create(None, 1024), Rates.create(None, 1024), image, policies)
        while replay.run():
            pass
        events = reader.drain(1 << 20)
        self.alerts = [(event.number, event.sid) for event in events if event.kind == 1]
        self.drops = [(event.number, event.sid) for event in events if event.kind == 2]
        self.events, self.counts = events, page.snapshot()

    def reason(self, name):
        return self.counts["reasons"][reason_number(name)]


@pytest.fixture
def run(tmp_path):
    return lambda packets, rules=(), policies=CLOSED, **options: Run(tmp_path, packets, rules, policies, **options)


def parts4(proto, data, *cuts, **options):
    """The datagram cut at these places."""
    ends = [*cuts, len(data)]
    return [ipv4(proto, data[start:end], offset=start, flags=int(end < len(data)), ident=77, **options)
            for start, end in zip([0, *cuts], ends, strict=True)]


def parts6(proto, data, *cuts):
    ends = [*cuts, len(data)]
    return [ipv6(44, fragment6(proto, data[start:end], offset=start, more=end < len(data), ident=77))
            for start, end in zip([0, *cuts], ends, strict=True)]


@pytest.mark.parametrize("parts", [parts4, parts6])
def test_port_that_shows_in_the_first_fragment_stops_the_datagram_at_once(run, parts):
    done = run(parts(17, udp(4000, 7001, bytes(64)), 24, 48), [DROP_7001])
    assert done.drops == [(1, 20), (2, 20), (3, 20)] and done.alerts == [(1, 20)]
    assert done.reason("drop_rule") == 1 and done.reason("fragment_dropped") == 2


@pytest.mark.parametrize("parts", [parts4, parts6])
def test_first_fragment_last(run, parts):
    first, middle, last = parts(17, udp(4000, 7001, bytes(64)), 24, 48)
    done = run([middle, last, first, middle, last], [DROP_7001])
    assert done.drops == [(3, 20), (4, 20), (5, 20)]


@pytest.mark.parametrize("parts", [parts4, parts6])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_alert_is_given_once_with_the_packet_that_completes(run, parts, order):
    parts = parts(17, udp(4000, 53, bytes(64)), 24, 48)
    done = run([parts[i] for i in order], [ALERT_53])
    assert done.alerts == [(3, 10)] and done.counts["dropped"] == 0
    assert (done.events[0].sport, done.events[0].dport) == (4000, 53)
    assert done.counts["fragments_completed"] == 1


@pytest.mark.parametrize("wrap", [lambda inner: (4, inner), lambda inner: (47, gre(0x0800, inner))])
@pytest.mark.parametrize("parts", [parts4, parts6])
def test_port_inside_a_tunnel_that_only_the_whole_shows(run, parts, wrap):
    """The part before the last shows nothing; whoever holds back the last fragment and sends it again gains nothing."""
    proto, data = wrap(ipv4(17, udp(4000, 7001, bytes(200))))
    pieces = parts(proto, data, 128)
    done = run([*pieces, pieces[1], pieces[0]], [DROP_7001])
    assert done.drops == [(2, 20), (3, 20), (4, 20)]
    assert run(parts(proto, data, 128), ['drop udp any any -> any 7002 (sid:1;)']).drops == []


def test_fragments_inside_a_tunnel(run):
    pieces = [ipv4(4, part) for part in parts4(17, udp(4000, 7001, bytes(64)), 24, 48)]
    done = run([pieces[2], pieces[1], pieces[0], pieces[1]], [DROP_7001])
    assert done.drops == [(3, 20), (4, 20)]
    alone = run([ipv4(4, part) for part in parts4(17, udp(4000, 53, bytes(64)), 24, 48)], [ALERT_53])
    assert alone.alerts == [(3, 10)] and alone.drops == []


def test_fragments_of_a_tunnel_with_fragments(run):
    inner = parts4(17, udp(4000, 53, bytes(400)), 208)
    pieces = [part for ident, one in enumerate(inner) for part in
              (ipv4(4, one[:104], flags=1, ident=ident), ipv4(4, one[104:], offset=104, ident=ident))]
    assert run(pieces, [ALERT_53]).alerts == [(4, 10)]
    assert run(pieces, ['drop udp any any -> any 53 (sid:20;)']).drops == [(2, 20), (4, 20)]


def test_payload_length_is_that_of_the_whole(run):
    rule = 'drop udp any any -> any any (dsize:>100; block: none; sid:30;)'
    done = run(parts4(17, udp(1, 2, bytes(120)), 64, 96), [rule])
    assert done.drops == [(3, 30)]
    assert run(parts4(17, udp(1, 2, bytes(90)), 64), [rule, 'alert udp any any -> any any (dsize:<80; sid:31;)']).events == []


def test_what_the_ip_header_says_is_told_of_every_fragment(run):
    done = run(parts4(17, udp(1, 2, bytes(120)), 64, 96), ['alert ip any any -> any any (fragbits:M; sid:1;)'])
    assert done.alerts == [(1, 1), (2, 1)]
    done = run(parts4(17, udp(1, 2, bytes(120)), 64, 96), ['alert ip any any -> any any (fragoffset:>0; sid:1;)'])
    assert done.alerts == [(2, 1), (3, 1)]


def test_threshold_counts_the_packet_and_not_its_parts(run):
    rule = 'alert udp any any -> any 53 (threshold: type threshold, track by_src, count 2, seconds 60; sid:1;)'
    one, two = parts4(17, udp(1, 53, bytes(64)), 24), [part[:4] + b"\0\1" + part[6:] for part in parts4(17, udp(1, 53, bytes(64)), 24)]
    assert run([*one, *two], [rule]).alerts == [(4, 1)]


def test_block_of_the_connection_comes_from_the_whole(run):
    data = udp(4000, 7001, bytes(64))
    done = run([*reversed(parts4(17, data, 24)), ipv4(17, data)], ['drop udp any any -> any 7001 (block: connection, 1h; sid:1;)'])
    assert done.drops == [(2, 1), (3, 1)] and done.counts["blocks_added"] == 1 and done.reason("blocked_connection") == 1


def test_blocked_sources_fragments_take_no_room(run):
    stop = 'drop udp any any -> any 7001 (block: source, 1h; sid:1;)'
    done = run([ipv4(17, udp(1, 7001)), *(ipv4(17, bytes(8), flags=1, ident=i) for i in range(1100))], [stop])
    assert done.reason("blocked_source") == 1100 and done.counts["fragments_displaced"] == 0


# Overlaps: whatever an end host would make of them, it does not get them

@pytest.mark.parametrize("parts", [parts4, parts6])
@pytest.mark.parametrize("swap", [False, True])
def test_overlap_that_changes_the_port(run, parts, swap):
    """RFC 1858: an innocent first fragment and one that writes over it; hosts differ in which they take."""
    good, bad = parts(17, udp(4000, 53, bytes(64)), 24), parts(17, udp(4000, 7001, bytes(64)), 24)
    first, second = (bad, good) if swap else (good, bad)
    done = run([first[0], second[0], second[1]], [DROP_7001])
    assert (1, 20) in done.drops if swap else done.drops[0][0] == 2
    assert done.counts["accepted"] < 3 and 2 in [number for number, _ in done.drops]


def test_what_was_dropped_is_not_filled_with_something_else(run):
    """A fragment that was dropped left a gap at the end host; only the same bytes may fill it after the rest was judged."""
    data, evil = ipv4(17, udp(4000, 53, bytes(96))), ipv4(17, udp(4000, 7001, bytes(96)))
    pieces = parts4(4, data, 16, 104)
    overlapping = ipv4(4, bytes([1]) * 8 + data[16:104], offset=8, flags=1, ident=77)
    filler = ipv4(4, evil[16:104], offset=16, flags=1, ident=77)
    done = run([pieces[0], overlapping, pieces[2], filler], [DROP_7001])
    assert [number for number, _ in done.drops] == [2, 4]
    assert done.reason("fragment_overlap") == 2
    assert run([pieces[0], overlapping, pieces[2], pieces[1]], [DROP_7001]).drops == [(2, 0)]


def test_what_only_contradicts_a_whole_datagram_is_told_once(run):
    """A datagram that is held because a part of it was dropped, and others under its identification."""
    pieces, others = parts4(6, tcp(4000, 23, bytes(40), flags=2), 8, 16), parts4(6, tcp(4001, 23, bytes([7]) * 40, flags=2), 8, 16)
    done = run([*pieces, *others, *others], ["alert tcp any any -> any 23 (flags:S; sid:1;)"])
    assert done.alerts == [(3, 1)] and [number for number, _ in done.drops] == list(range(1, 10))
    assert (done.reason("fragment_tiny"), done.reason("fragment_overlap")) == (5, 4)


def test_tiny_fragments_are_dropped_by_default_and_judged_as_a_whole_where_the_policy_lets_them_pass(run):
    data = tcp(4000, 23, flags=2)
    rule = 'drop tcp any any -> any 23 (flags:S; block: none; sid:1;)'
    pieces = parts4(6, data, 8, 16)
    closed = run(pieces, [rule])
    assert [number for number, _ in closed.drops] == [1, 2, 3] and closed.alerts == [(3, 1)]
    opened = run(pieces, [rule], OPEN)
    assert opened.drops == [(3, 1)]
    assert run(parts4(6, data, 8, 16), ['drop tcp any any -> any 23 (flags:A; sid:1;)'], OPEN).drops == []


def test_port_of_ipv6_that_only_the_second_fragment_has(run):
    data = extension(17, udp(4000, 7001, bytes(64)))
    pieces = parts6(60, data, 8, 40)
    assert [number for number, _ in run(pieces, [DROP_7001]).drops] == [1, 3]
    assert run(pieces, [DROP_7001], OPEN).drops == [(3, 20)]


def test_rfc_3128_attack(run):
    """SYN bit put into a second "first" fragment at offset 8."""
    syn, ack = tcp(4000, 23, flags=2), tcp(4000, 23, flags=0x10)
    rule = 'drop tcp any any -> any 23 (flags:S; block: none; sid:1;)'
    attack = [ipv4(6, ack, flags=1, ident=77), ipv4(6, syn[8:], offset=8, ident=77)]
    assert run(attack, [rule]).drops == [(2, 0)]
    assert run(attack, [rule], OPEN).drops == []            # the first copy is what was judged


def test_two_ends_and_teardrop(run):
    pieces = [ipv4(17, udp(1, 53, bytes(28)), flags=1, ident=2), ipv4(17, bytes(4), offset=24, ident=2), ipv4(17, bytes(8), offset=32, ident=2)]
    done = run(pieces)
    assert [number for number, _ in done.drops] == [2, 3] and done.reason("fragment_end") == 2


def test_ping_of_death_and_jolt_pass_by_the_policy_for_what_no_host_accepts_and_complete_nothing(run):
    packets = [ipv4(1, b"\x08\0" + bytes(374), flags=1, ident=1, offset=offset) for offset in range(0, 65160, 376)]
    done = run([*packets, ipv4(1, bytes(380), offset=65520, ident=1)])
    assert done.reason("fragment_oversize") == 1 and done.counts["fragments_completed"] == 0
    dropped = run([*packets, ipv4(1, bytes(380), offset=65520, ident=1)], policies=CLOSED | {"malformed": "drop"})
    assert dropped.reason("fragment_oversize") == 1 and dropped.counts["dropped"] >= 1


def test_rose_is_bounded_counted_and_closed(run):
    packets = [part for ident in range(1500) for part in (ipv4(17, udp(1, 2), flags=1, ident=ident), )]
    late = ipv4(17, bytes(8), offset=8, ident=0)
    done = run([*packets, late], times=[number / 1000 for number in range(1501)])
    assert done.counts["fragments_displaced"] == 1500 - 1024 - done.reason("fragment_limit") + 1
    assert (1501, 0) in done.drops and done.counts["fragments_rejected"] == done.reason("fragment_limit")


@pytest.mark.parametrize("seconds, dropped", [(59, 1), (61, 0)])
def test_a_datagram_is_remembered_for_a_minute(run, seconds, dropped):
    first, last = parts4(4, ipv4(17, udp(4000, 7001, bytes(96))), 16)
    assert len(run([first, last], [DROP_7001], times=[0, seconds]).drops) == dropped


def test_datagram_that_passed_is_forgotten(run):
    """IPv4 identifications come back within seconds."""
    done = run([*parts4(17, udp(1, 53, bytes(64)), 24), *parts4(17, udp(9, 53, bytes(80)), 32)], [ALERT_53])
    assert done.alerts == [(2, 10), (4, 10)] and done.drops == []


def test_short_captures_are_enough_for_header_rules(run):
    data = ipv4(17, udp(4000, 7001, bytes(3000)))
    done = run(parts4(4, data, 1480), [DROP_7001], snaplen=128)
    assert done.drops == [(2, 20)]
