"""What docs/explanation/lattice.md takes from a formula, measured, and the payloads that follow.

    python benchmarks/lattice_bounds.py norms      spectral norms beside their bounds, 10 s
    python benchmarks/lattice_bounds.py hints      the whole hint matrix beside the edge, and what hints tell, 1 min
    python benchmarks/lattice_bounds.py carries    what carries would tell of sigma, 2 min
    python benchmarks/lattice_bounds.py forged     sigma read with one forged message
    python benchmarks/lattice_bounds.py payloads   what sets.py makes of rows, features and bins

Seeded: the same figures every time. N = 4096 throughout.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

N = 4096
ERROR, TERNARY = math.sqrt(10.5), math.sqrt(2 / 3)
rng = np.random.default_rng(1)
Doubles = NDArray[np.float64]


def binomial(*shape: int) -> Doubles:
    """Centred binomial of 21 coins a side."""
    words, coins = rng.integers(0, 2**42, shape), 2**21 - 1
    return np.bitwise_count(words & coins).astype(np.float64) - np.bitwise_count(words >> 21)


def ternary(*shape: int) -> Doubles:
    return rng.integers(-1, 2, shape).astype(np.float64)


def norm(matrix: Doubles) -> float:
    """Largest singular value, through the smaller Gram matrix."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return math.sqrt(float(np.linalg.eigvalsh(wide @ wide.T)[-1]))


def table_of(kind: str, rows: int, features: int, bins: int) -> NDArray[np.int64]:
    """Bins `(features, rows)`: independent and even, independent with most rows in one bin, or one column many times."""
    if kind == "even":
        return rng.integers(0, bins, (features, rows))
    if kind == "skewed":
        weights = np.full(bins, 0.05 / (bins - 1))
        weights[0] = 0.95
        return rng.choice(bins, (features, rows), p=weights)
    return np.tile(rng.integers(0, bins, rows), (features, 1))


def low_bits(rows: int) -> NDArray[np.uint8]:
    """The lowest eight bits of A, `(rows, N)`: row i of a block is the i-th signed rotation of one polynomial."""
    made = []
    for _ in range(-(-rows // N)):
        a = rng.integers(0, 256, N, dtype=np.uint8)
        line = np.concatenate([a, np.uint8(0) - a])
        places = (np.arange(N)[:, None] - np.arange(N)[None, :]) % (2 * N)
        made.append(line[places])
    return np.concatenate(made)[:rows]


def norms() -> None:
    rows, features, bins = 20_000, 20, 32
    total = features * bins
    space = math.sqrt(total) + math.sqrt(N)
    a = low_bits(rows)
    print(f"n={rows} F={features} B={bins} R={total}; sqrt(R)+sqrt(N) = {space:.1f}")
    for kind in ("even", "skewed", "copies"):
        table = table_of(kind, rows, features, bins)
        marks = np.zeros((total, rows), dtype=np.float32)
        for f in range(features):
            marks[table[f] + f * bins, np.arange(rows)] = 1
        m_norm = math.sqrt(float(np.linalg.eigvalsh((marks @ marks.T).astype(np.float64))[-1]))
        sums = np.stack(
            [a[table[f] == b].sum(axis=0, dtype=np.uint8) for f in range(features) for b in range(bins)]
        )
        rounding = (((sums.astype(np.int64) + 128) & 255) - 128) / 256.0
        both = norm(rounding + binomial(total, N))
        print(
            f"  {kind:7s} |M|^2 = {m_norm**2:9.0f}, F n = {features * rows}; |E_r| = {norm(rounding):6.1f},"
            f" iid bound {space / math.sqrt(12):6.1f},"
            f" bound {(math.sqrt(total) + math.sqrt(features * N)) / math.sqrt(12):6.1f};"
            f" |E + E_r| = {both:6.1f}, root of squares with iid bound {math.sqrt(10.5 + 1 / 12) * space:6.1f}"
        )
    for r in (640, 3200):
        bound = ERROR * (math.sqrt(r) + math.sqrt(N))
        print(f"  R={r}: |E| / bound = {[round(norm(binomial(r, N)) / bound, 4) for _ in range(3)]}")
    limit = math.log(2 * N) + 5
    for name, draw, deviation in (("binomial", binomial, ERROR), ("ternary", ternary, TERNARY)):
        twist = np.exp(1j * np.pi * np.arange(N) / N)
        tops = np.array(
            [np.max(np.abs(np.fft.fft(draw(N) * twist)) ** 2) / (N * deviation**2) for _ in range(20_000)]
        )
        print(
            f"  convolution with {name}: of 20,000, median {np.median(tops):.2f}, above {limit:.2f}:"
            f" {np.mean(tops > limit):.5f}, largest {tops.max():.2f} (in N var)"
        )


def negacyclic(polynomial: Doubles) -> Doubles:
    """The matrix of x -> polynomial * x modulo X^N + 1."""
    line = np.concatenate([polynomial, -polynomial])
    return line[(np.arange(N)[:, None] - np.arange(N)[None, :]) % (2 * N)]


def hints() -> None:
    """T T^t / edge^2 for one chunk: its largest eigenvalue (1/4 is what the edge aims at), and bits told by hints."""
    from isthmus.crypto.lattice import sets

    for rows, features in ((10_000, 20), (10_000, 100), (100_000, 20), (1_000_000, 20)):
        bins = 32 * features
        layout = sets.choose(rows, [(features, bins)], sets.width(rows, 5, 4))[0]
        own = np.zeros((bins, bins))
        outer = np.zeros((bins, bins))
        columns = binomial(bins, N) * TERNARY
        own += columns @ columns.T
        blind, error = negacyclic(binomial(N))[:bins] * TERNARY, negacyclic(ternary(N))[:bins] * ERROR
        own += blind @ blind.T
        outer += error @ error.T
        table = table_of("even", rows, features, 32)
        for f in range(features):
            for g in range(features):
                pairs = np.bincount(table[f] * 32 + table[g], minlength=1024).reshape(32, 32)
                outer[32 * f : 32 * f + 32, 32 * g : 32 * g + 32] += pairs * 10.5 / 4.0**layout.set.dropped
        scaled = [np.linalg.eigvalsh(m / layout.edge**2) for m in (own + outer, own)]
        told = [float(np.log2(1 + np.maximum(values, 0)).sum()) / 2 for values in scaled]
        print(
            f"n={rows} F={features} R={bins} {layout.set.name}: largest eigenvalue {scaled[0][-1]:.4f};"
            f" hints tell at most {told[0]:.1f} bits of all, {told[1]:.1f} of s and v"
        )


def carries() -> None:
    """Plain regression of sigma on carries whose threshold sits at the middle of the noise; v, e_j, s as noise of their size."""
    sigma = ternary(N)
    rest = math.sqrt(2 * N * 10.5 * 2 / 3)
    for name, dither in (("no dither", 0.0), ("dither 2^20", 2.0**20)):
        seen, total = np.zeros(N), 0
        for _ in range(80):
            e1 = binomial(4000, N)
            noise = e1 @ sigma + rest * rng.standard_normal(4000) + dither * (rng.random(4000) - 0.5)
            seen += np.sign(noise) @ e1
            total += 4000
        guess = np.rint(np.clip(seen / np.abs(seen).mean() * np.abs(sigma).mean(), -1, 1))
        print(
            f"{name}: {total} carries, {np.mean(guess == sigma):.3f} of the digits of sigma right (a third by luck)"
        )


def forged() -> None:
    """One message with first = Delta (1 + 4 X^-R + 16 X^-2R + ...): its answer to words of zero is sigma, in digits."""
    from isthmus.crypto.lattice import outer, sets
    from isthmus.crypto.lattice.ntt import transform

    bins, seed = 640, bytes(32)
    layout = sets.choose(10_000, [(20, bins)], sets.width(10_000, 5, 4))[0]
    key, turns = outer.OuterKey(seed, bins), -(-N // bins)
    first, half = np.zeros((1, N), dtype=np.uint64), np.uint64(1 << (layout.gap - 1))
    for turn in range(turns):
        sign = 1 if turn == 0 else -1
        first[0, -turn * bins % N] = (sign * 4**turn << layout.gap) % 2**64
    opened = key.open(first, np.zeros(bins, dtype=np.uint64) - half)
    answers = ((np.uint64(0) - opened) >> np.uint64(layout.gap)).astype(np.int64)
    sigma = np.zeros(turns * bins, dtype=np.int64)
    left = answers + sum(2 * 4**turn for turn in range(turns))
    for turn in range(turns):
        sigma[turn * bins : (turn + 1) * bins] = ((left >> (2 * turn)) & 3) - 2
    noise = key.p0() - outer.times(outer.p1(seed, 1), transform(sigma[None, :N])[0])
    print(
        f"one forged message, {layout.payload} bits per answer: p0 - p1 sigma has deviation {noise.view(np.int64).std():.2f}"
    )


def payloads() -> None:
    from isthmus.crypto.lattice import sets

    print(
        "rows features bins : set needed payload log2(Delta) Z edge margin uniform-part leak-bits bytes-per-row"
    )
    for features in (20, 100):
        for rows in (10_000, 100_000, 1_000_000, 4_000_000):
            needed = sets.width(rows, 5, 4)
            layout = sets.choose(rows, [(features, 32 * features)], needed)[0]
            uniform = layout.room / 2.0**layout.gap
            print(
                f"{rows:9,d} {features:3d} {layout.bins:5d} : {layout.set.name} {needed} {layout.payload} {layout.gap}"
                f" {layout.zone:,d} {layout.edge:,.0f} {layout.margin:,d} {uniform:.4f}"
                f" {-layout.bins * math.log2(uniform):.1f} {layout.word_bytes}"
            )


if __name__ == "__main__":
    parts: dict[str, Callable[[], None]] = {
        "norms": norms,
        "hints": hints,
        "carries": carries,
        "forged": forged,
        "payloads": payloads,
    }
    for part in sys.argv[1:] or list(parts):
        parts[part]()
