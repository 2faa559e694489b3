"""A TCP client that keeps no rule: whole frames on the client's link, from addresses that no kernel has.

Nothing answers for those addresses but this, so no RST of a real stack disturbs a connection. ``Wire.connect`` does the
handshake; after that a test sends what it likes: any bytes at any place of the stream, with any flags, in IP fragments, with
a wrong checksum, or with a time to live that ends between firewall and server (``DIES``).
"""

import itertools
import json
import select
import socket
import struct
import time

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
SOURCES = {4: "10.71.1.77", 6: "fd71:1::77"}
DIES = 9                                  # the server's namespace discards what arrives with one less
PATIENCE = 5.0
_ETH_ALL, _OUTGOING = 3, 4                # linux/if_ether.h, linux/if_packet.h
_PORTS = itertools.count(10000)           # no connection of this process has the port of another
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def internet_sum(data):
    """The Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2 + len(data) % 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Wire:
    """The client's end of its link, and all connections on it."""

    def __init__(self, lab):
        device, ours = self._link(lab.client)
        theirs = self._link(lab.firewall)[1]
        for address in SOURCES.values():
            lab.firewall.run("ip", "neigh", "replace", address, "lladdr", ours, "dev", "to1", "nud", "permanent")
        for tool, match in (("iptables", ("ttl", "--ttl-eq")), ("ip6tables", ("hl", "--hl-eq"))):
            lab.server.run(tool, "-t", "raw", "-A", "PREROUTING", "-m", match[0], match[1], DIES - 1, "-j", "DROP")
        self.hosts = bytes.fromhex((theirs + ours).replace(":", ""))
        with lab.client.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((device, 0))
        self.socket.setblocking(False)
        self.links = {}
        self.idents = itertools.count(1)

    @staticmethod
    def _link(namespace):
        links = json.loads(namespace.run("ip", "-j", "addr").stdout)
        return next((link["ifname"], link["address"]) for link in links for one in link["addr_info"]
                    if one["local"].startswith("10.71.1."))

    def connect(self, target, port, isn=1_000_000, first=b"", stamp=None):
        """Open a connection; ``first`` rides on the SYN, and with a ``stamp`` every segment has one (RFC 7323).

        Returns a Link, established unless nobody answered in time.
        """
        link = Link(self, target, port, next(_PORTS), isn, stamp)
        self.links[link.family, link.sport] = link
        link.raw(isn, SYN, first)
        self.until(lambda: link.peer is not None)
        if link.peer is not None:
            link.send(0, b"", ACK)
        return link

    def until(self, condition, seconds=PATIENCE):
        """Take what comes until ``condition()`` holds; whether it does."""
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if select.select([self.socket], [], [], left)[0]:
                self._take()
        return True

    def _take(self):
        try:
            frame, address = self.socket.recvfrom(1 << 17)
        except BlockingIOError:
            return
        if address[2] == _OUTGOING or frame[12:14] not in (b"\x08\x00", b"\x86\xdd"):
            return
        packet = frame[14:]
        if packet[0] >> 4 == 4 and packet[9] == 6:
            family, at, end = 4, (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
        elif packet[0] >> 4 == 6 and packet[6] == 6:
            family, at, end = 6, 40, 40 + int.from_bytes(packet[4:6], "big")
        else:
            return
        link = self.links.get((family, int.from_bytes(packet[at + 2:at + 4], "big")))
        if link is not None:
            link.take(packet[at:end])

    def transmit(self, family, packet):
        """Put one IP packet on the link."""
        frame = self.hosts + (b"\x86\xdd" if family == 6 else b"\x08\x00") + packet
        while True:
            try:
                self.socket.send(frame)
                return
            except (BlockingIOError, OSError):
                time.sleep(0.001)

    def close(self):
        """Reset what is still open, so that nothing at the server waits for it."""
        for link in self.links.values():
            if link.peer is not None and not link.reset:
                link.raw(link.isn + 1 + link.acked, RST | ACK)
        self.socket.close()


class Link:
    """One connection. Places in the stream count from 0, its first byte behind the SYN."""

    def __init__(self, wire, target, port, sport, isn, stamp=None):
        self.wire, self.target, self.port, self.sport, self.isn, self.stamp = wire, target, port, sport, isn, stamp
        self.family = 6 if ":" in target else 4
        self.peer = None                  # the server's first sequence number
        self.parts = {}                   # what came, by its place
        self.segments = 0                 # how many segments came
        self.acked = 0                    # how much of ours it has acknowledged
        self.reset = False
        self.base = 0                     # where place 0 of ``send`` is

    def take(self, segment):
        """A segment from the server: note it, acknowledge data."""
        sequence, ack = struct.unpack_from("!II", segment, 4)
        flags, data = segment[13], segment[(segment[12] >> 4) * 4:]
        self.segments += 1
        self.reset |= bool(flags & RST)
        if flags & SYN and self.peer is None:
            self.peer = sequence
        if flags & ACK and self.peer is not None:
            reached = (ack - self.isn - 1) & 0xffffffff
            self.acked = max(self.acked, reached if reached < 1 << 31 else 0)
        if data and self.peer is not None:
            self.parts.setdefault((sequence - self.peer - 1) & 0xffffffff, data)
            self.raw(self.isn + 1 + self.acked, ACK)

    @property
    def received(self):
        """What came in order."""
        whole = b""
        for at in sorted(self.parts):
            if at > len(whole):
                break
            whole += self.parts[at][len(whole) - at:]
        return whole

    def answered(self, count=1):
        """Whether ``count`` responses 200 have come, or, with 0, the first byte of a TLS server."""
        return self.received.count(b"HTTP/1.1 200") >= count if count else self.received[:1] == b"\x16"

    def send(self, at, data, flags=PSH | ACK, **how):
        """Send bytes of the stream from its place ``at`` behind ``base``; ``how`` as in raw."""
        self.raw(self.isn + 1 + self.base + at, flags, data, **how)

    def raw(self, sequence, flags, data=b"", *, ack=None, ttl=64, wrong=False, urgent=0, size=0, backwards=False, age=0):
        """Send one segment: ``wrong`` checksum, IP fragments of ``size`` bytes and their order, a stamp of some ``age``."""
        if ack is None:
            ack = 0 if self.peer is None else self.peer + 1 + len(self.received)
        options = b"" if self.stamp is None else struct.pack("!HBBII", 0x0101, 8, 10, self.stamp - age, 0)
        head = struct.pack("!HHIIBBHHH", self.sport, self.port, sequence & 0xffffffff, ack & 0xffffffff if flags & ACK else 0,
                           5 + len(options) // 4 << 4, flags, 65535, 0, urgent) + options
        source, target = (socket.inet_pton(_FAMILY[self.family], end) for end in (SOURCES[self.family], self.target))
        pseudo = source + target + struct.pack("!II", len(head) + len(data), 6)
        total = internet_sum(pseudo + head + data) ^ (0x5555 if wrong else 0)
        segment = head[:16] + struct.pack("!H", total) + head[18:] + data
        for packet in self._packets(source, target, segment, ttl, size, backwards):
            self.wire.transmit(self.family, packet)

    def _packets(self, source, target, segment, ttl, size, backwards):
        ident = next(self.wire.idents) & 0xffff
        size = size or len(segment)
        places = range(0, len(segment), size)
        for at in reversed(places) if backwards else places:
            part, more = segment[at:at + size], at + size < len(segment)
            if self.family == 4:
                head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(part), ident, more << 13 | at // 8, ttl, 6, 0) + source + target
                yield head[:10] + struct.pack("!H", internet_sum(head)) + head[12:] + part
            else:
                fragment = struct.pack("!BBHI", 6, 0, at | more, ident) if len(places) > 1 else b""
                length = len(fragment) + len(part)
                yield struct.pack("!IHBB", 6 << 28, length, 44 if fragment else 6, ttl) + source + target + fragment + part
