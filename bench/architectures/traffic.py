"""The capture that the in-memory rig runs on when none is given: mixed traffic of which a part is to be dropped."""

import random
import struct

from bench.userspace import packet

PACKETS = 4_000                  # some hundred KB: they stay in the second-level cache, as a worker's batches do
SEED = 5
PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


def frame4(proto, data, source=bytes((10, 0, 0, 2)), target=bytes((10, 0, 0, 1))):
    """An Ethernet frame with an IPv4 packet."""
    return bytes(12) + b"\x08\x00" + struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(data), 7, 0, 64, proto, 0) + source + target + data


def tcp(port, flags):
    return struct.pack(">HHIIBBHHH", 40_000, port, 1, 0, 0x50, flags, 65535, 0, 0)


def unwanted(generator):
    """A frame that one of the 24 rules drops, one in three each of the first, second and last eight of them."""
    return generator.choice((
        lambda: frame4(6, tcp(generator.choice((23, 445, 3389, 5432)), 2)),
        lambda: frame4(6, tcp(80, generator.choice((0, 3)))),
        lambda: frame4(1, struct.pack(">BBHI", 5, 1, 0, 0) + bytes(28)),
    ))()


def broken(generator):
    """A frame that does not parse: cut short, or with lengths that cannot be."""
    whole = frame4(6, tcp(80, 16))
    return generator.choice((whole[:14 + generator.randrange(1, 40)], whole[:14] + b"\x41" + whole[15:]))


def write_capture(path, drops=0.1, count=PACKETS):
    """Write a pcap in which ``drops`` of the packets are to be dropped and one in a hundred does not parse."""
    generator = random.Random(SEED)
    with open(path, "wb") as file:
        file.write(PCAP_HEADER)
        for number in range(count):
            chance = generator.random()
            make = unwanted if chance < drops else broken if chance < drops + 0.01 else packet
            frame = make(generator)
            file.write(struct.pack("<IIII", 1_700_000_000 + number // 1000, number % 1000 * 1000, len(frame), len(frame)) + frame)
