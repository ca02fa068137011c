"""Partners, invitations, datasets, jobs, answers, events."""

from __future__ import annotations

from alembic import op
from sqlalchemy import ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint

from isthmus.store.sql.migrations.columns import counted, create, data, number, text

revision = "partners"
down_revision = None


def upgrade() -> None:
    create(
        "partner",
        text("name", primary_key=True),
        data("public_key"),
        text("address", nullable=True),
        data("certificate_der", nullable=True),
        text("words"),
        number("confirmed"),
        text("joined_at"),
    )
    create("invitation", text("id", primary_key=True), data("secret"), text("expires_at"))
    create(
        "dataset",
        text("name"),
        number("version"),
        text("path"),
        text("sha256"),
        text("options"),
        text("profile"),
        text("added_at"),
        PrimaryKeyConstraint("name", "version"),
    )
    create(
        "job",
        counted("row"),
        text("id", unique=True),
        data("digest"),
        number("number"),
        data("document"),
        text("name"),
        text("role"),
        text("label_owner"),
        text("state"),
        text("test_ids_path", nullable=True),
        text("created_at"),
        text("changed_at"),
        text("error", nullable=True),
        text("result", nullable=True),
        UniqueConstraint("digest", "number"),
    )
    create(
        "answer",
        text("job"),
        text("party"),
        text("state"),
        data("signature", nullable=True),
        text("code", nullable=True),
        PrimaryKeyConstraint("job", "party"),
        ForeignKeyConstraint(["job"], ["job.id"]),
    )
    create(
        "event",
        counted("id"),
        text("job"),
        text("at"),
        text("kind"),
        text("party"),
        text("data"),
        ForeignKeyConstraint(["job"], ["job.id"]),
    )
    op.create_index("event_of_job", "event", ["job", "id"])
