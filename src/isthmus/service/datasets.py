"""Registered tables: where they lie, what their bytes hashed to, and what their columns look like."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigError, DataError
from isthmus.base.workers import in_thread
from isthmus.jobs.spec import JobFile
from isthmus.service.audit import Audit
from isthmus.store.audit import AuditKind
from isthmus.store.records import Store, StoredDataset
from isthmus.table import IdForm, ReadOptions, file_digest, profile, read_table

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")


class Datasets:
    """The datasets of one node. Only files in the folders that its operator allowed are ever opened."""

    def __init__(self, store: Store, allowed: list[Path], audit: Audit, clock: Clock) -> None:
        self._store = store
        self._audit = audit
        self._allowed = allowed
        self._clock = clock

    async def add(
        self,
        name: str,
        path: str,
        *,
        key: str,
        form: IdForm = "none",
        label: str | None = None,
        positive: str | None = None,
        objective: Literal["binary", "regression"] = "binary",
        duplicates: Literal["refuse", "first", "last"] = "refuse",
        encoding: str = "utf-8",
        delimiter: str | None = None,
        missing: tuple[str, ...] = (),
    ) -> StoredDataset:
        """Reads the whole file once, so that a bad one is refused here and not in a job."""
        if not _NAME.fullmatch(name):
            allowed = "1 to 64 of a-z, 0-9, dot, _ and -, beginning and ending with a letter or figure"
            raise ConfigError("out_of_bounds", field="name", value=name[:80], allowed=allowed)
        reading: dict[str, Any] = {"encoding": encoding, "delimiter": delimiter}
        options = ReadOptions(
            id=key,
            id_form=form,
            label=label,
            positive=positive,
            objective=objective,
            duplicates=duplicates,
            **reading,
        )
        if missing:
            options = replace(options, missing=missing)
        try:
            file = self.allowed_file(path)
            sha256, seen = await in_thread(_look, file, options)
        except (ConfigError, DataError) as error:
            self._audit.write_once(AuditKind.DATASET_REFUSED, name, self._audit.person, error.code)
            raise
        kept = {**reading, "missing": list(missing), "key": key, "as": form, "label": label}
        note = self._audit.note(AuditKind.DATASET_ADDED, name, by=self._audit.person, digest=sha256)
        return self._store.add_dataset(name, str(file), sha256, kept, seen, self._clock.now(), [note])

    def all(self) -> list[StoredDataset]:
        return self._store.datasets()

    def find(self, title: str) -> StoredDataset:
        """By name@version, or the newest version of a name."""
        name, _, version = title.partition("@")
        found = [d for d in self._store.datasets() if d.name == name and version in ("", str(d.version))]
        if not found:
            raise ConfigError("not_found", what=f"dataset {title[:80]}", list_command="isthmus dataset ls")
        return found[-1]

    async def check_unchanged(self, dataset: StoredDataset) -> None:
        """Raises DataError `dataset_changed` when the bytes are no longer those that were registered."""
        file = self.allowed_file(dataset.path)
        if await in_thread(file_digest, file) != dataset.sha256:
            raise DataError("dataset_changed", file=file.name)

    def allowed_file(self, path: str) -> Path:
        """The regular file that is meant. Raises ConfigError `bad_path` for anything outside the allowed folders."""
        shown = path[:200]
        plain = Path(path)
        if "\0" in path or "\\" in path or "%" in path or "://" in path or path.startswith("//"):
            raise ConfigError("bad_path", path=shown, why="it is not a plain path")
        if not plain.is_absolute() or ".." in plain.parts:
            raise ConfigError("bad_path", path=shown, why="it is not absolute, or climbs with ..")
        try:
            real = plain.resolve(strict=True)
        except (OSError, RuntimeError):
            raise ConfigError("bad_path", path=shown, why="there is no such file") from None
        if not any(real.is_relative_to(folder.resolve()) for folder in self._allowed):
            folders = ", ".join(str(folder) for folder in self._allowed) or "none"
            raise ConfigError("bad_path", path=shown, why=f"it lies outside the folders for data ({folders})")
        if not real.is_file():
            raise ConfigError("bad_path", path=shown, why="it is not a regular file")
        return real


def columns_in(job: JobFile, party: str, dataset: StoredDataset) -> list[str]:
    """Names of a party's own columns that take part in a job."""
    chosen = job.inputs[party].columns
    held_back = {job.inputs[party].key.column}
    if party == job.parties.label_owner:
        held_back.add(job.sample.label)
    return [
        name
        for name in known_columns(dataset, usable=True)
        if name not in held_back
        and any(fnmatchcase(name, pattern) for pattern in chosen.include)
        and not any(fnmatchcase(name, pattern) for pattern in chosen.exclude)
    ]


def known_columns(dataset: StoredDataset, usable: bool = False) -> list[str]:
    """Every column name of the file; with `usable`, without the constant and empty ones."""
    extra = [dataset.options[name] for name in ("key", "label") if dataset.options.get(name)]
    seen = [c["name"] for c in dataset.profile["columns"] if not (usable and c["kind"] == "dropped")]
    return extra + seen


def _look(file: Path, options: ReadOptions) -> tuple[str, dict[str, Any]]:
    sha256 = file_digest(file)
    table = read_table(file, options)
    return sha256, {"rows": table.rows, "columns": [asdict(column) for column in profile(table)]}
