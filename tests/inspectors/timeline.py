"""Captures over hours: packets with times of their own, and what the shipped inspectors make of them."""

import socket
import struct
from pathlib import Path

from tigerfox.control.rulefiles import compile_files
from tigerfox.inspectors import wanted
from tigerfox.offline.replay import Run

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "rules" / "inspectors"
SHIPPED = {"dns-tunnel": "tigerfox.inspectors.dnstunnel:DnsTunnel", "slow-source": "tigerfox.inspectors.slowsource:SlowSource",
           "tls-watch": "tigerfox.inspectors.tlswatch:TlsWatch"}
START = 1_700_000_000
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def ipv4(protocol, src, dst, data):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), 1, 0, 64, protocol, 0, socket.inet_aton(src), socket.inet_aton(dst))
    return head + data


def segment(src, sport, dst, dport, flags, seq=1, ack=0, data=b""):
    return ipv4(6, src, dst, struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, 65535, 0, 0) + data)


def datagram(src, sport, dst, dport, data):
    return ipv4(17, src, dst, struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data)


def query(name, kind=16, number=1):
    """A DNS question."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", number, 0x100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1)


def hello(*names, padding=0):
    """A client's hello in one TLS record, ``padding`` bytes before the names."""
    extensions = struct.pack("!HH", 21, padding) + bytes(padding) if padding else b""
    if names:
        entries = b"".join(struct.pack("!BH", 0, len(name)) + name.encode() for name in names)
        extensions += struct.pack("!HHH", 0, len(entries) + 2, len(entries)) + entries
    body = b"\x03\x03" + bytes(32) + b"\0" + struct.pack("!HH", 2, 0x1301) + b"\1\0" + struct.pack("!H", len(extensions)) + extensions
    message = b"\1" + struct.pack("!I", len(body))[1:] + body
    return b"\x16\3\1" + struct.pack("!H", len(message)) + message


class Timeline:
    """Packets in the order in which they are added; each connection has a client port of its own."""

    def __init__(self):
        self.now = float(START)
        self.packets = []
        self.port = 20000

    def wait(self, seconds):
        self.now += seconds
        return self

    def add(self, packet):
        self.packets.append((self.now, packet))
        self.now += 0.001

    def ask(self, name, client="10.0.0.5", server="192.0.2.53", kind=16, port=53):
        """A question over UDP."""
        self.port += 1
        self.add(datagram(client, self.port, server, port, query(name, kind)))

    def unanswered(self, client, server, port):
        self.port += 1
        self.add(segment(client, self.port, server, port, SYN))

    def refused(self, client, server, port):
        self.unanswered(client, server, port)
        self.add(segment(server, port, client, self.port, RST | ACK, 0, 2))

    def connection(self, client, server, port, *turns, size=1400):
        """``turns``: (whether it is the client's, bytes), in segments of ``size``."""
        self.port += 1
        ends = {True: (client, self.port, server, port), False: (server, port, client, self.port)}
        place = {True: 1001, False: 5001}
        self.add(segment(*ends[True], SYN, 1000))
        self.add(segment(*ends[False], SYN | ACK, 5000, 1001))
        self.add(segment(*ends[True], ACK, 1001, 5001))
        for mine, data in turns:
            for at in range(0, len(data), size):
                piece = data[at:at + size]
                self.add(segment(*ends[mine], PSH | ACK, place[mine], place[not mine], piece))
                place[mine] += len(piece)
            self.add(segment(*ends[not mine], ACK, place[not mine], place[mine]))
        for mine in (True, False):
            self.add(segment(*ends[mine], FIN | ACK, place[mine], place[not mine]))
            place[mine] += 1
        self.add(segment(*ends[True], ACK, place[True], place[False]))

    def write(self, path):
        data = struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101)
        for when, packet in self.packets:
            data += struct.pack("<IIII", int(when), int(when % 1 * 1_000_000), len(packet), len(packet)) + packet
        Path(path).write_bytes(data)
        return path


class Judged:
    """A capture judged by one shipped inspector and its rules. ``counts`` are the inspector's counters."""

    def __init__(self, capture, name, *options, home="[10.0.0.0/8]", outside="!$HOME_NET"):
        table = wanted.assignments([f"{name}={','.join([SHIPPED[name], *options])}"])
        made = compile_files([str(RULES / f"{name}.rules")], {"HOME_NET": home, "EXTERNAL_NET": outside}, False, 600, "none",
                             list(table))
        tally = Run(capture, made, False, wanted.read_all(table)).tally()
        (_, self.counts), = tally.inspectors
        self.asked = self.counts["accepted"] + self.counts["dropped"]
        self.dropped, self.raised = self.counts["dropped"], self.counts["raised"]
        self.drops = {reason: sum(count for (one, _), count in tally.drops.items() if one == reason)
                      for reason, _ in tally.drops}
