"""Packets of one connection, by side: ``Ends(sport=40000).packet("c", "S", 100)``."""

import struct

from packets import tcp, udp

FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32}
ESTABLISHED = [("c", "S", 1000, 0), ("s", "SA", 5000, 1001), ("c", "A", 1001, 5001)]


class Ends:
    """A client and a server; sides are "c" and "s". Addresses are packed: 4 or 16 bytes."""

    def __init__(self, client=bytes([10, 0, 0, 1]), server=bytes([10, 0, 0, 2]), sport=40000, dport=80):
        self.client, self.server, self.sport, self.dport = client, server, sport, dport

    def ends(self, side):
        ends = (self.client, self.server, self.sport, self.dport)
        return ends if side == "c" else (ends[1], ends[0], ends[3], ends[2])

    def ip(self, side, proto, data):
        src, dst, _, _ = self.ends(side)
        if len(src) == 16:
            return struct.pack("!IHBB", 6 << 28, len(data), proto, 64) + src + dst + data
        return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, proto, 0) + src + dst + data

    def packet(self, side, flags, seq, ack=0, data=b"", window=65535, options=b""):
        """A TCP segment; ``flags`` as letters, sequence numbers wrap."""
        _, _, sport, dport = self.ends(side)
        bits = sum(FLAGS[letter] for letter in flags)
        return self.ip(side, 6, tcp(sport, dport, data, flags=bits, seq=seq % 2**32, ack=ack % 2**32, window=window, options=options))

    def datagram(self, side, data=b"x"):
        _, _, sport, dport = self.ends(side)
        return self.ip(side, 17, udp(sport, dport, data))
