"""A tiny NFQUEUE program for tests: accepts everything on the queues FIRST to LAST, and says what it saw.

Says "ready", runs until standard input closes and no packet waits any more, then prints one JSON list of packets:
queue, hook, mark, and of the packet src, dst, sport, dport.
"""

import json
import select
import socket
import struct
import sys

from tigerfox.control.probe import attribute, queue_bind, queue_message

VERDICT, NF_ACCEPT = 1, 1            # NFQNL_MSG_VERDICT, linux/netfilter.h
PACKET_HDR, VERDICT_HDR, MARK, PAYLOAD = 1, 2, 3, 10


def attributes(message):
    """Return {kind: payload} of an nfnetlink message."""
    found, at = {}, 20
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        found[kind] = message[at + 4:at + length]
        at += (length + 3) & ~3
    return found


def tuple_of(packet):
    """Return (src, dst, sport, dport) of an IP packet without IPv6 extension headers; ports 0 when it has none."""
    if packet[0] >> 4 == 4:
        proto, at, family, places = packet[9], (packet[0] & 15) * 4, socket.AF_INET, (12, 16, 20)
    else:
        proto, at, family, places = packet[6], 40, socket.AF_INET6, (8, 24, 40)
    ports = struct.unpack_from("!HH", packet, at) if proto in (6, 17) else (0, 0)
    return (socket.inet_ntop(family, packet[places[0]:places[1]]), socket.inet_ntop(family, packet[places[1]:places[2]]), *ports)


def take(link, queue, seen):
    """Receive one packet, note it, accept it."""
    message = link.recv(1 << 17)
    found = attributes(message)
    if PACKET_HDR not in found:
        return
    number, _, hook = struct.unpack("!IHB", found[PACKET_HDR][:7])
    mark = struct.unpack("!I", found[MARK])[0] if MARK in found else 0
    src, dst, sport, dport = tuple_of(found[PAYLOAD])
    seen.append({"queue": queue, "hook": hook, "mark": mark, "src": src, "dst": dst, "sport": sport, "dport": dport})
    link.send(queue_message(VERDICT, queue, attribute(VERDICT_HDR, struct.pack("!II", NF_ACCEPT, number)), flags=1))


def main(first, last):
    """Listen until standard input closes, then take what still waits."""
    links = {queue_bind(queue): queue for queue in range(first, last + 1)}
    for link in links:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    seen, closed = [], False
    while True:
        ready = select.select([*links] if closed else [sys.stdin, *links], [], [], 0.2 if closed else None)[0]
        if closed and not ready:
            json.dump(seen, sys.stdout)
            return
        closed = closed or sys.stdin in ready
        for link in links.keys() & ready:
            take(link, links[link], seen)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
