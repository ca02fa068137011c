"""How a noun names its columns. The schema itself stands in the migrations alone."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import BigInteger, LargeBinary, TableClause, Text, column, table
from sqlalchemy.types import TypeEngine

TEXT: TypeEngine[str] = Text()
NUMBER: TypeEngine[int] = BigInteger()
BYTES: TypeEngine[bytes] = LargeBinary()


def noun(name: str, /, **columns: TypeEngine[Any]) -> TableClause:
    """A table with these columns, in their order. Times are TEXT in ISO form, documents TEXT in JSON."""
    return table(name, *(column(key, kind) for key, kind in columns.items()))


def as_json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
