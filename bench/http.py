"""HTTP requests a second and their latency through the firewall: no filter, references, peers and TigerFox in turn.

wrk with 100 connections and an HTTP server (nginx, one worker) talk through namespaces client, firewall, server; both
directions are queued to one queue, one page of 612 bytes, connections kept alive. The wire, the queue and the traffic are
the same for every arm. Nothing is pinned, so that whoever has work finds a core, and client, server and filter have real-time
priority: what else the machine does has only what they leave. A second of load goes before each turn. Ratios are taken within
a round.

    sudo python -m bench.http [--rounds 5] [--seconds 3] [--arms none,accept,tigerfox] [--json FILE]

`accept` is the practical limit of NFQUEUE: bench/reference/accept_all.c. The many rules are the Emerging Threats rules of the
corpus beside the project, for TigerFox and Suricata alike; where it is missing those arms are left out, and it is said.
"""

import tempfile

from bench import filters, web
from bench.rounds import columns, interleave, parser_of, publish, table
from bench.topology import Topology

PAGE = 612
ARMS = ("none", "conntrack", "accept", "textbook", "dpkt", "scapy", "suricata", "suricata-many", "tigerfox", "tigerfox-many",
        "tigerfox-bypass", "tigerfox-requests")
FIGURES = {"per_second": 0, "p50_ms": 2, "p99_ms": 2, "us_a_packet": 2, "user_us": 2, "packets_a_request": 1}
GOALS = {"P1": ("tigerfox", "to_accept", 0.95), "P2": ("tigerfox-many", "to_accept", 0.80),
         "P3": ("tigerfox-bypass", "to_none", 0.90)}


def measure(lab, standing, seconds, close):
    """One turn of one arm: what wrk says, and the CPU time of the filter for each packet."""
    with standing.standing(lab) as pid:
        web.load(lab, PAGE, 1, close=close, priority=filters.URGENT)
        before, packets = filters.cpu_times(pid), filters.queue_row(lab).get("id_sequence", 0)
        figure = web.load(lab, PAGE, seconds, close=close, priority=filters.URGENT)
        after, packets = filters.cpu_times(pid), filters.queue_row(lab).get("id_sequence", 0) - packets
    if packets:
        user, system = ((later - earlier) * 1e6 / packets for earlier, later in zip(before, after))
        figure |= {"us_a_packet": user + system, "user_us": user, "packets_a_request": packets / seconds / figure["per_second"]}
    return figure


def bench(arms, rounds, seconds, close):
    """({arm: figures of each round}, {arm: why it was left out})."""
    filters.need("chrt")
    with tempfile.TemporaryDirectory() as folder, Topology("tfh") as lab, web.server(lab, [PAGE], priority=filters.URGENT):
        ready, missing = filters.prepare(arms, folder)
        return interleave(list(ready), rounds, lambda name: measure(lab, ready[name], seconds, close)), missing


def report(name, found, missing, chosen, goals):
    """Write and show what a bench of requests found."""
    rows = table(found, FIGURES, ("none", "conntrack", "accept"))
    for row in rows:
        row["what"] = filters.WORDS[row["arm"]]
        row["errors"] = sum(turn["errors"] + turn["refused"] for turn in found[row["arm"]])
    heads = {"what": "arm", "per_second": "per second", "to_none": "÷ none", "to_conntrack": "÷ tracking",
             "to_accept": "÷ accept all", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "us_a_packet": "CPU us/packet",
             "user_us": "of it user", "errors": "errors"}
    lines = [columns(rows, heads), *(f"left out: {filters.WORDS[arm]}: {why}" for arm, why in missing.items())]
    by_arm = {row["arm"]: row for row in rows}
    reached = {goal: {"goal": least, "reached": by_arm[arm].get(column)}
               for goal, (arm, column, least) in goals.items() if arm in by_arm}
    lines += [f"{goal}: {one['reached']} (goal {one['goal']})" for goal, one in reached.items()]
    publish(name, {"seconds": chosen.seconds, "connections": web.CONNECTIONS, "page": PAGE, "arms": rows, "left_out": missing,
                   "goals": reached}, chosen, "\n".join(lines))


def run(name, doc, arms, goals, close):
    """A bench of requests as a program."""
    parser = parser_of(doc, 5)
    parser.add_argument("--seconds", type=int, default=3, help="length of one turn")
    parser.add_argument("--arms", default=",".join(arms), help=f"which, of {', '.join(filters.MAKERS)}")
    chosen = parser.parse_args()
    found, missing = bench(chosen.arms.split(","), chosen.rounds, chosen.seconds, close)
    report(name, found, missing, chosen, goals)


def main():
    run("http", __doc__, ARMS, GOALS, close=False)


if __name__ == "__main__":
    main()
