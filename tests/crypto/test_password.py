"""Passwords at rest: parameters, salts, and the same work for nobody."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf import argon2

from isthmus.crypto import password as module
from isthmus.crypto.password import Passwords


def test_a_hash_names_its_parameters_and_fits_its_password_only() -> None:
    passwords = Passwords()
    hashed = passwords.hash("four unrelated words here")
    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert passwords.verify("four unrelated words here", hashed)
    assert not passwords.verify("four unrelated words her", hashed)
    assert "unrelated" not in hashed


def test_hashes_of_one_password_differ_and_older_parameters_still_fit() -> None:
    first, second = Passwords(8, 1), Passwords(16, 2)
    hashed = [first.hash("correct horse"), first.hash("correct horse"), second.hash("correct horse")]
    assert len(set(hashed)) == 3
    assert all(first.verify("correct horse", one) for one in hashed)


def test_a_question_about_nobody_is_answered_no_after_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    work: list[str] = []
    real = argon2.Argon2id

    class Counted:
        def __init__(self, *, memory_cost: int, iterations: int, **others: Any) -> None:
            work.append(f"m={memory_cost},t={iterations},p={others['lanes']}")
            self._real = real(memory_cost=memory_cost, iterations=iterations, **others)

        def derive_phc_encoded(self, password: bytes) -> str:
            return self._real.derive_phc_encoded(password)

        @staticmethod
        def verify_phc_encoded(password: bytes, hashed: str) -> None:
            work.append(hashed.split("$")[3])
            real.verify_phc_encoded(password, hashed)

    monkeypatch.setattr(module, "Argon2id", Counted)
    passwords = Passwords(8, 1)
    hashed = passwords.hash("correct horse")
    for asked in (hashed, None, None, hashed):
        work.clear()
        assert passwords.verify("correct horse", asked) == (asked is not None)
        assert work == ["m=8,t=1,p=1"]
