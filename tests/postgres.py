"""A PostgreSQL server of the tests' own: in a temporary folder, on a Unix socket and a loopback port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

PASSWORD = "a-password-of-the-tests"
USER = "isthmus"


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`."""
    found = shutil.which("postgres") and shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return versions[-1].parent if versions else None


def _as_somebody(folder: Path) -> dict[str, int]:
    """The server refuses to run as root, so there it runs as `postgres` or `nobody`, who is given the folder."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            who = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, who.pw_uid, who.pw_gid)
        return {"user": who.pw_uid, "group": who.pw_gid}
    pytest.skip("needs a user who is not root to run the PostgreSQL server as")


class PostgresServer:
    """A running server. `stop` and `start` are what an operator might do to it."""

    def __init__(self, bin_folder: Path, folder: Path) -> None:
        self._bin = bin_folder
        self.folder = folder
        self._numbers = count()
        self._who = _as_somebody(folder)
        self._data = folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        arguments = [
            *("--pgdata", self._data, "--username", USER, "--pwfile", password, "--encoding", "UTF8"),
            *("--locale", "C.UTF-8", "--auth", "scram-sha-256", "--no-sync"),
            *(
                "--locale-provider",
                "icu",
                "--icu-locale",
                "en-US",
            ),  # whose order of letters is not that of bytes
        ]
        self._run(bin_folder / "initdb", *arguments)
        self.start()

    def _run(self, *arguments: object) -> None:
        words = [str(a) for a in arguments]
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, **self._who)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr

    def start(self, *settings: str) -> None:
        """`settings` as NAME=VALUE."""
        words = [
            *(
                str(self._bin / "postgres"),
                "-D",
                str(self._data),
                "-p",
                str(self.port),
                "-k",
                str(self.folder),
            ),
            *("-c", "listen_addresses=127.0.0.1,127.0.0.2", "-c", "fsync=off", "-c", "logging_collector=off"),
            *(word for setting in settings for word in ("-c", setting)),
        ]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=log, **self._who)  # type: ignore[call-overload]
        while not (self._data / "postmaster.pid").exists() or "ready" not in self._status():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.02)

    def _status(self) -> str:
        return (self._data / "postmaster.pid").read_text()

    def stop(self) -> None:
        """At once: every connection is cut."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def make_database(self) -> str:
        """The name of a new, empty database."""
        name = f"node_{next(self._numbers)}"
        self.ask("postgres", f"CREATE DATABASE {name}")
        return name

    def ask(self, database: str, statement: str) -> None:
        """Somebody else's statement in a connection of its own."""
        import pg8000

        other = pg8000.connect(USER, "127.0.0.1", database, self.port, PASSWORD)
        other.autocommit = True
        other.cursor().execute(statement)
        other.close()

    def own(self, name: str, text: bytes) -> Path:
        """A file that only the server can read."""
        path = self.folder / name
        path.write_bytes(text)
        path.chmod(0o600)
        if self._who:
            os.chown(path, self._who["user"], self._who["group"])
        return path

    def url(self, database: str, host: str = "127.0.0.1") -> str:
        return f"postgresql+pg8000://{USER}@{host}:{self.port}/{database}"

    def socket_url(self, database: str) -> str:
        return f"postgresql+pg8000://{USER}@/{database}?unix_sock={self.folder}/.s.PGSQL.{self.port}"


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Skips the test where no server is installed, and fails it where ISTHMUS_POSTGRES=required says that one must be."""
    bin_folder = programs()
    if bin_folder is None:
        reason = "needs the PostgreSQL server (initdb and postgres), which is not installed"
        if os.environ.get("ISTHMUS_POSTGRES") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="isthmus-pg-") as folder:
        server = PostgresServer(bin_folder, Path(folder))
        try:
            yield server
        finally:
            server.stop()
