"""Party keys, the signed handshake, and sealed envelopes: Ed25519, X25519, HKDF-SHA256, ChaCha20-Poly1305.

    dialer                                                  listener
      | hello: version, suite, from, to, boot, time, X       |     signature over the hello
      |----------------------------------------------------->|
      | reply: version, suite, from, to, boot, time, Y       |     signature over hello and reply
      |<-----------------------------------------------------|

    keys there, back, session id = HKDF(X25519(x, Y); salt = SHA-256(hello, reply))

Both names stand under both signatures, so nobody can bind one party's keys to another's name. A replayed hello gets an
answer that is of no use: only the holder of x can seal, and a session counts once something sealed has come.
"""

from __future__ import annotations

import hashlib
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from isthmus.base.errors import PeerError


class PartyKey:
    """The private key of a party (Ed25519). Its bytes are shown by `to_bytes` only."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        self.fingerprint = fingerprint(self.public)

    @classmethod
    def generate(cls) -> Self:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """The key that `to_bytes` (32 bytes) gave."""
        return cls(Ed25519PrivateKey.from_private_bytes(secret))

    def to_bytes(self) -> bytes:
        return self._private.private_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """64 bytes. Put a label of your own in front of the data, so that it cannot be taken for something else."""
        return self._private.sign(data)

    def __repr__(self) -> str:
        return f"PartyKey({self.fingerprint.hex()})"


def fingerprint(public_key: bytes) -> bytes:
    """16 bytes that name a party key."""
    return hashlib.sha256(b"isthmus/party/v1" + public_key).digest()[:16]


def verify(public_key: bytes, signature: bytes, data: bytes, partner: str = "the partner") -> None:
    """Raises PeerError("bad_signature") unless `signature` over `data` holds."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        raise PeerError("bad_signature", partner=partner) from None
