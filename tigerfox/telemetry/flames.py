"""A flame graph as one SVG file: no script, no font, no other file; what a box is stands in its tooltip.

Stacks come as tuples from the root to the leaf with how often each was seen. The root is at the bottom; a box is as wide as its
share of all samples, and what it calls stands on it.
"""

from xml.sax.saxutils import escape

WIDTH, ROW, LETTER, MARGIN = 1200, 17, 6.6, 10
LEAST = 0.3                          # pixels: narrower boxes are left out
COLOURS = {"tigerfox": "#e8743b", "kernel": "#8fb1c9", "libhs": "#7fb77e", "other": "#d8d2c4"}


def origin(place):
    """Whose code a shared object holds, a key of COLOURS."""
    if "tigerfox" in place:
        return "tigerfox"
    if "kernel" in place or place.startswith("["):
        return "kernel"
    return "libhs" if "libhs" in place else "other"


def grow(stacks):
    """The tree of all stacks: a node is [samples, {(name, place): node}]."""
    root = [0, {}]
    for stack, seen in stacks.items():
        node = root
        node[0] += seen
        for frame in stack:
            node = node[1].setdefault(frame, [0, {}])
            node[0] += seen
    return root


def boxes(node, at, depth, scale):
    """Yield (name, place, samples, left edge in pixels, depth) of all that stands on ``node``."""
    for (name, place), child in sorted(node[1].items()):
        if child[0] * scale >= LEAST:
            yield name, place, child[0], at * scale, depth
            yield from boxes(child, at, depth + 1, scale)
        at += child[0]


def render(stacks, title):
    """The SVG of ``stacks``, a mapping of stack to samples; a frame is (name, place)."""
    root = grow(stacks)
    scale = (WIDTH - 2 * MARGIN) / max(1, root[0])
    drawn = list(boxes(root, 0, 0, scale))
    height = (max((box[4] for box in drawn), default=0) + 4) * ROW
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
             'font-family="monospace" font-size="11">', f'<rect width="{WIDTH}" height="{height}" fill="#fdfcfa"/>',
             f'<text x="{MARGIN}" y="{ROW}" font-size="13">{escape(title)}: {root[0]:,} samples</text>']
    for place, (name, colour) in enumerate(COLOURS.items()):
        x = WIDTH - 90 * (len(COLOURS) - place)
        lines.append(f'<rect x="{x}" y="{ROW - 11}" width="11" height="11" fill="{colour}"/>'
                     f'<text x="{x + 15}" y="{ROW - 1}">{name}</text>')
    for name, place, seen, x, depth in drawn:
        wide, y = seen * scale, height - (depth + 1.5) * ROW
        about = escape(f"{name} ({place}): {seen:,} samples, {100 * seen / root[0]:.2f} %")
        label = escape(name[:int(wide / LETTER)]) if wide > 4 * LETTER else ""
        lines.append(f'<g><title>{about}</title><rect x="{MARGIN + x:.2f}" y="{y:.1f}" width="{wide:.2f}" height="{ROW - 1}" '
                     f'fill="{COLOURS[origin(place)]}" stroke="#fdfcfa" stroke-width="0.4"/>'
                     + (f'<text x="{MARGIN + x + 2:.2f}" y="{y + 12:.1f}">{label}</text>' if label else "") + "</g>")
    return "\n".join([*lines, "</svg>"]) + "\n"
