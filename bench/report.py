"""Figures to paper: every bench/results/*.json as Markdown tables in docs/figures/README.md, and as plots (SVG) beside it.

    python -m bench.report [--results FOLDER] [--docs FOLDER]

Nothing is measured here. Results of benches that this module has no table for are left as they are. The plots need matplotlib
(pip install '.[bench]'); without it the tables are written alone, and it is said.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

from bench.filters import ROOT, WORDS
from bench.rounds import shown

RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs" / "figures"
OURS, PEERS, REFERENCE = "#d9541e", "#5b7f95", "#b8bfc4"
HEADS = {"what": "arm", "per_second": "per second", "gbit_s": "Gbit/s", "to_none": "÷ no firewall", "to_accept": "÷ accept all",
         "to_conntrack": "÷ connection tracking",
         "p50_ms": "p50 ms", "p99_ms": "p99 ms", "us_a_packet": "CPU µs a packet", "user_us": "of it in user space",
         "packets_a_request": "packets a request", "errors": "errors", "queued": "packets queued", "retransmits": "sent again",
         "p50": "p50 µs", "p99": "p99 µs", "p99.9": "p99.9 µs", "filter_p50": "filter's p50 µs", "filter_p99": "filter's p99 µs",
         "filter_p99.9": "filter's p99.9 µs", "packets": "packets", "lost": "lost", "late": "sent late", "arm": "arm", "drain_clock": "drain, packets/s",
         "drain_clock_ratio": "ratio", "drain_cpu": "drain, a CPU second", "drain_cpu_ratio": "ratio", "flood_clock": "flood, packets/s",
         "flood_clock_ratio": "ratio", "size": "size", "ns": "ns", "hit_ns": "ns when found", "megabytes": "MB",
         "compile_s": "compiled in s", "module": "module", "instructions": "instructions a packet", "share": "share", "to_no flood": "÷ no flood",
         "to_flood, dropped in raw": "÷ dropped in raw", "user_space_per_second": "of the flood in user space, packets/s",
         "kernel_per_second": "dropped by the kernel's sets, packets/s"}
TABLES = {                           # bench -> title, columns
    "http": ("HTTP requests a second", ("what", "per_second", "to_none", "to_conntrack", "to_accept", "p50_ms", "p99_ms", "us_a_packet",
                                        "user_us", "errors")),
    "connections": ("Connections a second", ("what", "per_second", "to_none", "to_accept", "p50_ms", "p99_ms", "us_a_packet", "user_us",
                                             "errors")),
    "bulk": ("One bulk TCP stream", ("what", "gbit_s", "to_none", "to_accept", "queued", "retransmits")),
    "latency": ("From queue to verdict at half load", ("what", "p50", "p99", "p99.9", "filter_p50", "filter_p99", "filter_p99.9",
                                                       "packets", "lost", "late")),
    "packets": ("64-byte UDP packets on one core", ("arm", "drain_clock", "drain_clock_ratio", "drain_cpu", "drain_cpu_ratio",
                                                    "flood_clock", "flood_clock_ratio")),
    "offload": ("Requests beside a flood of blocked sources", ("arm", "per_second", "to_no flood", "to_flood, dropped in raw", "p99_ms",
                                                               "user_space_per_second", "kernel_per_second")),
}


def markdown(rows, keys):
    """Rows as a Markdown table of the columns that are there."""
    keys = [key for key in keys if any(key in row for row in rows)]
    lines = ["| " + " | ".join(HEADS.get(key, key) for key in keys) + " |", "|" + "---|" * len(keys)]
    for row in rows:
        cells = [shown(row.get(key)) for key in keys]
        mine = str(row.get("arm", "")).startswith("tigerfox")
        lines.append("| " + " | ".join(f"**{cell}**" if mine else cell for cell in cells) + " |")
    return "\n".join(lines)


def source(found):
    """Where figures come from, in a line."""
    at = found["machine"]
    rounds = f", {found['rounds']} rounds" if "rounds" in found else ""
    return f"{at['cpus']} × {at['cpu']}, Linux {at['kernel']}, commit {at['commit']}, {at['time']}{rounds}."


def arms_section(name, found):
    """Title, source, table and what was left out of a bench with arms."""
    title, keys = TABLES[name]
    parts = [f"## {title}", source(found) + (f" {found['rate']:,} packets a second." if "rate" in found else ""),
             markdown(found["arms"], keys)]
    parts += [f"Left out: {WORDS.get(arm, arm)}: {why}" for arm, why in found.get("left_out", {}).items()]
    return parts


def scale_section(found):
    """The curves of bench/scale.py."""
    parts = ["## As tables grow", source(found)]
    for name, rows in found["curves"].items():
        rows = [row | {"megabytes": round(row["bytes"] / 1e6, 1)} for row in rows]
        parts += [f"### {name.capitalize()}", markdown(rows, ("size", "ns", "hit_ns", "megabytes", "compile_s"))]
    return parts


def replay_section(found):
    """Replay, beside Suricata."""
    rows = [{"arm": row["arm"], "packets/s": row["packets_per_second"], "÷ Suricata": row["packets_per_second_to_suricata"],
             "packets a CPU second": row["packets_per_cpu_second"], "÷ Suricata's": row["packets_per_cpu_second_to_suricata"]}
            for row in found["arms"]]
    return ["## Replay", f"{source(found)} {found['packets']:,} packets, {found['bytes'] / 1e6:,.0f} MB.", markdown(rows, list(rows[0]))]


def userspace_section(found):
    """Few rules against many (P5)."""
    return ["## Few rules against many", f"{source(found)} 24 rules: {found['ns_per_packet_few']} ns a packet in user space; "
            f"{found['rules']:,} rules and {found['prefixes']:,} prefixes: {found['ns_per_packet_many']} ns; ratio {found['ratio']} "
            f"(goal: at most {found['goal']})."]


def blocks_section(found):
    """The block table (P7)."""
    rows = [{"look-up": row["case"], "entries": row["entries"], "ns in batches": row["batch_ns"], "ns one by one": row["single_ns"]}
            for row in found["lookups"]]
    done, inserts = found["import"], found["inserts"]
    return ["## Block table", source(found), markdown(rows, list(rows[0])),
            f"{done['lines']:,} lines imported in {done['seconds']} s; {inserts['per_second']:,} inserts a second while "
            f"{inserts['readers']} processes read."]


def ruleset_section(found):
    """A large rule set: time, size, memory."""
    cold, cached, private = (found["goals"][name] for name in ("cold_s", "cached_s", "private_mb"))
    rows = [{"worker's memory": row["when"], "private, MB": row["private_mb"], "its own": row["own_mb"], "tables": row["tables_mb"],
             "image": row["image_mb"]} for row in found["memory"]]
    return ["## A large rule set", f"{source(found)} {found['rules']:,} rules, image {found['image_bytes'] / 1e6:.1f} MB. Compiled cold in "
            f"{cold['reached']} s (goal: at most {cold['goal']}), from the cache in {cached['reached']} s (goal: at most {cached['goal']}). "
            f"Memory of the worker that no other process has mapped (goal: at most {private['goal']} MB):", markdown(rows, list(rows[0]))]


def callgrind_section(found):
    """Instructions by module."""
    return ["## Instructions a packet", f"{source(found)} {found['instructions']:,} in all, over {found['packets']:,} packets of HTTP.",
            markdown(found["modules"][:16], ("module", "instructions", "share"))]


def inspectors_section(found):
    """Python inspectors: the line, and what goes on beside bad ones."""
    line = [{"arm": row["arm"], "packets/s": row["packets_per_second"], "a CPU second": row["packets_per_cpu_second"],
             "÷ without": row["to_without"], "÷ script": row["to_script"]} for row in found["line"]]
    beside = [{"inspector": row["arm"], "requests/s": row["per_second"], "÷ without": row["to_without"], "p99 ms": row["p99_ms"],
               "questions": row["sent"], "arrived": row["arrived"], "given": row["given"], "accepted": row["accepted"],
               "by policy": row["by_policy"]} for row in found["beside"]]
    return ["## Python inspectors", f"{source(found)} Ratios of the line are of CPU time.", markdown(line, list(line[0])),
            markdown(beside, list(beside[0]))]


SECTIONS = {"scale": scale_section, "replay": replay_section, "userspace": userspace_section, "blocks": blocks_section,
            "inspectors": inspectors_section, "ruleset": ruleset_section, "callgrind": callgrind_section}


# Plots

def colour(arm):
    """Ours, peers, references."""
    if arm.startswith("tigerfox"):
        return OURS
    return REFERENCE if arm.startswith(("none", "conntrack", "accept", "textbook", "reference", "batch")) else PEERS


def plot_arms(plots, found, key, label, path):
    """Horizontal bars, an arm each, with the rounds as dots where they were kept."""
    rows = [row for row in found["arms"] if row.get(key) is not None][::-1]
    figure, axes = plots.subplots(figsize=(8, 0.42 * len(rows) + 1))
    axes.barh([row.get("what", row["arm"]) for row in rows], [row[key] for row in rows], color=[colour(row["arm"]) for row in rows])
    for place, row in enumerate(rows):
        if "rounds" in row:
            axes.plot([one for one in row["rounds"] if one is not None], [place] * sum(one is not None for one in row["rounds"]), "k.",
                      markersize=3)
    axes.set_xlabel(label)
    save(plots, figure, path)


def plot_scale(plots, found, path):
    """A curve for each table: nanoseconds, and memory beside it."""
    curves = found["curves"]
    figure, all_axes = plots.subplots(1, len(curves), figsize=(3.2 * len(curves), 3))
    for axes, (name, rows) in zip(all_axes, curves.items()):
        sizes = [row["size"] for row in rows]
        axes.plot(sizes, [row["ns"] for row in rows], "o-", color=OURS)
        axes.set(xscale="log", title=name, ylim=(0, None), xlabel=name, ylabel="ns")
        beside = axes.twinx()
        beside.plot(sizes, [row["bytes"] / 1e6 for row in rows], "s--", color=PEERS, markersize=3)
        beside.set(ylabel="MB", ylim=(0, None))
    save(plots, figure, path)


def save(plots, figure, path):
    """Write a figure as SVG, the same bytes for the same figures."""
    for axes in figure.axes:
        axes.spines["top"].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    plots.close(figure)


BARS = {"http": ("per_second", "requests a second"), "connections": ("per_second", "connections a second"),
        "bulk": ("gbit_s", "Gbit/s"), "latency": ("p99", "p99, µs through the firewall"),
        "packets": ("drain_clock", "packets a second, drain")}


def draw(results, docs):
    """All plots; the names of those that were written."""
    if importlib.util.find_spec("matplotlib") is None:
        sys.stderr.write("matplotlib is not installed: no plots. Install it: pip install '.[bench]'\n")
        return []
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "tigerfox"
    import matplotlib.pyplot as plots

    for name, (key, label) in BARS.items():
        if name in results:
            plot_arms(plots, results[name], key, label, docs / f"{name}.svg")
    if "scale" in results:
        plot_scale(plots, results["scale"], docs / "scale.svg")
    return [name for name in (*BARS, "scale") if name in results]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    chosen = parser.parse_args()
    chosen.docs.mkdir(parents=True, exist_ok=True)
    results = {path.stem: json.loads(path.read_text()) for path in sorted(chosen.results.glob("*.json"))}
    drawn = draw(results, chosen.docs)
    parts = ["# Figures", "Written by `python -m bench.report` from `bench/results/*.json`; how they were measured stands in "
             "[performance.md](../performance.md)."]
    for name in (*TABLES, *SECTIONS):
        if name in results:
            parts += arms_section(name, results[name]) if name in TABLES else SECTIONS[name](results[name])
            parts += [f"![{name}]({name}.svg)"] if name in drawn else []
    Path(chosen.docs, "README.md").write_text("\n\n".join(parts) + "\n")
    sys.stdout.write(f"{chosen.docs}/README.md, {len(drawn)} plots\n")


if __name__ == "__main__":
    main()
