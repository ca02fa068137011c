"""Registered tables and their versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, literal, select, tuple_

from isthmus.store.audit import Note
from isthmus.store.records import StoredDataset
from isthmus.store.sql.lines import Lines
from isthmus.store.sql.tables import NUMBER, TEXT, as_json, noun

DATASET = noun(
    "dataset",
    name=TEXT,
    version=NUMBER,
    path=TEXT,
    sha256=TEXT,
    options=TEXT,
    profile=TEXT,
    added_at=TEXT,
)


class Datasets(Lines):
    def add_dataset(
        self,
        name: str,
        path: str,
        sha256: str,
        options: dict[str, Any],
        profile: dict[str, Any],
        at: datetime,
        notes: Sequence[Note] = (),
    ) -> StoredDataset:
        with self._write():
            last = self._execute(select(func.max(DATASET.c.version)).where(DATASET.c.name == name)).scalar()
            dataset = StoredDataset(name, (last or 0) + 1, path, sha256, options, profile, at)
            self._execute(
                self._insert(DATASET).values(
                    name=name,
                    version=dataset.version,
                    path=path,
                    sha256=sha256,
                    options=as_json(options),
                    profile=as_json(profile),
                    added_at=at.isoformat(),
                )
            )
            self._add_lines(notes)
        return dataset

    def dataset(self, name: str, version: int) -> StoredDataset | None:
        row = self._first(select(DATASET).where(DATASET.c.name == name, DATASET.c.version == version))
        return _dataset(row) if row else None

    def datasets(self, after: tuple[str, int] = ("", 0), limit: int = -1) -> list[StoredDataset]:
        name, version = DATASET.c.name, DATASET.c.version
        last = tuple_(literal(after[0], TEXT), literal(after[1], NUMBER))
        found = select(DATASET).where(tuple_(name, version) > last).order_by(name, version)
        return [_dataset(row) for row in self._all(found.limit(limit if limit >= 0 else None))]


def _dataset(row: Row[Any]) -> StoredDataset:
    return StoredDataset(
        name=row.name,
        version=row.version,
        path=row.path,
        sha256=row.sha256,
        options=json.loads(row.options),
        profile=json.loads(row.profile),
        added_at=datetime.fromisoformat(row.added_at),
    )
