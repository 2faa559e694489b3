"""TLS for tests: real handshakes without a network, hand-made records, and JA3 by another way."""

import hashlib
import ssl
import struct
import subprocess


def certificate(folder, subject="/C=US/ST=Some, State/O=Example/CN=example.org", days=3650):
    """(certificate, key) files in PEM, made by the openssl command."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-utf8", "-subj", subject, "-days", str(days)]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def contexts(cert, key, version):
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server.load_cert_chain(cert, key)
    for context in (client, server):
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
    return client, server


def handshake(cert, key, version=ssl.TLSVersion.TLSv1_2, name="WWW.Example.org"):
    """(bytes of the client, bytes of the server) of a handshake and a line of data each way."""
    client_context, server_context = contexts(cert, key, version)
    pipes = [ssl.MemoryBIO() for _ in range(4)]
    client = client_context.wrap_bio(pipes[0], pipes[1], server_hostname=name)
    server = server_context.wrap_bio(pipes[2], pipes[3], server_side=True)
    sent, pending = [b"", b""], [client, server]
    for _ in range(10):
        for end in list(pending):
            try:
                end.do_handshake()
                end.write(b"hello\n")
                pending.remove(end)
            except ssl.SSLWantReadError:
                pass
            for place, (source, target) in enumerate(((pipes[1], pipes[2]), (pipes[3], pipes[0]))):
                data = source.read()
                sent[place] += data
                target.write(data)
    assert not pending
    return sent[0], sent[1]


def listed(data, width):
    """A list with its length in `width` bytes before it."""
    return len(data).to_bytes(width, "big") + data


def record(body, kind=22, version=0x0301):
    return struct.pack("!BHH", kind, version, len(body)) + body


def message(kind, body):
    return bytes([kind]) + listed(body, 3)


def extension(kind, body):
    return struct.pack("!H", kind) + listed(body, 2)


def sni(name, kind=0):
    return extension(0, listed(bytes([kind]) + listed(name, 2), 2))


def client_hello(extensions=b"", ciphers=(0x1301, 0x0a0a, 0x002f), version=0x0303):
    body = struct.pack("!H", version) + bytes(32) + listed(b"", 1)
    body += listed(struct.pack(f"!{len(ciphers)}H", *ciphers), 2) + listed(b"\0", 1)
    return message(1, body + (listed(extensions, 2) if extensions is not None else b""))


def ja3(hello):
    """JA3 of a well-formed ClientHello message, as its authors describe it."""
    def numbers(data, width=2):
        values = [int.from_bytes(data[at:at + width], "big") for at in range(0, len(data), width)]
        return "-".join(str(v) for v in values if v not in {0x1010 * n + 0x0a0a for n in range(16)})

    body = hello[4:]
    at = 35 + body[34]
    ciphers = body[at + 2:at + 2 + int.from_bytes(body[at:at + 2], "big")]
    at += 2 + len(ciphers)
    at += 1 + body[at]
    block, kinds, groups, points = body[at + 2:], b"", b"", b""
    while block:
        kind, size = struct.unpack("!HH", block[:4])
        kinds += block[:2]
        groups = block[6:4 + size] if kind == 10 else groups
        points = block[5:4 + size] if kind == 11 else points
        block = block[4 + size:]
    text = f"{int.from_bytes(body[:2], 'big')},{numbers(ciphers)},{numbers(kinds)},{numbers(groups)},{numbers(points, 1)}"
    return text.encode(), hashlib.md5(text.encode()).hexdigest().encode()
