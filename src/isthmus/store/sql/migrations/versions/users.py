"""People, the passes that stand for them, and sign-ins that failed."""

from __future__ import annotations

from alembic import op
from sqlalchemy import ForeignKeyConstraint

from isthmus.store.sql.migrations.columns import create, data, number, text

revision = "users"
down_revision = "numbered_heads"


def upgrade() -> None:
    create(
        "person",
        text("name", primary_key=True),
        text("roles"),
        text("added_at"),
        text("password", nullable=True),
        data("second", nullable=True),
        number("second_on"),
        number("second_step"),
        number("version"),
    )
    create(
        "person_pass",
        text("id", primary_key=True),
        text("kind"),
        data("digest", unique=True),
        text("person", nullable=True),
        text("roles", nullable=True),
        text("made_by"),
        text("made_at"),
        text("expires_at"),
        text("used_at"),
        ForeignKeyConstraint(["person"], ["person.name"]),
    )
    op.create_index("pass_of_person", "person_pass", ["person"])
    create("sign_in_tries", data("name", primary_key=True), number("count"), text("at"))
