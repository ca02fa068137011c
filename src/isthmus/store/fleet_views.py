"""What people look at in the rows of a leader: pages and counts, without models and reports."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.store.fleet import FleetRows, ReleaseRow


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device of a population. Times are Unix milliseconds."""

    key: bytes
    app_version: str
    enrolled_ms: int
    expires_ms: int
    blocked: bool


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task without its models. `place` is where it stands in the order of their making."""

    place: int
    digest: bytes
    name: str
    population: str
    document: str
    manifest: str
    state: str
    reason: str
    model: bytes
    kept: float
    created_ms: int


@dataclass(frozen=True, slots=True)
class RoundView:
    """A round as it is shown to people. `state`: of the phase machine, JSON. `lost`: devices by what became of them."""

    number: int
    kind: str
    phase: str
    state: str
    opened_ms: int
    ended_ms: int | None
    figures: str
    lost: dict[str, int]


_TASK = "rowid, digest, name, population, document, manifest, state, reason, model, kept, created_ms"


class FleetViews:
    """Reads the rows of a leader for people."""

    def __init__(self, rows: FleetRows) -> None:
        self._rows = rows

    def devices(
        self, population: str, after: bytes = b"", limit: int = 51, key: bytes | None = None
    ) -> list[DeviceView]:
        """Those behind the key `after`, in the order of their keys; with `key` that one alone."""
        where, value = ("key > ?", after) if key is None else ("key = ?", key)
        rows = self._rows.all(
            "SELECT key, app_version, enrolled_ms, expires_ms, revoked FROM device "
            f"WHERE population = ? AND {where} ORDER BY key LIMIT ?", population, value, limit,
        )  # fmt: skip
        return [
            DeviceView(own, version, since, until, bool(gone)) for own, version, since, until, gone in rows
        ]

    def versions(self, population: str) -> dict[str, int]:
        """Devices by the version of the app, the ten that most have."""
        rows = self._rows.all(
            "SELECT app_version, count(*) FROM device WHERE population = ? AND revoked = 0 "
            "GROUP BY app_version ORDER BY 2 DESC, 1 LIMIT 10", population,
        )  # fmt: skip
        return dict(rows)

    def tasks(self, population: str, before: int = 2**62, limit: int = 51) -> list[TaskView]:
        """Newest first, those made before the place `before`."""
        rows = self._rows.all(
            f"SELECT {_TASK} FROM task WHERE population = ? AND rowid < ? ORDER BY rowid DESC LIMIT ?",
            population, before, limit,
        )  # fmt: skip
        return [TaskView(*row) for row in rows]

    def task(self, population: str, name: str) -> TaskView | None:
        row = self._rows.one(f"SELECT {_TASK} FROM task WHERE population = ? AND name = ?", population, name)
        return TaskView(*row) if row else None

    def has_task(self, name: str) -> bool:
        """Whether any fleet has a task of this name."""
        return self._rows.one("SELECT 1 FROM task WHERE name = ?", name) is not None

    def paper(self, digest: bytes) -> tuple[str, str] | None:
        """Name and file of a task."""
        found = self._rows.one("SELECT name, document FROM task WHERE digest = ?", digest)
        return (found[0], found[1]) if found else None

    def count_rounds(self, task: bytes) -> dict[tuple[str, str], int]:
        """Rounds by kind and phase."""
        rows = self._rows.all("SELECT kind, phase, count(*) FROM round WHERE task = ? GROUP BY 1, 2", task)
        return {(kind, phase): count for kind, phase, count in rows}

    def open_rounds(self, population: str) -> dict[str, int]:
        """Rounds under way, by phase."""
        rows = self._rows.all(
            "SELECT phase, count(*) FROM round JOIN task ON task.digest = round.task "
            "WHERE population = ? AND ended_ms IS NULL GROUP BY phase", population,
        )  # fmt: skip
        return dict(rows)

    def count_tasks(self, population: str) -> dict[str, int]:
        """Tasks by state."""
        rows = self._rows.all(
            "SELECT state, count(*) FROM task WHERE population = ? GROUP BY state", population
        )
        return dict(rows)

    def rounds(self, task: bytes, limit: int) -> list[RoundView]:
        """The newest rounds, newest first."""
        rows = self._rows.all(
            "SELECT number, kind, phase, state, opened_ms, ended_ms, figures FROM round "
            "WHERE task = ? ORDER BY number DESC LIMIT ?", task, limit,
        )  # fmt: skip
        return [
            RoundView(number, kind, phase, state, opened_ms, ended_ms, figures, self._rows.lost(task, number))
            for number, kind, phase, state, opened_ms, ended_ms, figures in rows
        ]

    def releases(self, population: str, before: int = 2**62, limit: int = 51) -> list[ReleaseRow]:
        """Newest first, those with a number under `before`."""
        return [each for each in self._rows.releases(population) if each.number < before][:limit]

    def helpers(self) -> list[tuple[str, str, int]]:
        """Names, cards, and when they were added."""
        return [tuple(row) for row in self._rows.all("SELECT name, card, added_ms FROM helper ORDER BY name")]
