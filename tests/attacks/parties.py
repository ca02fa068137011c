"""A label owner and a feature owner at the level of the lattice: no messages, and every value in reach of the test."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from isthmus.crypto.lattice import outer, sets, vectors
from isthmus.crypto.lattice.ntt import N, transform
from isthmus.crypto.lattice.vectors import Payload
from isthmus.learn.histogram import BinMatrix

GRADIENT_BITS, HESSIAN_BITS = 5, 4
SEEDS = (b"outer 1", b"outer 7", b"outer 8")
"""Of outer layers whose alpha have an inverse, so that equations have one solution."""


def layout_of(rows: int, features: int, bins: int) -> sets.Layout:
    """What a job with the widest gradients gets."""
    return sets.choose(rows, [(features, bins)], sets.width(rows, GRADIENT_BITS, HESSIAN_BITS))[0]


def bins_of(rows: int, features: int, bins: int, seed: int = 1) -> BinMatrix:
    cells = np.random.default_rng(seed).integers(0, bins, (features, rows)).astype(np.uint8)
    return BinMatrix(cells, (bins,) * features)


def gradients(rows: int, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """g and h of each row, as wide as a job allows."""
    draw = np.random.default_rng(seed)
    return draw.integers(-15, 16, rows), draw.integers(0, 16, rows)


def draw(count: int, kind: type[outer.Drawn] = outer.Drawn, place: int = 0) -> list[outer.Drawn]:
    return [kind(os.urandom(32), place) for _ in range(count)]


def encrypted(
    public: vectors.PublicMatrix,
    layout: sets.Layout,
    drawn: Sequence[outer.Drawn],
    payload: Payload,
    start: int,
    stop: int,
) -> np.ndarray:
    """Words of the rows start..stop, as they cross."""
    factors = transform(np.stack([d.secret() for d in drawn]))
    return vectors.encrypt(public, start, stop, factors, payload, layout.cut)


def numbers(words: np.ndarray) -> np.ndarray:
    """Words that crossed, `(..., bytes)`, as numbers modulo 2^64."""
    cut = 8 - words.shape[-1]
    whole = np.concatenate([np.zeros((*words.shape[:-1], cut), dtype=np.uint8), words], axis=-1)
    return whole.view("<u8")[..., 0].astype(np.uint64)


@dataclass(frozen=True)
class Feature:
    """A feature owner that follows the protocol: its bins and key, and the columns as the label owner keeps them."""

    matrix: BinMatrix
    layout: sets.Layout
    public: vectors.PublicMatrix
    key: outer.OuterKey
    keys: outer.LabelKeys

    def words(self, drawn: Sequence[outer.Drawn], payload: Payload) -> np.ndarray:
        """What the label owner sends, `(vectors, rows, bytes)`."""
        return encrypted(self.public, self.layout, drawn, payload, 0, self.matrix.rows)

    def sums(self, words: np.ndarray) -> np.ndarray:
        """Words added into bins, `(vectors, R)`."""
        sums = np.zeros((len(words), self.layout.bins), dtype=np.uint64)
        vectors.add_into_bins(sums, self.matrix.bins, self.matrix.counts, 0, words)
        return sums

    def answers(self, sums: np.ndarray, hints: np.ndarray, dither: float) -> np.ndarray:
        """What the label owner gets for sums of words and opened hints; `dither` in [0, 1) is the part of it that is added."""
        added = np.uint64(dither * self.layout.dither)
        told: np.ndarray = (sums - hints + added) >> np.uint64(self.layout.gap)
        return told

    def product(self, ternary: np.ndarray) -> np.ndarray:
        """A times a short polynomial, without noise, `(rows,)`."""
        return numbers(
            vectors.encrypt(self.public, 0, self.matrix.rows, transform(ternary[None]), None, 0)[0]
        )

    def plain(self, weights: np.ndarray) -> np.ndarray:
        """Sums of a weight of each row in every bin, `(R,)`."""
        matrix = self.matrix
        sums = [np.bincount(b, weights, c) for b, c in zip(matrix.bins, matrix.counts, strict=True)]
        return np.concatenate(sums).astype(np.int64)

    def payload(self, g: np.ndarray, h: np.ndarray, vectors_: int, width: int) -> Payload:
        """g + h * radix of every row, in the last of so many vectors."""
        place = np.full(len(g), vectors_ - 1, dtype=np.int32)
        return Payload(g, h, place, np.full(vectors_, self.radix, dtype=np.int64), width)

    @property
    def radix(self) -> int:
        return 15 * self.matrix.rows + 1


def meet(matrix: BinMatrix, place: int = 0) -> Feature:
    """The set-up of one feature owner. The seeds are fixed; what is secret is drawn anew."""
    layout = layout_of(matrix.rows, len(matrix.counts), matrix.total)
    seed = SEEDS[place]
    public = vectors.PublicMatrix(b"shared", matrix.rows, layout.set)
    key, keys = outer.OuterKey(seed, layout.bins), outer.LabelKeys(seed, layout)
    for chunk in range(key.chunks):
        hint = vectors.hint_rows(
            public, matrix.bins, matrix.counts, chunk * N, min((chunk + 1) * N, layout.bins)
        )
        for start in range(0, N, 512):
            keys.keep(chunk, start, key.columns(hint, chunk, start, start + 512))
    keys.seal(key.p0())
    return Feature(matrix, layout, public, key, keys)


@cache
def small() -> Feature:
    """2,000 rows, 20 features of 33 bins."""
    return meet(bins_of(2000, 20, 33))
