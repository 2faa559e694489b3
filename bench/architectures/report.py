"""Writes the tables of docs/architectures.md from the figures of a run, between the marks that are there, and the plots."""

import re
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE, PLOTS = ROOT / "docs" / "architectures.md", ROOT / "docs" / "architectures"
QUESTIONS = {"primitives": "primitives", "early": "early exit", "pipelining": "pipelining", "batching": "batching",
             "sleeping": "sleep or spin"}


def table(heads, rows):
    """A Markdown table; numbers to the right."""
    align = ["---" if place == 0 else "---:" for place in range(len(heads))]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (heads, align, *rows))


def number(value, digits=0):
    """A figure as people read it; a dash for none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def share(judged):
    """Least and most loaded worker, in percent of an equal share."""
    fair = sum(judged) / len(judged)
    return f"{min(judged) / fair:.0%} to {max(judged) / fair:.0%}" if fair and len(judged) > 1 else "–"


def by_name(rows):
    return {row["design"]: row for row in rows}


def design_rows(rows):
    """The row of every design at full load; synchronisation is what it costs beyond the sequential loop."""
    base = by_name(rows)["sequential"]
    return [[row["design"], row["workers"], number(row["packets_per_second"]),
             f"{row['packets_per_second'] / base['packets_per_second']:.4f}", number(row["ns"]), number(row["cpu_ns"]),
             number(row["cpu_ns"] - base["cpu_ns"]) if row is not base else "–", number(row["switches"], 3), number(row["spins"], 1),
             f"{row['disordered']:.1%}", share(row["judged"])] for row in rows]


def variant_rows(rows):
    return [[row["design"], number(row["packets_per_second"]), number(row["ns"]), number(row["cpu_ns"]), number(row["switches"], 3),
             number(row["spins"], 1), f"{row['disordered']:.1%}"] for row in rows]


def matrix_rows(tables, figure, digits=0):
    """A row a design, a column for each of ``tables``."""
    names = [row["design"] for row in next(iter(tables.values()))]
    return [[name, *(number(by_name(rows)[name][figure], digits) for rows in tables.values())] for name in names]


def paced_rows(tables):
    found = []
    for name in [row["design"] for row in next(iter(tables.values()))]:
        line = [name]
        for rows in tables.values():
            row = by_name(rows)[name]
            line += [number(row[f"lag_{part}_us"]) for part in ("p50", "p99", "p99.9")]
            line.append(f"{row['cpus']:.1%}" + (" (cannot keep up)" if row["cut"] else ""))
        found.append(line)
    return found


def live_rows(rounds):
    """{arm: medians over the rounds}: HTTP, and each rate of the paced stream."""
    found = {}
    for arm in ranked(rounds):
        turns = [row for rows in rounds for row in rows if row["design"] == arm]
        found[arm] = {"http": medians([turn["http"] for turn in turns]),
                      "udp": [medians([turn["udp"][place] for turn in turns]) for place in range(len(turns[0]["udp"]))],
                      "ratio": statistics.median(turn["http"]["requests_per_second"] / reference(rows)
                                                 for rows in rounds for turn in rows if turn["design"] == arm),
                      "switches": medians(turns).get("switches"), "given": medians(turns).get("given"),
                      "disordered": medians(turns).get("disordered")}
    return found


def ranked(rounds):
    """The arms, those with the most requests a second first."""
    rates = {row["design"]: [] for row in rounds[0]}
    for row in (row for rows in rounds for row in rows):
        rates[row["design"]].append(row["http"]["requests_per_second"])
    return sorted(rates, key=lambda name: -statistics.median(rates[name]))


def reference(rows):
    return by_name(rows)["accept-all reference"]["http"]["requests_per_second"]


def medians(turns):
    """The medians of the figures that all turns have."""
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]
            if all(isinstance(turn.get(name), int | float) for turn in turns)}


def http_rows(live):
    return [[name, number(one["http"]["requests_per_second"]), f"{one['ratio']:.2f}", number(one["http"]["p50_us"] / 1000, 2),
             number(one["http"]["p99_us"] / 1000, 2), number(one["http"]["p99.9_us"] / 1000, 2),
             f"{one['http']['filter_cpu']:.0%}" if name != "no firewall" else "–",
             number(one["http"].get("filter_cpu_ns", 0) / 1000, 1) if name != "no firewall" else "–",
             number(one["switches"] / one["given"], 2) if one["given"] and one["switches"] is not None else "–",
             f"{one['disordered'] / one['given']:.1%}" if one["given"] else "–",
             number(one["http"]["queue_dropped"] + one["http"]["user_dropped"])] for name, one in live.items()]


def trip_rows(live):
    found = []
    for name, one in live.items():
        line = [name]
        for udp in one["udp"]:
            line += [number(udp.get(f"trip_{part}_us")) for part in ("p50", "p99", "p99.9")]
            line += [f"{udp['filter_cpu']:.0%}", number(udp["queue_dropped"] + udp["user_dropped"])]
        found.append(line)
    return found


def machine_lines(figures):
    where = figures["machine"]
    compared = figures["memory"]["compared"]
    note = f" **{figures['note']}**" if figures["note"] else ""
    return (f"{where['cpu']}, {where['cpus']} cores, kernel {where['kernel']}, Python {where['python']}; load {where['load']} when it "
            f"began, {where['time']}, commit {where['commit']}; {figures['seconds']} seconds. Rules: `rules/{figures['rules']}`. "
            f"Verdicts compared with the sequential ones in memory: {compared:,}, of them different: {figures['memory']['different']}.{note}")


def afxdp_figures(figures):
    """The rounds with the AF_XDP arms, from the run that was made last for them, and its machine; None where none has them."""
    for found in (figures.get("afxdp"), figures["live"]):
        if found and "AF_XDP" in by_name(found["rounds"][0]):
            return found | {"machine": found.get("machine", figures["machine"])}
    return None


def afxdp_table(found):
    """The arms without a queue beside those with one."""
    from bench.architectures.afxdp import BESIDE

    live, where = live_rows(found["rounds"]), found["machine"]
    rows = []
    for name in BESIDE:
        http, slow, fast = live[name]["http"], *live[name]["udp"]
        rows.append([name, number(http["requests_per_second"]), f"{live[name]['ratio']:.2f}", number(http["p99_us"] / 1000, 2),
                     *(number(one["filter_cpu_ns"] / 1000, 1) if one.get("filter_cpu_ns") else "–" for one in (http, slow, fast)),
                     *(number(one[f"trip_{part}_us"]) for one in (slow, fast) for part in ("p50", "p99"))])
    rates = [udp["rate"] for udp in found["rounds"][0][0]["udp"]]
    heads = ["filter", "req/s", "÷ accept-all", "p99 ms", "CPU µs/packet", *(f"{rate:,}/s: CPU µs/packet" for rate in rates),
             *(f"{rate:,}/s: {part} µs" for rate in rates for part in ("p50", "p99"))]
    return (f"{len(found['rounds'])} rounds; load {where['load']} when they began, {where['time']}, commit {where['commit']}.\n\n"
            + table(heads, rows))


def fault_rows(rows):
    """In memory: packets that a fault struck, and what became of the rate."""
    return [[row["design"], f"{row['rate']:,}/s" if row["rate"] else "as fast as they are taken", number(row["packets"]), number(row["late"]),
             f"{row['late'] / row['packets']:.1%}", number(row.get("missed")), number(row.get("unheard")),
             number(row["packets_per_second"], 1), number(sum(row["judged"]) / row["packets"], 1), f"{row['cpus']:.0%}"] for row in rows]


def fault_request_rows(rows):
    """Live: one request for each page, and wrk."""
    found = []
    for row in rows:
        http = row.get("http")
        found.append([row["design"], *(f"{one['seconds']:.3f} ({one['packets']} packets)" for one in row["requests"]),
                      *([number(http["requests_per_second"]), number(http["p50_us"] / 1000, 1), number(http["p99_us"] / 1000, 1)] if http
                        else ["–"] * 3), f"{row['late']} of {row['given']:,}"])
    return found


def prediction_rows(figures, live):
    """What the two documents predicted, and what this run shows."""
    memory = by_name(figures["memory"]["designs"])
    dearer = by_name(figures["memory"]["dearer_rules"]["50"])
    old, new, rings, ours = (live[name] for name in ("synchronous-pipeline", "async-pipeline", "lock-free-pipeline", "TigerFox, 1 queue"))
    rate = {name: one["http"]["requests_per_second"] for name, one in live.items()}
    scapy = rate.get("NetfilterQueue + scapy")
    udp = new["udp"][0]
    return [
        ["capture thread: 17 µs a packet (receive 10, parse 5, submit 2)",
         f"receive and parse and rules and verdict, sequential, live: {number(live['sequential']['http']['filter_cpu_ns'] / 1000, 1)} µs; "
         f"in memory, without the kernel: {number(memory['sequential']['cpu_ns'] / 1000, 3)} µs"],
        ["rules: 50 µs a packet", f"parse and 24 rules by TigerFox's matcher: {number(memory['sequential']['cpu_ns'] / 1000, 3)} µs"],
        ["async pipeline: 8,000 req/s", f"{number(rate['async-pipeline'])} req/s"],
        ["before: 350 req/s", f"{number(rate['synchronous-pipeline'])} req/s with the synchronous wait as the only fault"],
        ["23 × over before", f"{rate['async-pipeline'] / rate['synchronous-pipeline']:.2f} × in requests; "
         f"{old['http']['filter_cpu_ns'] / new['http']['filter_cpu_ns']:.2f} × in CPU time a packet"],
        ["11 × Scapy", f"{number(rate['async-pipeline'] / scapy, 1)} × (Scapy: {number(scapy)} req/s); TigerFox "
         f"{number(rate['TigerFox, 1 queue'] / scapy, 1)} ×" if scapy else "NetfilterQueue and Scapy are not installed here"],
        ["lock-free queues: 2 × (16,000 req/s)", f"{rate['lock-free-pipeline'] / rate['async-pipeline']:.2f} × ({number(rate['lock-free-pipeline'])} "
         f"req/s); in memory {memory['lock-free-pipeline']['packets_per_second'] / memory['async-pipeline']['packets_per_second']:.2f} ×"],
        *afxdp_prediction(figures),
        ["latency p50 50 µs, p99 200 µs", f"round trip (the queue twice) at 5,000 packets/s: p50 {number(udp['trip_p50_us'])} µs, p99 "
         f"{number(udp['trip_p99_us'])} µs; TigerFox p50 {number(ours['udp'][0]['trip_p50_us'])} µs, p99 {number(ours['udp'][0]['trip_p99_us'])} µs; "
         f"no firewall p99 {number(live['no firewall']['udp'][0]['trip_p99_us'])} µs"],
        ["CPU 120 % → 800 %", f"of 200 % here, under HTTP: {old['http']['filter_cpu']:.0%} → {new['http']['filter_cpu']:.0%}; TigerFox {ours['http']['filter_cpu']:.0%}"],
        ["workers balanced", f"round robin: {share(memory['async-pipeline']['judged'])} of an equal share; "
         f"{memory['async-pipeline']['disordered']:.0%} of verdicts out of order"],
        ["8 workers of 50 µs: 160,000 packets/s", f"rules made to cost 50 µs, 2 workers: {number(dearer['async-pipeline']['packets_per_second'])} packets/s; "
         f"run to completion {number(dearer['run-to-completion']['packets_per_second'])}"],
    ]


def afxdp_prediction(figures):
    found = afxdp_figures(figures)
    if not found:
        return []
    live = live_rows(found["rounds"])
    rate, queued = (live[name]["http"]["requests_per_second"] for name in ("AF_XDP", "sequential"))
    return [["AF_XDP or DPDK: 10 × (100,000 req/s)", f"{number(rate)} req/s, {rate / queued:.2f} × the sequential loop at a queue "
             f"({live['AF_XDP']['ratio']:.2f} × the queue's accept-all)"]]


def tables(figures):
    """{name of a mark: its table}; what the figures do not have is left out."""
    memory, live = figures["memory"], live_rows(figures["live"]["rounds"])
    rates = [udp["rate"] for udp in figures["live"]["rounds"][0][0]["udp"]]
    percent = ["p50 µs", "p99 µs", "p99.9 µs"]
    made = {
        "machine": machine_lines(figures),
        "designs": table(["design", "workers", "packets/s", "÷ sequential", "ns/packet", "CPU ns/packet", "of it synchronisation",
                          "context switches", "looks while spinning", "out of order", "balance"], design_rows(memory["designs"])),
        "workers": table(["design", *(f"{count} workers" for count in memory["workers"])], matrix_rows(memory["workers"], "packets_per_second")),
        "workers-cpu": table(["design", *(f"{count} workers" for count in memory["workers"])], matrix_rows(memory["workers"], "cpu_ns")),
        "paced": table(["design", *(f"{int(rate):,}/s: {head}" for rate in memory["paced"] for head in (*percent, "CPU"))], paced_rows(memory["paced"])),
        "idle": table(["design", "CPU", "context switches a packet", "looks a packet"],
                      [[row["design"], f"{row['cpus']:.1%}", number(row["switches"], 1), number(row["spins"], 1)] for row in memory["idle"]]),
        "dearer": table(["design", *(f"{cost} µs" for cost in memory["dearer_rules"])], matrix_rows(memory["dearer_rules"], "packets_per_second")),
        "http": table(["filter", "req/s", "÷ accept-all", "p50 ms", "p99 ms", "p99.9 ms", "CPU", "CPU µs/packet", "switches/packet",
                       "out of order", "dropped"], http_rows(live)),
        "trips": table(["filter", *(f"{rate:,}/s: {head}" for rate in rates for head in (*percent, "CPU", "dropped"))], trip_rows(live)),
        "predictions": table(["predicted", "measured"], [[one, other] for one, other in prediction_rows(figures, live)]),
    }
    without_queue = afxdp_figures(figures)
    if without_queue:
        made["afxdp"] = afxdp_table(without_queue)
    if "faults" in figures:
        made["faults"] = table(["design and fault", "packets come", "packets", "late", "of them", "resets missed", "\"done\" unheard",
                                "packets/s", "judged a packet", "CPU"], fault_rows(figures["faults"]["memory"]))
        pages = [one["bytes"] for one in figures["faults"]["live"][0]["requests"]]
        made["fault-requests"] = table(["design and fault", *(f"s for one request, {size:,} bytes" for size in pages), "req/s", "p50 ms",
                                        "p99 ms", "late"], fault_request_rows(figures["faults"]["live"]))
    heads = ["variant", "packets/s", "ns/packet", "CPU ns/packet", "context switches", "looks while spinning", "out of order"]
    return made | {mark: table(heads, variant_rows(memory["variants"][question])) for mark, question in QUESTIONS.items()}


def page_with(text, made):
    """The page with what is made in the place of what stands between its marks; what is not made stays as it is."""
    def fill(found):
        return found[0] if found[1] not in made else f"<!-- table {found[1]} -->\n{made[found[1]]}\n<!-- end -->"

    return re.sub(r"<!-- table ([\w-]+) -->\n.*?<!-- end -->", fill, text, flags=re.S)


def write_page(figures):
    """Write tables and plots again."""
    from bench.architectures.plots import draw

    PAGE.write_text(page_with(PAGE.read_text(), tables(figures)))
    live = live_rows(figures["live"]["rounds"])
    draw(figures, [(name, one["http"]["requests_per_second"]) for name, one in live.items()],
         [(name, one["udp"][0].get("trip_p99_us", 0)) for name, one in live.items()], PLOTS)
