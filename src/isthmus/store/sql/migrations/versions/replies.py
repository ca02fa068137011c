"""Replies kept under idempotency keys."""

from __future__ import annotations

from alembic import op

from isthmus.store.sql.migrations.columns import create, data, number, text

revision = "replies"
down_revision = "audit"


def upgrade() -> None:
    create(
        "kept_reply",
        text("key", primary_key=True),
        data("request"),
        text("at"),
        number("status", nullable=True),
        data("body"),
    )
    op.create_index("kept_reply_by_age", "kept_reply", ["at"])
