"""Whole exchanges as captures: TCP connections with handshake and end, datagrams; each from a client port of its own."""

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path

import dpkt

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE, INSIDE = "198.51.100.9", "10.1.2.3"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
SEGMENT = 1400


class Capture:
    """Packets of many exchanges, one behind the other; ``add`` returns the client port that names an exchange."""

    def __init__(self):
        self.packets = []
        self.port = 20000

    def add(self, exchange, end="closed"):
        """``exchange``: (protocol, server port, whether the client is inside, [(from the client, bytes), ...]).

        ``end`` of a connection: "closed" by both, "open", "half" (the client's FIN alone) or "reset" by the client.
        """
        protocol, port, outward, turns = exchange
        self.port += 1
        ends = (INSIDE, self.port, OUTSIDE, port) if outward else (OUTSIDE, self.port, INSIDE, port)
        if protocol == "udp":
            for mine, data in turns:
                source, sport, target, dport = ends if mine else ends[2:] + ends[:2]
                self._ip(17, source, target, struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data)
        else:
            self._connection(ends, turns, end)
        return self.port

    def _connection(self, ends, turns, end):
        place = {True: 1000, False: 5000}

        def segment(mine, flags, data=b""):
            source, sport, target, dport = ends if mine else ends[2:] + ends[:2]
            head = struct.pack("!HHIIBBHHH", sport, dport, place[mine], place[not mine] if flags & ACK else 0,
                               5 << 4, flags, 65535, 0, 0)
            self._ip(6, source, target, head + data)
            place[mine] += len(data) + bool(flags & (SYN | FIN))

        segment(True, SYN)
        segment(False, SYN | ACK)
        segment(True, ACK)
        for mine, data in turns:
            for at in range(0, len(data), SEGMENT):
                segment(mine, PSH | ACK, data[at:at + SEGMENT])
            segment(not mine, ACK)
        for mine, flags in {"closed": [(True, FIN), (False, FIN), (True, 0)], "half": [(True, FIN), (False, 0)],
                            "reset": [(True, RST)], "open": []}[end]:
            segment(mine, flags | ACK)

    def _ip(self, protocol, source, target, data):
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), len(self.packets) & 0xffff, 0, 60, protocol, 0,
                           socket.inet_aton(source), socket.inet_aton(target))
        self.packets.append(head + data)

    def write(self, folder):
        """Write the capture; its path."""
        file = folder / "exchanges.pcap"
        with file.open("wb") as stream:
            writer = dpkt.pcap.Writer(stream, linktype=dpkt.pcap.DLT_RAW)
            for number, packet in enumerate(self.packets):
                writer.writepkt(packet, ts=1_700_000_000 + number / 10000)
        return file

    def replay(self, folder, *options):
        """Run `tigerfox replay` over it; {client port: [event, ...]}."""
        command = [sys.executable, "-m", "tigerfox", "replay", str(self.write(folder)), "--json", *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        found = {}
        for line in done.stdout.splitlines():
            event = json.loads(line)
            found.setdefault(max(event["src_port"], event["dest_port"]), []).append(event)
        return found


# HTTP, client outside

def request(target="/", *headers, method="GET", body=b"", host="www.example.org"):
    """The bytes of a request; a body brings its length."""
    lines = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host else []), *headers]
    lines += [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def response(body=b"hello\n", *headers, status="200 OK"):
    """The bytes of a response with its length."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


def http(*requests, answer=None, port=8081):
    """Requests on one connection to a server inside, each answered."""
    turns = []
    for one in requests:
        turns += [(True, one), (False, answer or response())]
    return "tcp", port, False, turns


def get(target, *headers, **fields):
    return http(request(target, *headers, **fields))


def post(body, *headers, target="/form", **fields):
    return http(request(target, *headers, method="POST", body=body, **fields))


def answered(body, *headers, **fields):
    return http(request(), answer=response(body, *headers, **fields))


# Others

def told(port, data, reply=b"", outward=False):
    """A TCP connection on which the client speaks first."""
    return "tcp", port, outward, [(True, data), *([(False, reply)] if reply else [])]


def greeted(port, data, reply=b"hello"):
    """A TCP connection from outside on which the server speaks first."""
    return "tcp", port, False, [(False, data), (True, reply)]


def datagram(port, data, reply=b"", outward=False):
    return "udp", port, outward, [(True, data), *([(False, reply)] if reply else [])]


def question(name, kind=1, flags=0x0100, number=7, count=1):
    """A DNS query of one question (or of ``count`` equal ones)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"
    return struct.pack("!6H", number, flags, count, 0, 0, 0) + (labels + struct.pack("!HH", kind, 1)) * count


def asked(name, kind=1, outward=True, **fields):
    """A query over UDP."""
    return datagram(53, question(name, kind, **fields), outward=outward)


def resolved(name, address):
    """A query over UDP from inside, and its answer from outside with one address."""
    data = question(name)
    record = struct.pack("!HHHIH", 0xc00c, 1, 1, 60, 4) + socket.inet_aton(address)
    reply = data[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + data[12:] + record
    return datagram(53, data, reply, outward=True)
