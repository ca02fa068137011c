"""The outer layer: the feature owner's key sigma over H, and the label owner's offline messages that open to H s - u.

    feature   columns beta_j = alpha_j sigma + e_j + H[:, j],  p0 = p1 sigma + e                  modulo 2^64
    label     ( sum s_j alpha_j + p1 v + e1,  sum s_j beta_j + p0 v - u )                         one-time s, u, v, e1
    feature   second - first sigma = H s - u + noise

alpha_j and p1 are public and expanded from a seed. Bins come in chunks of N: one polynomial holds a column of a chunk.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import LocalError, PeerError
from isthmus.crypto.lattice.ntt import (
    F8,
    LANES,
    U8,
    N,
    backward,
    forward,
    gather,
    kernel,
    multiply,
    read,
    ready,
    scatter,
    tables,
    transform,
    write,
)
from isthmus.crypto.lattice.sampling import Stream, Words
from isthmus.crypto.lattice.sets import EDGE_DEVIATIONS, Layout

COLUMNS_STEP: Final = 64
IN_MEMORY_BYTES: Final = 512 * 2**20
"""Key columns beyond this lie in a file without a name, and the system keeps of it in memory what has room."""
_PAIRS: Final = LANES // 2
Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]


@kernel(write(F8, 1), read(U8, 2))
def _spread_limbs(group: Any, words: Any) -> None:
    """Centred 32-bit limbs of up to four polynomials modulo 2^64: low limbs in the first lanes, high ones in the others."""
    count = words.shape[0]
    if count < _PAIRS:
        group[:] = 0.0
    for i in range(N):
        for b in range(count):
            word = words[b, i]
            low = np.int64(np.int32(word & np.uint64(0xFFFFFFFF)))
            high = np.int64(np.int32((word - np.uint64(low)) >> np.uint64(32)))
            group[i * LANES + b] = low
            group[i * LANES + _PAIRS + b] = high


@kernel(write(U8, 2), read(F8, 1))
def _join_limbs(words: Any, group: Any) -> None:
    for b in range(words.shape[0]):
        for i in range(N):
            high = np.uint64(np.int64(group[i * LANES + _PAIRS + b]))
            words[b, i] = np.uint64(np.int64(group[i * LANES + b])) + (high << np.uint64(32))


def times(words: Words, factor: Doubles) -> Words:
    """Polynomials modulo 2^64, `(count, N)`, each times one ternary polynomial given by its transform `(N,)`."""
    ready()
    ahead, ahead_p, behind, behind_p, scale, scale_p = tables()
    group = np.empty(N * LANES)
    product = np.empty((len(words), N), dtype=np.uint64)
    for first in range(0, len(words), _PAIRS):
        _spread_limbs(group, words[first : first + _PAIRS])
        forward(group, ahead, ahead_p)
        multiply(group, group, factor)
        backward(group, behind, behind_p, scale, scale_p)
        _join_limbs(product[first : first + _PAIRS], group)
    return product


def _limb_transforms(polynomial: Words) -> Doubles:
    """Transforms of both limbs of one polynomial, `(2, N)`."""
    ready()
    ahead, ahead_p, *_ = tables()
    group = np.empty(N * LANES)
    _spread_limbs(group, polynomial[None])
    forward(group, ahead, ahead_p)
    return np.ascontiguousarray(group.reshape(N, LANES)[:, [0, _PAIRS]].T)


def _each_times(ternary: Integers, limbs: Sequence[Doubles]) -> list[Words]:
    """For each polynomial given by its `_limb_transforms`: all of `ternary` `(count, N)` times it, `(count, N)`."""
    ready()
    ahead, ahead_p, behind, behind_p, scale, scale_p = tables()
    group, work = np.empty(N * LANES), np.empty(N * LANES)
    low, high = np.empty((LANES, N), dtype=np.int64), np.empty((LANES, N), dtype=np.int64)
    products = [np.empty((len(ternary), N), dtype=np.uint64) for _ in limbs]
    for first in range(0, len(ternary), LANES):
        gather(group, ternary[first : first + LANES])
        forward(group, ahead, ahead_p)
        for product, pair in zip(products, limbs, strict=True):
            for side, limb in zip((low, high), pair, strict=True):
                multiply(work, group, limb)
                backward(work, behind, behind_p, scale, scale_p)
                scatter(side, work)
            part = product[first : first + LANES]
            part[:] = (low.view(np.uint64) + (high.view(np.uint64) << np.uint64(32)))[: len(part)]
    return products


def alphas(seed: bytes, chunk: int, start: int, stop: int) -> Words:
    """alpha_j for j in start..stop, `(stop - start, N)`, in blocks that can be made on their own."""
    if start % COLUMNS_STEP or stop % COLUMNS_STEP:
        raise ValueError(f"columns come in blocks of {COLUMNS_STEP}")
    made = [
        Stream.public(seed, f"alpha/{chunk}/{at}").words(COLUMNS_STEP, N)
        for at in range(start, stop, COLUMNS_STEP)
    ]
    return np.concatenate(made)


def p1(seed: bytes, chunks: int) -> Words:
    """p1 of each chunk, `(chunks, N)`."""
    return Stream.public(seed, "p1").words(chunks, N)


class OuterKey:
    """The feature owner's key sigma. It never leaves this object."""

    __slots__ = ("_sigma", "bins", "chunks", "seed")

    def __init__(self, seed: bytes, bins: int) -> None:
        self.seed, self.bins = seed, bins
        self.chunks = -(-bins // N)
        self._sigma = transform(Stream.fresh().ternary(1, N))[0]

    def __repr__(self) -> str:
        return "OuterKey(...)"

    def columns(self, hint: Words, chunk: int, start: int, stop: int) -> Words:
        """beta_j of a chunk for j in start..stop, `(stop - start, bins of the chunk)`; `hint` is the chunk's rows of H."""
        keyed = times(alphas(self.seed, chunk, start, stop), self._sigma)[:, : len(hint)]
        keyed += Stream.fresh().noise(*keyed.shape).view(np.uint64)
        keyed += hint[:, start:stop].T
        return keyed

    def p0(self) -> Words:
        """`(chunks, N)`: p1 sigma + e."""
        keyed = times(p1(self.seed, self.chunks), self._sigma)
        return keyed + Stream.fresh().noise(*keyed.shape).view(np.uint64)

    def open(self, first: Words, second: Words) -> Words:
        """H s - u + noise, `(R,)`, from the two parts of an offline message: `(chunks, N)` and `(R,)`."""
        if first.shape != (self.chunks, N) or second.shape != (self.bins,):
            raise PeerError("bad_message", why="an offline message has another shape than agreed")
        opened: Words = second - times(first, self._sigma).reshape(-1)[: self.bins]
        return opened


@dataclass(frozen=True, slots=True)
class Drawn:
    """A seed of 32 bytes that makes a one-time secret and everything that goes with it; `place` is the feature owner's."""

    seed: bytes
    place: int

    def __repr__(self) -> str:
        return "Drawn(...)"

    def secret(self) -> Integers:
        """s, `(N,)`, the same for all feature owners."""
        return Stream.public(self.seed, "secret").ternary(N)

    def mask(self, layout: Layout) -> Words:
        """u, `(R,)`: uniform above Delta; below, uniform with a Gaussian edge that stays clear of both ends."""
        stream, gap = Stream.public(self.seed, f"mask/{self.place}"), np.uint64(layout.gap)
        top = stream.words(layout.bins) >> gap << gap
        low = np.floor(stream.uniform(layout.bins) * layout.room) + layout.margin
        radius = np.sqrt(-2 * np.log(stream.uniform(layout.bins)))
        edge = np.rint(layout.edge * radius * np.cos(2 * np.pi * stream.uniform(layout.bins)))
        low += np.clip(edge, -EDGE_DEVIATIONS * layout.edge, EDGE_DEVIATIONS * layout.edge)
        mask: Words = top + low.astype(np.uint64)
        return mask

    def blinding(self, chunks: int) -> tuple[Integers, Words]:
        """v, ternary, and e1, noise, of each chunk: `(chunks, N)` each."""
        stream = Stream.public(self.seed, f"blinding/{self.place}")
        return stream.ternary(chunks, N), stream.noise(chunks, N).view(np.uint64)


class LabelKeys:
    """The columns of one feature owner, as the label owner keeps them, and the offline messages made with them."""

    def __init__(self, seed: bytes, layout: Layout, folder: Path | None = None) -> None:
        """`folder` is where columns go that do not fit in memory. Raises LocalError `disk_error` where they find no room."""
        if not layout.fits:
            raise LocalError("bug", why="the rows do not fit the parameter set")
        self._seed, self.layout = seed, layout
        self.chunks = -(-layout.bins // N)
        self._columns = [self._room(min(N, layout.bins - at), folder) for at in range(0, layout.bins, N)]
        self._p0: list[Doubles] = []
        self._p1: list[Doubles] = []

    def _room(self, bins: int, folder: Path | None) -> Words:
        if self.layout.bins * N * 8 <= IN_MEMORY_BYTES:
            return np.empty((N, bins), dtype=np.uint64)
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                os.posix_fallocate(
                    file.fileno(), 0, N * bins * 8
                )  # or a full disk would end the process later
                return np.memmap(file, dtype=np.uint64, shape=(N, bins))
        except OSError as error:
            why = error.strerror or "unknown"
            raise LocalError("disk_error", path=str(folder or tempfile.gettempdir()), why=why) from None

    def keep(self, chunk: int, start: int, words: Words) -> None:
        """Take over beta_j of a chunk for j from `start` on, `(count, bins of the chunk)`."""
        self._columns[chunk][start : start + len(words)] = words

    def seal(self, p0: Words) -> None:
        """Take over p0, `(chunks, N)`: from now on messages can be made."""
        self._p0, self._p1 = limbs_of(p0), limbs_of(p1(self._seed, self.chunks))

    def prepare(self, drawn: Sequence[Drawn]) -> tuple[list[Words], Words, Words]:
        """For each: its mask u `(R,)`, and the offline messages `(T, chunks, N)` and `(T, R)`."""
        signs = np.stack([d.secret() for d in drawn]).astype(np.float64)
        masks = [d.mask(self.layout) for d in drawn]
        second = np.empty((len(drawn), self.layout.bins), dtype=np.uint64)
        for chunk, columns in enumerate(self._columns):
            v = np.stack([d.blinding(self.chunks)[0][chunk] for d in drawn])
            at, width = chunk * N, columns.shape[1]
            second[:, at : at + width] = _each_times(v, self._p0[chunk : chunk + 1])[0][:, :width]
            second[:, at : at + width] += _ternary_sum(signs, width, _rows_of(columns))
        second -= np.stack(masks)
        return masks, first_parts(self._seed, self._p1, drawn), second


def first_parts(seed: bytes, shared: Sequence[Doubles], drawn: Sequence[Drawn]) -> Words:
    """The first part of each offline message, `(T, chunks, N)`, which depends on no key: whoever has the seeds can make it.

    `shared` are the `limbs_of` p1.
    """
    signs = np.stack([d.secret() for d in drawn]).astype(np.float64)
    blinds = [d.blinding(len(shared)) for d in drawn]
    first = np.stack([noise for _, noise in blinds])
    for chunk in range(len(shared)):
        v = np.stack([blind[chunk] for blind, _ in blinds])
        first[:, chunk] += _each_times(v, shared[chunk : chunk + 1])[0]
        first[:, chunk] += _ternary_sum(signs, N, _alphas_of(seed, chunk))
    return first


def limbs_of(polynomials: Words) -> list[Doubles]:
    """For each polynomial modulo 2^64 the transforms of its two limbs, `(2, N)`."""
    return [_limb_transforms(polynomial) for polynomial in polynomials]


def _alphas_of(seed: bytes, chunk: int) -> Callable[[int, int], Words]:
    return lambda start, stop: alphas(seed, chunk, start, stop)


def _rows_of(columns: Words) -> Callable[[int, int], Words]:
    return lambda start, stop: columns[start:stop]


@kernel(write(F8, 2), write(F8, 2), read(U8, 2))
def _split(low: Any, high: Any, words: Any) -> None:
    for i in range(words.shape[0]):
        for j in range(words.shape[1]):
            low[i, j] = np.float64(np.int64(words[i, j] & np.uint64(0xFFFFFFFF)))
            high[i, j] = np.float64(np.int64(words[i, j] >> np.uint64(32)))


def _ternary_sum(signs: Doubles, width: int, columns: Callable[[int, int], Words]) -> Words:
    """sum_j s_j column_j modulo 2^64 for each secret, `(T, width)`: exact in doubles on two limbs of 32 bits."""
    ready()
    step = 4 * COLUMNS_STEP
    low, high = np.empty((step, width)), np.empty((step, width))
    sums = np.zeros((2, len(signs), width))
    for start in range(0, N, step):
        _split(low, high, np.asarray(columns(start, start + step)))
        part = np.ascontiguousarray(signs[:, start : start + step])
        sums[0] += part @ low
        sums[1] += part @ high
    whole: Words = sums[0].astype(np.int64).view(np.uint64) + (
        sums[1].astype(np.int64).view(np.uint64) << np.uint64(32)
    )
    return whole
