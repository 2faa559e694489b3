"""The plots of docs/architectures.md, drawn from the figures of a run."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "tigerfox", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
import matplotlib.pyplot as plt  # noqa: E402  (the backend is chosen first)

OURS, OTHERS, BOUNDS = "#d95f02", "#4c6a92", "#9a9a9a"


def colour(name):
    if name.startswith(("TigerFox", "run-to-completion")):
        return OURS
    return BOUNDS if name in ("no firewall", "accept-all reference", "AF_XDP accept-all") else OTHERS


def save(figure, path):
    """Write an SVG that is the same for the same figures."""
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def bars(path, rows, value, label, logarithmic=True):
    """Horizontal bars, one a design, with their figures."""
    figure, axes = plt.subplots(figsize=(8, 0.34 * len(rows) + 0.9))
    names, values = [row[0] for row in rows][::-1], [row[1] for row in rows][::-1]
    drawn = axes.barh(names, values, color=[colour(name) for name in names])
    axes.bar_label(drawn, labels=[value(one) for one in values], padding=3, fontsize=8)
    axes.set_xlabel(label)
    if logarithmic:
        axes.set_xscale("log")
    axes.margins(x=0.14)
    save(figure, path)


def lines(path, series, label_x, label_y, logarithmic_x=False):
    """A line for each design: {name: [(x, y), ...]}."""
    figure, axes = plt.subplots(figsize=(8, 4.4))
    for number, (name, points) in enumerate(series.items()):
        axes.plot(*zip(*points), marker="osv^D<>pX"[number % 9], label=name, linewidth=2.4 if colour(name) == OURS else 1.2,
                  color=OURS if colour(name) == OURS else f"C{number % 10}", markersize=4)
    axes.set_yscale("log")
    if logarithmic_x:
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=-0.2)
    xs = sorted({x for points in series.values() for x, _ in points})
    axes.set_xticks(xs, [f"{x:g}" for x in xs])
    axes.minorticks_off()
    axes.set_xlabel(label_x)
    axes.set_ylabel(label_y)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    save(figure, path)


def draw(figures, http, trips, folder):
    """All plots; ``http`` and ``trips`` are (name, figure) rows of the live rig."""
    Path(folder).mkdir(exist_ok=True)
    memory = figures["memory"]
    bars(f"{folder}/cpu.svg", [(row["design"], row["cpu_ns"]) for row in memory["designs"]], lambda ns: f"{ns:,.0f}",
         "CPU nanoseconds a packet, in memory, all threads (logarithmic)")
    bars(f"{folder}/http.svg", http, lambda rate: f"{rate:,.0f}", "HTTP requests a second, live", False)
    bars(f"{folder}/trips.svg", trips, lambda us: f"{us:,.0f}",
         "99th percentile of a round trip through the queue at 5,000 packets/s, microseconds (logarithmic)")
    names = [row["design"] for row in memory["designs"]]
    lines(f"{folder}/workers.svg", series(memory["workers"], names), "workers", "packets a second, in memory")
    lines(f"{folder}/rules.svg", series(memory["dearer_rules"], names), "cost of the rules, microseconds a packet (2 workers)",
          "packets a second, in memory", True)


def series(tables, names):
    """{design: [(x, packets a second)]} from {x: rows}."""
    return {name: [(float(x), row["packets_per_second"]) for x, rows in tables.items() for row in rows if row["design"] == name]
            for name in names}
