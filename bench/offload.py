"""A flood from a blocked source beside legitimate requests, with the block offload and without.

Client, firewall and server are network namespaces; a whole instance with one queue runs in the firewall. wrk asks over IPv4
while a UDP sender floods over IPv6 from an address that is blocked; nothing is pinned. Arms: no flood; the flood dropped by
one rule in the table raw, before routing and connection tracking (what sending and receiving it costs on this machine,
whatever the filter); the flood with `--offload on`; with `--offload off`. Given are requests/s, what of the flood user space
judged a second after the flood's first second, and what the kernel's sets dropped. Ratios are taken within a round.

    sudo python -m bench.offload [--rounds 5] [--seconds 3] [--rate 50000] [--json FILE]
"""

import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from bench import web
from bench.filters import build, end
from bench.instance import Instance
from bench.rounds import columns, interleave, parser_of, publish, table
from bench.topology import CLIENT6, SERVER6, Topology

PAGE = 612
ARMS = ("no flood", "flood, dropped in raw", "flood, offload", "flood, user space")
FIGURES = {"per_second": 0, "p99_ms": 2, "user_space_per_second": 0, "kernel_per_second": 0}
GOAL = 0.9


def blocked_packets(instance):
    """(packets of blocked sources that user space judged, that the kernel's sets dropped) so far."""
    found = instance.ask("status")
    return (found["reasons"].get("blocked_source", {}).get("packets", 0), found["offload"].get("packets", {}).get("source", 0))


@contextmanager
def flooding(lab, sender, seconds, rate):
    """Flood while the block lasts; a second goes by before it begins."""
    process = lab.client.popen(sender, "send", SERVER6, 9999, 22, seconds + 30, rate, 16, stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)
        yield
    finally:
        end(process)


@contextmanager
def dropped_in_raw(lab):
    """Drop the flood at the first place where iptables can."""
    rule = ["PREROUTING", "-s", CLIENT6, "-p", "udp", "-j", "DROP"]
    lab.firewall.run("ip6tables", "-t", "raw", "-A", *rule)
    try:
        yield
    finally:
        lab.firewall.run("ip6tables", "-t", "raw", "-D", *rule)


def loaded(lab, instance, seconds):
    """wrk's figures, and what became of the flood meanwhile."""
    judged, dropped = blocked_packets(instance)
    begin = time.monotonic()
    figure = web.load(lab, PAGE, seconds)
    after = blocked_packets(instance)
    spent = time.monotonic() - begin
    return figure | {"user_space_per_second": (after[0] - judged) / spent, "kernel_per_second": (after[1] - dropped) / spent}


def measure(lab, sender, arm, seconds, rate):
    """One turn of one arm."""
    offload = "off" if arm == "flood, user space" else "on"
    with tempfile.TemporaryDirectory() as folder, \
            Instance(lab.firewall, Path(folder), "", "--queues", "0:0", "--offload", offload) as instance:
        instance.call("blocks", "add", CLIENT6)
        web.load(lab, PAGE, 1)
        if arm == "no flood":
            return loaded(lab, instance, seconds)
        if arm == "flood, dropped in raw":
            with dropped_in_raw(lab), flooding(lab, sender, seconds, rate):
                return loaded(lab, instance, seconds)
        with flooding(lab, sender, seconds, rate):
            return loaded(lab, instance, seconds)


def bench(rounds, seconds, rate):
    """The rows of the result."""
    with tempfile.TemporaryDirectory() as folder, Topology("tfo") as lab, web.server(lab, [PAGE]):
        sender = build(folder, "udp_flood")
        found = interleave(list(ARMS), rounds, lambda arm: measure(lab, sender, arm, seconds, rate))
    return table(found, FIGURES, [ARMS[0], ARMS[1]])


def main():
    parser = parser_of(__doc__, rounds=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    parser.add_argument("--rate", type=int, default=50_000, help="packets a second of the flood")
    chosen = parser.parse_args()
    rows = bench(chosen.rounds, chosen.seconds, chosen.rate)
    heads = {"arm": "", "per_second": "requests/s", f"to_{ARMS[0]}": "÷ no flood", f"to_{ARMS[1]}": "÷ raw", "p99_ms": "p99 ms",
             "user_space_per_second": "user space/s", "kernel_per_second": "kernel sets/s"}
    goal = f"goal: user space 0 with offload; requests >= {GOAL} of no flood, as far as the cores carry the flood itself (÷ raw)"
    publish("offload", {"rate": chosen.rate, "seconds": chosen.seconds, "arms": rows}, chosen, f"{columns(rows, heads)}\n{goal}")


if __name__ == "__main__":
    main()
