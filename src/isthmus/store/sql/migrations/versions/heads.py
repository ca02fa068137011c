"""Heads are numbered as they come; before, the order was that of SQLite's own row numbers."""

from __future__ import annotations

from alembic import op
from sqlalchemy import UniqueConstraint

from isthmus.store.sql.migrations.columns import counted, create, data, number, text

revision = "numbered_heads"
down_revision = "replies"


def upgrade() -> None:
    columns = "partner, whose, number, digest, signature, at"
    order = "rowid" if op.get_context().dialect.name == "sqlite" else "at"
    op.rename_table("head", "head_before")
    create(
        "head",
        counted("row"),
        text("partner"),
        text("whose"),
        number("number"),
        data("digest"),
        data("signature"),
        text("at"),
        UniqueConstraint("partner", "whose", "number", "digest"),
    )
    op.execute(f"INSERT INTO head ({columns}) SELECT {columns} FROM head_before ORDER BY {order}")
    op.drop_table("head_before")
