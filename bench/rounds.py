"""What all benches share: arms in turn, medians, ratios within a round, and the one way to hand figures out.

Figures of a shared machine swing from minute to minute. So every round runs every arm once, each round beginning with
another arm, and what is compared is compared within its round; the median of those ratios is the figure.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from bench.machine import machine
from tigerfox.errors import TigerFoxError


def interleave(names, rounds, measure, warm=0):
    """Call ``measure(name)`` for every name once a round; {name: [what it returned in each round]}.

    Each round begins with the next name. The first ``warm`` rounds are thrown away.
    """
    found = {name: [] for name in names}
    for turn in range(rounds + warm):
        begin = turn % len(names)
        for name in names[begin:] + names[:begin]:
            figure = measure(name)
            if turn >= warm:
                found[name].append(figure)
    return found


def median(figures, digits=1):
    """The median, rounded; None of nothing."""
    figures = [figure for figure in figures if figure is not None]
    return round(statistics.median(figures), digits or None) if figures else None


def ratio(mine, base, digits=3):
    """The median of the ratios within a round."""
    pairs = [(one, other) for one, other in zip(mine, base) if one is not None and other]
    return round(statistics.median(one / other for one, other in pairs), digits) if pairs else None


def table(found, figures, bases):
    """Rows for JSON, an arm each: the median of every figure, and its ratio to the arms ``bases``.

    ``found`` is what interleave returned with a dict for each turn; ``figures`` maps a figure to its digits. The ratio of
    the first figure stands in the row under ``to_BASE``.
    """
    first = next(iter(figures))
    column = {name: [turn.get(first) for turn in turns] for name, turns in found.items()}
    rows = []
    for name, turns in found.items():
        row = {"arm": name} | {key: median([turn.get(key) for turn in turns], digits) for key, digits in figures.items()}
        row |= {f"to_{base}": ratio(column[name], column[base]) for base in bases if base in column}
        rows.append(row | {"rounds": [round(figure, 3) if figure is not None else None for figure in column[name]]})
    return rows


def parser_of(doc, rounds=None):
    """The parser that every bench begins with: its docstring as help, --json, and --rounds where it has rounds."""
    sys.excepthook = say_why
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures there, - for standard output")
    if rounds:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"each with every arm (default {rounds})")
    return parser


def say_why(kind, error, trace):
    """What ends a bench: one line where it is a tool that is missing or a queue that is taken, else the trace."""
    if issubclass(kind, TigerFoxError):
        sys.stderr.write(f"{error}\n")
    else:
        sys.__excepthook__(kind, error, trace)


def publish(name, figures, chosen, text):
    """Write the figures with the machine they come from where ``chosen.json`` says, and the text to the terminal."""
    rounds = {"rounds": chosen.rounds} if hasattr(chosen, "rounds") else {}
    content = json.dumps({"bench": name, "machine": machine()} | rounds | figures, indent=1) + "\n"
    if chosen.json and chosen.json != "-":
        Path(chosen.json).write_text(content)
    sys.stdout.write(content if chosen.json == "-" else text + "\n")


def columns(rows, heads):
    """Rows (dicts) as text: ``heads`` maps a key to its heading; numbers stand to the right."""
    cells = [list(heads.values())] + [[shown(row.get(key)) for key in heads] for row in rows]
    widths = [max(len(line[place]) for line in cells) for place in range(len(heads))]
    left = [isinstance(rows[0].get(key), str) for key in heads] if rows else [True] * len(heads)
    return "\n".join("  ".join(cell.ljust(width) if first else cell.rjust(width) for cell, width, first in zip(line, widths, left))
                     .rstrip() for line in cells)


def shown(value):
    """A figure as people read it."""
    if value is None:
        return "-"
    if isinstance(value, int | float):
        return f"{value:,}"
    return str(value)
