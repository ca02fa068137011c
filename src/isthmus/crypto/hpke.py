"""Sealed to one reader: HPKE (RFC 9180) in base mode with X25519, HKDF-SHA256 and AES-128-GCM.

What the sealed bytes belong to goes into `info`, from which the key follows, so they open under the same words only.
"""

from __future__ import annotations

from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from isthmus.base.errors import PeerError

OVERHEAD_BYTES: Final = 48
"""What sealing adds: a share of 32 bytes in front, a tag of 16 behind."""


def _suite() -> Suite:
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


class SealingKey:
    """The private key of a reader. Its bytes are shown by `to_bytes` only."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Self:
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """The key that `to_bytes` (32 bytes) gave."""
        return cls(X25519PrivateKey.from_private_bytes(secret))

    def to_bytes(self) -> bytes:
        return self._private.private_bytes_raw()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """What was sealed. Raises PeerError `bad_ciphertext`."""
        try:
            return _suite().decrypt(sealed, self._private, info)
        except (InvalidTag, ValueError):
            raise PeerError("bad_ciphertext", why="it was not sealed to this key for this purpose") from None

    def __repr__(self) -> str:
        return f"SealingKey({self.public.hex()[:8]})"


def seal_to(public: bytes, body: bytes, info: bytes) -> bytes:
    """`body` for the holder of `public` (32 bytes). Raises PeerError `bad_key`."""
    try:
        return _suite().encrypt(body, X25519PublicKey.from_public_bytes(public), info)
    except ValueError:
        raise PeerError("bad_key", why="it is no X25519 key, or one of low order") from None
