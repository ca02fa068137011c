"""HPKE base mode with X25519, HKDF-SHA256 and AES-128-GCM, written from RFC 9180 with a sender key that is given.

The product seals with fresh sender keys only; vectors need fixed ones, and a second hand checks the first.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEM = b"KEM" + (0x0020).to_bytes(2, "big")
_SUITE = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (0x0020, 0x0001, 0x0001))


def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    text = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    assert size <= sha256().digest_size
    return hmac.digest(prk, text + b"\x01", "sha256")[:size]


def seal(sender: bytes, public: bytes, body: bytes, info: bytes, aad: bytes = b"") -> bytes:
    """Share of the sender key (a secret of 32 bytes) and the first ciphertext under it."""
    key = X25519PrivateKey.from_private_bytes(sender)
    share = key.public_key().public_bytes_raw()
    common = key.exchange(X25519PublicKey.from_public_bytes(public))
    secret = _expand(_KEM, _extract(_KEM, b"", b"eae_prk", common), b"shared_secret", share + public, 32)
    context = b"\x00" + _extract(_SUITE, b"", b"psk_id_hash", b"") + _extract(_SUITE, b"", b"info_hash", info)
    base = _extract(_SUITE, secret, b"secret", b"")
    nonce = _expand(_SUITE, base, b"base_nonce", context, 12)
    return share + AESGCM(_expand(_SUITE, base, b"key", context, 16)).encrypt(nonce, body, aad)
