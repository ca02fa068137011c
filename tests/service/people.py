"""People of a node under test, whose sessions and tokens the test knows. No password is hashed for them."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from isthmus.crypto.password import Passwords
from isthmus.service.node import Node
from isthmus.store.users import PassKind, StoredPass, StoredUser, UserRole

SECOND = b"12345678901234567890"
QUICK = Passwords(memory_kib=8, passes=1)
"""Hashes of the same form that take no time."""


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def give_user(node: Node, name: str, *roles: UserRole, second_on: bool = True) -> None:
    sealed = node.vault.seal(SECOND, f"second factor of {name}")
    user = StoredUser(name, roles, node.clock.now(), second=sealed, second_on=second_on)
    assert node.store.add_user(user, [])


def give_pass(
    node: Node,
    secret: str,
    user: str | None,
    kind: PassKind = "session",
    roles: tuple[UserRole, ...] | None = None,
    lasts: timedelta = timedelta(hours=1),
) -> dict[str, str]:
    """A pass that is opened with `secret`; gives the header to send."""
    now = node.clock.now()
    pass_id = digest(secret).hex()[:10]
    node.store.add_pass(
        StoredPass(pass_id, kind, digest(secret), user, roles, "bank/local", now, now + lasts, now)
    )
    return bearer(secret)
