"""Seals what the store keeps and must be able to read again: secrets of authenticator apps, replies that hold a secret.

ChaCha20-Poly1305 under the key `keys/users.key` of the folder, a fresh nonce each; bound to the place where it is kept.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from isthmus.base.errors import ConfigError

_NONCE_BYTES = 12


class Vault:
    """`key`: 32 bytes. Its repr shows nothing."""

    def __init__(self, key: bytes) -> None:
        self._seal = ChaCha20Poly1305(key)

    def seal(self, body: bytes, place: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._seal.encrypt(nonce, body, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises ConfigError `key_missing` where it was sealed under another key, or for another place."""
        try:
            return self._seal.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            raise ConfigError("key_missing", path="keys/users.key") from None
