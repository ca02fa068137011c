"""The inner layer: the public matrix A, vectors b = round(a s + e) + Delta m under one-time secrets, and sums of them in bins.

A has one row per row of the table: row i of block k is X^i a_k, so that A s is the product a_k s, coefficient by coefficient.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from isthmus.crypto.lattice.ntt import (
    F8,
    I8,
    LANES,
    U8,
    N,
    backward,
    forward,
    kernel,
    multiply,
    multiply_add,
    read,
    ready,
    tables,
    transform,
    write,
)
from isthmus.crypto.lattice.sampling import NOISE_BITS, Stream, Words
from isthmus.crypto.lattice.sets import CUT_MAX, Set

LIMB_BITS: Final = 36
BLOCKS: Final = LANES // 2
"""Blocks of a group: their low limbs in the first lanes, their high limbs in the others."""
GROUP_ROWS: Final = BLOCKS * N
FLUSH_BLOCKS: Final = 256
TILE_ROWS: Final = 512
Integers = NDArray[np.int64]
Bins = NDArray[np.uint8]
Packed = NDArray[np.uint8]
_COINS: Final = np.uint64(2**NOISE_BITS - 1)
_SECOND: Final = np.uint64(NOISE_BITS)


def _typed_bit_count(typing: Any, word: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i64 = ir.IntType(64)
        return builder.call(builder.module.declare_intrinsic("llvm.ctpop", [i64]), args)

    return types.int64(types.uint64), build


_bit_count: Any = intrinsic(_typed_bit_count)


class PublicMatrix:
    """A, expanded from the joint seed: transforms of two limbs of every a_k, 16 bytes a row."""

    def __init__(self, seed: bytes, rows: int, chosen: Set) -> None:
        self.rows, self.set = rows, chosen
        self.blocks = -(-rows // N)
        groups = -(-self.blocks // BLOCKS)
        stream = Stream.public(seed, "a")
        low, high = np.int64(64 - LIMB_BITS), np.int64(64 - (chosen.q_bits - LIMB_BITS))
        self.groups = np.empty((groups, N * LANES))
        for group in self.groups:
            words = stream.words(2, BLOCKS, N).view(np.int64)
            limbs = transform(np.concatenate([words[0] >> low, words[1] >> high]))
            group.reshape(N, LANES)[:] = limbs.T

    def pieces(self, rows: int) -> Iterator[tuple[int, int]]:
        """Start and stop of pieces of about so many rows, whole groups each."""
        step = max(1, rows // GROUP_ROWS) * GROUP_ROWS
        for start in range(0, self.rows, step):
            yield start, min(start + step, self.rows)


def warm() -> None:
    """Compile the kernels of both layers, or load them from the cache. One process at a time."""
    from isthmus.crypto.lattice import outer

    assert outer  # its kernels are among those that are made ready
    with _Alone():
        ready()


class _Alone:
    """A lock file in the cache of kernels, so that two workers do not compile the same at once."""

    def __enter__(self) -> None:
        folder = os.environ.get("NUMBA_CACHE_DIR")
        self._handle = -1
        if folder:
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handle = os.open(Path(folder) / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._handle, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if self._handle >= 0:
            os.close(self._handle)


class Payload:
    """What the vectors of a level carry: row i counts in vector `vector_of_row[i]` as g + h * radix of that vector.

    `g`, `h` `(rows,)` int64, `vector_of_row` `(rows,)` int32 with -1 for rows that take no part, `radix` `(vectors,)`.
    """

    __slots__ = ("g", "h", "radix", "shift", "vector_of_row")

    def __init__(
        self, g: Integers, h: Integers, vector_of_row: NDArray[np.int32], radix: Integers, width: int
    ) -> None:
        self.g, self.h, self.vector_of_row, self.radix = g, h, vector_of_row, radix
        self.shift = np.uint64(64 - width)


def encrypt(
    public: PublicMatrix,
    start: int,
    stop: int,
    secrets: NDArray[np.float64],
    payload: Payload | None,
    cut: int,
) -> Packed:
    """The words of rows start..stop of every vector, `(vectors, stop - start, 8 - cut)`; `start` begins a group.

    `secrets` are transforms `(vectors, N)` of secrets that are never used again. Without a payload: A s alone, no noise.
    """
    _, _, behind, behind_p, scale, scale_p = tables()
    out = np.empty((len(secrets), stop - start, 8 - cut), dtype=np.uint8)
    work, words = np.empty(N * LANES), np.empty(GROUP_ROWS, dtype=np.uint64)
    fresh = Stream.fresh() if payload else None
    noise = np.zeros(GROUP_ROWS, dtype=np.uint64)
    for at in range(start, stop, GROUP_ROWS):
        end = min(at + GROUP_ROWS, stop)
        row = words[: end - at]
        for v, secret in enumerate(secrets):
            if fresh:
                noise = fresh.words(end - at)
            multiply(work, public.groups[at // GROUP_ROWS], secret)
            backward(work, behind, behind_p, scale, scale_p)
            _to_wire(row, work, noise, public.set.dropped)
            if payload:
                place = payload.vector_of_row[at:end]
                _add_payload(
                    row, payload.g[at:end], payload.h[at:end], place, v, payload.radix[v], payload.shift
                )
            _PACK[8 - cut][0](out[v, at - start : end - start], row)
    return out


@kernel(write(U8, 1), read(F8, 1), read(U8, 1), I8)
def _to_wire(out: Any, work: Any, noise: Any, dropped: Any) -> None:
    """round((low + 2^36 high + e) / 2^dropped) modulo 2^64; e is centred binomial, out of one random word a row."""
    half = (np.int64(1) << dropped) >> np.int64(1)
    shift = np.uint64(LIMB_BITS - dropped)
    rows = out.shape[0]
    for b in range(BLOCKS):
        base = b * N
        for i in range(min(N, rows - base)):
            coins = noise[base + i]
            e = _bit_count(coins & _COINS) - _bit_count((coins >> _SECOND) & _COINS)
            low = np.int64(work[i * LANES + b]) + e + half
            high = np.uint64(np.int64(work[i * LANES + BLOCKS + b]))
            out[base + i] = np.uint64(low >> dropped) + (high << shift)


@kernel(write(U8, 1), read(I8, 1), read(I8, 1), read(types.int32, 1), I8, I8, U8)
def _add_payload(out: Any, g: Any, h: Any, place: Any, v: Any, radix: Any, shift: Any) -> None:
    for i in range(out.shape[0]):
        inside = np.int64(0) - np.int64(np.int64(place[i]) == v)
        out[i] += np.uint64((g[i] + h[i] * radix) & inside) << shift


def _packer(size: int) -> tuple[Any, Any]:
    """The kernels for words of `size` bytes: from 64 bits, the rest rounded away, little-endian; and back."""
    cut = np.uint64(64 - 8 * size)
    half = np.uint64((1 << (64 - 8 * size)) >> 1)

    @kernel(write(types.uint8, 2), read(U8, 1))
    def pack(out: Any, words: Any) -> None:
        for i in range(words.shape[0]):
            word = (words[i] + half) >> cut
            for k in range(size):
                out[i, k] = np.uint8(word >> np.uint64(8 * k))

    @kernel(write(U8, 1), read(types.uint8, 2))
    def unpack(words: Any, packed: Any) -> None:
        for i in range(words.shape[0]):
            word = np.uint64(0)
            for k in range(size):
                word |= np.uint64(packed[i, k]) << np.uint64(8 * k)
            words[i] = word << cut

    return pack, unpack


_PACK: Final = {size: _packer(size) for size in range(8 - CUT_MAX, 9)}


def add_into_bins(sums: Words, bins: Bins, counts: tuple[int, ...], start: int, words: Packed) -> None:
    """sums[v, bin] += words[v, row] modulo 2^64 over all features: the whole online work of a feature owner.

    `sums` `(vectors, R)`, `bins` `(features, rows)` in one piece, `words` `(vectors, piece, bytes)` as made by `encrypt`,
    of the rows from `start` on.
    """
    ready()
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    whole = np.empty(words.shape[:2], dtype=np.uint64)
    for row, packed in zip(whole, words, strict=True):
        _PACK[words.shape[2]][1](row, packed)
    for first in range(0, len(whole), 8):
        part = whole[first : first + 8]
        lanes = next(w for w in (1, 2, 4, 8) if w >= len(part))
        side = np.zeros(sums.shape[1] * lanes, dtype=np.uint64)
        _ADD[lanes](side, bins, starts, start, part)
        sums[first : first + 8] += side.reshape(-1, lanes).T[: len(part)]


def _adder(lanes: int) -> Any:
    """The kernel for up to `lanes` vectors, whose sums lie side by side."""

    @kernel(write(U8, 1), read(types.uint8, 2), read(I8, 1), I8, read(U8, 2))
    def add(sums: Any, bins: Any, starts: Any, start: Any, words: Any) -> None:
        tile = np.zeros(TILE_ROWS * lanes, dtype=np.uint64)
        vectors, rows = words.shape
        for at in range(0, rows, TILE_ROWS):
            count = min(TILE_ROWS, rows - at)
            for v in range(vectors):
                for i in range(count):
                    tile[i * lanes + v] = words[v, at + i]
            for f in range(bins.shape[0]):
                row = bins[f, start + at : start + at + count]
                here = sums[starts[f] * lanes :]
                for i in range(count):
                    cell = np.int64(row[i]) * lanes
                    for v in range(lanes):
                        here[cell + v] += tile[i * lanes + v]

    return add


_ADD: Final[dict[int, Callable[..., None]]] = {lanes: _adder(lanes) for lanes in (1, 2, 4, 8)}


def hint_rows(public: PublicMatrix, bins: Bins, counts: tuple[int, ...], first: int, stop: int) -> Words:
    """Rows first..stop of H on the wire, `(stop - first, N)`: for each bin the sum of the rows of A that fall into it."""
    ahead, ahead_p, behind, behind_p, scale, scale_p = tables()
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    hint = np.empty((stop - first, N), dtype=np.uint64)
    work = np.empty((3, N * LANES))
    for at in range(first, stop, LANES):
        lanes = min(LANES, stop - at)
        features = np.searchsorted(starts, [at, at + lanes - 1], side="right") - 1
        sums = np.zeros((2, lanes, N), dtype=np.int64)
        for block in range(0, public.blocks, FLUSH_BLOCKS):
            work[:2] = 0.0
            _add_marks(
                work, public.groups, bins, starts, at, features[0], features[1] + 1, block,
                min(block + FLUSH_BLOCKS, public.blocks), ahead, ahead_p,
            )  # fmt: skip
            for limb in range(2):
                backward(work[limb], behind, behind_p, scale, scale_p)
                sums[limb] += work[limb].reshape(N, LANES).T[:lanes].astype(np.int64)
        _turn(hint[at - first : at - first + lanes], sums, public.set.dropped)
    return hint


@kernel(
    write(F8, 2), read(F8, 2), read(types.uint8, 2), read(I8, 1), I8, I8, I8, I8, I8, read(F8, 1), read(F8, 1)
)
def _add_marks(
    work: Any, groups: Any, bins: Any, starts: Any, first: Any, f_first: Any, f_stop: Any, k_first: Any, k_stop: Any,
    ahead: Any, ahead_p: Any,
) -> None:  # fmt: skip
    """work[limb] += the transform of (sum of X^-i over a bin's rows i of block k) times that of a_k, for LANES bins.

    X^-i is -X^(N-i), and 1 for row 0. Exact for 256 blocks: sums of 36-bit limbs with random signs stay far below 2^48.
    """
    low, high, marks = work[0], work[1], work[2]
    rows = bins.shape[1]
    for k in range(k_first, k_stop):
        marks[:] = 0.0
        base = k * N
        size = min(N, rows - base)
        for f in range(f_first, f_stop):
            row = bins[f, base : base + size]
            shift = starts[f] - first
            for i in range(size):
                lane = np.int64(row[i]) + shift
                if 0 <= lane < LANES:
                    if i == 0:
                        marks[lane] += 1.0
                    else:
                        marks[(N - i) * LANES + lane] -= 1.0
        forward(marks, ahead, ahead_p)
        lane_of_low = k % BLOCKS
        factor = groups[k // BLOCKS]
        multiply_add(low, marks, factor[lane_of_low::LANES])
        multiply_add(high, marks, factor[lane_of_low + BLOCKS :: LANES])


@kernel(write(U8, 2), read(I8, 3), I8)
def _turn(hint: Any, sums: Any, dropped: Any) -> None:
    """Coefficient j of a row of H is that of X^-j: c_0, -c_(N-1), -c_(N-2), ...; rounded to the wire."""
    half = (np.int64(1) << dropped) >> np.int64(1)
    shift = np.uint64(LIMB_BITS - dropped)
    for b in range(hint.shape[0]):
        for j in range(N):
            low = sums[0, b, 0] if j == 0 else -sums[0, b, N - j]
            high = sums[1, b, 0] if j == 0 else -sums[1, b, N - j]
            hint[b, j] = np.uint64((low + half) >> dropped) + (np.uint64(high) << shift)
