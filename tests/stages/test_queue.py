"""The queue's messages by the byte: what is read from the kernel, what is refused, and which verdicts go back."""

import random
import socket
import struct

import pytest

from tigerfox.dataplane.queue import QueueReader
from tigerfox.errors import UsageError

PACKET, VERDICT, VERDICT_BATCH = 0x300, 0x301, 0x303          # nfnetlink subsystem 3 with the message type
HDR, TIMESTAMP, IFINDEX, PAYLOAD, CAP_LEN = 1, 4, 5, 10, 13   # linux/netfilter/nfnetlink_queue.h
DROP, ACCEPT, REPEAT = 0, 1, 4


def attribute(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def message(*attributes, kind=PACKET, length=None, queue=3):
    body = struct.pack(">BBH", 2, 0, queue) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body) if length is None else length, kind, 0, 0, 0) + body


def header(number):
    return attribute(HDR, struct.pack(">IHB", number, 0x0800, 2))


def packet(number, payload=b"E" + bytes(19), *more):
    return message(header(number), attribute(IFINDEX, struct.pack(">I", 7)), *more, attribute(PAYLOAD, payload))


def refusal(sequence=0, error=-2):
    return struct.pack("=IHHII", 36, 2, 0, 0, 0) + struct.pack("=i", error) + struct.pack("=IHHII", 32, VERDICT, 1, sequence, 0)


class Wire:
    """A reader at one end of a datagram socket, the kernel's part played at the other."""

    def __init__(self, copy_range=128):
        self.ours, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.reader = QueueReader(self.ours.fileno(), 3, copy_range)

    def take(self, *messages):
        for one in messages:
            self.kernel.send(one)
        return self.reader.receive(wait=False)

    def sent(self):
        """(message type, queue, packet id, verdict, sequence) of every message of the next send."""
        self.reader.send()
        self.kernel.setblocking(False)
        try:
            data = self.kernel.recv(1 << 16)
        except BlockingIOError:
            return []
        assert len(data) % 32 == 0
        rows = []
        for at in range(0, len(data), 32):
            length, kind, flags, sequence, port = struct.unpack_from("=IHHII", data, at)
            family, version, queue = struct.unpack_from(">BBH", data, at + 16)
            size, attribute_kind = struct.unpack_from("=HH", data, at + 20)
            assert (length, flags, port, family, version, size, attribute_kind) == (32, 1, 0, 0, 0, 12, 2)
            verdict, number = struct.unpack_from(">II", data, at + 24)
            rows.append((kind, queue, number, verdict, sequence))
        return rows


@pytest.fixture
def wire(request):
    made = Wire(getattr(request, "param", 128))
    yield made
    made.ours.close()
    made.kernel.close()


def settle(number):
    return VERDICT_BATCH, 3, number, REPEAT, 1


READ = [
    ("packet", packet(1), ("packet", 1, 20)),
    ("packet whose full length is told", packet(2, bytes(20), attribute(CAP_LEN, struct.pack(">I", 1500))), ("packet", 2, 1500)),
    ("unknown attribute", packet(3, bytes(20), attribute(99, b"??")), ("packet", 3, 20)),
    ("attribute with its nested bit", message(header(4), attribute(0x8000 | PAYLOAD, bytes(24))), ("packet", 4, 24)),
    ("odd payload", packet(5, bytes(21)), ("packet", 5, 21)),
    ("greatest id", packet(0xFFFFFFFF), ("packet", 0xFFFFFFFF, 20)),
    ("no payload", message(header(6)), ("uncopied", 6, 0)),
    ("refused verdict", refusal(), ("error", 0, 0)),
    ("settlement that found nothing", refusal(sequence=1), ("settled", 0, 0)),
    ("refusal cut short", refusal()[:32], ("bad", 0, 0)),
    ("empty", b"", None),
    ("shorter than a header", packet(1)[:15], ("bad", 0, 0)),
    ("header alone", packet(1)[:16], ("bad", 0, 0)),
    ("no attributes", message(), ("bad", 0, 0)),
    ("no id", message(attribute(PAYLOAD, bytes(20))), ("bad", 0, 0)),
    ("id cut short", message(attribute(HDR, b"\0\0\1"), attribute(PAYLOAD, bytes(20))), ("bad", 0, 0)),
    ("another subsystem", message(header(1), attribute(PAYLOAD, bytes(20)), kind=0x100), ("bad", 0, 0)),
    ("another message of the subsystem", message(header(1), attribute(PAYLOAD, bytes(20)), kind=VERDICT), ("bad", 0, 0)),
    ("length over the datagram", message(header(1), attribute(PAYLOAD, bytes(20)), length=4000), ("bad", 0, 0)),
    ("length under the header", message(header(1), attribute(PAYLOAD, bytes(20)), length=8), ("bad", 0, 0)),
    ("length that hides the attributes", message(header(1), attribute(PAYLOAD, bytes(20)), length=20), ("bad", 0, 0)),
    ("attribute over the message", message(header(1), struct.pack("=HH", 400, PAYLOAD) + bytes(20)), ("bad", 0, 0)),
    ("attribute of no length", message(header(1), struct.pack("=HH", 0, PAYLOAD) + bytes(20)), ("bad", 0, 0)),
    ("attribute shorter than its header", message(header(1), struct.pack("=HH", 3, PAYLOAD) + bytes(20)), ("bad", 0, 0)),
]


@pytest.mark.parametrize("data, expected", [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_message_is_read_or_refused(wire, data, expected):
    found = [row[:3] for row in wire.take(data) if row[0] != "bad" or expected]
    if expected is not None:
        assert found == [expected] or expected[0] in ("error", "settled", "bad") and found[0][0] == expected[0]


def test_cut_packet_has_the_length_that_its_attribute_announces():
    """It must not look like a packet whose header lies: that one is malformed, this one was not read in full."""
    wire = Wire(copy_range=64)
    (kind, _, wirelen, data, _), = wire.take(packet(5, bytes(800)))
    assert (kind, wirelen) == ("truncated", 800) and len(data) < 800
    (kind, _, wirelen, data, _), = wire.take(message(header(6), attribute(99, bytes(800)), attribute(PAYLOAD, bytes(20))))
    assert (kind, wirelen, data) == ("truncated", 1, None)


def test_payload_is_handed_over_as_it_is(wire):
    payload = random.Random(1).randbytes(100)
    assert wire.take(packet(9, payload))[0][3] == payload


def test_time_is_the_kernels_when_it_gives_one(wire):
    stamp = attribute(TIMESTAMP, struct.pack(">QQ", 1_700_000_000, 250_000))
    assert wire.take(packet(1, bytes(20), stamp))[0][4] == 1_700_000_000_250_000_000


@pytest.mark.parametrize("wire", [64], indirect=True)
def test_message_cut_by_the_buffer_keeps_its_id_and_the_bytes_that_are_there(wire):
    payload = random.Random(2).randbytes(2000)
    (kind, number, wirelen, data, _), = wire.take(packet(5, payload))
    assert (kind, number) == ("truncated", 5)
    assert 64 <= len(data) < 2000 and payload.startswith(data) and wirelen == 2000


@pytest.mark.parametrize("wire", [1], indirect=True)
def test_message_cut_before_its_id_is_bad(wire):
    assert wire.take(message(attribute(99, bytes(1000)), header(5)))[0][0] == "bad"


def test_up_to_64_messages_come_at_once(wire):
    wire.kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    count = 0
    for number in range(1, 81):
        try:
            wire.kernel.send(packet(number), socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        count += 1
    first = wire.reader.receive(wait=False)
    assert len(first) == min(count, 64)
    assert [row[1] for row in first] == list(range(1, len(first) + 1))


def test_nothing_there_is_an_empty_batch(wire):
    assert wire.reader.receive(wait=False) == []


def judge(wire, *verdicts):
    """Take packets and give (id, verdict) in order; what was sent."""
    wire.take(*(packet(number) for number, _ in verdicts))
    for number, verdict in verdicts:
        wire.reader.verdict(number, verdict)
    return wire.sent()


def test_one_packet_gets_an_ordinary_verdict(wire):
    assert judge(wire, (1, ACCEPT)) == [settle(0), (VERDICT, 3, 1, ACCEPT, 0)]


def test_run_of_equal_verdicts_is_one_message_on_its_last_id(wire):
    assert judge(wire, (1, ACCEPT), (2, ACCEPT), (3, ACCEPT)) == [settle(0), (VERDICT_BATCH, 3, 3, ACCEPT, 0)]


def test_runs_end_where_the_verdict_changes(wire):
    assert judge(wire, (1, ACCEPT), (2, ACCEPT), (3, DROP), (4, ACCEPT), (5, DROP), (6, DROP)) == [
        settle(0), (VERDICT_BATCH, 3, 2, ACCEPT, 0), (VERDICT, 3, 3, DROP, 0), (VERDICT, 3, 4, ACCEPT, 0),
        (VERDICT_BATCH, 3, 6, DROP, 0)]


def test_what_waits_below_the_first_id_goes_round_again_first(wire):
    assert judge(wire, (1000, DROP)) == [settle(999), (VERDICT, 3, 1000, DROP, 0)]


def test_gap_is_counted_and_goes_round_again_before_what_follows(wire):
    sent = judge(wire, (1, ACCEPT), (2, ACCEPT))
    assert sent[0] == settle(0)
    assert judge(wire, (3, ACCEPT), (6, ACCEPT), (7, ACCEPT)) == [
        settle(5), (VERDICT, 3, 3, ACCEPT, 0), (VERDICT_BATCH, 3, 7, ACCEPT, 0)]
    assert wire.reader.lost_ids == 2


def test_ids_wrap_around(wire):
    ids = [0xFFFFFFFE, 0xFFFFFFFF, 0, 1]
    assert judge(wire, *((number, ACCEPT) for number in ids)) == [settle(0xFFFFFFFD), (VERDICT_BATCH, 3, 1, ACCEPT, 0)]
    assert wire.reader.lost_ids == 0 and not wire.reader.disordered


def test_id_out_of_order_ends_batch_verdicts(wire):
    wire.take(packet(5), packet(4), packet(6))
    assert wire.reader.disordered
    for number in (5, 6, 7):
        wire.reader.verdict(number, ACCEPT)
    assert wire.sent() == [settle(4)] + [(VERDICT, 3, number, ACCEPT, 0) for number in (5, 6, 7)]


@pytest.mark.parametrize("length", [1, 41, 44, 104])
def test_a_replaced_packet_brings_its_bytes_and_its_mark(wire, length):
    data = bytes(range(length))
    wire.take(packet(1), packet(2), packet(3))
    wire.reader.verdict(1, ACCEPT)
    wire.reader.replace(2, REPEAT, 0x2000005, data)
    wire.reader.verdict(3, ACCEPT)
    wire.reader.send()
    sent = wire.kernel.recv(1 << 16)
    assert [struct.unpack_from(">II", sent, at + 24) for at in (32, 64)] == [(ACCEPT, 1), (REPEAT, 2)]
    size = 32 + 8 + 4 + (length + 3) // 4 * 4
    assert struct.unpack_from("=IH", sent, 64) == (size, 0x300 | 1)
    assert struct.unpack_from("=HH", sent, 96) == (8, 3) and struct.unpack_from(">I", sent, 100) == (0x2000005,)
    assert struct.unpack_from("=HH", sent, 104) == (4 + length, PAYLOAD)
    assert sent[108:64 + size] == data + bytes(-length % 4)
    assert struct.unpack_from(">II", sent, 64 + size + 24) == (ACCEPT, 3) and len(sent) == 64 + size + 32


def test_failed_send_keeps_its_verdicts(wire):
    wire.take(packet(1))
    wire.reader.verdict(1, DROP)
    wire.ours.shutdown(socket.SHUT_WR)
    for _ in range(2):
        with pytest.raises(OSError):
            wire.reader.send()
    with pytest.raises(UsageError, match="call send"):
        for number in range(2, 200):
            wire.reader.verdict(number, number % 2)


def test_closed_socket_is_an_error_and_not_silence(wire):
    wire.ours.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        wire.reader.receive()


def test_hostile_messages_do_no_harm(wire):
    """Any change of any bytes of a message is read, refused or cut; never more data than was there."""
    generator = random.Random(3)
    base = packet(1, generator.randbytes(60), attribute(CAP_LEN, struct.pack(">I", 600)))
    for _ in range(3000):
        data = bytearray(base)
        for _ in range(generator.randrange(1, 6)):
            data[generator.randrange(len(data))] = generator.choice((0, 1, 4, 0x7F, 0x80, 0xFF, generator.randrange(256)))
        data = bytes(data[: generator.randrange(1, len(data) + 1)])
        for kind, number, _, payload, _ in wire.take(data):
            assert kind in ("packet", "bad", "error", "settled", "uncopied")
            assert payload is None or payload in data
            if kind in ("packet", "uncopied"):
                wire.reader.verdict(number, ACCEPT)
        assert wire.sent() is not None
