"""How the cost of a tree grows: one axis at a time from a base case."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

BASE = {"rows": 100_000, "own_features": 5, "features": 20, "bins": 32, "depth": 4}
AXES = {
    "rows": (10_000, 100_000, 1_000_000, 4_000_000),
    "features": (20, 100, 400),
    "bins": (32, 64, 255),
    "depth": (4, 8),
}


def cases(chosen: Namespace) -> Iterator[tuple[str, Namespace]]:
    """Name of the axis and the case; the base case comes once on every axis."""
    for axis, values in AXES.items():
        for value in values:
            changed = {**vars(chosen), **BASE, axis: value, "engine": "lattice-hint", "over": "socket"}
            yield axis, Namespace(**changed)
