"""One bulk TCP stream through the firewall in Gbit/s: iperf3, with segmentation offload as gateways have it.

With F_GSO the kernel hands packets of up to 64 KB to the filter as they are; without it, as libnetfilter_queue's examples,
NetfilterQueue and Suricata do, it cuts each into segments of the MTU first, and each costs a message and a verdict. The arm with
bypass has rules for other ports: its stream is left to the kernel with the handshake. Client, server and filter have real-time priority.

    sudo python -m bench.bulk [--rounds 5] [--seconds 3] [--arms none,accept,tigerfox] [--json FILE]
"""

import contextlib
import json
import subprocess
import tempfile
import time

from bench import filters
from bench.rounds import columns, interleave, parser_of, publish, table
from bench.topology import SERVER4, Topology
from tigerfox.errors import TigerFoxError

ARMS = ("none", "accept", "accept-nogso", "textbook", "suricata", "tigerfox", "tigerfox-bypass")
GOAL = 0.9
PORT = 5201


@contextlib.contextmanager
def receiver(lab):
    """iperf3's server, once it listens."""
    filters.need("iperf3", "chrt")
    process = lab.server.popen(*filters.URGENT, "iperf3", "-s", "-p", PORT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while f":{PORT}" not in lab.server.run("ss", "-ltn").stdout:
            if time.monotonic() > deadline:
                raise TigerFoxError("iperf3 does not listen after 10 s")
            time.sleep(0.05)
        yield
    finally:
        filters.end(process)


def measure(lab, standing, seconds):
    """One turn of one arm: Gbit/s that arrived, and packets that the queue saw."""
    with standing.standing(lab):
        before = filters.queue_row(lab).get("id_sequence", 0)
        said = lab.client.run(*filters.URGENT, "iperf3", "-c", SERVER4, "-p", PORT, "-t", seconds, "-O", 1, "-J").stdout
        packets = filters.queue_row(lab).get("id_sequence", 0) - before
    total = json.loads(said)["end"]
    return {"gbit_s": total["sum_received"]["bits_per_second"] / 1e9, "retransmits": total["sum_sent"]["retransmits"],
            "queued": packets}


def main():
    parser = parser_of(__doc__, 5)
    parser.add_argument("--seconds", type=int, default=3, help="length of one turn, behind one second of warming up")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"which, of {', '.join(filters.MAKERS)}")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Topology("tfk") as lab, receiver(lab):
        ready, missing = filters.prepare(chosen.arms.split(","), folder)
        found = interleave(list(ready), chosen.rounds, lambda name: measure(lab, ready[name], chosen.seconds))
    rows = table(found, {"gbit_s": 2, "retransmits": 0, "queued": 0}, ("none", "accept"))
    for row in rows:
        row["what"] = filters.WORDS[row["arm"]]
    heads = {"what": "arm", "gbit_s": "Gbit/s", "to_none": "÷ none", "to_accept": "÷ accept all", "queued": "packets queued",
             "retransmits": "sent again"}
    text = "\n".join([columns(rows, heads), *(f"left out: {filters.WORDS[arm]}: {why}" for arm, why in missing.items()),
                      f"goal: TigerFox ÷ no firewall >= {GOAL}, where the rules leave something to bypass"])
    publish("bulk", {"seconds": chosen.seconds, "goal": GOAL, "arms": rows, "left_out": missing}, chosen, text)


if __name__ == "__main__":
    main()
