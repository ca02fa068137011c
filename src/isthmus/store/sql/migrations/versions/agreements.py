"""Grants, the runs under them, projects, approvals."""

from __future__ import annotations

from alembic import op
from sqlalchemy import UniqueConstraint

from isthmus.store.sql.migrations.columns import counted, create, data, number, text

revision = "agreements"
down_revision = "numbered_heads"


def upgrade() -> None:
    create(
        "data_grant",
        counted("row"),
        text("id", unique=True),
        number("held"),
        text("partner"),
        text("state"),
        data("terms"),
        text("made_at"),
        text("changed_at"),
        data("signature"),
        data("ending"),
        text("columns", nullable=True),
    )
    op.create_index("data_grant_by_partner", "data_grant", ["partner", "held"])
    create(
        "grant_run",
        counted("row"),
        data("run"),
        text("holder"),
        text("partner"),
        text("dataset"),
        text("data_grant"),
        text("at"),
        number("rows_brought"),
        number("rows_shared"),
        UniqueConstraint("run", "holder"),
    )
    op.create_index("grant_run_by_data", "grant_run", ["holder", "partner", "dataset", "at"])
    op.create_index("grant_run_by_grant", "grant_run", ["data_grant"])
    create(
        "project",
        text("name", primary_key=True),
        text("maker"),
        data("document"),
        data("signature"),
        text("state"),
        text("made_at"),
        text("changed_at"),
    )
    create(
        "approval",
        counted("row"),
        text("id", unique=True),
        text("kind"),
        text("job"),
        text("asked_by"),
        text("people"),
        text("state"),
        text("asked_at"),
        text("changed_at"),
        text("decided_by"),
        text("reason"),
    )
