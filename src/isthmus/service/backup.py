"""Backups of a node, and a node made from one: what cannot be made again goes in, what may be used only once never does.

In a backup: config.yaml, the database as it stood at one moment, tls/cert.pem, lines.json, and the results of jobs that are
done. Never in one: keys, tokens, passwords of servers, records of running jobs, and the tables that a noun of the store names
`one_time`. A node that was put back fails every job that had not ended: where it stood is not known, so it is proposed again.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import connect
from typing import Any, BinaryIO

import isthmus
from isthmus.base import files
from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigError, IsthmusError, LocalError
from isthmus.base.workers import in_thread
from isthmus.service.archive import RESULTS, SECRET_PATTERN, Manifest, measured, pack, unpack
from isthmus.service.audit import Audit
from isthmus.store.audit import AuditKind
from isthmus.store.folder import NodeConfig, NodeFolder
from isthmus.store.records import ENDED, STATES, Store
from isthmus.store.sql import SqlStore
from isthmus.wire.link import server_context

_ASIDE = ".backup-"
_RUNS_SINCE = datetime(2020, 1, 1, tzinfo=UTC)


class Backups:
    """Makes the backups of one node, one at a time."""

    def __init__(self, folder: NodeFolder, store: SqlStore, audit: Audit, clock: Clock) -> None:
        self._folder = folder
        self._store = store
        self._audit = audit
        self._clock = clock
        self._one = asyncio.Lock()

    async def make(self, by: str) -> BinaryIO:
        """The archive, open for reading; it has no name and is gone when it is closed.

        Raises ConfigError `backup_by_server` where the database is not a file; LocalError `disk_full`, `disk_error`.
        """
        config = self._folder.config()
        need_file(config)
        home = self._folder.home
        async with self._one:
            for left in home.glob(f"{_ASIDE}*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            with _disk(home), tempfile.TemporaryDirectory(prefix=_ASIDE, dir=home) as aside:
                copy, out = Path(aside, "node.db"), Path(aside, "backup.zip")
                self._store.copy_to(copy)
                told: dict[str, Any] = {
                    "version": isthmus.__version__,
                    "party": config.party,
                    "public_key": self._folder.party_key().public.hex(),
                    "made_at": self._clock.now().isoformat(timespec="seconds"),
                    "secrets": _secrets(home),
                }
                done = [job.id for job in self._store.jobs_in({"done"})]
                tables = self._store.one_time_tables()
                archive, digest = await in_thread(_make, self._folder, copy, tables, done, told, out)
            self._audit.write(AuditKind.BACKUP_MADE, by=by, digest=digest)
        return archive


def _secrets(home: Path) -> list[str]:
    """Names of what must be put back by hand; the key of the records of running jobs has nothing to open then."""
    names = [f"keys/{path.name}" for path in (home / "keys").iterdir() if path.name != "record.key"]
    names += ["tls/key.pem"] if (home / "tls" / "key.pem").exists() else []
    return sorted(name for name in names if re.match(SECRET_PATTERN, name))


def need_file(config: NodeConfig) -> None:
    """Raises ConfigError `backup_by_server` where the database is not a file."""
    if config.database != "sqlite":
        raise ConfigError("backup_by_server", database=config.database)


def _make(
    folder: NodeFolder, copy: Path, tables: list[str], done: list[str], told: dict[str, Any], out: Path
) -> tuple[BinaryIO, str]:
    with closing(connect(copy, isolation_level=None)) as database:
        for table in tables:
            database.execute(f'DELETE FROM "{table}"')
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("VACUUM")  # so that nothing of the rows is left in the file
    found = {
        "config.yaml": folder.home / "config.yaml",
        "node.db": copy,
        "lines.json": folder.home / "lines.json",
        "tls/cert.pem": folder.certificate,
        "tls/relay.pem": folder.home / "tls" / "relay.pem",
        **{f"jobs/{job}/{name}": folder.job(job) / name for job in done for name in RESULTS},
    }
    paths = {name: path for name, path in found.items() if path.is_file() and not path.is_symlink()}
    manifest = Manifest(files=[measured(name, path) for name, path in paths.items()], **told)
    pack(manifest, paths, out)
    return out.open("rb"), manifest.digest


def restore(path: Path, home: Path, key: str | None = None) -> tuple[Manifest, list[Path]]:
    """Makes a node at `home` from a backup. Also says which secrets are to be put back by hand before it can start.

    `key` is the public key of the party where that has changed since. config.yaml comes last: what was broken off is no node.
    Raises ConfigError `already_there` where `home` holds anything, `backup_damaged`; LocalError `disk_full`, `disk_error`.
    """
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise ConfigError("already_there", what=f"something in {home}")
    with _disk(home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=home) as aside:
            part = Path(aside)
            for name in ("keys", "tls", "jobs"):
                (part / name).mkdir(mode=0o700)
            manifest = unpack(path, part)
            _check(path, part, manifest)
            folder = NodeFolder(part)
            folder.make_token()
            told = {"party": manifest.party, "made_at": manifest.made_at, "digest": manifest.digest}
            told["public_key"] = key or manifest.public_key
            files.write_file(folder.restored, json.dumps(told).encode())
            last = part / "config.yaml"
            for entry in [*(e for e in part.iterdir() if e != last), last]:
                entry.rename(home / entry.name)
    return manifest, [home / name for name in manifest.secrets]


def _check(path: Path, part: Path, manifest: Manifest) -> None:
    """The config and the database are ones that this version can start with."""
    folder = NodeFolder(part)
    try:
        config = folder.config()
        if (config.party, config.database) != (manifest.party, "sqlite"):
            raise ConfigError("bad_document", where="config.yaml", why="it is that of another node")
        SqlStore(folder.database).close()
    except IsthmusError as error:
        raise ConfigError("backup_damaged", path=str(path), why=error.sentence("en")) from None


def settle(folder: NodeFolder, store: Store, audit: Audit, clock: Clock) -> None:
    """At the first start of a node that was put back: fails what had not ended, and writes down what happened.

    Raises ConfigError `key_other` if a key that was put back is not the one that the node had.
    """
    if not folder.restored.exists():
        return
    told = json.loads(folder.restored.read_bytes())
    if folder.party_key().public.hex() != told["public_key"]:
        raise ConfigError("key_other", path="keys/party.key", party=told["party"])
    if folder.certificate.exists():
        try:
            server_context(str(folder.certificate), str(folder.tls_key))
        except ssl.SSLError:
            raise ConfigError("key_other", path="tls/key.pem", party=told["party"]) from None
    # Partners may know runs that this database does not: their numbers must not be given to others.
    store.begin_runs_after(int((clock.now() - _RUNS_SINCE).total_seconds() // 60))
    error = LocalError("restored", made_at=told["made_at"])
    document = {"class": "LocalError", "code": error.code, "fields": error.fields}
    for job in store.jobs_in(set(STATES) - ENDED - {"draft"}):
        note = audit.note(AuditKind.JOB_FAILED, job.id, digest=job.digest.hex(), code=error.code)
        store.move_job(job.id, {job.state}, "failed", clock.now(), error=document, notes=[note])
    audit.write(AuditKind.NODE_RESTORED, digest=told["digest"])
    folder.restored.unlink()


@contextmanager
def _disk(place: Path) -> Iterator[None]:
    """What the system refuses to write, as an error of ours."""
    try:
        yield
    except OSError as error:
        raise files.disk_trouble(place, error.strerror or "unknown") from None
