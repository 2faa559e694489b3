"""Flows: ends and directions, the TCP state, what gives way, and what a killed worker leaves."""

import os
import random
import signal
import struct
import time

import pytest
from connections import ESTABLISHED, Ends
from packets import icmp, ipv4, tcp, udp

from tigerfox.dataplane.flow import Flows
from tigerfox.dataplane.stream import StreamProbe
from tigerfox.errors import SharedMemoryError

NOW = 1_800_000_000
SCALE7 = bytes([3, 3, 7, 1])
V6 = {"client": bytes.fromhex("20010db8" + "00" * 11 + "01"), "server": bytes.fromhex("20010db8" + "00" * 11 + "02")}


def tracked(packets, ends=None, flows=None, **options):
    """The flow after the last of ``packets``: (side, flags, seq, ack[, data])."""
    flows = flows or Flows.create(None, 64, **options)
    ends = ends or Ends()
    flow = None
    for number, packet in enumerate(packets):
        flow = flows.track(ends.packet(*packet), NOW + number / 1000)
    assert flows.faults() == []
    return flow


def test_both_directions_are_one_flow():
    for ends in (Ends(), Ends(**V6), Ends(client=bytes([10, 0, 0, 9])), Ends(sport=80, dport=40000), Ends(server=bytes([10, 0, 0, 1]))):
        flows = Flows.create(None, 64)
        there = flows.track(ends.datagram("c", b"one"), NOW)
        back = flows.track(ends.datagram("s", b"three"), NOW + 1)
        assert (there["side"], back["side"]) == ("to_server", "to_client")
        assert there["id"] == back["id"] and flows.counters()["used"] == 1
        assert (back["src"][: len(ends.client)], back["sport"], back["dport"]) == (ends.client, ends.sport, ends.dport)
        head = 28 if len(ends.client) == 4 else 48
        assert back["packets"] == [1, 1] and back["bytes"] == [head + 3, head + 5]
        assert not there["established"] and back["established"]


@pytest.mark.parametrize("other", [
    Ends(sport=40001), Ends(dport=81), Ends(client=bytes([10, 0, 0, 3])), Ends(server=bytes([10, 0, 0, 3])),
    Ends(client=bytes([10, 0, 0, 2]), server=bytes([10, 0, 0, 1])), Ends(**V6)])
def test_other_ends_are_another_flow(other):
    flows = Flows.create(None, 64)
    first = flows.track(Ends().datagram("c"), NOW)
    assert flows.track(other.datagram("c"), NOW)["id"] != first["id"]


def test_protocols_do_not_share_flows():
    flows = Flows.create(None, 64)
    assert flows.track(Ends().datagram("c"), NOW)["id"] != flows.track(Ends().packet("c", "S", 1), NOW)["id"]


def test_icmp_is_one_flow_between_two_hosts():
    flows = Flows.create(None, 64)
    ask, answer = Ends().ip("c", 1, icmp(8, 0, 7, 1)), Ends().ip("s", 1, icmp(0, 0, 7, 1))
    assert flows.track(ask, NOW)["id"] == flows.track(answer, NOW)["id"] == flows.track(Ends().ip("s", 1, icmp(3, 1)), NOW)["id"]


@pytest.mark.parametrize("packet", [
    b"", ipv4(6, tcp(1, 80)[:13]), ipv4(6, tcp(1, 80, words=3)), ipv4(17, udp(1, 2), flags=1), ipv4(17, bytes(8), offset=800), b"\x75" * 60])
def test_what_has_no_flow(packet):
    flows = Flows.create(None, 64)
    assert flows.track(packet, NOW) is None
    assert flows.counters()["used"] == flows.counters()["rejected"] == 0


# description, further packets behind the handshake, state, whether the last one is ignored
ROWS = [
    ("handshake", [], "established", False),
    ("FINs of both, both confirmed", [("c", "FA", 1001, 5001), ("s", "FA", 5001, 1002), ("c", "A", 1002, 5002)], "closed", False),
    ("one FIN", [("c", "FA", 1001, 5001), ("s", "A", 5001, 1002)], "closing", False),
    ("FINs, the last not confirmed", [("c", "FA", 1001, 5001), ("s", "FA", 5001, 1002)], "closing", False),
    ("a RST in place", [("c", "R", 1001, 0)], "closed", False),
    ("a RST behind data that was seen", [("c", "A", 1001, 5001, b"abc"), ("c", "R", 1004, 0)], "closed", False),
    ("a RST that is not in order", [("c", "R", 1002, 0)], "established", True),
    ("a RST long past", [("c", "A", 1001, 5001, b"abc"), ("s", "A", 5001, 1004), ("c", "R", 1001, 0)], "established", True),
    ("a RST with a guess", [("s", "R", 99, 0)], "established", True),
    ("a FIN behind the window", [("c", "FA", 1001 + 200_000, 5001)], "established", True),
    ("a FIN long past", [("c", "A", 1001, 5001, b"abc"), ("s", "A", 5001, 1004), ("c", "FA", 1001, 5001)], "established", False),
    ("a SYN within", [("c", "S", 7000, 0)], "established", True),
    ("the same SYN again", [("c", "S", 1000, 0)], "established", False),
    ("the same SYN-ACK again", [("s", "SA", 5000, 1001)], "established", False),
    ("a SYN-ACK with another number", [("s", "SA", 6000, 1001)], "established", True),
    ("a SYN from the server", [("s", "S", 7000, 0)], "established", True),
    ("a confirmation of what was not sent", [("s", "A", 5001, 1001 + 200_000)], "established", True),
    ("a confirmation from long ago", [("s", "A", 5001, 1001 - 200_000)], "established", True),
    ("an old confirmation", [("c", "A", 1001, 5001, b"abc"), ("s", "A", 5001, 1004), ("s", "A", 5001, 1001, b"x")], "established", False),
    ("data in the window", [("c", "A", 1001, 5001, b"abc")], "established", False),
    ("data behind the window", [("c", "A", 1001 + 65_536, 5001, b"abc")], "established", True),
    ("data after a RST still comes", [("c", "R", 1001, 0), ("c", "A", 1001, 5001, b"abc")], "closed", False),
]


@pytest.mark.parametrize("shift", [0, 2**32 - 1002, 2**32 - 5000, 2**31 - 1001])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_tcp_after_the_handshake(row, shift):
    _, packets, state, ignored = row
    moved = [(side, flags, seq + shift, ack + shift, *data) for side, flags, seq, ack, *data in ESTABLISHED + packets]
    flow = tracked(moved)
    assert (flow["state"], "ignored" in flow["flags"]) == (state, ignored)
    assert flow["established"] == bool(packets), "not with the packet that ends the handshake, when it carries nothing"
    assert {"opened", "inspect"} <= set(flow["flags"])


# description, packets, state, established, flags
BEGINNINGS = [
    ("a SYN", [("c", "S", 1000, 0)], "syn_sent", False, {"inspect"}),
    ("a SYN-ACK", ESTABLISHED[:2], "syn_received", False, {"inspect"}),
    ("the SYN again", [("c", "S", 1000, 0)] * 2, "syn_sent", False, {"inspect"}),
    ("SYN-ACK to another SYN", [("c", "S", 1000, 0), ("s", "SA", 5000, 1002)], "syn_sent", False, {"inspect", "ignored"}),
    ("a second SYN, which is answered", [("c", "S", 1000, 0), ("c", "S", 2000, 0), ("s", "SA", 5000, 2001), ("c", "A", 2001, 5001)],
     "established", True, {"inspect", "opened"}),
    ("a second SYN, the first is answered", [("c", "S", 1000, 0), ("c", "S", 2000, 0), ("s", "SA", 5000, 1001), ("c", "A", 1001, 5001)],
     "established", True, {"inspect", "opened"}),
    ("SYN cookies: two SYN-ACKs, the client takes the second",
     [("c", "S", 1000, 0), ("s", "SA", 5000, 1001), ("s", "SA", 6000, 1001), ("c", "A", 1001, 6001)], "established", True,
     {"inspect", "opened"}),
    ("an ACK to no SYN-ACK", [*ESTABLISHED[:2], ("c", "A", 1001, 5002)], "syn_received", False, {"inspect", "ignored"}),
    ("an ACK from elsewhere", [*ESTABLISHED[:2], ("c", "A", 90_000, 5001)], "syn_received", False, {"inspect", "ignored"}),
    ("data with the ACK", [*ESTABLISHED[:2], ("c", "A", 1001, 5001, b"x")], "established", True, {"inspect", "opened"}),
    ("the server goes on at once", [*ESTABLISHED[:2], ("s", "A", 5001, 1001, b"220")], "established", True, {"inspect", "opened"}),
    ("refused", [("c", "S", 1000, 0), ("s", "RA", 0, 1001)], "closed", False, {"inspect"}),
    ("refused by somebody who guesses", [("c", "S", 1000, 0), ("s", "RA", 0, 1009)], "syn_sent", False, {"inspect", "ignored"}),
    ("a RST without ACK to a SYN", [("c", "S", 1000, 0), ("s", "R", 0, 0)], "syn_sent", False, {"inspect", "ignored"}),
    ("of two SYN-ACKs the one that was not taken is forgotten",
     [("c", "S", 1000, 0), ("s", "SA", 5000, 1001), ("s", "SA", 6000, 1001), ("c", "A", 1001, 5001), ("c", "SA", 1001, 6001)],
     "established", True, {"inspect", "opened", "ignored"}),
    ("both at once", [("c", "S", 1000, 0), ("s", "S", 5000, 0), ("c", "SA", 1000, 5001), ("s", "SA", 5000, 1001)], "established", True,
     {"inspect", "opened", "split"}),
    ("a split handshake", [("c", "S", 1000, 0), ("s", "S", 5000, 0), ("c", "SA", 1000, 5001), ("s", "A", 5001, 1001)], "established", True,
     {"inspect", "opened", "split"}),
    ("data in the SYN, confirmed", [("c", "S", 1000, 0, b"hello"), ("s", "SA", 5000, 1006), ("c", "A", 1006, 5001)], "established", True,
     {"inspect", "opened"}),
    ("data in the SYN, not taken", [("c", "S", 1000, 0, b"hello"), ("s", "SA", 5000, 1001), ("c", "A", 1001, 5001)], "established", True,
     {"inspect", "opened"}),
    ("a RST that the client does not mind", [("c", "S", 1000, 0), ("s", "RA", 0, 1001), ("s", "FA", 0, 1001)], "closed", False,
     {"inspect", "ignored"}),
    ("a handshake that goes on after a RST", [("c", "S", 1000, 0), ("s", "RA", 0, 1001), ("s", "FA", 0, 1001), ("s", "SA", 5000, 1001),
     ("c", "A", 1001, 5001)], "established", True, {"inspect", "opened"}),
    ("one that goes on after a RST behind the SYN-ACK", [*ESTABLISHED[:2], ("s", "R", 5001, 0), ("c", "A", 1001, 5001)], "established",
     True, {"inspect", "opened"}),
    ("no SYN", [("c", "A", 1001, 5001, b"x")], "new", False, {"midstream"}),
    ("no SYN, both sides", [("c", "A", 1001, 5001, b"x"), ("s", "A", 5001, 1002)], "new", False, {"midstream"}),
    ("a SYN-ACK alone", [("s", "SA", 5000, 1001)], "new", False, {"midstream"}),
    ("a SYN behind a flow without one", [("c", "A", 1001, 5001), ("s", "S", 7000, 0)], "syn_sent", False, {"inspect"}),
]


@pytest.mark.parametrize("row", BEGINNINGS, ids=lambda row: row[0])
def test_tcp_beginnings(row):
    _, packets, state, established, flags = row
    flow = tracked(packets)
    assert (flow["state"], "opened" in flow["flags"]) == (state, established)
    assert flow["flags"] - {"seen_server", "seen_client"} == flags


def test_midstream():
    flow = tracked([("c", "A", 1001, 5001, b"x")], midstream=True)
    assert flow["established"] and flow["flags"] >= {"midstream", "inspect"} and flow["side"] == "to_server"
    assert [side["isn"] for side in flow["tcp"]] == [1000, 5000]
    turned = tracked([("s", "SA", 5000, 1001)], midstream=True)
    assert (turned["side"], turned["sport"], turned["state"]) == ("to_client", 40000, "syn_received")
    for text, side in ((b"HTTP/1.1 200 OK", "to_client"), (b"HTTP/1", "to_server"), (b"GET / HTTP/1.1", "to_server")):
        assert tracked([("c", "A", 1001, 5001, text)], Ends(dport=8080), midstream=True)["side"] == side
    assert "opened" in tracked([("s", "SA", 5000, 1001), ("c", "A", 1001, 5001)], midstream=True)["flags"]
    assert "opened" not in tracked([("c", "R", 1001, 5001)], midstream=True)["flags"]


def test_the_window_scale_counts_when_both_send_it():
    far = ("c", "A", 1001 + 100_000, 5001, b"x")
    for there, back, ignored in ((SCALE7, SCALE7, False), (SCALE7, b"", True), (b"", SCALE7, True)):
        flows, ends = Flows.create(None, 64), Ends()
        flows.track(ends.packet("c", "S", 1000, 0, options=there), NOW)
        flows.track(ends.packet("s", "SA", 5000, 1001, options=back), NOW)
        flows.track(ends.packet("c", "A", 1001, 5001), NOW)
        flows.track(ends.packet("s", "A", 5001, 1001, window=1000), NOW)
        assert ("ignored" in flows.track(ends.packet(*far), NOW)["flags"]) == ignored


@pytest.mark.parametrize("options", [b"\x01\x01\x03\x03", b"\x02\x04\x05\xb4\x03\x00", b"\x03\xff\x07\x00", b"\x01\x01\x03\x02", b"\xfe"])
def test_broken_options_are_no_scale(options):
    padded = options + bytes(-len(options) % 4)
    flow = Flows.create(None, 64).track(Ends().packet("c", "S", 1000, 0, options=padded), NOW)
    assert flow["tcp"][0]["wscale"] == 255


def test_a_connection_between_the_same_ends_begins_anew():
    flows = Flows.create(None, 64)
    first = tracked([*ESTABLISHED, ("c", "R", 1001, 0)], flows=flows)
    flows.attach(first["number"], 42)
    second = tracked([("c", "S", 9000, 0)], flows=flows)
    assert second["id"] != first["id"] and second["state"] == "syn_sent" and second["session"] is None
    assert (flows.orphan(), flows.orphan()) == (42, None)
    assert flows.counters()["used"] == 1


def test_only_the_answer_to_a_syn_within_a_connection_ends_it():
    flows = Flows.create(None, 64)
    first = tracked(ESTABLISHED, flows=flows)
    assert tracked([("c", "S", 9000, 0), ("s", "A", 5001, 1001)], flows=flows)["id"] == first["id"]
    assert tracked([("s", "SA", 100, 1001)], flows=flows)["id"] == first["id"]
    begun = tracked([("s", "SA", 100, 9001)], flows=flows)
    assert begun["id"] != first["id"] and begun["state"] == "syn_received" and begun["side"] == "to_client"
    assert "opened" in tracked([("c", "A", 9001, 101)], flows=flows)["flags"]


def test_timeouts():
    flows = Flows.create(None, 64)
    for sport, packets in ((1, ESTABLISHED[:1]), (2, ESTABLISHED), (3, [*ESTABLISHED, ("c", "R", 1001, 0)])):
        tracked(packets, Ends(sport=sport), flows)
    flows.track(Ends(sport=4).datagram("c"), NOW)
    for side in "cs":
        flows.track(Ends(sport=5).datagram(side), NOW)
    gone = {after: sorted(flow["sport"] for flow in flows.expire(NOW + after)) for after in (29, 31, 59, 61, 299, 301, 599, 601)}
    assert gone == {29: [], 31: [4], 59: [], 61: [1, 3], 299: [], 301: [5], 599: [], 601: [2]}
    assert flows.counters()["used"] == 0 and flows.faults() == []


def test_what_is_seen_again_does_not_expire():
    flows = Flows.create(None, 64)
    for after in range(0, 100, 10):
        flows.track(Ends(sport=7).datagram("c"), NOW + after)
        assert flows.expire(NOW + after) == []
    flows.track(Ends(sport=7).datagram("c"), NOW + 90.9)
    assert flows.expire(NOW + 120.8) == []
    assert [flow["packets"] for flow in flows.expire(NOW + 121)] == [[11, 0]]


def test_a_datagram_after_the_timeout_begins_a_flow_and_tcp_goes_on():
    flows = Flows.create(None, 64)
    first = flows.track(Ends().datagram("c"), NOW)
    assert flows.track(Ends().datagram("s"), NOW + 29)["id"] == first["id"]
    again = flows.track(Ends().datagram("s"), NOW + 330)
    assert again["id"] != first["id"] and again["side"] == "to_server" and not again["established"]
    connection = tracked(ESTABLISHED, flows=flows)
    assert flows.track(Ends().packet("c", "A", 1001, 5001), NOW + 10_000)["id"] == connection["id"]
    assert flows.track(Ends().packet("c", "S", 1, 0), NOW + 20_000)["id"] != connection["id"]


def test_half_open_connections_do_not_push_out_established_ones():
    flows = Flows.create(None, 4096)
    kept = [tracked(ESTABLISHED, Ends(sport=port), flows)["id"] for port in range(1, 1001)]
    for number in range(100_000):
        ends = Ends(client=struct.pack("!I", 0x0b000000 + number))
        assert flows.track(ends.packet("c", "S", 1, 0) if number % 2 else ends.datagram("c"), NOW + 1 + number / 50_000)
    counts = flows.counters()
    assert (counts["used"], counts["tcp_established"], counts["evicted_open"]) == (4096, 1000, 0)
    assert counts["evicted"] == 1000 + 100_000 - 4096
    assert [flows.track(Ends(sport=port).packet("s", "A", 5001, 1001), NOW + 4)["id"] for port in range(1, 1001)] == kept
    assert flows.faults() == []


def test_what_gives_way_first():
    flows = Flows.create(None, 16)
    for port in range(1, 6):
        tracked(ESTABLISHED, Ends(sport=port), flows)
    for port in range(6, 11):
        tracked([*ESTABLISHED, ("c", "R", 1001, 0)], Ends(sport=port), flows)
    for port in range(11, 17):
        flows.track(Ends(sport=port).packet("c", "S", 1, 0), NOW + port)
    left = []
    for port in range(100, 116):
        tracked(ESTABLISHED, Ends(sport=port), flows)
        left.append({flows.flow(number)["sport"] for number in range(16)} - {*range(100, 116)})
    assert left[:6] == [{*range(1, 17)} - {*range(11, 12 + count)} for count in range(6)]
    assert left[10] == {*range(1, 6)}
    assert left[15] == set()


def test_sessions_of_flows_that_give_way_are_not_lost():
    flows = Flows.create(None, 16)
    for port in range(1, 17):
        flows.attach(flows.track(Ends(sport=port).datagram("c"), NOW + port)["number"], 1000 + port)
    for port in range(100, 180):
        found = flows.track(Ends(sport=port).datagram("c"), NOW + port)
        flows.attach(found["number"], 1000 + port)
        assert flows.orphan() == (1000 + port - 99 if port < 116 else 1000 + port - 16)
        assert flows.orphan() is None


def test_nothing_gives_way_while_too_many_orphans_wait():
    flows = Flows.create(None, 128)
    for port in range(1, 129):
        flows.attach(flows.track(Ends(sport=port).datagram("c"), NOW + port)["number"], port)
    found = [flows.track(Ends(sport=port).datagram("c"), NOW + 200) is not None for port in range(1000, 1070)]
    assert found == [True] * 64 + [False] * 6 and flows.counters()["rejected"] == 6
    assert [flows.orphan() for _ in range(65)] == [*range(1, 65), None]
    assert flows.track(Ends(sport=1070).datagram("c"), NOW + 200)


def test_bits():
    flows = Flows.create(None, 16)
    number = flows.track(Ends().datagram("c"), NOW)["number"]
    assert not flows.bit(number, "has", 7)
    assert all(flows.bit(number, "set", name) for name in range(26)) and flows.bit(number, "set", 7)
    assert not flows.bit(number, "set", 26) and flows.counters()["bits_rejected"] == 1
    assert not flows.bit(number, "clear", 7) and flows.bit(number, "has", 25) and not flows.bit(number, "has", 7)
    assert flows.bit(number, "set", 26)
    assert sorted(flows.flow(number)["bits"]) == sorted({*range(27)} - {7})


def test_ids_of_two_tables_differ():
    one, two = Flows.create(None, 16, number=1), Flows.create(None, 16, number=2)
    ids = {flows.track(Ends(sport=port).datagram("c"), NOW)["id"] for flows in (one, two) for port in range(10)}
    assert len(ids) == 20 and max(ids) < 2**53


# Shared memory

def random_packet(chance):
    """A packet of one of few connections, so that flows are made, closed, made anew and pushed out."""
    ends = Ends(sport=chance.randrange(1, 200))
    if chance.random() < 0.2:
        return ends.datagram(chance.choice("cs"))
    side, flags, seq, ack = chance.choice([*ESTABLISHED, ("c", "R", 1001, 0), ("c", "FA", 1001, 5001), ("s", "FA", 5001, 1002)])
    return ends.packet(side, flags, seq, ack)


def test_a_successor_goes_on_where_a_killed_worker_was():
    probe = StreamProbe(flows=64)
    flows, chance, rebuilt, seed = probe.flows, random.Random(5), 0, 0
    while seed < 150 or not rebuilt and seed < 5_000:      # until one was killed while it changed the lists
        packets = [random_packet(chance) for _ in range(500)]
        ours, theirs = os.pipe()
        pid = os.fork()
        if not pid:
            flows.recover()
            os.write(theirs, b"!")
            probe.pound(packets, NOW + 10 * seed, 1 << 60, 1_000_000)
        os.read(ours, 1)
        time.sleep(chance.random() / 100)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ours)
        os.close(theirs)
        rebuilt += flows.recover()
        assert flows.faults() == []
        seed += 1
    assert rebuilt > 0, "no worker was killed while it changed the lists"
    counts = flows.counters()
    assert counts["created"] == 0 < counts["used"], "all flows are the children's"
    assert "opened" in tracked(ESTABLISHED, Ends(client=bytes([10, 9, 9, 9])), flows)["flags"]


def test_recovery_from_lists_that_say_nothing(tmp_path):
    """The worst that half a change can leave, and more: all links and heads overwritten."""
    path = tmp_path / "flows"
    flows = Flows.create(str(path), 64)
    for port in range(1, 41):
        flows.attach(tracked(ESTABLISHED, Ends(sport=port), flows)["number"], port)
    before = {number: flows.flow(number)["sport"] for number in range(40)}
    size = path.stat().st_size
    place = size - 64 * 320
    with open(path, "r+b") as stream:
        stream.seek(128 + 8)
        stream.write(struct.pack("<I", 1))
        stream.seek(128 + 40)
        stream.write(b"\xff" * (16 * 5))
        for number in range(64):
            stream.seek(place + 320 * number + 48)
            stream.write(struct.pack("<I", 7))
            stream.seek(place + 320 * number + 64 + 8 + 32 + 4)
            stream.write(b"\x09\0\0\0\x09\0\0\0")
    again = Flows.open(str(path))
    assert again.faults() == []
    assert {number: again.flow(number)["sport"] for number in range(40)} == before and again.counters()["used"] == 40
    assert [again.flow(number)["session"] for number in range(40)] == [*range(1, 41)]
    assert "opened" in again.track(Ends(sport=5).packet("c", "A", 1001, 5001), NOW)["flags"]
    assert len({again.track(Ends(sport=port).datagram("c"), NOW)["number"] for port in range(24)}) == 24


@pytest.mark.parametrize("place, value, said", [(128, 65, "do not fit"), (0, 1, "not a TigerFox file"), (12, 9, "layout 9")])
def test_a_damaged_file_is_refused(tmp_path, place, value, said):
    path = tmp_path / "flows"
    Flows.create(str(path), 64)
    with open(path, "r+b") as stream:
        stream.seek(place)
        stream.write(struct.pack("<I", value))
    with pytest.raises(SharedMemoryError, match=said):
        Flows.open(str(path))


def test_a_table_opened_for_reading_tracks_nothing(tmp_path):
    path = str(tmp_path / "flows")
    Flows.create(path, 64)
    with pytest.raises(SharedMemoryError, match="writable=True"):
        Flows.open(path, writable=False).track(Ends().datagram("c"), NOW)


@pytest.mark.parametrize("flows, number", [(0, 0), (1 << 30, 0), (64, 4096)])
def test_sizes_that_cannot_be(flows, number):
    with pytest.raises(ValueError, match="choose"):
        Flows.create(None, flows, number=number)
