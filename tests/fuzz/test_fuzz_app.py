"""Any bytes in any segments: the DNS and TLS parsers stay inside them, say the same however they are cut, and end.

The bytes end where a page without access begins, so one byte read too far ends the process. tests/fuzz/app holds
inputs that once showed a mistake, or that reach what random bytes do not.
"""

import random
import shutil
import ssl
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from guarded import PAGE  # noqa: E402
from hellos import certificate, client_hello, extension, handshake, listed, message, record, sni  # noqa: E402

from tigerfox.dataplane.app.dns import ANSWERS, DNS_FAULTS, DnsParser, probe_dns  # noqa: E402
from tigerfox.dataplane.app.tls import TLS_FAULTS, TlsParser, probe_tls  # noqa: E402
from tigerfox.dataplane.app.x509 import X509_FAULTS, certificate_text  # noqa: E402

KEPT = sorted((Path(__file__).resolve().parent / "app").glob("*.bin"))
ROOMS = (0, 1, 20, 200, 3000, 70_000)


def name(*parts):
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


QUESTION = name(b"www", b"example", b"org") + b"\0\1\0\1"
ANSWER = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data for kind, data in (
    (5, b"\3cdn\xc0\x10"), (1, b"abcd"), (16, b"\3abc\2de"), (15, b"\0\1\xc0\x0c"), (6, b"\xc0\x0c\xc0\x10" + bytes(20)), (41, b"")))
DNS_SEEDS = [struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + QUESTION, struct.pack("!6H", 7, 0x8180, 1, 3, 2, 1) + QUESTION + ANSWER,
             struct.pack("!6H", 7, 0x100, 2, 0, 0, 0) + QUESTION + b"\xc0\x0c\0\1\0\1",
             struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\3abc\xc0\x0c\0\1\0\1"]
DNS_SEEDS += [struct.pack("!H", len(one)) + one for one in DNS_SEEDS] + [b"".join(struct.pack("!H", len(one)) + one for one in DNS_SEEDS)]

HELLO = client_hello(sni(b"www.example.org") + extension(16, listed(b"\2h2\x08http/1.1", 2)) + extension(11, b"\2\0\1")
                     + extension(10, listed(b"\0\x1d\0\x17\x0a\x0a", 2)) + extension(43, b"\4\3\4\3\3"))
SERVER = message(2, b"\3\3" + bytes(32) + b"\0\0\x2f\0" + listed(extension(16, listed(b"\2h2", 2)), 2))
TLS_SEEDS = [record(HELLO), record(HELLO) + record(b"\1", kind=20) + b"xyz", record(HELLO[:20]) + record(HELLO[20:]),
             b"\x80\x2b\1\3\1\0\6\0\0\0\x1c" + bytes(34) + record(HELLO), record(b"\2\x28", kind=21) + record(SERVER)]


def seeds(folder):
    """The hand-made ones, and a real handshake where the openssl command is there."""
    found = list(TLS_SEEDS)
    if shutil.which("openssl"):
        pair = certificate(folder, "/C=US/O=Example/CN=example.org/emailAddress=a@example.org/UID=u")
        found += handshake(*pair)
        der = ssl.PEM_cert_to_DER_cert(pair[0].read_text())
        found.append(record(SERVER + message(11, listed(listed(der, 3) * 3, 3))))
    return found


@pytest.fixture(scope="module")
def tls_seeds(tmp_path_factory):
    return seeds(tmp_path_factory.mktemp("seeds"))


def cut(data, chance):
    """The bytes in pieces: one by one, or at random places."""
    at = 0
    most = chance.choice((1, 3, 40, 400))
    while at < len(data):
        size = chance.randint(1, most)
        yield data[at:at + size]
        at += size


def check_dns_bytes(view, room, parts):
    """Check what a parser says of bytes and of the same bytes in ``parts``; returns the faults."""
    one = DnsParser(room).datagram(view)
    assert one["answer"] in ANSWERS and one["fault"] in DNS_FAULTS
    assert all(len(text) <= min(1025, room) for text, _, _ in one["questions"])
    assert len(one["records"]) <= min(64, one["records_walked"])
    assert probe_dns(view) in ("yes", "no") and probe_dns(view, stream=True) in ("yes", "no", "more")
    whole, parser = DnsParser(room).feed(view), DnsParser(room)
    assert [found for part in parts for found in parser.feed(part)] == whole
    return {one["fault"]} | {found["fault"] for found in whole}


def check_dns(data, room, chance):
    data = data[:4096]
    return check_dns_bytes(PAGE.at_the_end(data), room, (PAGE.at_the_end(part) for part in cut(data, chance)))


def check_tls(data, room, chance):
    whole, pieces = TlsParser(room), TlsParser(room)
    answer = whole.feed(PAGE.at_the_end(data[:4096]))
    last = "need_more"
    for part in cut(data[:4096], chance):
        last = pieces.feed(PAGE.at_the_end(part))
    fields = whole.fields()
    assert (last, pieces.fields()) == (answer, fields)
    assert answer in ANSWERS and fields["fault"] in TLS_FAULTS and fields["x509_fault"] < len(X509_FAULTS)
    assert len(fields["sni"]) <= 255 and len(fields["ja3_hash"]) in (0, 32) and len(fields["fingerprint"]) in (0, 59)
    assert probe_tls(PAGE.at_the_end(data[:4096])) in ("yes", "no", "more")
    for der in fields["certs"]:
        assert certificate_text(der, room)["fault"] in X509_FAULTS
    return {fields["fault"], f"events {fields['events']}", f"x509 {fields['x509_fault']}"}


def changed(data, chance):
    """Some bytes replaced by telling ones, a piece cut out, doubled, or the end cut off."""
    data = bytearray(data)
    for _ in range(chance.randrange(6)):
        data[chance.randrange(len(data))] = chance.choice((0, 1, 3, 12, 22, 63, 64, 127, 128, 192, 255, chance.randrange(256)))
    if chance.random() < 0.3:
        start = chance.randrange(len(data))
        end = min(len(data), start + chance.randrange(1, 60))
        data[start:end] = data[start:end] * chance.randrange(4)
    return bytes(data[:chance.randrange(len(data) + 1)] if chance.random() < 0.3 else data)


@settings(max_examples=1500, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.builds(lambda one, r: changed(one, r), st.sampled_from(DNS_SEEDS), st.randoms())),
       st.sampled_from(ROOMS), st.randoms())
@example(b"", 0, random.Random(0))
def test_dns_any_bytes(data, room, chance):
    check_dns(data, room, chance)


@settings(max_examples=1500, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.builds(lambda one, r: changed(one, r), st.sampled_from(TLS_SEEDS), st.randoms())),
       st.sampled_from(ROOMS), st.randoms())
@example(b"", 0, random.Random(0))
def test_tls_any_bytes(data, room, chance):
    check_tls(data, room, chance)


def test_many_changed_messages():
    chance, met = random.Random(30), set()
    for _ in range(15_000):
        met |= check_dns(changed(chance.choice(DNS_SEEDS), chance), chance.choice(ROOMS), chance)
    assert met >= {"none", "header_short", "name_short", "label_type", "pointer_range", "question_short", "record_short",
                   "rdata_short", "room", "stream_limit", "pointer_loop"}, met


def test_many_changed_connections(tls_seeds):
    chance, met = random.Random(31), set()
    for _ in range(6_000):
        met |= check_tls(changed(chance.choice(tls_seeds), chance), chance.choice(ROOMS), chance)
    assert met >= {"none", "record_type", "record_version", "record_length", "hello_room"}, met
    assert not shutil.which("openssl") or met >= {"x509 1", "x509 2", "x509 4"}, met


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_kept_inputs(path):
    data = path.read_bytes()
    for room in ROOMS:
        check_dns(data, room, random.Random(1))
        check_tls(data, room, random.Random(1))


def test_work_is_bounded_whatever_the_pointers_say():
    """The worst that 64 KiB of pointers can ask for is counted, not timed: 4,096 steps, then a limit."""
    chain = b"".join(struct.pack("!H", 0xc000 | 12 + 2 * (place + 1)) for place in range(200)) + b"\0"
    records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 0, 2) + b"\xc0\x0c" for _ in range(4000))
    fields = DnsParser().datagram(struct.pack("!6H", 1, 0x8180, 0, 4001, 0, 0) + chain + bytes(10) + records)
    assert fields["fault"] == "step_limit" and len(fields["records"]) < 20
