"""Products of polynomials modulo X^4096 + 1 through one prime of 49 bits, on doubles with fused multiply-add.

Eight polynomials are transformed together, coefficient by coefficient side by side (`lanes`), so that every inner loop
runs over neighbours in memory. Values are exact integers below 2^53; a product is exact while it stays below 2^48.
Compiled at first use and cached (NUMBA_CACHE_DIR). Source: Longa and Naehrig 2016 for the order of the roots.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

N = 4096
LANES = 8
PRIME = 562949953216513
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


_fma: Any = intrinsic(_typed_fma)
_rint: Any = intrinsic(_typed_rint)
_compiled: Any = njit(cache=True, error_model="numpy", nogil=True)


@_compiled
def forward(a: Any, w: Any, wp: Any, p: Any) -> None:
    """In place; `a` is flat, N x LANES. Results are centred."""
    pinv = 1.0 / p
    t, m = a.shape[0] // 2, 1
    while m < N:
        for i in range(m):
            root, ratio = w[m + i], wp[m + i]
            x, y = a[2 * i * t : 2 * i * t + t], a[2 * i * t + t : 2 * i * t + 2 * t]
            for j in range(t):
                yy = y[j]
                h = yy * root
                v = _fma(-_rint(yy * ratio), p, h) + _fma(yy, root, -h)
                u = x[j]
                x[j] = u + v
                y[j] = u - v
        t //= 2
        m *= 2
    for j in range(a.shape[0]):
        a[j] = _fma(-_rint(a[j] * pinv), p, a[j])


@_compiled
def backward(a: Any, w: Any, wp: Any, p: Any, scale: Any, scale_p: Any) -> None:
    """In place, the inverse of `forward`. Results are centred."""
    pinv = 1.0 / p
    t, m = a.shape[0] // N, N // 2
    while m >= 1:
        for i in range(m):
            root, ratio = w[m + i], wp[m + i]
            x, y = a[2 * i * t : 2 * i * t + t], a[2 * i * t + t : 2 * i * t + 2 * t]
            for j in range(t):
                u, v = x[j], y[j]
                s, d = u + v, u - v
                x[j] = _fma(-_rint(s * pinv), p, s)
                h = d * root
                r = _fma(-_rint(d * ratio), p, h) + _fma(d, root, -h)
                y[j] = r
        t *= 2
        m //= 2
    for j in range(a.shape[0]):
        h = a[j] * scale
        r = _fma(-_rint(a[j] * scale_p), p, h) + _fma(a[j], scale, -h)
        a[j] = _fma(-_rint(r * pinv), p, r)


@_compiled
def multiply_add(acc: Any, x: Any, y: Any, p: Any) -> None:
    """acc += x * y place by place, centred."""
    pinv = 1.0 / p
    for j in range(acc.shape[0]):
        h = x[j] * y[j]
        r = _fma(-_rint(h * pinv), p, h) + _fma(x[j], y[j], -h) + acc[j]
        acc[j] = _fma(-_rint(r * pinv), p, r)


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


def transform(polynomials: NDArray[Any]) -> Doubles:
    """Transforms of `(count, N)` integers, in the flat form of groups of LANES: `(ceil(count / LANES), N * LANES)`."""
    ahead, ahead_p, *_ = tables()
    groups = _grouped(polynomials)
    for group in groups:
        forward(group, ahead, ahead_p, float(PRIME))
    return groups


def restore(groups: Doubles, count: int) -> NDArray[np.int64]:
    """`(count, N)` centred integers of transforms; `groups` is used up."""
    _, _, behind, behind_p, scale, scale_p = tables()
    for group in groups:
        backward(group, behind, behind_p, float(PRIME), scale, scale_p)
    lanes = groups.reshape(len(groups), N, LANES).transpose(0, 2, 1).reshape(-1, N)
    whole: NDArray[np.int64] = lanes[:count].astype(np.int64)
    return whole


def spread(polynomial: NDArray[Any]) -> Doubles:
    """The transform of one polynomial in every lane, flat: what a group is multiplied with."""
    group: Doubles = transform(np.broadcast_to(polynomial, (LANES, N)))[0]
    return group


def products(groups: Doubles, factor: Doubles, count: int) -> NDArray[np.int64]:
    """`(count, N)`: each transformed polynomial times one polynomial (`spread`), exact while below 2^48."""
    results = np.zeros_like(groups)
    for result, group in zip(results, groups, strict=True):
        multiply_add(result, group, factor, float(PRIME))
    return restore(results, count)


def _grouped(polynomials: NDArray[Any]) -> Doubles:
    count = len(polynomials)
    padded = np.zeros((-(-count // LANES) * LANES, N), dtype=np.float64)
    padded[:count] = polynomials
    return np.ascontiguousarray(padded.reshape(-1, LANES, N).transpose(0, 2, 1)).reshape(-1, N * LANES)


def _centre(value: int) -> int:
    return value - PRIME if value > PRIME // 2 else value
