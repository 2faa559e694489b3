"""Packets of one TCP connection (and of UDP beside it) out of any bytes: what a fuzzer can turn at will.

A record is four bytes (what, where, how, how many), and data where the caller takes it from the input. ``where`` counts from the
highest byte that the side has sent, in steps of 1, 16, 256 or 4,096.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "stages"))
from connections import Ends  # noqa: E402

KINDS = ("data", "data", "data", "data", "ack", "flags", "other", "seq")
STEPS, SIZES = (1, 16, 256, 4096), (1, 1, 8, 200)
MOST = 60


class Sender:
    """The state of both ends; ``packet`` makes the next one of a record."""

    def __init__(self, isns=(1000, 5000), ends=None):
        self.isn, self.high, self.ends = list(isns), [isns[0] + 1, isns[1] + 1], ends or Ends()
        self.plain = [True, True]        # nothing but one text was sent by this side, from its place on

    def handshake(self):
        client, server = self.isn
        return [self.ends.packet("c", "S", client, 0), self.ends.packet("s", "SA", server, client + 1),
                self.ends.packet("c", "A", client + 1, server + 1)]

    def packet(self, record, data_of):
        """``data_of(side, seq, size)`` gives the text that stands there."""
        what, where, how, count = record
        side, kind = what & 1, KINDS[what >> 1 & 7]
        seq = self.high[side] + (where - 256 if where > 127 else where) * STEPS[how & 3]
        size = count * SIZES[how >> 2 & 3]
        ack = self.high[1 - side] - (0, 0, 0, 0, 1, 100, -70_000, 5000)[how >> 4 & 7]
        flags, data = "A", b""
        if kind == "data":
            seq, flags = (self.high[side], "PA") if where == 0 else (seq, "A")
            data = data_of(side, seq, size)
        elif kind == "other":
            self.plain[side] = False
            data = bytes(byte ^ 1 for byte in data_of(side, seq, size))
        elif kind == "flags":
            flags = ("FA", "R", "RA", "S", "SA", "", "FAU", "AU")[count & 7]
            self.plain = [False, False] if "S" in flags or "R" in flags else self.plain
            data = data_of(side, seq, how >> 4 & 7)
        elif kind == "seq":
            self.plain[side] = False
            seq = count << 24 | where << 16
        if kind == "data" or kind == "other":
            self.high[side] = max(self.high[side], min(seq + len(data), self.high[side] + 100_000))
        window = (65535, 65535, 0, 1000)[what >> 4 & 3]
        return side, self.ends.packet("cs"[side], flags, seq, ack, data, window=window)


def records(data):
    return [data[at:at + 4] for at in range(0, min(len(data) - 3, 4 * MOST), 4)]
