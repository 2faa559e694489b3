"""Time from a packet's arrival in the queue to its verdict, at half of what the filter can take.

64-byte UDP packets are sent one by one at an even pace. Both ends of the firewall record them with the kernel's receive time
stamps (packet sockets on the two links, SO_TIMESTAMPNS): when a packet comes in from the client, and when it goes out to the
server. Their difference is the way through the firewall; what the arm without filter takes is forwarding alone, and the filter's own
share is the difference of the two: the wait in the queue, the receive, the judging and the verdict. The records are read after
the last packet, so that the reading disturbs nobody.

"Half load" is half of the packets a second that the batched accept-all answers in a flood on this machine, measured first
with the same sender. Sender and filter have a core each, as in bench/packets.py, and real-time priority there: otherwise what is
measured is how long other programs keep a core for themselves, milliseconds on a busy machine, for every arm alike (--shared
shows that). Half a second of warming up goes before and does not count; a packet sent more than 0.1 ms late is counted.

    sudo python -m bench.latency [--rounds 5] [--seconds 2] [--rate N] [--arms none,accept,tigerfox] [--json FILE]
"""

import subprocess
import tempfile

from bench import filters
from bench.rounds import columns, interleave, parser_of, publish, table
from bench.topology import SERVER4, Topology
from tigerfox.errors import TigerFoxError

ARMS = ("none", "accept", "suricata", "tigerfox")
SENDER_CPU, FILTER_CPU = 0, 1
PORT = 9999
MARKS = ("p50", "p99", "p99.9")
GOAL_P99 = 200.0


def rate_of_accept_all(lab, standing, sender, urgent):
    """Packets a second that the batched accept-all answers in a flood."""
    with standing.standing(lab) as pid:
        filters.seat(pid, {FILTER_CPU}, urgent)
        before, seconds = filters.queue_row(lab)["id_sequence"], 1.0
        process = lab.client.popen(sender, "send", SERVER4, PORT, 22, seconds, 0, 16, stdout=subprocess.DEVNULL)
        filters.seat(process.pid, {SENDER_CPU}, urgent)
        process.wait()
        return (filters.queue_row(lab)["id_sequence"] - before) / seconds


def measure(lab, standing, meter, rate, seconds, urgent):
    """One turn of one arm: microseconds between the two links, by share of the packets that stayed below."""
    with standing.standing(lab) as pid:
        filters.seat(pid, {FILTER_CPU}, urgent)
        process = lab.firewall.popen(meter, "measure", "to1", "to2", PORT, seconds + 1.5, stdout=subprocess.PIPE, text=True)
        if process.stdout.readline().strip() != "ready":
            raise TigerFoxError("the meter could not listen on the firewall's links: is the bench run as root?")
        sender = lab.client.popen(meter, "pace", SERVER4, PORT, rate, seconds, stdout=subprocess.PIPE, text=True)
        filters.seat(sender.pid, {SENDER_CPU}, urgent)
        words = sender.communicate()[0].split() + process.communicate()[0].split()
    said = dict(zip(words[::2], map(float, words[1::2])))
    if not said.get("packets"):
        raise TigerFoxError(f"{standing.name}: no packet was seen on both links")
    return said


def main():
    parser = parser_of(__doc__, 5)
    parser.add_argument("--seconds", type=int, default=2, help="length of one turn")
    parser.add_argument("--rate", type=int, help="packets a second; half of what accept-all takes where it is not given")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"which, of {', '.join(filters.MAKERS)}")
    parser.add_argument("--shared", action="store_true", help="no real-time priority: the wait for a core is measured too")
    chosen = parser.parse_args()
    urgent = not chosen.shared
    with tempfile.TemporaryDirectory() as folder, Topology("tfl") as lab:
        lab.server.run("iptables", "-t", "raw", "-A", "PREROUTING", "-p", "udp", "-j", "DROP")
        meter, sender = filters.build(folder, "delay"), filters.build(folder, "udp_flood")
        ready, missing = filters.prepare(chosen.arms.split(","), folder)
        full = filters.prepare(["accept"], folder)[0]["accept"]
        rate = chosen.rate or round(rate_of_accept_all(lab, full, sender, urgent) / 2)
        found = interleave(list(ready), chosen.rounds, lambda name: measure(lab, ready[name], meter, rate, chosen.seconds, urgent))
    rows = table(found, dict.fromkeys(MARKS, 1) | {"packets": 0, "lost": 0, "late": 0}, ("none", "accept"))
    base = {mark: next((row[mark] for row in rows if row["arm"] == "none"), 0) for mark in MARKS}
    for row in rows:
        row |= {"what": filters.WORDS[row["arm"]]} | {f"filter_{mark}": round(row[mark] - base[mark], 1) for mark in MARKS}
    heads = {"what": "arm"} | {mark: f"{mark} us" for mark in MARKS} | {f"filter_{mark}": f"less none: {mark}" for mark in MARKS}
    heads |= {"packets": "packets", "lost": "lost", "late": "sent late"}
    text = "\n".join([f"{rate:,} packets a second", columns(rows, heads), f"goal: TigerFox p99 <= {GOAL_P99:.0f} us"])
    publish("latency", {"seconds": chosen.seconds, "rate": rate, "goal_p99_us": GOAL_P99, "arms": rows, "left_out": missing},
            chosen, text)


if __name__ == "__main__":
    main()
