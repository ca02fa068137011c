"""Masks: words that follow from a seed and nothing else, uniform over the ring.

    key = HKDF-SHA256(seed, no salt, info), 32 bytes;  words = AES-256-CTR(key, counter from 0), `width` bytes a word

A seed of 32 fresh bytes makes one mask. `info` says what the mask is for: under other words the same seed makes another.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from isthmus.crypto.words import Ring, Words

SEED_BYTES: Final = 32


def mask(ring: Ring, length: int, seed: bytes, info: bytes) -> Words:
    """`length` words."""
    if len(seed) != SEED_BYTES:
        raise ValueError("a seed has 32 bytes")
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(seed)
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return ring.unpack(stream.update(bytes(length * ring.width_bytes)))
