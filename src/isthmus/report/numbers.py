"""How figures are written on the page: fixed decimals, the same in both languages."""

from __future__ import annotations

NONE = "–"


def whole(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def four(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}".replace("-", "−")


def change(value: float | None) -> str:
    return NONE if value is None else f"{value:+.4f}".replace("-", "−")


def two(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}".replace("-", "−")


def percent(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}".replace("-", "−")


def points(value: float, unit: str) -> str:
    """A difference of two percentages, in points."""
    return f"{100 * value:+.1f} {unit}".replace("-", "−")


def seconds(value: float | None) -> str:
    return NONE if value is None else f"{value:,.1f}"


def size(value: int) -> str:
    """Bytes in decimal units."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:,.1f} {unit}"
    return f"{value} B"
