"""The filter that Python developers write first: a NetfilterQueue callback over dpkt or Scapy, 14 prefixes and two sets of ports.

    python -m bench.callback dpkt|scapy QUEUE

No look at payload. Prints "ready" once the queue is bound.
"""

import ipaddress
import sys

PREFIXES = [ipaddress.ip_network(f"198.18.{number}.0/24") for number in range(14)]
NETWORKS = [(int(one.network_address), int(one.netmask)) for one in PREFIXES]
CLOSED_TCP = {23, 135, 139, 445, 1433, 3389, 5900}
CLOSED_UDP = {19, 111, 137, 161, 1900, 11211}


def allowed(source, protocol, port):
    """Whether the header rules let a packet of this source (a number) to this port pass."""
    if any(source & mask == network for network, mask in NETWORKS):
        return False
    return port not in (CLOSED_TCP if protocol == 6 else CLOSED_UDP)


def with_dpkt():
    """The callback over dpkt."""
    import dpkt

    def judge(packet):
        ip = dpkt.ip.IP(packet.get_payload())
        port = ip.data.dport if ip.p in (6, 17) and not isinstance(ip.data, bytes) else 0
        packet.accept() if allowed(int.from_bytes(ip.src, "big"), ip.p, port) else packet.drop()
    return judge


def with_scapy():
    """The callback over Scapy."""
    from scapy.layers.inet import IP

    def judge(packet):
        ip = IP(packet.get_payload())
        port = getattr(ip.payload, "dport", 0) if ip.proto in (6, 17) else 0
        packet.accept() if allowed(int(ipaddress.ip_address(ip.src)), ip.proto, port) else packet.drop()
    return judge


def main():
    from netfilterqueue import NetfilterQueue

    queue = NetfilterQueue()
    queue.bind(int(sys.argv[2]), {"dpkt": with_dpkt, "scapy": with_scapy}[sys.argv[1]](), max_len=65536)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    queue.run()


if __name__ == "__main__":
    main()
