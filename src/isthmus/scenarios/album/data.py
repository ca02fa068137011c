"""Albums of people who do not exist: real pictures, a frozen embedding, and behaviour that follows from a seeded taste.

Everybody likes some digits more than others (what the shared model can learn) and has likes of their own (what a personal head
is for). A photo further down a page is looked at less often; who has looked at one lingers on it, zooms, shares, or goes on.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import DataError
from isthmus.learn.behaviour import propensity

FILE = Path(__file__).with_name("digits.bin")
SUMS = Path(__file__).with_name("SHA256SUMS")
TASK = Path(__file__).with_name("task.yaml")

PIXELS: Final = 64
EMBEDDING: Final = 32
"""Values of an embedding; task.yaml says the same."""
PAGE: Final = 6
VISITS: Final = 5
_COMMON: Final = 1.6
_OWN: Final = 1.0
_SURE: Final = 6.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that somebody did with a photo of their own."""

    photo: str
    features: NDArray[np.float32]
    event: str
    seconds: float | None
    position: int


def load_photos() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pixels `(1797, 64)` of 0 to 1, and what digit each picture shows. Raises DataError `bad_array`."""
    body = FILE.read_bytes()
    if hashlib.sha256(body).hexdigest() != SUMS.read_text(encoding="utf-8").split()[0]:
        raise DataError("bad_array", file=FILE.name, why="its SHA-256 is not the one in SHA256SUMS")
    table = np.frombuffer(zlib.decompress(body), dtype=np.uint8).reshape(-1, PIXELS + 1)
    return table[:, :PIXELS] / 16.0, table[:, PIXELS].astype(np.int64)


def embed(pixels: NDArray[np.float64]) -> NDArray[np.float32]:
    """What stands in for an app's frozen image model: fixed random directions and a corner, `(photos, EMBEDDING)`."""
    rng = np.random.default_rng(8)
    mixed = (pixels - 0.3) @ rng.normal(size=(PIXELS, EMBEDDING)) + rng.normal(size=EMBEDDING)
    return np.maximum(mixed, 0.1 * mixed).astype(np.float32)


def albums(people: int, seed: int) -> list[list[Seen]]:
    """What each of so many people did with photos that only they hold; all follows from the seed."""
    pixels, digits = load_photos()
    features = embed(pixels)
    rng = np.random.default_rng(seed)
    common = rng.normal(size=10) * _COMMON
    shares = np.array_split(rng.permutation(len(digits)), people)
    return [
        _album(np.random.default_rng([seed, i]), own, digits, features, common)
        for i, own in enumerate(shares)
    ]


def _album(
    rng: np.random.Generator,
    photos: NDArray[np.int64],
    digits: NDArray[np.int64],
    features: NDArray[np.float32],
    common: NDArray[np.float64],
) -> list[Seen]:
    taste = common + rng.normal(size=10) * _OWN
    seen: list[Seen] = []

    def did(photo: int, event: str, position: int, seconds: float | None = None) -> None:
        seen.append(Seen(f"photo-{photo}", features[photo], event, seconds, position))

    visits = np.concatenate([rng.permutation(photos) for _ in range(VISITS)])
    for at, photo in enumerate(visits.tolist()):
        position = at % PAGE
        did(photo, "shown", position)
        if rng.random() > propensity(position):
            continue
        if rng.random() < 1 / (1 + np.exp(-_SURE * taste[digits[photo]])):
            did(photo, "dwell", position, 4.5 + 6 * rng.random())
            for event, chance in (("zoom", 0.4), ("favourite", 0.25), ("share", 0.2)):
                if rng.random() < chance:
                    did(photo, event, position)
        else:
            did(photo, "skip", position, 0.2 + 2 * rng.random())
            if rng.random() < 0.1:
                did(photo, "delete", position)
    return seen
