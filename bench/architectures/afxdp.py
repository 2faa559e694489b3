"""Two arms of the live rig that take no queue at all: AF_XDP sockets at the firewall's interfaces (xsk.pyx), with rules and without.

An XDP program at each of the two interfaces puts what is IPv4 into a socket, leaves ARP to the kernel and drops the rest. It is
assembled here, so that nothing but the kernel is needed. What passes goes out at the other interface as a router would send it.
Routes, connection tracking, neighbours, fragments too big for the link: none of it is there.

Frames that a local sender made carry no checksum yet, and may be larger than the link's; both are promises between kernels that
a program at the wire cannot keep. So the end hosts compute checksums, and do not join segments, while these arms stand.
"""

import ctypes
import json
import mmap
import os
import socket
import struct
import threading

from bench.architectures.live import Arm, Running, start_child

AF_XDP = 44
MAP_CREATE, MAP_UPDATE, PROG_LOAD, LINK_CREATE = 0, 2, 5, 28       # commands of bpf(2)
XSKMAP, PROGRAM_XDP, ATTACH_XDP = 17, 6, 37
NATIVE = 4                       # XDP_FLAGS_DRV_MODE
DROP, PASS = 1, 2                # answers of an XDP program
REDIRECT_MAP = 51                # the helper
OURS = ("to1", "to2")            # the firewall's interfaces; each one's neighbour is the other end of its link
BESIDE = ("no firewall", "accept-all reference", "sequential", "TigerFox, 1 queue", "AF_XDP accept-all", "AF_XDP")   # compared
PROMISES = ("tx", "gso", "tso", "gro")


def instruction(code, target=0, source=0, offset=0, value=0):
    """One instruction of eBPF, eight bytes."""
    return struct.pack("=BBhi", code, source << 4 | target, offset, value)


def assemble(sockets_map):
    """IPv4 to the socket of the queue that it came in by, else dropped; ARP to the kernel; everything else dropped."""
    return b"".join((
        instruction(0x61, 2, 1, 0),                                    # r2 = data
        instruction(0x61, 3, 1, 4),                                    # r3 = data_end
        instruction(0xBF, 4, 2),                                       # r4 = r2
        instruction(0x07, 4, value=14),                                # r4 += 14
        instruction(0x2D, 4, 3, offset=11),                            # if r4 > r3: drop
        instruction(0x69, 5, 2, 12),                                   # r5 = the ethertype
        instruction(0x15, 5, offset=7, value=socket.htons(0x0806)),    # if ARP: pass
        instruction(0x55, 5, offset=8, value=socket.htons(0x0800)),    # if not IPv4: drop
        instruction(0x61, 2, 1, 16),                                   # r2 = the number of the receive queue
        instruction(0x18, 1, 1, value=sockets_map), instruction(0),    # r1 = the map
        instruction(0xB7, 3, value=DROP),                              # r3 = the answer where no socket is
        instruction(0x85, value=REDIRECT_MAP), instruction(0x95),
        instruction(0xB7, 0, value=PASS), instruction(0x95),           # pass
        instruction(0xB7, 0, value=DROP), instruction(0x95),           # drop
    ))


class Attached:
    """The program at an interface of this namespace, its frames going to ``held``, a socket that is bound there. Ends with it."""

    def __init__(self, interface, held):
        from bench.architectures.xsk import bpf_call

        self.sockets_map = bpf_call(MAP_CREATE, struct.pack("=IIII", XSKMAP, 4, 4, 1))
        program = self._load(bpf_call)
        key, value = struct.pack("=I", 0), struct.pack("=I", held.fileno())
        bpf_call(MAP_UPDATE, struct.pack("=IxxxxQQQ", self.sockets_map, address_of(key), address_of(value), 0))
        self.link = bpf_call(LINK_CREATE, struct.pack("=IIII", program, interface, ATTACH_XDP, NATIVE))
        os.close(program)

    def _load(self, bpf_call):
        code, licence = assemble(self.sockets_map), b"MIT\0"
        return bpf_call(PROG_LOAD, struct.pack("=IIQQ", PROGRAM_XDP, len(code) // 8, address_of(code), address_of(licence)))

    def close(self):
        os.close(self.link)
        os.close(self.sockets_map)


def address_of(data):
    """Where bytes lie, for the kernel to read; the caller holds them meanwhile."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value


def possible():
    """Whether this kernel has AF_XDP."""
    try:
        socket.socket(AF_XDP, socket.SOCK_RAW).close()
    except OSError:
        return False
    return True


def ether_of(namespace, interface):
    """The Ethernet address of an interface."""
    with namespace.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as held:
        held.bind((interface, 0))
        return held.getsockname()[4]


def serve(rules, judges, ethers, counts, ready, stop, result):
    """The child: bind both interfaces, forward until ``stop`` is readable, report."""
    from bench.architectures.designs import BY_NAME
    from bench.architectures.xsk import Forwarder

    rig = rules.rig(BY_NAME["sequential"])
    interfaces = [socket.if_nametoindex(name) for name in OURS]
    forwarder = Forwarder(rig, interfaces, ethers, counts, judges)
    attached = [Attached(interface, held) for interface, held in zip(interfaces, forwarder.sockets)]
    threading.Thread(target=lambda: (os.read(stop, 1), rig.stop()), daemon=True).start()
    os.write(ready, b"!")
    forwarder.run()
    for one in attached:
        one.close()
    found = forwarder.finish()
    with os.fdopen(result, "w") as report:
        json.dump(found | {"given": sum(found[name] for name in ("passed", "dropped", "no_room")), "disordered": 0,
                           "lost": found["lost"], "overflowed": found["no_room"], "failed": 0}, report)


def start(lab, name, rules, judges):
    """Fork a forwarder into the firewall; [Running] once frames go through it."""
    hosts = ((lab.client, "to1"), (lab.server, "to2"))
    ethers = [ether_of(host, "eth0") + ether_of(lab.firewall, ours) for host, ours in hosts]
    counts = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    keep_promises(lab, "off")
    pid, finish = start_child(lab, name, lambda *pipes: serve(rules, judges, ethers, counts, *pipes))

    def counted():
        passed, dropped, no_room, lost = counts[:4]
        return {"id_sequence": passed + dropped + no_room, "queue_dropped": lost, "user_dropped": no_room}

    def end():
        try:
            return finish()
        finally:
            keep_promises(lab, "on")

    return [Running(pid, end, counted)]


def keep_promises(lab, state):
    """Checksums and joined segments left to the next kernel, on or off, at both end hosts."""
    for host in (lab.client, lab.server):
        host.run("ethtool", "-K", "eth0", *(word for name in PROMISES for word in (name, state)))


def arms(rules):
    """Both arms: the reference, which passes everything unread, and the one that judges."""
    return [Arm(name, lambda lab, name=name, judges=judges: start(lab, name, rules, judges), 0, judges)
            for name, judges in (("AF_XDP accept-all", False), ("AF_XDP", True))]
