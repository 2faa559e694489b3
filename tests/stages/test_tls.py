"""TLS: real handshakes, hand-made hellos and records, certificates, digests."""

import hashlib
import random
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hellos import certificate, client_hello, extension, handshake, ja3, listed, message, record, sni  # noqa: E402

from tigerfox.dataplane.app.digest import digest  # noqa: E402
from tigerfox.dataplane.app.tls import TlsParser, probe_tls  # noqa: E402
from tigerfox.dataplane.app.x509 import certificate_text  # noqa: E402

CLIENT_HELLO, SERVER_HELLO, CERTIFICATE, SSL2, CHANGE_CIPHER, DATA, ALERT = 1, 2, 4, 8, 16, 32, 64
HELLO_BROKEN, SNI_LENGTH, SNI_TYPE, SNI_AGAIN, MESSAGE_TYPE, CERT_BROKEN, CERT_CUT, HELLO_AGAIN, CIPHER_EARLY = (
    1, 2, 4, 8, 16, 32, 64, 128, 256)

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="the openssl command makes the certificates")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("pair"))


def feed(*parts, room=70_000):
    parser = TlsParser(room)
    answer = [parser.feed(part) for part in parts][-1]
    return parser.fields() | {"answer": answer}


def bytewise(data, room=70_000):
    return feed(*(data[at:at + 1] for at in range(len(data))), room=room)


@pytest.mark.parametrize("size", [*range(0, 130), 1000])
def test_digests(size):
    data = random.Random(size).randbytes(size)
    assert digest(data, "md5") == hashlib.md5(data).hexdigest()
    assert digest(data, "sha1") == hashlib.sha1(data).digest().hex(":")


@needs_openssl
def test_handshake_of_tls_1_2(pair):
    client, server = handshake(*pair)
    hello = feed(client)
    assert (hello["answer"], hello["sni"], hello["alpn"]) == ("complete", b"WWW.Example.org", [b"h2", b"http/1.1"])
    assert hello["seen"] & (CLIENT_HELLO | CHANGE_CIPHER) == CLIENT_HELLO | CHANGE_CIPHER
    assert (hello["ja3"], hello["ja3_hash"]) == ja3(client[5:5 + struct.unpack("!H", client[3:5])[0]])
    answer = feed(server)
    assert answer["answer"] == "complete" and answer["alpn"] == [b"h2"] and answer["version"] == 0x0303
    der = ssl.PEM_cert_to_DER_cert(pair[0].read_text())
    assert answer["certs"] == [der]
    assert answer["subject"] == answer["issuer"] == b"C=US, ST=Some, State, O=Example, CN=example.org"
    assert answer["fingerprint"].decode() == hashlib.sha1(der).digest().hex(":")
    assert answer["ja3"].startswith(b"771,%d," % answer["cipher"])
    assert answer["ja3_hash"].decode() == hashlib.md5(answer["ja3"]).hexdigest()


@needs_openssl
def test_handshake_of_tls_1_3(pair):
    client, server = handshake(*pair, version=ssl.TLSVersion.TLSv1_3)
    assert feed(client)["chosen"] == feed(server)["chosen"] == 0x0304
    assert feed(server)["certs"] == [] and feed(server)["answer"] == "complete"
    assert feed(client)["sni"] == b"WWW.Example.org"


@needs_openssl
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_segments_change_nothing(pair, version):
    for data in handshake(*pair, version=version):
        assert bytewise(data) == feed(data)
        for at in range(0, len(data), 7):
            assert feed(data[:at], data[at:]) == feed(data)


@needs_openssl
@pytest.mark.parametrize("option", ["-tls1_2", "-tls1_3"])
def test_openssl_client_and_server(pair, option):
    """openssl s_client against openssl s_server, through a relay on the loopback that keeps what passes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", pair[0], "-key", pair[1], "-www", option],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        assert b"ACCEPT" in server.stdout.readline() + server.stdout.readline()
        client, answer = relayed(port, option)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert probe_tls(client) == probe_tls(answer) == "yes"
    assert feed(client)["sni"] == b"relay.example" and feed(client)["answer"] == "complete"
    assert (feed(client)["ja3"], feed(client)["ja3_hash"]) == ja3(client[5:5 + struct.unpack("!H", client[3:5])[0]])
    assert len(feed(answer)["certs"]) == (1 if option == "-tls1_2" else 0)


def relayed(port, option):
    """(bytes of s_client, bytes of s_server)."""
    kept = [b"", b""]

    def pump(source, target, place):
        while data := source.recv(700):
            kept[place] += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as door:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{door.getsockname()[1]}", "-servername", "relay.example", option]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        door.settimeout(10)
        inner, outer = door.accept()[0], socket.create_connection(("127.0.0.1", port), 10)
        inner.settimeout(10)
        with inner, outer:
            threads = [threading.Thread(target=pump, args=row) for row in ((inner, outer, 0), (outer, inner, 1))]
            for thread in threads:
                thread.start()
            client.communicate(b"GET / HTTP/1.0\r\n\r\n", timeout=20)
            for thread in threads:
                thread.join(10)
    return kept


HELLO = client_hello(sni(b"Example.ORG") + extension(16, listed(listed(b"h2", 1), 2))
                     + extension(10, listed(struct.pack("!3H", 0x1a1a, 29, 23), 2)) + extension(11, listed(b"\0\1", 1))
                     + extension(0x2a2a, b"") + extension(43, listed(b"\x4a\x4a\3\4\3\3", 1)))


def test_ja3_of_a_hello_by_hand():
    fields = feed(record(HELLO))
    assert fields["ja3"] == b"771,4865-47,0-16-10-11-43,29-23,0-1"
    assert (fields["ja3"], fields["ja3_hash"]) == ja3(HELLO)
    assert (fields["sni"], fields["chosen"], fields["cipher_count"], fields["extension_count"]) == (b"Example.ORG", 0x304, 3, 6)


def test_a_hello_over_many_records():
    pieces = [HELLO[at:at + 3] for at in range(0, len(HELLO), 3)]
    fields = bytewise(b"".join(record(piece) for piece in pieces))
    assert fields["sni"] == b"Example.ORG" and fields["records"] == len(pieces)
    assert fields["ja3"] == ja3(HELLO)[0]


def test_a_hello_is_there_with_its_last_byte():
    data = record(HELLO)
    parser = TlsParser()
    assert parser.feed(data[:-1]) == "need_more" and not parser.fields()["seen"] & CLIENT_HELLO
    assert parser.feed(data[-1:]) == "need_more" and parser.fields()["sni"] == b"Example.ORG"


@pytest.mark.parametrize("what, extensions, events, name, kinds", [
    ("no extensions", None, 0, b"", b""),
    ("an empty SNI extension", extension(0, b""), 0, b"", b"0"),
    ("a name of 255", sni(b"a" * 255), 0, b"a" * 255, b"0"),
    ("a name of 256", extension(23, b"") + sni(b"a" * 256), SNI_LENGTH, b"", b"23"),
    ("an empty name", sni(b""), SNI_LENGTH, b"", b""),
    ("another name type", sni(b"abc", kind=1), SNI_TYPE, b"", b""),
    ("two names: the first", sni(b"first") + sni(b"second"), SNI_AGAIN, b"first", b"0-0"),
    ("a name beyond its extension", extension(0, b"\0\7\0\0\7abc"), SNI_LENGTH, b"", b""),
    ("a zero byte in the name is kept", sni(b"a\0b"), 0, b"a\0b", b"0"),
])
def test_server_names(what, extensions, events, name, kinds):
    fields = feed(record(client_hello(extensions)))
    assert (fields["events"], fields["sni"], fields["ja3"]) == (events, name, b"771,4865-47," + kinds + b",,"), what


@pytest.mark.parametrize("what, hello", [
    ("shorter than its version and random", message(1, bytes(33))),
    ("a session id beyond the end", message(1, b"\3\3" + bytes(32) + b"\xff" + bytes(20))),
    ("an odd list of ciphers", message(1, b"\3\3" + bytes(32) + b"\0\0\3abc\1\0")),
    ("an extension beyond the block", client_hello(b"\0\5\0\7abc")),
    ("an odd list of groups", client_hello(extension(10, listed(b"abc", 2)))),
    ("a block beyond the end", message(1, client_hello(None)[4:] + b"\0\7abc")),
])
def test_broken_hellos_give_no_fingerprint(what, hello):
    fields = feed(record(hello))
    assert (fields["answer"], fields["events"], fields["ja3"]) == ("need_more", HELLO_BROKEN, b""), what


@pytest.mark.parametrize("what, data, answer, fault", [
    ("a line of text", b"GET / HTTP/1.1\r\n", "not_this", "record_type"),
    ("a first record that is not a hello", record(b"abc", kind=23), "not_this", "none"),
    ("another version", b"\x16\x05\x01\x00\x05abcde", "not_this", "record_version"),
    ("an unknown record later", record(HELLO) + b"\x19\3\1\0\1a", "broken", "record_type"),
    ("another version later", record(HELLO) + b"\x16\2\1\0\1a", "broken", "record_version"),
    ("a record over the bound", record(HELLO) + b"\x16\3\1\x44\1a", "broken", "record_length"),
    ("an SSLv2 record shorter than its head", b"\x80\2\1\3\1", "broken", "ssl2_length"),
])
def test_records_that_no_tls_has(what, data, answer, fault):
    fields = feed(data)
    assert (fields["answer"], fields["fault"]) == (answer, fault), what
    assert bytewise(data) == fields


def test_a_hello_larger_than_the_buffer_is_a_limit():
    for room in range(0, len(HELLO) + 60):
        fields = feed(record(HELLO), room=room)
        assert (fields["answer"], fields["fault"]) == ("limit", "hello_room") or fields["ja3_hash"] == ja3(HELLO)[1]
        assert bytewise(record(HELLO), room=room) == fields
    assert fields["answer"] == "limit" and feed(record(HELLO), room=len(HELLO) + 200)["answer"] == "need_more"


def test_nothing_hides_a_hello_behind_an_early_change_of_cipher():
    half = len(HELLO) // 2
    data = record(HELLO[:half]) + record(b"\1", kind=20) + record(b"xy", kind=23) + record(HELLO[half:])
    fields = bytewise(data)
    assert fields["sni"] == b"Example.ORG" and fields["events"] == CIPHER_EARLY and fields["answer"] == "need_more"


def test_the_first_hello_counts():
    fields = feed(record(HELLO + client_hello(sni(b"other"))))
    assert fields["sni"] == b"Example.ORG" and fields["events"] == HELLO_AGAIN


def test_encrypted_from_the_change_of_cipher_on():
    fields = feed(record(HELLO), record(b"\1", kind=20), b"anything at all")
    assert fields["answer"] == "complete" and fields["fault"] == "none" and fields["records"] == 2


def test_unknown_messages_are_passed_over():
    fields = feed(record(HELLO + message(99, bytes(40)) + message(14, b"")))
    assert fields["events"] == MESSAGE_TYPE and fields["seen"] == CLIENT_HELLO | 512


def test_sslv2_hellos():
    """One that offers TLS is followed by TLS records; one that offers SSLv2 by nothing we read."""
    old = b"\1\3\1\0\6\0\0\0\x10" + bytes(22)
    data = struct.pack("!H", 0x8000 | len(old)) + old + record(HELLO)
    assert probe_tls(data) == "yes"
    fields = bytewise(data)
    assert fields["seen"] == SSL2 | CLIENT_HELLO and fields["sni"] == b"Example.ORG"
    only = b"\1\0\2" + old[3:]
    assert feed(struct.pack("!H", 0x8000 | len(only)) + only + b"rest")["answer"] == "complete"


@pytest.mark.parametrize("data, answer", [
    (b"", "more"), (b"\x16", "more"), (b"\x16\3\1\0", "more"), (b"\x16\3\1\0\5", "yes"), (b"\x15\3\3\0\2", "yes"), (b"\x17\3\3\0\2", "no"),
    (b"\x16\3\5", "no"), (b"\x16\2", "no"), (b"G", "no"), (b"\x16\3\1\xff\xff", "no"), (b"\x80\x2e\1\0\2", "yes"), (b"\x80\x2e\1", "more"),
    (b"\x80\x2e\2", "no"), (b"\x80\x2e\1\7\7", "no"), (b"\x80\x2e\4\0\1", "yes"),
])
def test_probe(data, answer):
    assert probe_tls(data) == answer


@needs_openssl
def test_certificate_text_against_openssl(tmp_path):
    cert, _ = certificate(tmp_path, "/C=DE/O=Exämple/OU=a, b/CN=*.example.org/emailAddress=a@example.org/serialNumber=5/DC=org/UID=u")
    der = ssl.PEM_cert_to_DER_cert(cert.read_text())
    text = certificate_text(der)
    assert text["subject"] == ("C=DE, O=Exämple, OU=a, b, CN=*.example.org, Email=a@example.org, serialNumber=5, DC=org, "
                               "OID(0.9.2342.19200300.100.1.1)=u").encode()
    said = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-serial", "-dates"], capture_output=True, text=True).stdout
    said = dict(line.split("=", 1) for line in said.splitlines())
    assert text["serial"].decode().replace(":", "").lstrip("0") == said["serial"].lstrip("0")
    for name, key in (("not_before", "notBefore"), ("not_after", "notAfter")):
        when = datetime.strptime(said[key], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=timezone.utc)
        assert text[name] == when.timestamp()


@needs_openssl
def test_dates_up_to_the_year_9999(tmp_path):
    """GeneralizedTime from 2050 on (RFC 5280, 4.1.2.5)."""
    days = (datetime(9998, 1, 1) - datetime.now()).days
    der = ssl.PEM_cert_to_DER_cert(certificate(tmp_path, days=days)[0].read_text())
    assert datetime(1970, 1, 1).timestamp() < certificate_text(der)["not_after"]
    assert 253_300_000_000 < certificate_text(der)["not_after"] < 253_402_300_800


@needs_openssl
def test_a_certificate_cut_anywhere_is_a_named_fault(pair):
    der = ssl.PEM_cert_to_DER_cert(pair[0].read_text())
    assert {certificate_text(der[:at])["fault"] for at in range(len(der))} == {"length"}
    assert {certificate_text(der, room)["fault"] for room in range(150)} == {"room"}


@needs_openssl
def test_chains(pair):
    """More certificates than are kept are counted; a chain larger than the buffer keeps its first ones."""
    der = ssl.PEM_cert_to_DER_cert(pair[0].read_text())
    start = record(message(2, b"\3\3" + bytes(32) + b"\0\0\x2f\0"))
    chain = message(11, listed(listed(der, 3) * 10, 3))
    fields = feed(start + b"".join(record(chain[at:at + 4000]) for at in range(0, len(chain), 4000)))
    assert fields["cert_count"] == 10 and fields["certs"] == [der] * 8 and fields["events"] == CERT_CUT
    small = feed(start + record(chain[:5000]), room=2500)
    assert small["cert_count"] == 0                       # its message is not whole
    chain = message(11, listed(listed(der, 3) * 4, 3))
    small = feed(start + record(chain), room=2500)
    assert 1 <= small["cert_count"] < 4 and small["certs"][0] == der and small["events"] & CERT_CUT
