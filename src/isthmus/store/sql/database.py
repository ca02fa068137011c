"""The one connection of a store: statements, transactions, the schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from sqlite3 import OperationalError, connect
from typing import Any, ClassVar

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import CursorResult, Executable, Row, TableClause, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import CoreExecuteOptionsParameter
from sqlalchemy.exc import DBAPIError

from isthmus.base import files
from isthmus.base.errors import LocalError
from isthmus.store.server import Server
from isthmus.store.sql.engine import meaning, open_file, open_server

MIGRATIONS = Path(__file__).parent / "migrations"
_OWN_FORMS = {1: "partners", 2: "audit", 3: "replies"}
"""What stands in a database whose form SQLite's user_version told, before migrations did."""
_BY_MIGRATIONS = 4
"""The user_version that programs of that time refuse."""


class Database:
    """Opens the file, or makes it; or the database of a server.

    Raises LocalError `database_damaged` for a file that is no such store, `database_newer` where a later version of the
    program wrote it, `database_down` for a server that does not answer, `busy` where another node has it.
    """

    one_time: ClassVar[tuple[str, ...]] = ()
    """Tables of a noun that never leave in a backup: what is in them may be used once, or lets somebody in."""

    def __init__(self, place: Path | Server) -> None:
        self.place = str(place)
        self._writing = False
        try:
            self.connection = open_server(place) if isinstance(place, Server) else open_file(place)
        except (DBAPIError, OSError) as error:
            raise meaning(error, self.place) from None
        try:
            with self._write(), self._named():
                self._bring_up_to_date()
            if self._is_file() and self._execute_text("PRAGMA quick_check(1)").scalar() != "ok":
                raise LocalError("database_damaged", path=self.place)
        except BaseException:
            self.close()
            raise

    def answers_now(self) -> bool:
        if self.connection.closed:
            return False
        try:
            self._execute_text("SELECT count(*) FROM partner").scalar()
        except LocalError:
            return False
        return True

    def close(self) -> None:
        self.connection.close()

    def one_time_tables(self) -> list[str]:
        return [table for noun in type(self).__mro__ for table in vars(noun).get("one_time", ())]

    def copy_to(self, path: Path) -> None:
        """The file as it is now, whole, through the backup interface of SQLite."""
        try:
            with closing(connect(path)) as copy:
                self.connection.connection.backup(copy)
        except OperationalError as error:
            raise files.disk_trouble(path, str(error)) from None

    @contextmanager
    def _write(self) -> Iterator[None]:
        """One transaction. What goes wrong in it, or at its end, leaves everything as it was."""
        self._execute_text("BEGIN IMMEDIATE" if self._is_file() else "BEGIN")
        self._writing = True
        try:
            yield
            files.committed("before store")
            self._execute_text("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._writing = False
        files.committed("after store")

    def _roll_back(self) -> None:
        # SQLite has ended the transaction itself after some errors; a lost server has ended it anyhow.
        driver = None if self.connection.invalidated else self.connection.connection.dbapi_connection
        if driver is not None and getattr(driver, "in_transaction", True):
            with suppress(DBAPIError):
                self.connection.exec_driver_sql("ROLLBACK")

    def _execute(self, statement: Executable) -> CursorResult[Any]:
        options: CoreExecuteOptionsParameter = {"preserve_rowcount": True}
        return self._run(lambda: self.connection.execute(statement, execution_options=options))

    def _execute_text(self, statement: str) -> CursorResult[Any]:
        return self._run(lambda: self.connection.exec_driver_sql(statement))

    def _run(self, ask: Callable[[], CursorResult[Any]]) -> CursorResult[Any]:
        try:
            return self._asked(ask)
        except LocalError as error:
            if error.code != "database_down" or self._writing:
                raise
        return self._asked(ask)  # the server may have been started again since the last question

    def _asked(self, ask: Callable[[], CursorResult[Any]]) -> CursorResult[Any]:
        with self._named():
            if self.connection.invalidated:
                self.connection.rollback()
                self.connection.connection.cursor().close()  # connects anew, and takes the lock of the node again
            return ask()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the driver as ours."""
        try:
            yield
        except (DBAPIError, OSError) as error:
            named = meaning(error, self.place)
            if isinstance(named, LocalError) and named.code == "database_down":
                self.connection.invalidate()
            raise named from None

    def _all(self, statement: Executable) -> Sequence[Row[Any]]:
        return self._execute(statement).all()

    def _first(self, statement: Executable) -> Row[Any] | None:
        return self._execute(statement).first()

    def _count(self, statement: Executable) -> int:
        """Runs a change and says how many rows it changed."""
        return self._execute(statement).rowcount

    def _insert(self, table: TableClause) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return sqlite.insert(table) if self._is_file() else postgresql.insert(table)

    def _is_file(self) -> bool:
        return self.connection.dialect.name == "sqlite"

    def _bring_up_to_date(self) -> None:
        config = Config(attributes={"connection": self.connection})
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        form = self._execute_text("PRAGMA user_version").scalar() if self._is_file() else _BY_MIGRATIONS
        if form in _OWN_FORMS and not inspect(self.connection).has_table("alembic_version"):
            command.stamp(config, _OWN_FORMS[form])
        elif form not in (0, _BY_MIGRATIONS):
            raise LocalError("database_newer", path=self.place)
        try:
            command.upgrade(config, "heads")
        except CommandError:
            raise LocalError("database_newer", path=self.place) from None
        if self._is_file() and form != _BY_MIGRATIONS:
            self._execute_text(f"PRAGMA user_version = {_BY_MIGRATIONS}")
