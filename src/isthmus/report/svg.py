"""A small SVG writer: lines, bars and rankings as strings, coloured by the style sheet of the page around them.

Series are told apart by a class (`s1`, `s2`, …: colour and dash; `p1`, `p2`, …: fill, the partner's hatched), so one
drawing serves light, dark and print. Each drawing carries a title for readers; the table beside it has the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from isthmus.report.numbers import change

WIDTH, HEIGHT = 480, 310
LEFT, RIGHT, TOP, BOTTOM = 54, 24, 28, 46
ROW = 26


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its class, its points in data units, and whether each point gets a dot."""

    style: str
    points: tuple[tuple[float, float], ...]
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """Name, range, and how a tick is written."""

    name: str
    low: float
    high: float
    text: Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Bars:
    """One series of vertical bars: class and one height per slot."""

    style: str
    heights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RankRow:
    """One row of a ranking: class, label, length, and the figure written at its end."""

    style: str
    label: str
    value: float
    text: str


def ticks(low: float, high: float, about: int = 5) -> tuple[float, ...]:
    """Round numbers inside [low, high], about `about` of them."""
    if not high > low:
        return (low,)
    rough = (high - low) / about
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= rough * 0.7)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(round(k * step, 12) for k in range(first, last + 1))


def nice(low: float, high: float) -> tuple[float, float]:
    """The range widened to round numbers."""
    if not high > low:
        return low - 0.5, high + 0.5
    found = ticks(low, high)
    step = found[1] - found[0] if len(found) > 1 else high - low
    return round(math.floor(low / step + 1e-9) * step, 12), round(math.ceil(high / step - 1e-9) * step, 12)


def decimals(low: float, high: float) -> Callable[[float], str]:
    """Writes ticks of this range with as many decimals as the finest of them needs."""
    places = max((len(f"{t:.12f}".rstrip("0").partition(".")[2]) for t in ticks(low, high)), default=0)
    return lambda value: f"{value:.{places}f}"


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    return f'<text x="{_number(x)}" y="{_number(y)}" class="{style}" text-anchor="{anchor}">{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return (
        f'<line x1="{_number(x1)}" y1="{_number(y1)}" x2="{_number(x2)}" y2="{_number(y2)}" class="{style}"/>'
    )


def _rect(x: float, y: float, width: float, height: float, style: str) -> str:
    size = f'width="{_number(max(width, 0.5))}" height="{_number(max(height, 0))}"'
    return f'<rect x="{_number(x)}" y="{_number(y)}" {size} class="{style}"/>'


def _frame(parts: Sequence[str], title: str, height: float = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {_number(height)}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )


class _Plot:
    """Maps data to the drawing and draws axes."""

    def __init__(self, x: Axis, y: Axis, right: Axis | None = None) -> None:
        self.x_axis, self.y_axis, self.right = x, y, right
        self.edge = WIDTH - (LEFT if right else RIGHT)

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_axis.low) / (self.x_axis.high - self.x_axis.low) * (self.edge - LEFT)

    def y(self, value: float, axis: Axis | None = None) -> float:
        scale = axis or self.y_axis
        return HEIGHT - BOTTOM - (value - scale.low) / (scale.high - scale.low) * (HEIGHT - BOTTOM - TOP)

    def grid(self) -> list[str]:
        parts = []
        for tick in ticks(self.y_axis.low, self.y_axis.high):
            at = self.y(tick)
            parts.append(_rule(LEFT, at, self.edge, at, "zero" if tick == 0 else "grid"))
            parts.append(_text(LEFT - 7, at + 4, self.y_axis.text(tick), "tick", "end"))
        if self.right is not None:
            for tick in ticks(self.right.low, self.right.high):
                at = self.y(tick, self.right)
                parts.append(_text(self.edge + 7, at + 4, self.right.text(tick), "tick"))
        parts.append(_text((LEFT + self.edge) / 2, HEIGHT - 6, self.x_axis.name, "axis", "middle"))
        parts.append(_text(4, 13, self.y_axis.name, "axis"))
        if self.right is not None:
            parts.append(_text(WIDTH - 4, 13, self.right.name, "axis", "end"))
        return parts

    def x_ticks(self) -> list[str]:
        found = ticks(self.x_axis.low, self.x_axis.high)
        return [_text(self.x(t), HEIGHT - BOTTOM + 18, self.x_axis.text(t), "tick", "middle") for t in found]

    def line(self, line: Line, axis: Axis | None = None) -> str:
        spots = [(self.x(a), self.y(b, axis)) for a, b in line.points]
        path = " ".join(f"{_number(a)},{_number(b)}" for a, b in spots)
        drawn = f'<polyline points="{path}" class="line {line.style}"/>'
        if line.dots:
            drawn += "".join(
                f'<circle cx="{_number(a)}" cy="{_number(b)}" r="3.2" class="dot {line.style}"/>'
                for a, b in spots
            )
        return drawn


def line_chart(
    title: str, x: Axis, y: Axis, lines: Sequence[Line], marks: Sequence[tuple[float, float, float, str]] = ()
) -> str:
    """Lines over two axes. A mark is (x, y from, y to, text): an upright measure such as the KS distance."""
    plot = _Plot(x, y)
    parts = plot.grid() + plot.x_ticks() + [plot.line(line) for line in lines]
    for at, low, high, text in marks:
        left = plot.x(at)
        parts.append(_rule(left, plot.y(low), left, plot.y(high), "mark"))
        middle = (plot.y(low) + plot.y(high)) / 2 + 4
        side = "end" if left > WIDTH * 0.6 else "start"
        parts.append(_text(left + (-8 if side == "end" else 8), middle, text, "note", side))
    return _frame(parts, title)


def bar_chart(
    title: str,
    x_name: str,
    slots: Sequence[str],
    y: Axis,
    series: Sequence[Bars],
    *,
    overlay: tuple[Line, Axis] | None = None,
    touching: bool = False,
    level: float | None = None,
) -> str:
    """Bars side by side per slot (with `touching`: over each other, half seen through).

    `overlay` is a line over the slots with its own right axis; `level` a dashed line across.
    """
    right = overlay[1] if overlay else None
    plot = _Plot(Axis(x_name, 0, len(slots), str), y, right)
    parts = plot.grid()
    slot = (plot.edge - LEFT) / max(len(slots), 1)
    pad = 0.5 if touching else min(slot * 0.16, 8)
    for index, bars in enumerate(series):
        wide = slot - 2 * pad if touching else (slot - 2 * pad) / len(series)
        for place, height in enumerate(bars.heights):
            left = LEFT + place * slot + pad + (0 if touching else index * wide)
            top, base = plot.y(max(height, 0.0)), plot.y(min(height, 0.0))
            parts.append(_rect(left, top, wide - (0 if touching else 1), base - top, f"bar {bars.style}"))
    every = max(1, math.ceil(sum(len(s) + 2 for s in slots) * 7.4 / (plot.edge - LEFT)))
    for place, name in enumerate(slots):
        if place % every == 0:
            parts.append(_text(LEFT + (place + 0.5) * slot, HEIGHT - BOTTOM + 18, name, "tick", "middle"))
    if level is not None:
        parts.append(_rule(LEFT, plot.y(level), plot.edge, plot.y(level), "level"))
    if overlay is not None:
        parts.append(plot.line(overlay[0], overlay[1]))
    return _frame(parts, title)


def ranking(title: str, rows: Sequence[RankRow], label_width: int = 170) -> str:
    """Horizontal bars from the longest down, label at the left and figure at the end of the bar."""
    longest = max((row.value for row in rows), default=0.0) or 1.0
    space = WIDTH - label_width - 88
    parts = []
    for place, row in enumerate(rows):
        top = place * ROW + 4
        label = row.label if len(row.label) <= label_width // 9 else row.label[: label_width // 9 - 1] + "…"
        parts.append(_text(label_width - 8, top + 15, label, "tick", "end"))
        length = row.value / longest * space
        parts.append(_rect(label_width, top + 2, max(length, 1), ROW - 10, f"bar {row.style}"))
        parts.append(_text(label_width + length + 7, top + 15, row.text, "tick"))
    return _frame(parts, title, len(rows) * ROW + 8)


HATCH = (
    '<svg width="0" height="0" aria-hidden="true" class="hidden"><defs>'
    '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" class="hatch-ground"/><rect width="2.4" height="6" class="hatch-line"/>'
    "</pattern></defs></svg>"
)


def interval(title: str, start: float, middle: float, end: float) -> str:
    """A bar from `start` to `end` with a dot at `middle`, on a line that also shows zero."""
    low, high = min(start, 0.0), max(end, 0.0)
    pad = (high - low or 1.0) * 0.08
    low, high = low - pad, high + pad
    height, across = 74, 36

    def at(value: float) -> float:
        return 20 + (value - low) / (high - low) * (WIDTH - 40)

    parts = [
        _rule(20, across, WIDTH - 20, across, "grid"),
        _rule(at(0.0), across - 14, at(0.0), across + 14, "zero"),
        _text(at(0.0), 15, "0", "tick", "middle"),
        f'<line x1="{_number(at(start))}" y1="{across}" x2="{_number(at(end))}" y2="{across}" class="span"/>',
        f'<circle cx="{_number(at(middle))}" cy="{across}" r="6" class="dot s1"/>',
        _text(max(at(start) + 10, 66), height - 8, change(start), "tick", "end"),
        _text(min(at(end) - 10, WIDTH - 66), height - 8, change(end), "tick"),
    ]
    return _frame(parts, title, height)
