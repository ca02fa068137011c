"""The audit log, which the database itself lets nobody change, and the heads of logs."""

from __future__ import annotations

from alembic import op
from sqlalchemy import PrimaryKeyConstraint

from isthmus.store.sql.migrations.columns import create, data, number, text

revision = "audit"
down_revision = "partners"


def upgrade() -> None:
    create(
        "audit",
        number("number", primary_key=True, autoincrement=False),
        *(text(name) for name in ("party", "at", "actor", "kind", "object", "digest", "code", "before")),
        text("signature"),
    )
    if op.get_context().dialect.name == "sqlite":
        for name, change in (("audit_stays", "UPDATE"), ("audit_remains", "DELETE")):
            op.execute(
                f"CREATE TRIGGER {name} BEFORE {change} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
            "'the audit log is only added to' USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_stays()"
        )
    create(
        "head",
        text("partner"),
        text("whose"),
        number("number"),
        data("digest"),
        data("signature"),
        text("at"),
        PrimaryKeyConstraint("partner", "whose", "number", "digest"),
    )
