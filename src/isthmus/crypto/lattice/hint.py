"""The two layers of a hint histogram, each party's part. Symbols as in docs/protocols: n rows, R bins, N = 4096.

    public      a_k: one polynomial per block of N rows, modulo q; alpha_j, p1 modulo p = 2^64
    feature     H = M A, sigma, columns beta_j = alpha_j sigma + e_j + H[:, j], p0 = p1 sigma + e
    label       s, u per vector; b = round(a s + e + Delta m); masked hint for H s - u
    answer      top bits of (bin sums of b) - (H s - u) = sum of m + top bits of u

The wire and the outer layer live modulo p = 2^64; the inner layer modulo q = 2^(64 + dropped), of which the low bits are
rounded away. A set is chosen by name; every other number follows from it and the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from isthmus.base.errors import LocalError, PeerError
from isthmus.crypto.lattice.ntt import LANES, PRIME, N, multiply_add, products, restore, spread, transform
from isthmus.crypto.lattice.sampling import NOISE_VARIANCE, Stream, Words

LIMB_BITS = 36
FLUSH_BLOCKS = 256
_LOW32 = np.uint64(2**32 - 1)
Integers = NDArray[np.int64]
_compiled: Any = njit(cache=True, nogil=True)


@dataclass(frozen=True, slots=True)
class Set:
    """A parameter set: bits of q, bits dropped on the wire, bits of a payload."""

    name: str
    q_bits: int
    dropped: int
    payload: int

    @property
    def gap(self) -> int:
        """log2 of Delta on the wire."""
        return 64 - self.payload

    def zone(self, rows: int) -> int:
        """Z: ten standard deviations of all noise that a bin of `rows` rows can gather, in units of the wire."""
        inner = NOISE_VARIANCE * rows / 4.0**self.dropped + (rows / 12.0 if self.dropped else 0.0)
        outer = NOISE_VARIANCE * (2 * N / 3 + 4 * N / 3 + 1) + (2 * N / 36.0 if self.dropped else 0.0)
        return math.ceil(10.0 * math.sqrt(inner + outer))


SETS = {"A1": Set("A1", 64, 0, 36), "W8": Set("W8", 72, 8, 40)}


class PublicMatrix:
    """A: the transforms of a_k in two limbs, expanded from the joint seed. 64 kB a block of 4,096 rows."""

    def __init__(self, seed: bytes, rows: int, chosen: Set) -> None:
        self.rows, self.set = rows, chosen
        self.blocks = -(-rows // N)
        stream = Stream.public(seed, "a")
        low, high = np.int64(64 - LIMB_BITS), np.int64(64 - (chosen.q_bits - LIMB_BITS))
        words = stream.words(self.blocks, 2, N).view(np.int64)
        limbs = np.stack([words[:, 0] >> low, words[:, 1] >> high], axis=1)
        self._limbs = limbs.reshape(-1, N)
        self._transforms = transform(self._limbs)

    def times(self, secret: Integers) -> tuple[Integers, Integers]:
        """Low and high limb products a_k s, `(rows,)` each, exact integers below 2^48."""
        made = products(self._transforms.copy(), spread(secret), 2 * self.blocks).reshape(self.blocks, 2, N)
        return made[:, 0].reshape(-1)[: self.rows], made[:, 1].reshape(-1)[: self.rows]

    def on_wire(self, low: Integers, high: Integers) -> Words:
        """round((low + 2^36 high) / 2^dropped) modulo 2^64."""
        half = (1 << self.set.dropped) >> 1
        return ((low + half) >> self.set.dropped).view(np.uint64) + (
            high.view(np.uint64) << np.uint64(LIMB_BITS - self.set.dropped)
        )

    def limb_transforms(self, block: int, limb: int) -> NDArray[np.float64]:
        """One limb of one a_k in every lane."""
        return spread(self._limbs[2 * block + limb])


def warm() -> None:
    """Compile the kernels, or load them from the cache, by running each once on next to nothing."""
    chosen = SETS["A1"]
    public = PublicMatrix(b"warm", 1, chosen)
    bins = np.zeros((1, 1), dtype=np.uint8)
    hint_matrix(public, bins, (2,))
    words = encrypt(public, np.zeros(N, dtype=np.int64), np.zeros(1, dtype=np.int64))
    add_words(words, cells(bins, (2,)), 2)


def hint_matrix(public: PublicMatrix, bins: NDArray[np.uint8], counts: tuple[int, ...]) -> Words:
    """H on the wire, `(R, N)`: for each bin the sum of the rows of A that fall into it. `bins` is `(features, rows)`."""
    total = sum(counts)
    flat = cells(bins, counts)
    hint = np.zeros((total, N), dtype=np.uint64)
    factors = [(public.limb_transforms(k, 0), public.limb_transforms(k, 1)) for k in range(public.blocks)]
    for first in range(0, total, LANES):
        lanes = min(LANES, total - first)
        for start in range(0, public.blocks, FLUSH_BLOCKS):
            sums = [np.zeros((1, N * LANES)) for _ in range(2)]
            for k in range(start, min(start + FLUSH_BLOCKS, public.blocks)):
                marks = np.zeros((lanes, N))
                _mark(marks, np.ascontiguousarray(flat[:, k * N : (k + 1) * N]), first)
                group = transform(marks)[0]
                for limb in range(2):
                    multiply_add(sums[limb][0], group, factors[k][limb], float(PRIME))
            low, high = (restore(s, lanes) for s in sums)
            hint[first : first + lanes] += _reversed(public, low, high)
    return hint


def _reversed(public: PublicMatrix, low: Integers, high: Integers) -> Words:
    """Coefficient j of a row of H is that of X^-j: c_0, -c_(N-1), -c_(N-2), ..."""
    turned = [np.concatenate([x[:, :1], -x[:, :0:-1]], axis=1) for x in (low, high)]
    return public.on_wire(*turned)


def cells(bins: NDArray[np.uint8], counts: tuple[int, ...]) -> NDArray[np.int32]:
    """Bin numbers of all features one after the other, `(features, rows)` in 0..R."""
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32)
    return bins.astype(np.int32) + starts[:, None]


@_compiled
def _mark(marks: Any, flat: Any, first: Any) -> None:
    """X^-i for each row i of a block, in the lane of its bin: -X^(N-i), and 1 for row 0."""
    lanes, size = marks.shape
    for f in range(flat.shape[0]):
        for i in range(flat.shape[1]):
            lane = flat[f, i] - first
            if 0 <= lane < lanes:
                if i == 0:
                    marks[lane, 0] += 1.0
                else:
                    marks[lane, size - i] -= 1.0


def add_words(words: Words, flat: NDArray[np.int32], total: int) -> Words:
    """Sums of one vector's words in each bin modulo 2^64, `(R,)`."""
    sums = np.zeros((total, 1), dtype=np.uint64)
    add_into_bins(sums, flat, np.array(words, dtype=np.uint64).reshape(-1, 1))
    return sums[:, 0]


@_compiled
def add_into_bins(sums: Any, flat: Any, words: Any) -> None:
    """sums[bin, v] += words[row, v] modulo 2^64, over all features: the whole online work of a feature owner."""
    vectors = words.shape[1]
    for i in range(flat.shape[1]):
        for f in range(flat.shape[0]):
            cell = flat[f, i]
            for v in range(vectors):
                sums[cell, v] += words[i, v]


def _mod_product(transforms: NDArray[np.float64], factor: NDArray[np.float64], count: int) -> Words:
    """Polynomials modulo 2^64 (transforms of their 32-bit limbs, alternating) times a ternary one, `(count, N)`."""
    limbs = products(transforms, factor, 2 * count).reshape(count, 2, N)
    return limbs[:, 0].view(np.uint64) + (limbs[:, 1].view(np.uint64) << np.uint64(32))


def _limbs32(words: Words) -> NDArray[np.int64]:
    """`(2 count, N)`: low and high 32 bits of each polynomial, centred, modulo 2^64."""
    low = (words & _LOW32).astype(np.int64)
    carry = low >= 2**31
    low -= carry * 2**32
    high = ((words >> np.uint64(32)).astype(np.int64) + carry + 2**31) % 2**32 - 2**31
    return np.stack([low, high], axis=1).reshape(-1, N)


class OuterKey:
    """The feature owner's key sigma, and the columns under it. It never leaves this object."""

    __slots__ = ("_sigma", "chunks", "seed", "total")

    def __init__(self, seed: bytes, total: int) -> None:
        self.seed, self.total = seed, total
        self.chunks = -(-total // N)
        self._sigma = spread(Stream.fresh().ternary(N))

    def __repr__(self) -> str:
        return "OuterKey(...)"

    def columns(self, hint: Words, start: int, stop: int) -> Words:
        """beta_j for j in start..stop, `(stop - start, R)`."""
        fresh = Stream.fresh()
        parts = []
        for chunk in range(self.chunks):
            rows = hint[chunk * N : (chunk + 1) * N, start:stop].T
            alpha = alphas(self.seed, chunk, start, stop)
            noisy = _mod_product(transform(_limbs32(alpha)), self._sigma, stop - start)
            noisy += fresh.noise(stop - start, N).view(np.uint64)
            parts.append(noisy[:, : rows.shape[1]] + rows)
        return np.concatenate(parts, axis=1)

    def p0(self) -> Words:
        """`(chunks, N)`: p1 sigma + e."""
        own = transform(_limbs32(p1(self.seed, self.chunks)))
        return _mod_product(own, self._sigma, self.chunks) + Stream.fresh().noise(self.chunks, N).view(
            np.uint64
        )

    def open(self, first: Words, second: Words) -> Words:
        """V = H s - u + noise, `(R,)`, from the two parts of an offline message: `(chunks, N)` and `(R,)`."""
        if first.shape != (self.chunks, N) or second.shape != (self.total,):
            raise PeerError("bad_message", why="an offline message has another shape than agreed")
        keyed = _mod_product(transform(_limbs32(first)), self._sigma, self.chunks)
        opened: Words = second - keyed.reshape(-1)[: self.total]
        return opened


def alphas(seed: bytes, chunk: int, start: int, stop: int) -> Words:
    """alpha_j for j in start..stop, `(stop - start, N)`, in blocks of 64 that can be made on their own."""
    step = 64
    if start % step or stop % step:
        raise ValueError("columns come in blocks of 64")
    made = [Stream.public(seed, f"alpha/{chunk}/{at}").words(step, N) for at in range(start, stop, step)]
    return np.concatenate(made)


def p1(seed: bytes, chunks: int) -> Words:
    return Stream.public(seed, "p1").words(chunks, N)


class LabelKeys:
    """One-time secrets of the label owner for one feature owner's columns: masks u, and the messages that hide H s - u."""

    def __init__(self, seed: bytes, columns: Words, p0: Words, chosen: Set, rows: int) -> None:
        self._seed, self._columns, self._set = seed, columns, chosen
        self.total = columns.shape[1]
        self.chunks = -(-self.total // N)
        self._p1 = transform(_limbs32(p1(seed, self.chunks)))
        self._p0 = transform(_limbs32(p0))
        self._edge = math.sqrt(rows)
        self._zone = chosen.zone(rows) + math.ceil(8 * self._edge)
        if 2 * self._zone >= 1 << chosen.gap:
            raise LocalError("bug", why="the rows do not fit the parameter set")

    def prepare(self, secrets: Integers) -> tuple[Words, Words, Words]:
        """For each secret: mask u `(T, R)`, and the offline message `(T, chunks, N)` and `(T, R)`."""
        fresh, count = Stream.fresh(), len(secrets)
        low = (
            np.floor(fresh.uniform(count, self.total) * ((1 << self._set.gap) - 2 * self._zone)) + self._zone
        )
        radius = np.sqrt(-2 * np.log(fresh.uniform(count, self.total)))
        edge = np.rint(self._edge * radius * np.cos(2 * np.pi * fresh.uniform(count, self.total)))
        low += np.clip(edge, -8 * self._edge, 8 * self._edge)
        top = fresh.words(count, self.total) >> np.uint64(self._set.gap) << np.uint64(self._set.gap)
        mask = top + low.astype(np.uint64)
        first = np.empty((count, self.chunks, N), dtype=np.uint64)
        second = np.empty((count, self.chunks, N), dtype=np.uint64)
        for chunk in range(self.chunks):
            first[:, chunk] = _ternary_sum(secrets, partial(alphas, self._seed, chunk))
        for t in range(count):
            blinds = [spread(fresh.ternary(N)) for _ in range(self.chunks)]
            for chunk, blind in enumerate(blinds):
                first[t, chunk] += self._one(self._p1, chunk, blind)
                second[t, chunk] = self._one(self._p0, chunk, blind)
        first += fresh.noise(count, self.chunks, N).view(np.uint64)
        hidden = second.reshape(count, -1)[:, : self.total] - mask
        hidden += _ternary_sum(secrets, lambda a, b: self._columns[a:b])
        return mask, first, hidden

    @staticmethod
    def _one(groups: NDArray[np.float64], chunk: int, blind: NDArray[np.float64]) -> Words:
        group = groups[2 * chunk // LANES].copy()[None]
        limbs = products(group, blind, LANES)[2 * chunk % LANES : 2 * chunk % LANES + 2]
        return limbs[0].view(np.uint64) + (limbs[1].view(np.uint64) << np.uint64(32))


def _ternary_sum(secrets: Integers, columns: Callable[[int, int], Words]) -> Words:
    """sum_j s_j column_j modulo 2^64 for each secret, `(T, width)`: exact in doubles on two limbs of 32 bits."""
    signs = secrets.astype(np.float64)
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    step = 256
    for start in range(0, N, step):
        block = columns(start, start + step)
        part = signs[:, start : start + step]
        a = part @ (block & _LOW32).astype(np.float64)
        b = part @ (block >> np.uint64(32)).astype(np.float64)
        low, high = (a, b) if low is None or high is None else (low + a, high + b)
    assert low is not None
    assert high is not None
    whole: Words = low.astype(np.int64).view(np.uint64) + (
        high.astype(np.int64).view(np.uint64) << np.uint64(32)
    )
    return whole


def encrypt(public: PublicMatrix, secret: Integers, payload: Integers) -> Words:
    """b on the wire, `(rows,)`: one vector under a secret that is never used again."""
    low, high = public.times(secret)
    low += Stream.fresh().noise(public.rows)
    shift = np.uint64(public.set.gap)
    return public.on_wire(low, high) + (payload.view(np.uint64) << shift)


def read_sums(answers: Words, mask: Words, chosen: Set) -> Words:
    """Sum of the payloads of each bin modulo 2^payload, exact, from the answer's top bits and the mask."""
    return (answers - (mask >> np.uint64(chosen.gap))) & np.uint64((1 << chosen.payload) - 1)


def answer(sums: Words, opened: Words, chosen: Set) -> Words:
    """What the feature owner returns: the top bits of hist - V, a function of the true sum and the mask alone."""
    return (sums - opened) >> np.uint64(chosen.gap)
