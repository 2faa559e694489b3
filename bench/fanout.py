"""How evenly the fan-outs deal the connections of one client to one server out to eight queues.

Client, firewall and server are network namespaces; a whole instance runs in the firewall, one arm after the other:
`balance`, `flow` by a hash of addresses and ports (--mark-mask none), and `flow` as it is by default, in turn on bits of
the connection mark. Each arm carries the same number of short TCP connections, over IPv4 and over IPv6. Given are the
packets that each worker judged, the busiest queue in means of the queues (1.0 is even, 8.0 is all on one), and what
`tigerfox doctor` says of the running instance.

    sudo python -m bench.fanout [--connections 200] [--rounds 3] [--json FILE]
"""

import argparse
import json
import socket
import statistics
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.instance import Instance
from bench.machine import machine
from bench.topology import SERVER4, SERVER6, Topology

QUEUES = 8
PORT = 8080
ARMS = {"balance": ("balance", ""), "flow by hash": ("flow", "none"), "flow": ("flow", "")}
GOAL = 1.3


@contextmanager
def answering(topology, family):
    """Answer every connection with a few bytes while the block lasts."""
    with topology.server.entered():
        listener = socket.create_server(("", PORT), family=family, backlog=512)

    def serve():
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer:
                    peer.sendall(peer.recv(100))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def connect(topology, family, address, connections):
    """Open that many connections one after the other, each with one question and one answer."""
    with answering(topology, family), topology.client.entered():
        for number in range(connections):
            with socket.create_connection((address, PORT), 5) as client:
                client.sendall(b"%d" % number)
                while client.recv(100):
                    pass


def measure(topology, arm, family, address, connections):
    """One arm once: packets of each queue, the busiest in means, and doctor's finding."""
    fanout, mask = ARMS[arm]
    with tempfile.TemporaryDirectory() as folder, \
            Instance(topology.firewall, Path(folder), f'[netfilter]\nfanout = "{fanout}"\nmark_mask = "{mask}"\n',
                     "--queues", f"0:{QUEUES - 1}") as instance:
        connect(topology, family, address, connections)
        packets = [worker["packets"] for worker in instance.ask("status")["workers"]]
        finding = next(item for item in instance.ask("doctor", codes=(0, 1)) if item["name"] == "queue skew")
    return packets, max(packets) * QUEUES / sum(packets), finding


def bench(rounds, connections):
    """Run every arm in every round, both families; the rows of the result."""
    rows = {(arm, version): {"arm": arm, "family": version, "skews": []} for arm in ARMS for version in (4, 6)}
    with Topology("tff") as topology:
        for _ in range(rounds):
            for arm, version in rows:
                family, address = (socket.AF_INET, SERVER4) if version == 4 else (socket.AF_INET6, SERVER6)
                packets, skew, finding = measure(topology, arm, family, address, connections)
                rows[arm, version]["skews"].append(round(skew, 3))
                rows[arm, version] |= {"packets": packets, "doctor": finding}
    for row in rows.values():
        row["skew"] = statistics.median(row["skews"])
        row["worst"] = max(row["skews"])
    return list(rows.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write the figures there, - for standard output")
    chosen = parser.parse_args()
    rows = bench(chosen.rounds, chosen.connections)
    result = {"bench": "fanout", "connections": chosen.connections, "queues": QUEUES, "machine": machine(), "arms": rows}
    if chosen.json:
        text = json.dumps(result, indent=1) + "\n"
        sys.stdout.write(text) if chosen.json == "-" else Path(chosen.json).write_text(text)
    if chosen.json != "-":
        show(rows)


def show(rows):
    """Print the table, and below it what doctor says."""
    print(f"{'fan-out':14}IPv  busiest ÷ mean  worst  packets of each queue, last round")
    for row in rows:
        print(f"{row['arm']:14}{row['family']:>3}{row['skew']:>16.2f}{row['worst']:>7.2f}  "
              f"{' '.join(map(str, row['packets']))}")
    for row in rows:
        mend = f" → {row['doctor']['mend']}" if row["doctor"]["state"] != "ok" else ""
        print(f"doctor, {row['arm']}, IPv{row['family']}: {row['doctor']['detail']}{mend}")
    print(f"goal: flow <= {GOAL}")


if __name__ == "__main__":
    main()
