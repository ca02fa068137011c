"""What an attacker computes: linear equations modulo powers of two, distances between distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from isthmus.crypto.lattice.ntt import N


@njit(cache=True)
def _eliminate(rows: Any) -> bool:
    """Gauss-Jordan over one bit, in place: `rows` holds [A | I], 64 columns a word; False if A is singular."""
    size = rows.shape[0]
    for c in range(size):
        word, bit = c >> 6, np.uint64(1) << np.uint64(c & 63)
        pivot = c
        while pivot < size and not rows[pivot, word] & bit:
            pivot += 1
        if pivot == size:
            return False
        if pivot != c:
            for w in range(rows.shape[1]):
                rows[c, w], rows[pivot, w] = rows[pivot, w], rows[c, w]
        for r in range(size):
            if r != c and rows[r, word] & bit:
                for w in range(word, rows.shape[1]):
                    rows[r, w] ^= rows[c, w]
    return True


def _packed(bits: np.ndarray) -> np.ndarray:
    return np.packbits(np.ascontiguousarray(bits), axis=-1, bitorder="little").view(np.uint64)


class SingularError(Exception):
    """These polynomials leave a few digits open."""


class Equations:
    """b = x alpha modulo 2^64 for public polynomials alpha `(N, N)`, one a row: solved for a short x in one go.

    SingularError where alpha is singular modulo 2, as 71 of 100 are: an attacker then guesses the few digits left open.
    """

    def __init__(self, alpha: np.ndarray) -> None:
        self._alpha = alpha
        odd = (alpha.T & np.uint64(1)).astype(np.uint8)
        rows = np.concatenate([_packed(odd), _packed(np.eye(N, dtype=np.uint8))], axis=1)
        if not _eliminate(rows):
            raise SingularError
        self._inverse = np.ascontiguousarray(rows[:, N // 64 :])

    def solve(self, b: np.ndarray) -> np.ndarray:
        """x modulo 8, centred, `(N,)`: one bit after the other."""
        x = np.zeros(N, dtype=np.int64)
        left = b.copy()
        for power in range(3):
            odd = _packed((left & np.uint64(1)).astype(np.uint8))
            bit = (np.bitwise_count(self._inverse & odd).sum(axis=1) & 1).astype(np.uint64)
            x += bit.astype(np.int64) << power
            left = (left - bit @ self._alpha) >> np.uint64(1)
            # What was shifted in at the top is of no matter: only the lowest bits are looked at.
        return (x + 4) % 8 - 4


def correlation(guess: np.ndarray, truth: np.ndarray) -> float:
    return float(np.corrcoef(guess.ravel().astype(np.float64), truth.ravel().astype(np.float64))[0, 1])


def chi_square(table: np.ndarray) -> tuple[float, int]:
    """Pearson's statistic of independence of a table of counts, and its degrees of freedom."""
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    return float(((table - expected) ** 2 / expected).sum()), (table.shape[0] - 1) * (table.shape[1] - 1)


def deviations(statistic: float, freedom: int) -> float:
    """How many standard deviations a chi-square lies above its mean (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * freedom)
    return float(((statistic / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Kolmogorov and Smirnov's distance of two samples, times the root of their size: beyond 3.3 once in 10^9."""
    one, other = np.sort(one.ravel()), np.sort(other.ravel())
    at = np.concatenate([one, other])
    gap = np.searchsorted(one, at, "right") / len(one) - np.searchsorted(other, at, "right") / len(other)
    return float(np.abs(gap).max() * (len(one) * len(other) / (len(one) + len(other))) ** 0.5)
