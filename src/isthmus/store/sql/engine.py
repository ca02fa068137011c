"""Opens the one connection of a store, and says what its errors mean."""

from __future__ import annotations

import errno
import logging
import os
import ssl
from importlib.util import find_spec
from pathlib import Path
from sqlite3 import connect
from typing import Any

from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.pool import NullPool

from isthmus.base.errors import ConfigError, LocalError
from isthmus.store.server import Server

NODE_LOCK = 0x697374686D7573
"""The advisory lock that a node holds in its PostgreSQL database: one database serves one node."""

ANSWER_TIMEOUT_S = 30
_HEADER_BYTES = 512
_NO_SESSION = ("08", "28", "3D", "57")
"""Classes of states: lost, not let in, no such database, stopped."""


def open_file(path: Path) -> Connection:
    """SQLite: WAL, synchronous=FULL, no SQLite transaction but ours. Raises LocalError `database_damaged` for a file that is
    too short to be a database: SQLite would begin anew in it."""
    if path.exists() and path.stat().st_size < _HEADER_BYTES:
        raise LocalError("database_damaged", path=str(path))
    engine = create_engine(
        "sqlite://",
        creator=lambda: connect(path, isolation_level=None),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
    )
    connection = engine.connect()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
        connection.exec_driver_sql(f"PRAGMA {pragma}")
    return connection


def open_server(server: Server) -> Connection:
    """PostgreSQL: every connection holds the lock of the node. Raises LocalError `busy` while another one does."""
    url = make_url(server.url)
    here = "unix_sock" in url.query or url.host in ("localhost", "127.0.0.1", "::1")
    options: dict[str, Any] = {"timeout": ANSWER_TIMEOUT_S, "application_name": "isthmus"}
    if server.password is not None:
        options["password"] = server.password
    if not here:
        options["ssl_context"] = ssl.create_default_context(cafile=str(server.ca) if server.ca else None)
    if find_spec("pg8000") is None:
        allowed = "sqlite, unless the package pg8000 is installed: pip install 'isthmus[postgres]'"
        raise ConfigError("out_of_bounds", field="database", value=server.url, allowed=allowed)
    # It would write a traceback whenever a session is closed that the server has ended already.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    engine = create_engine(url, connect_args=options, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    @event.listens_for(engine, "connect")
    def hold(connection: Any, _: Any) -> None:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SET synchronous_commit = on")
        cursor.execute(f"SELECT pg_try_advisory_lock({NODE_LOCK})")
        if not cursor.fetchone()[0]:
            raise LocalError("busy", path=server.url)

    return engine.connect()


def meaning(error: DBAPIError | OSError, place: str) -> LocalError | IntegrityError:
    """A reference or a rule that was broken stays an IntegrityError; everything else is trouble of this machine."""
    if isinstance(error, OSError):
        return LocalError("database_down", path=place, why=error.strerror or "no connection")
    said = error.orig.args[0] if error.orig and error.orig.args else ""
    server = said if isinstance(said, dict) else {}
    state, why = server.get("C", ""), str(server.get("M", said))
    if isinstance(error, IntegrityError):
        return error
    if state[:2] == "23":
        return IntegrityError(error.statement, error.params, error.orig or error)
    if error.connection_invalidated or isinstance(error, InterfaceError) or state[:2] in _NO_SESSION:
        return LocalError("database_down", path=place, why=why)
    if state == "53100" or "is full" in why or os.strerror(errno.ENOSPC) in why:
        return LocalError("disk_full", path=place)
    if isinstance(error, OperationalError) or server:
        return LocalError("disk_error", path=place, why=why)
    return LocalError("database_damaged", path=place)
