"""Examples of a task from what lies in the store: features in the order of their names, labels and weights from behaviour."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import LocalError
from isthmus.device.store import ItemRow
from isthmus.learn.behaviour import Event, judge
from isthmus.protocols.device_round import Example

Floats = NDArray[np.floating[Any]]
Features = Mapping[str, Sequence[float]] | Sequence[float]

VALUES_MOST: Final = 8 * 4096
HELD_OUT: Final = 51
"""Of 256 items so many are never trained on: evaluation rounds measure on them."""
_HEAD = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Examples:
    """x `(rows, inputs)`, labels, weights, and which rows are held out for evaluation."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    weight: NDArray[np.float32]
    held: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.y)

    def part(self, held: bool) -> tuple[Floats, Floats, Floats]:
        """x, y and weight of the rows to train on, or of those held out."""
        chosen = self.held == held
        return self.x[chosen], self.y[chosen], self.weight[chosen]

    def to_bytes(self) -> bytes:
        values = np.hstack([self.x, self.y[:, None], self.weight[:, None], self.held[:, None]])
        return _HEAD.pack(*values.shape) + values.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, body: bytes) -> Examples:
        """Raises LocalError `checkpoint_damaged`."""
        if len(body) >= _HEAD.size:
            rows, columns = _HEAD.unpack_from(body)
            if columns > 3 and len(body) == _HEAD.size + 4 * rows * columns:
                values = np.frombuffer(body, dtype="<f4", offset=_HEAD.size).astype(np.float32)
                values = values.reshape(rows, columns)
                return cls(values[:, :-3], values[:, -3], values[:, -2], values[:, -1] > 0)
        raise LocalError("checkpoint_damaged", path="examples")


def pack_features(features: Features) -> tuple[str, bytes] | None:
    """Shape and bytes of features as an app gives them: lists by name, or one list. None for what is no such thing."""
    named = features if isinstance(features, Mapping) else {"": features}
    if not 1 <= len(named) <= 8:
        return None
    values: list[float] = []
    for name in sorted(named):
        for value in named[name]:
            if not isinstance(value, (int, float, np.floating, np.integer)) or not isfinite(value):
                return None
            values.append(float(value))
    if not 1 <= len(values) <= VALUES_MOST:
        return None
    return shape_of({name: len(named[name]) for name in named}), np.array(values, dtype="<f4").tobytes()


def shape_of(sizes: Mapping[str, int]) -> str:
    return ",".join(f"{name}:{sizes[name]}" for name in sorted(sizes))


def fits(shape: str, features: Mapping[str, int]) -> bool:
    """Whether features of this shape are those of a task; one list without a name is the task's only feature."""
    only = len(features) == 1 and shape == f":{next(iter(features.values()))}"
    return only or shape == shape_of(features)


def make_examples(items: Iterable[ItemRow], example: Example) -> Examples:
    rows, labels, weights, held = [], [], [], []
    for item in items:
        if not fits(item.shape, example.features):
            continue
        found = judge(
            (Event(*event) for event in item.events),
            example.events,
            example.like,
            example.position_correction,
        )
        rows.append(np.frombuffer(item.features, dtype="<f4"))
        labels.append(float(found.liked))
        weights.append(found.weight)
        held.append(item.id[0] < HELD_OUT)
    inputs = sum(example.features.values())
    x = np.stack(rows).astype(np.float32) if rows else np.zeros((0, inputs), dtype=np.float32)
    return Examples(
        x, np.array(labels, dtype=np.float32), np.array(weights, dtype=np.float32), np.array(held, dtype=bool)
    )
