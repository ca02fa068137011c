"""Randomness by label: the same seed and label give the same words on every machine and version.

What shapes a model (rounding, row and column samples, row order) is drawn here, so that a second run gives the same
bits. Secrets that hide something never come from here: they come from the operating system and are used once.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray


class Rng:
    """Words that follow from a seed (at least 16 bytes) and a label: AES-256-CTR keyed with HKDF-SHA256(seed, label)."""

    def __init__(self, seed: bytes, prefix: str = "") -> None:
        if len(seed) < 16:
            raise ValueError("a seed has at least 16 bytes")
        self._seed = seed
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"Rng(prefix={self._prefix!r})"

    def under(self, label: str) -> Rng:
        """The same seed with `label/` before every label."""
        return Rng(self._seed, f"{self._prefix}{label}/")

    def words(self, label: str, count: int) -> NDArray[np.uint64]:
        """`count` uniform 64-bit words."""
        info = f"isthmus/rng/v1/{self._prefix}{label}".encode()
        key = HKDF(algorithm=SHA256(), length=48, salt=None, info=info).derive(self._seed)
        stream = Cipher(algorithms.AES(key[:32]), modes.CTR(key[32:])).encryptor().update(bytes(8 * count))
        return np.frombuffer(stream, dtype="<u8").astype(np.uint64, copy=False)

    def uniform(self, label: str, count: int) -> NDArray[np.float64]:
        """`count` floats in [0, 1), 53 bits each."""
        return (self.words(label, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def permutation(self, label: str, count: int) -> NDArray[np.int64]:
        """A uniform order of 0..count-1."""
        return np.argsort(self.words(label, count), kind="stable")
