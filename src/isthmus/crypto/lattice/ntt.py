"""Products of polynomials modulo X^4096 + 1 through one prime of 49 bits, on doubles with fused multiply-add.

Eight polynomials are transformed together, coefficient by coefficient side by side (`lanes`), so that every inner loop runs
over neighbours in memory: a group is a flat array, N x LANES. Values are exact integers below 2^53; a product is exact while
it stays below 2^48. Compiled at first use and cached (NUMBA_CACHE_DIR). Source: Longa and Naehrig 2016 for the order of the
roots.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

N: Final = 4096
LANES: Final = 8
PRIME: Final = 562949953216513
"""The largest prime below 2^49 that is 1 mod 2N."""

Doubles = NDArray[np.float64]


def _typed_fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), build


def _typed_rint(typing: Any, a: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [ir.DoubleType()]), args)

    return types.float64(types.float64), build


fma: Any = intrinsic(_typed_fma)
rint: Any = intrinsic(_typed_rint)
_KERNELS: list[tuple[Any, Any]] = []
_COMPILING = threading.Lock()


def read(kind: Any, dimensions: int, layout: str = "C") -> Any:
    """The type of an array that a kernel only reads."""
    form: Any = types.Array
    return form(kind, dimensions, layout, readonly=True)


def write(kind: Any, dimensions: int) -> Any:
    """The type of an array that a kernel changes."""
    form: Any = types.Array
    return form(kind, dimensions, "C")


def kernel(*arguments: Any) -> Callable[[Callable[..., None]], Any]:
    """Marks a kernel with the types of its arguments: it has one form, made by `ready` and never later."""

    def mark(function: Callable[..., None]) -> Any:
        dispatcher = njit(cache=True, error_model="numpy", nogil=True)(function)
        _KERNELS.append((dispatcher, types.void(*arguments)))
        return dispatcher

    return mark


def ready() -> None:
    """Compile every kernel that is not compiled yet, or load it from the cache; in the order of their definition."""
    if _KERNELS:
        with _COMPILING:
            while _KERNELS:
                dispatcher, signature = _KERNELS[0]
                dispatcher.compile(signature)
                dispatcher.disable_compile()
                _KERNELS.pop(0)


F8, I8, U8 = types.float64, types.int64, types.uint64
P: Final = float(PRIME)
P_INVERSE: Final = 1.0 / P


@kernel(write(F8, 1), read(F8, 1), read(F8, 1))
def forward(a: Any, w: Any, wp: Any) -> None:
    """A group in place, two of the twelve layers at a time. Takes values below 2^51; results are centred."""
    t, m = N // 4, 1
    while t >= 1:
        n = t * LANES
        for i in range(m):
            w1, w1p = w[m + i], wp[m + i]
            w2, w2p = w[2 * m + 2 * i], wp[2 * m + 2 * i]
            w3, w3p = w[2 * m + 2 * i + 1], wp[2 * m + 2 * i + 1]
            o = 4 * i * n
            x0, x1, x2, x3 = (
                a[o : o + n],
                a[o + n : o + 2 * n],
                a[o + 2 * n : o + 3 * n],
                a[o + 3 * n : o + 4 * n],
            )
            for j in range(n):
                a0, a1, a2, a3 = x0[j], x1[j], x2[j], x3[j]
                h = a2 * w1
                v = fma(-rint(a2 * w1p), P, h) + fma(a2, w1, -h)
                a2 = a0 - v
                a0 = a0 + v
                h = a3 * w1
                v = fma(-rint(a3 * w1p), P, h) + fma(a3, w1, -h)
                a3 = a1 - v
                a1 = a1 + v
                h = a1 * w2
                v = fma(-rint(a1 * w2p), P, h) + fma(a1, w2, -h)
                x0[j] = a0 + v
                x1[j] = a0 - v
                h = a3 * w3
                v = fma(-rint(a3 * w3p), P, h) + fma(a3, w3, -h)
                x2[j] = a2 + v
                x3[j] = a2 - v
        t //= 4
        m *= 4
    for j in range(a.shape[0]):
        a[j] = fma(-rint(a[j] * P_INVERSE), P, a[j])


@kernel(write(F8, 1), read(F8, 1), read(F8, 1), F8, F8)
def backward(a: Any, w: Any, wp: Any, scale: Any, scale_p: Any) -> None:
    """A group in place, the inverse of `forward`. Takes centred values; results are centred."""
    t, m = 1, N // 4
    while m >= 1:
        n = t * LANES
        for i in range(m):
            w1, w1p = w[m + i], wp[m + i]
            w2, w2p = w[2 * m + 2 * i], wp[2 * m + 2 * i]
            w3, w3p = w[2 * m + 2 * i + 1], wp[2 * m + 2 * i + 1]
            o = 4 * i * n
            x0, x1, x2, x3 = (
                a[o : o + n],
                a[o + n : o + 2 * n],
                a[o + 2 * n : o + 3 * n],
                a[o + 3 * n : o + 4 * n],
            )
            for j in range(n):
                a0, a1, a2, a3 = x0[j], x1[j], x2[j], x3[j]
                s, d = a0 + a1, a0 - a1
                h = d * w2
                b1 = fma(-rint(d * w2p), P, h) + fma(d, w2, -h)
                s2, d = a2 + a3, a2 - a3
                h = d * w3
                b3 = fma(-rint(d * w3p), P, h) + fma(d, w3, -h)
                d, s = s - s2, s + s2
                x0[j] = fma(-rint(s * P_INVERSE), P, s)
                h = d * w1
                x2[j] = fma(-rint(d * w1p), P, h) + fma(d, w1, -h)
                d = b1 - b3
                x1[j] = b1 + b3
                h = d * w1
                x3[j] = fma(-rint(d * w1p), P, h) + fma(d, w1, -h)
        t *= 4
        m //= 4
    for j in range(a.shape[0]):
        h = a[j] * scale
        r = fma(-rint(a[j] * scale_p), P, h) + fma(a[j], scale, -h)
        a[j] = fma(-rint(r * P_INVERSE), P, r)


@kernel(write(F8, 1), read(F8, 1), read(F8, 1))
def multiply(out: Any, group: Any, factor: Any) -> None:
    """out = group * factor, every lane with the same factor of N places."""
    for k in range(N):
        y = factor[k]
        for j in range(k * LANES, (k + 1) * LANES):
            h = group[j] * y
            out[j] = fma(-rint(h * P_INVERSE), P, h) + fma(group[j], y, -h)


@kernel(write(F8, 1), read(F8, 1), read(F8, 1, "A"))
def multiply_add(acc: Any, group: Any, factor: Any) -> None:
    """acc += group * factor, every lane with the same factor of N places; centred."""
    for k in range(N):
        y = factor[k]
        for j in range(k * LANES, (k + 1) * LANES):
            h = group[j] * y
            r = fma(-rint(h * P_INVERSE), P, h) + fma(group[j], y, -h) + acc[j]
            acc[j] = fma(-rint(r * P_INVERSE), P, r)


@kernel(write(F8, 1), read(I8, 2))
def gather(group: Any, polynomials: Any) -> None:
    """Up to LANES integer polynomials into the lanes of a group; the lanes that are left hold zero."""
    count = polynomials.shape[0]
    if count < LANES:
        group[:] = 0.0
    for i in range(N):
        for b in range(count):
            group[i * LANES + b] = polynomials[b, i]


@kernel(write(I8, 2), read(F8, 1))
def scatter(polynomials: Any, group: Any) -> None:
    """The lanes of a group into up to LANES integer polynomials."""
    for i in range(N):
        for b in range(polynomials.shape[0]):
            polynomials[b, i] = np.int64(group[i * LANES + b])


@cache
def tables() -> tuple[Doubles, Doubles, Doubles, Doubles, float, float]:
    """Roots in bit-reversed order and their ratios to the prime, forward and backward, and 1/N."""
    root = next(
        r for g in range(2, 100) if pow(r := pow(g, (PRIME - 1) // (2 * N), PRIME), N, PRIME) == PRIME - 1
    )
    back = pow(root, -1, PRIME)
    order = [int(format(i, "012b")[::-1], 2) for i in range(N)]
    centred = [[_centre(pow(r, i, PRIME)) for i in order] for r in (root, back)]
    ahead, behind = (np.array(c, dtype=np.float64) for c in centred)
    scale = float(_centre(pow(N, -1, PRIME)))
    return ahead, ahead / PRIME, behind, behind / PRIME, scale, scale / PRIME


def transform(polynomials: NDArray[np.int64]) -> Doubles:
    """Transforms of `(count, N)` integers, each alone: `(count, N)`, centred."""
    ready()
    ahead, ahead_p, *_ = tables()
    whole = np.empty((len(polynomials), N))
    group = np.empty(N * LANES)
    for first in range(0, len(polynomials), LANES):
        gather(group, polynomials[first : first + LANES])
        forward(group, ahead, ahead_p)
        part = whole[first : first + LANES]
        part[:] = group.reshape(N, LANES).T[: len(part)]
    return whole


def _centre(value: int) -> int:
    return value - PRIME if value > PRIME // 2 else value
