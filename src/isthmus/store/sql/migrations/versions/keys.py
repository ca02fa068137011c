"""Keys of parties beside those that count: announced, given up, revoked."""

from __future__ import annotations

from isthmus.store.sql.migrations.columns import create, data, text

revision = "keys"
down_revision = "audit"


def upgrade() -> None:
    create(
        "known_key",
        text("party", primary_key=True),
        data("public_key", primary_key=True),
        text("state"),
        text("at"),
        text("until"),
    )
