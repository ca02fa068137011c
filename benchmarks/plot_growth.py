"""Draws how the cost of a tree grows, from what `./run bench boost --growth` prints: plot_growth.py growth.jsonl [OUT.svg]

Four small plots, rows, features, bins and depth, both axes in powers; CPU seconds a tree of each party, and those of them
that can be spent ahead.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "docs" / "explanation" / "growth.svg"
SERIES = (
    ("cpu_s_per_tree_label", "label owner", "#1f5fa8", "none"),
    ("cpu_s_per_tree_feature", "feature owner", "#c2571a", "6 3"),
    ("cpu_s_offline", "of both, can be done ahead", "#5a5a5a", "2 3"),
)
WIDTH, HEIGHT = 720, 500
PANEL_WIDTH, PANEL_HEIGHT = 270, 160
LEFT, TOP, ACROSS, DOWN = 62, 64, 345, 225


def read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The measured lines of each axis, by its value."""
    axes: dict[str, list[dict[str, Any]]] = {}
    for text in path.read_text().splitlines():
        line = json.loads(text)
        if "skipped" not in line:
            axes.setdefault(line["axis"], []).append(line)
    return {axis: sorted(lines, key=lambda line: line[axis]) for axis, lines in axes.items()}


def short(value: float) -> str:
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def scale(low: float, high: float, size: float) -> Callable[[float], float]:
    """Logarithmic."""
    span = math.log(high / low)
    return lambda value: size * math.log(value / low) / span


def text(x: float, y: float, words: str, anchor: str = "middle", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def panel(axis: str, lines: list[dict[str, Any]], left: float, top: float, low: float, high: float) -> str:
    """One plot with its corner at `left`, `top`; seconds run from `low` to `high`."""
    bottom = top + PANEL_HEIGHT
    x_of = scale(lines[0][axis], lines[-1][axis], PANEL_WIDTH)
    y_of = scale(low, high, PANEL_HEIGHT)
    parts = [text(left + PANEL_WIDTH / 2, bottom + 34, axis)]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = bottom - y_of(10.0**power)
        parts += [
            rule(left, y, left + PANEL_WIDTH, y, "#dddddd"),
            text(left - 6, y + 4, f"{10.0**power:g} s", "end"),
        ]
    for line in lines:
        x = left + x_of(line[axis])
        parts += [rule(x, bottom, x, bottom + 4, "#555555"), text(x, bottom + 17, short(line[axis]))]
    for name, _, colour, dash in SERIES:
        points = [(left + x_of(line[axis]), bottom - y_of(max(line[name], low))) for line in lines]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return "".join(parts)


def draw(axes: dict[str, list[dict[str, Any]]]) -> str:
    values = [
        line[name] for lines in axes.values() for line in lines for name, *_ in SERIES if line[name] > 0
    ]
    low = 10.0 ** math.floor(math.log10(min(values)))
    high = 10.0 ** math.ceil(math.log10(max(values)))
    base = next(iter(axes.values()))[0]
    title = f"CPU seconds per tree, lattice-hint, {base['own_features']} features of the label owner's own"
    parts = [text(WIDTH / 2, 20, title, extra=' font-weight="bold"')]
    for place, (_, words, colour, dash) in enumerate(SERIES):
        x = 110 + 190 * place
        parts.append(
            f'<line x1="{x}" y1="40" x2="{x + 30}" y2="40" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
        parts.append(text(x + 36, 44, words, "start"))
    for place, (axis, lines) in enumerate(axes.items()):
        parts.append(panel(axis, lines, LEFT + place % 2 * ACROSS, TOP + place // 2 * DOWN, low, high))
    style = "font-family: sans-serif; font-size: 12px; fill: #222222"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/><g style="{style}">{"".join(parts)}</g></svg>\n'
    )


def main() -> None:
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    out = Path(sys.argv[2]) if len(sys.argv) == 3 else OUT
    out.write_text(draw(read(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
