"""Columns and tables as both engines understand them: STRICT tables in SQLite, text compared byte by byte in PostgreSQL."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Identity, Integer, LargeBinary, Text
from sqlalchemy.schema import SchemaItem

TEXT = Text().with_variant(Text(collation="C"), "postgresql")
NUMBER = BigInteger().with_variant(Integer, "sqlite")
BYTES = LargeBinary()


def text(name: str, **rules: Any) -> Column[str]:
    """Not null, as all of these, unless `nullable=True` is said."""
    return Column(name, TEXT, **{"nullable": False} | rules)


def number(name: str, **rules: Any) -> Column[int]:
    return Column(name, NUMBER, **{"nullable": False} | rules)


def data(name: str, **rules: Any) -> Column[bytes]:
    return Column(name, BYTES, **{"nullable": False} | rules)


def counted(name: str) -> Column[int]:
    """The key of a row: the database counts, and gives no number twice."""
    return Column(name, NUMBER, Identity(), primary_key=True)


def create(name: str, *items: SchemaItem) -> None:
    op.create_table(name, *items, sqlite_strict=True, sqlite_autoincrement=_counts(items))


def _counts(items: tuple[SchemaItem, ...]) -> bool:
    return any(isinstance(item, Column) and item.identity is not None for item in items)
