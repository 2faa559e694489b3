"""The demo's table: what was sent, what should happen, what happened."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One step with one IP version. ``without`` is what happened before TigerFox ran."""

    sent: str
    ip: int
    without: str
    should: str
    happened: str
    ms: float
    ok: bool


def row(step, family, before, after):
    """Return the Row of a step from its answers without and with TigerFox."""
    without, happened = step.happened(before), step.happened(after)
    return Row(step.what, family, without, step.expected(), happened, after["ms"],
               happened == step.expected() and without == step.without())


def render(rows, statistics, as_json=False):
    """Return the report; ``statistics`` is (name, value) pairs, losses first."""
    if as_json:
        return json.dumps({"ok": all(item.ok for item in rows), "steps": [asdict(item) for item in rows],
                           "statistics": dict(statistics)}, indent=2)
    head = ("sent", "IP", "without TigerFox", "should be", "was", "ms", "")
    table = [head] + [(item.sent, f"v{item.ip}", item.without, item.should, item.happened, f"{item.ms:.0f}",
                       "ok" if item.ok else "WRONG") for item in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    lines.insert(1, "  ".join("-" * width for width in widths).rstrip())
    if statistics:
        width = max(len(name) for name, _ in statistics)
        lines += ["", "Statistics, losses first:", *(f"  {name:{width}}  {value}" for name, value in statistics)]
    wrong = sum(not item.ok for item in rows)
    lines += ["", f"{len(rows)} steps, all as they should be." if not wrong else f"{wrong} of {len(rows)} steps are WRONG."]
    return "\n".join(lines)
