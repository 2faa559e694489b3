"""The first bytes of one direction of a TCP connection, put together from packets in any order."""

import dpkt

from tigerfox.inspectors.packet import TCP, Packet

RUNS = 32                            # pieces with gaps between them, at most
_HALF = 1 << 31


class Segments:
    """At most ``most`` bytes are kept; ``full`` says that more came, or in too many pieces."""

    __slots__ = ("_base", "_runs", "full", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.full = False
        self._base: int | None = None
        self._runs: list[tuple[int, bytes]] = []

    def add(self, packet: Packet) -> bytes:
        """Take a packet; return what is there without a gap, from the lowest sequence number on."""
        sequence = sequence_of(packet)
        if sequence is not None:
            if self._base is None:
                self._base = sequence
            self._keep((sequence - self._base + _HALF) % (1 << 32) - _HALF, packet.payload)
        return self._runs[0][1] if self._runs else b""

    def _keep(self, place: int, data: bytes) -> None:
        """Keep what finds room of the piece at ``place``, joined to those that it touches."""
        room = self.most - sum(len(piece) for _, piece in self._runs)
        self.full |= len(data) > room
        runs: list[tuple[int, bytes]] = []
        for start, piece in sorted([*self._runs, (place, data[:room])]):
            if runs and start <= runs[-1][0] + len(runs[-1][1]):
                first, before = runs[-1]
                runs[-1] = first, before + piece[first + len(before) - start:]
            elif piece:
                runs.append((start, piece))
        self.full |= len(runs) > RUNS
        self._runs = runs[:RUNS]


def sequence_of(packet: Packet) -> int | None:
    """Return the TCP sequence number of a packet, None where there is none to be read."""
    try:
        return int(packet.ip.data.seq) if packet.proto == TCP else None
    except (dpkt.Error, AttributeError):
        return None
