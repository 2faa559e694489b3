"""DNS: messages built with dpkt and by hand, over UDP and TCP, with every fault and bound."""

import random
import struct

import dpkt
import pytest

from tigerfox.dataplane.app.dns import DnsParser, probe_dns

Z_FLAG, OPCODE, NAME_CUT, RECORDS_CUT, TRAILING = 1, 2, 4, 8, 16
A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 15, 16, 28, 33, 41


def parse(data, room=70_000):
    return DnsParser(room).datagram(data)


def query(*names, flags=0x0100, number=7):
    questions = [dpkt.dns.DNS.Q(name=name, type=A) for name in names]
    return bytes(dpkt.dns.DNS(id=number, op=flags, qd=questions))


def raw(body, counts=(1, 0, 0, 0), flags=0x0100):
    return struct.pack("!6H", 7, flags, *counts) + body


def labels(*names):
    return b"".join(bytes([len(name)]) + name for name in names) + b"\0"


def record(name, kind, data, ttl=60, cls=1):
    return name + struct.pack("!HHIH", kind, cls, ttl, len(data)) + data


QUESTION = labels(b"www", b"example", b"org") + b"\0\1\0\1"
TO_NAME = b"\xc0\x0c"                                  # the question's name
TO_EXAMPLE = b"\xc0\x10"                               # "example.org" in it


def test_a_query_of_dpkt():
    fields = parse(query("WWW.Example.ORG", "b.c"))
    assert (fields["answer"], fields["id"], fields["flags"], fields["response"]) == ("complete", 7, 0x0100, False)
    assert fields["questions"] == [(b"WWW.Example.ORG", 1, 1), (b"b.c", 1, 1)]
    assert fields["counts"] == (2, 0, 0, 0) and fields["events"] == 0


def test_a_response_with_records_of_many_types():
    body = QUESTION + b"".join((
        record(TO_NAME, CNAME, b"\3cdn" + TO_EXAMPLE), record(b"\3cdn" + TO_EXAMPLE, A, bytes([192, 0, 2, 1])),
        record(TO_NAME, AAAA, bytes(15) + b"\1"), record(TO_EXAMPLE, MX, b"\0\5" + b"\4mail" + TO_EXAMPLE),
        record(TO_EXAMPLE, TXT, b"\7v=spf1 \4-all"), record(TO_EXAMPLE, SRV, bytes(6) + b"\3srv" + TO_EXAMPLE),
        record(TO_EXAMPLE, NS, b"\2ns" + TO_EXAMPLE), record(TO_EXAMPLE, SOA, b"\2ns" + TO_EXAMPLE + b"\0" + bytes(20)),
        record(b"\0", OPT, b"", ttl=0x01008000, cls=1232)))
    fields = parse(raw(body, (1, 6, 2, 1), 0x8183))
    assert (fields["answer"], fields["rcode"], fields["edns_size"], fields["response"]) == ("complete", 0x13, 1232, True)
    assert [(one["name"], one["type"], one["text"], one["section"]) for one in fields["records"]] == [
        (b"www.example.org", CNAME, b"cdn.example.org", 1), (b"cdn.example.org", A, b"", 1),
        (b"www.example.org", AAAA, b"", 1), (b"example.org", MX, b"mail.example.org", 1),
        (b"example.org", TXT, b"v=spf1 -all", 1), (b"example.org", SRV, b"srv.example.org", 1),
        (b"example.org", NS, b"ns.example.org", 2), (b"example.org", SOA, b"ns.example.org", 2), (b"", OPT, b"", 3)]
    assert fields["records"][1]["data"] == bytes([192, 0, 2, 1]) and fields["records"][2]["data"] == bytes(15) + b"\1"


@pytest.mark.parametrize("what, body, counts, answer, fault", [
    ("a name beyond the end", b"\7abc", (1, 0, 0, 0), "broken", "name_short"),
    ("a pointer cut in two", b"\xc0", (1, 0, 0, 0), "broken", "name_short"),
    ("label type 01", b"\x41abc", (1, 0, 0, 0), "broken", "label_type"),
    ("label type 10", b"\x81abc", (1, 0, 0, 0), "broken", "label_type"),
    ("a pointer beyond the end", b"\xc0\xff\0\1\0\1", (1, 0, 0, 0), "broken", "pointer_range"),
    ("a pointer to itself", b"\xc0\x0c\0\1\0\1", (1, 0, 0, 0), "broken", "pointer_loop"),
    ("no type and class", labels(b"abc"), (1, 0, 0, 0), "broken", "question_short"),
    ("a record without its head", QUESTION + b"\0\0\1", (1, 1, 0, 0), "broken", "record_short"),
    ("a record's data beyond the end", QUESTION + record(b"\0", A, b"abcd")[:-1], (1, 0, 1, 0), "broken", "record_short"),
    ("MX without a name", QUESTION + record(b"\0", MX, b"\0\1"), (1, 0, 0, 1), "broken", "rdata_short"),
    ("a name longer than its data", QUESTION + record(b"\0", CNAME, b"\3a") + b"bc\0", (1, 1, 0, 0), "broken", "rdata_short"),
    ("a string beyond its data", QUESTION + record(b"\0", TXT, b"\5a") + b"bcdef", (1, 1, 0, 0), "broken", "rdata_short"),
    ("a name of 256 steps", b"\1a" * 256 + b"\0\0\1\0\1", (1, 0, 0, 0), "broken", "name_long"),
    ("17 questions", QUESTION * 17, (17, 0, 0, 0), "limit", "question_limit"),
    ("names of more than 4,096 steps", QUESTION + record(b"\1a" * 200 + b"\0", PTR, TO_NAME) * 30, (1, 30, 0, 0), "limit", "step_limit"),
])
def test_faults(what, body, counts, answer, fault):
    fields = parse(raw(body, counts))
    assert (fields["answer"], fields["fault"]) == (answer, fault), what
    assert len(fields["questions"]) == (16 if fault == "question_limit" else int(body.startswith(QUESTION))), what


def test_short_headers():
    assert {(parse(bytes(n))["answer"], parse(bytes(n))["fault"]) for n in range(12)} == {("broken", "header_short")}


@pytest.mark.parametrize("what, name, expected, events", [
    ("the root", b"\0", b"", 0),
    ("bytes as they are", b"\5a\0.\xffB\0", b"a\0.\xffB", 0),
    ("a pointer forwards", b"\xc0\x12\0\1\0\1\3abc\0", b"abc", TRAILING),
    ("a loop behind a label is cut", b"\3abc\xc0\x0c\0\1\0\1", b".".join([b"abc"] * 128), NAME_CUT),
    ("more than 1,025 characters are cut", (b"\x3f" + b"x" * 63) * 17 + b"\0", b".".join([b"x" * 63] * 17)[:1025], NAME_CUT),
])
def test_names(what, name, expected, events):
    body = name if len(name) > 4 and name[-4:-2] == b"\0\1" or events == TRAILING else name + b"\0\1\0\1"
    fields = parse(raw(body))
    assert (fields["fault"], fields["questions"], fields["events"]) == ("none", [(expected, 1, 1)], events), what


def test_events_of_the_header():
    assert parse(query("a.b", flags=0x0140))["events"] == Z_FLAG
    assert parse(query("a.b", flags=0x3800))["events"] == OPCODE and parse(query("a.b", flags=0x3800))["opcode"] == 7


def test_records_beyond_the_bound_are_walked():
    fields = parse(raw(QUESTION + record(TO_NAME, A, b"abcd") * 100, (1, 100, 0, 0), 0x8180))
    assert (fields["answer"], len(fields["records"]), fields["records_walked"]) == ("complete", 64, 100)
    assert fields["events"] == RECORDS_CUT
    short = parse(raw(QUESTION + record(TO_NAME, A, b"abcd") * 99, (1, 100, 0, 0), 0x8180))
    assert short["fault"] == "record_short" and short["questions"]


def test_a_full_buffer_is_a_limit():
    data = query("www.example.org")
    assert {(parse(data, room)["answer"], parse(data, room)["fault"]) for room in range(15)} == {("limit", "room")}
    assert parse(data, 15)["answer"] == "complete"


# Streams

def prefixed(*messages):
    return b"".join(struct.pack("!H", len(one)) + one for one in messages)


def fed(data, sizes, room=70_000):
    parser, messages, at = DnsParser(room), [], 0
    for size in sizes:
        messages += parser.feed(data[at:at + size])
        at += size
    return messages + parser.feed(data[at:])


def test_several_messages_in_a_stream_however_it_is_cut():
    wrong = raw(b"\x41abc")
    data = prefixed(query("a.example"), wrong, b"", query("b.example"), query("c.example")) + b"\0"
    whole = fed(data, [])
    assert [one["answer"] for one in whole] == ["complete", "broken", "complete", "complete"]
    assert [name for one in whole for name, _, _ in one["questions"]] == [b"a.example", b"b.example", b"c.example"]
    assert fed(data, [1] * len(data)) == whole
    chance = random.Random(3)
    for _ in range(100):
        assert fed(data, [chance.randrange(40) for _ in range(20)]) == whole


def test_a_message_larger_than_the_buffer_is_passed_over():
    large = query("a" * 63 + ".example")
    data = prefixed(large, query("b.example"))
    for sizes in ([], [1] * len(data), [50, 3]):
        messages = fed(data, sizes, room=60)
        assert [(one["answer"], one["fault"]) for one in messages] == [("limit", "stream_limit"), ("complete", "none")]
        assert messages[1]["questions"] == [(b"b.example", 1, 1)]


def test_a_message_is_there_with_its_last_byte():
    data, parser = prefixed(query("a.example")), DnsParser()
    assert parser.feed(data[:-1]) == [] and len(parser.feed(data[-1:])) == 1


# Detection

@pytest.mark.parametrize("what, data, answer", [
    ("a query", query("www.example.org"), "yes"), ("nothing", b"", "no"), ("zeros", bytes(100), "no"),
    ("text", b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", "no"), ("a header only", raw(b"", (0, 0, 0, 0)), "no"),
    ("opcode 7", query("a.b", flags=0x3800), "no"), ("more records than bytes", raw(QUESTION, (1, 9, 0, 0)), "no"),
    ("an mDNS answer", raw(record(labels(b"a"), A, b"abcd"), (0, 1, 0, 0), 0x8400), "yes"),
    ("a label type that is none", raw(b"\x41abcdefgh"), "no"), ("NTP", b"\x23\2\6\xec" + bytes(44), "no"),
])
def test_probe(what, data, answer):
    assert probe_dns(data) == answer, what


def test_probe_of_a_stream():
    data = prefixed(query("www.example.org"))
    assert {probe_dns(data[:n], stream=True) for n in range(14)} == {"more"}
    assert probe_dns(data, stream=True) == "yes"
    assert all(probe_dns(data[:n], stream=True) in ("more", "yes") for n in range(len(data) + 1))
    assert probe_dns(b"\0\5abcde", stream=True) == "no" and probe_dns(b"GET / HTTP/1.1\r\n\r\n", stream=True) == "no"


def test_probe_rarely_takes_random_bytes_for_dns():
    chance = random.Random(5)
    taken = sum(probe_dns(chance.randbytes(chance.randrange(12, 600))) == "yes" for _ in range(20_000))
    assert taken <= 2
