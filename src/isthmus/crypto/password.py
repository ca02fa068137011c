"""Passwords at rest: Argon2id (RFC 9106) with 64 MiB, three passes and one lane, a salt of 16 bytes, 32 bytes out.

That is the second recommended setting of RFC 9106 (section 4) but for the lanes: a node has few cores. One hash takes about
0.15 s on one of them. The parameters stand in every hash, so that they can rise later without a loss.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MEMORY_KIB = 64 * 1024
PASSES = 3
LANES = 1
SALT_BYTES = 16
HASH_BYTES = 32


class Passwords:
    """Makes and checks hashes. `calls` counts both: a sign-in takes one, whether the name is known or not."""

    def __init__(self, memory_kib: int = MEMORY_KIB, passes: int = PASSES) -> None:
        self._memory_kib = memory_kib
        self._passes = passes
        self._nobody: str | None = None
        self.calls = 0

    def hash(self, password: str) -> str:
        """In the PHC form: $argon2id$v=19$m=...,t=...,p=...$salt$hash."""
        self.calls += 1
        return self._derive(password)

    def verify(self, password: str, hashed: str | None) -> bool:
        """False, after the same work, where there is no hash to compare with."""
        self.calls += 1
        if hashed is None and self._nobody is None:
            # The first question about nobody: the hash that is made for it is the work.
            self._nobody = self._derive(os.urandom(16).hex())
            return False
        try:
            Argon2id.verify_phc_encoded(password.encode(), hashed or self._nobody or "")
        except InvalidKey:
            return False
        return hashed is not None

    def _derive(self, password: str) -> str:
        return Argon2id(
            salt=os.urandom(SALT_BYTES),
            length=HASH_BYTES,
            iterations=self._passes,
            lanes=LANES,
            memory_cost=self._memory_kib,
        ).derive_phc_encoded(password.encode())
