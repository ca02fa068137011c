"""Random words for the lattice: secrets and noise fresh from the operating system, public polynomials from a joint seed."""

from __future__ import annotations

import hashlib
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

Words = NDArray[np.uint64]
NOISE_BITS = 21
NOISE_VARIANCE = NOISE_BITS / 2
_LOW = np.uint64(2**NOISE_BITS - 1)


class Stream:
    """AES-256-CTR keystream. `fresh()` is keyed by the operating system and used once; `public(seed, label)` is for all."""

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.AES(key[:32]), modes.CTR(key[32:48])).encryptor()

    def __repr__(self) -> str:
        return "Stream(...)"

    @classmethod
    def fresh(cls) -> Stream:
        return cls(os.urandom(48))

    @classmethod
    def public(cls, seed: bytes, label: str) -> Stream:
        """The same words for everybody who knows seed and label."""
        name = b"isthmus/lattice/v1/" + label.encode()
        return cls(hashlib.shake_256(len(seed).to_bytes(4, "little") + seed + name).digest(48))

    def words(self, *shape: int) -> Words:
        """Uniform 64-bit words."""
        size = int(np.prod(shape))
        return (
            np.frombuffer(self._cipher.update(bytes(8 * size)), dtype="<u8").reshape(shape).astype(np.uint64)
        )

    def noise(self, *shape: int) -> NDArray[np.int64]:
        """Centred binomial of 21 coins a side: standard deviation 3.24."""
        words = self.words(*shape)
        ahead = np.bitwise_count(words & _LOW).astype(np.int64)
        return ahead - np.bitwise_count((words >> np.uint64(NOISE_BITS)) & _LOW).astype(np.int64)

    def ternary(self, *shape: int) -> NDArray[np.int64]:
        """Uniform in -1, 0, 1."""
        size = int(np.prod(shape))
        kept = np.zeros(0, dtype=np.uint8)
        while len(kept) < size:
            drawn = np.frombuffer(self._cipher.update(bytes(size + 64)), dtype=np.uint8)
            kept = np.concatenate([kept, drawn[drawn < 255]])
        return (kept[:size] % 3).astype(np.int64).reshape(shape) - 1

    def uniform(self, *shape: int) -> NDArray[np.float64]:
        """Floats in (0, 1)."""
        return ((self.words(*shape) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
