"""Payloads out of captures: datagrams as they are, and TCP directions put in order by sequence number (first copy wins)."""

import io

import dpkt

LINK_IP = {101: 0, 12: 0, 14: 0, 228: 0, 229: 0}


def frames(path):
    """(link type, frame) of a pcap or pcapng file."""
    data = path.read_bytes()
    reader = dpkt.pcapng.Reader if data[:4] == b"\n\r\r\n" else dpkt.pcap.Reader
    source = reader(io.BytesIO(data))
    link = source.datalink()
    try:
        for _, frame in source:
            yield link, frame
    except (dpkt.Error, ValueError):                 # a capture that was cut short
        return


def network(link, frame):
    """The IP packet of a frame, or None."""
    try:
        if link in LINK_IP:
            return dpkt.ip.IP(frame) if frame[0] >> 4 == 4 else dpkt.ip6.IP6(frame)
        if link == 113:
            packet = dpkt.sll.SLL(frame).data
        elif link == 0:
            packet = dpkt.loopback.Loopback(frame).data
        else:
            packet = dpkt.ethernet.Ethernet(frame).data
    except (dpkt.Error, IndexError, ValueError):
        return None
    return packet if isinstance(packet, (dpkt.ip.IP, dpkt.ip6.IP6)) else None


def transports(path):
    """(source, destination, TCP or UDP) of every packet that dpkt can read."""
    for link, frame in frames(path):
        packet = network(link, frame)
        segment = getattr(packet, "data", None)
        if isinstance(segment, (dpkt.tcp.TCP, dpkt.udp.UDP)):
            yield (packet.src, segment.sport), (packet.dst, segment.dport), segment


def datagrams(path):
    """(source, destination, payload) of every UDP datagram."""
    return [(a, b, bytes(u.data)) for a, b, u in transports(path) if isinstance(u, dpkt.udp.UDP)]


def streams(path):
    """{(source, destination): bytes} of every TCP direction, up to its first gap."""
    pieces = {}
    for source, target, tcp in transports(path):
        if not isinstance(tcp, dpkt.tcp.TCP):
            continue
        fresh = bool(tcp.flags & dpkt.tcp.TH_SYN)
        start, parts = pieces.setdefault((source, target), [tcp.seq + fresh, []])
        if fresh:
            pieces[source, target] = [tcp.seq + 1, []]
            parts = pieces[source, target][1]
        if tcp.data:
            parts.append(((tcp.seq + fresh - pieces[source, target][0]) & 0xffffffff, bytes(tcp.data)))
    return {ends: ordered(parts) for ends, (_, parts) in pieces.items()}


def ordered(parts):
    stream = bytearray()
    for at, data in sorted(parts, key=lambda part: part[0]):
        if at > len(stream):
            break
        stream += data[len(stream) - at:]
    return bytes(stream)
