"""Numbers of runs whose jobs are gone, so that none is given twice; ended jobs by age."""

from __future__ import annotations

from alembic import op

from isthmus.store.sql.migrations.columns import create, data, number

revision = "past_runs"
down_revision = "numbered_heads"


def upgrade() -> None:
    create("past_run", data("digest", primary_key=True), number("number"))
    op.create_index("job_by_age", "job", ["changed_at"])
