"""Closed ports, names that nobody may ask for, sources that ask for too many long names: python script.py QUEUE"""

import sys
import time

import dpkt
from netfilterqueue import NetfilterQueue

CLOSED = {23, 445, 3389, 5900}
LISTED = ("bad.example", "worse.example")
LONG, MOST, SECONDS = 30, 10_000, 600
asked, blocked = {}, {}


def listed(name):
    return any(name == one or name.endswith("." + one) for one in LISTED)


def judge(packet):
    ip = dpkt.ip.IP(packet.get_payload())
    port = getattr(ip.data, "dport", 0)
    if port in CLOSED or blocked.get(ip.src, 0) > time.time():
        return packet.drop()
    if port == 53 and isinstance(ip.data, dpkt.udp.UDP):
        try:
            name = dpkt.dns.DNS(ip.data.data).qd[0].name.lower()
        except (dpkt.Error, IndexError):
            return packet.drop()
        if listed(name):
            return packet.drop()
        if len(name) > LONG:
            asked[ip.src] = asked.get(ip.src, 0) + 1
            if asked[ip.src] > MOST:
                blocked[ip.src] = time.time() + SECONDS
                return packet.drop()
    return packet.accept()


queue = NetfilterQueue()
queue.bind(int(sys.argv[1]), judge, max_len=16384)
print("ready", flush=True)
queue.run()
