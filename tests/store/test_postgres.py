"""What is particular to a database on a server: one node each, servers that stop, passwords, TLS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.exc import DatabaseError
from tests.postgres import PASSWORD, PostgresServer, postgres_server
from tests.store.test_store import job, note, partner

from isthmus.base.errors import ConfigError, LocalError
from isthmus.service.problems import answer
from isthmus.store.folder import NodeFolder, make_config
from isthmus.store.sql import Server, SqlStore
from isthmus.wire.link import make_certificate


def refused(place: Server) -> LocalError:
    with pytest.raises(LocalError) as caught:
        SqlStore(place)
    return caught.value


def lose(server: PostgresServer) -> None:
    """Ends every session but our own, as a server that is started again does."""
    server.ask(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'isthmus'",
    )


def test_one_database_serves_one_node(server: PostgresServer, database: Server) -> None:
    store = SqlStore(database)
    assert refused(database).code == "busy"
    other = SqlStore(Server(server.url(server.make_database()), PASSWORD))
    other.close()
    store.close()
    SqlStore(database).close()


def test_a_session_that_is_lost_is_begun_anew_and_is_again_the_only_one(
    server: PostgresServer, database: Server
) -> None:
    store = SqlStore(database)
    store.put_partner(partner())
    lose(server)
    assert store.partners() == [partner()]
    lose(server)
    assert store.add_job(job(), [], [note()])
    assert refused(database).code == "busy"
    store.close()


def test_a_node_whose_place_was_taken_while_it_was_cut_off_does_not_write(
    server: PostgresServer, database: Server
) -> None:
    store = SqlStore(database)
    lose(server)
    second = SqlStore(database)
    with pytest.raises(LocalError) as caught:
        store.put_partner(partner())
    assert (caught.value.code, store.answers_now(), second.partners()) == ("busy", False, [])
    second.close()
    store.put_partner(partner())
    assert store.partners() == [partner()]
    store.close()


def test_a_session_that_is_lost_within_a_change_leaves_nothing_of_it(
    server: PostgresServer, database: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlStore(database)
    monkeypatch.setattr(
        "isthmus.base.files.committed", lambda what: lose(server) if "before" in what else None
    )
    with pytest.raises(LocalError) as caught:
        store.add_job(job(), [], [note()])
    assert caught.value.code == "database_down"
    monkeypatch.undo()
    assert (store.jobs(), store.audit()) == ([], [])
    assert store.add_job(job(), [], [note()])
    store.close()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """One that a test may stop."""
    with postgres_server() as running:
        yield running


def test_a_server_that_is_stopped_is_named_and_found_again(own_server: PostgresServer) -> None:
    place = Server(own_server.url(own_server.make_database()), PASSWORD)
    store = SqlStore(place)
    own_server.stop()
    assert not store.answers_now()
    with pytest.raises(LocalError) as caught:
        store.put_partner(partner())
    assert (caught.value.code, caught.value.fields["path"]) == ("database_down", place.url)
    assert answer(caught.value, "en", "bank").status_code == 503
    assert refused(place).code == "database_down"
    own_server.start()
    assert store.answers_now()
    store.put_partner(partner())
    store.close()


def test_over_the_network_the_server_must_show_a_certificate_that_is_trusted(
    own_server: PostgresServer,
) -> None:
    name = own_server.make_database()
    place = Server(own_server.url(name, "127.0.0.2"), PASSWORD)
    assert "SSL" in str(refused(place).fields["why"])
    certificate, key = make_certificate("database", ["127.0.0.2"])
    files = [own_server.own("server.crt", certificate), own_server.own("server.key", key)]
    own_server.stop()
    own_server.start("ssl=on", f"ssl_cert_file={files[0]}", f"ssl_key_file={files[1]}")
    assert refused(place).code == "database_down"
    ca = own_server.folder / "ca.pem"
    ca.write_bytes(make_certificate("database", ["127.0.0.2"])[0])
    assert refused(replace(place, ca=ca)).code == "database_down"
    ca.write_bytes(certificate)
    store = SqlStore(replace(place, ca=ca))
    ciphered = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert store.connection.exec_driver_sql(ciphered).scalar() is True
    store.close()


def test_a_wrong_password_and_a_wrong_name_are_told_and_the_password_is_not(database: Server) -> None:
    wrong = refused(replace(database, password="a-secret-word"))
    assert (wrong.code, "password" in wrong.fields["why"]) == ("database_down", True)
    missing = refused(replace(database, url=database.url + "x"))
    assert (missing.code, "does not exist" in missing.fields["why"]) == ("database_down", True)
    assert "a-secret-word" not in wrong.sentence("en") + repr(replace(database, password="a-secret-word"))


def test_a_commit_is_on_disk_when_it_returns_whatever_the_server_prefers(
    server: PostgresServer, database: Server
) -> None:
    server.ask("postgres", "ALTER ROLE isthmus SET synchronous_commit = off")
    store = SqlStore(database)
    assert store.connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    store.close()
    server.ask("postgres", "ALTER ROLE isthmus RESET synchronous_commit")


def test_the_log_cannot_be_emptied_at_once(database: Server) -> None:
    store = SqlStore(database)
    store.add_lines([note()])
    with pytest.raises(DatabaseError, match="only added to"):
        store.connection.exec_driver_sql("TRUNCATE audit")
    assert len(store.audit()) == 1
    store.close()


CONFIG: dict[str, Any] = {"party": "bank", "mode": "dial-out"}


def test_the_folder_of_a_node_says_where_its_store_is(server: PostgresServer, tmp_path: Path) -> None:
    folder = NodeFolder.create(tmp_path / "node", make_config(CONFIG, "test"), make_certificate)
    assert folder.place() == folder.database
    name = server.make_database()
    (folder.home / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"database": server.url(name)}))
    with pytest.raises(ConfigError) as caught:
        folder.place()
    assert (caught.value.code, caught.value.fields["path"]) == (
        "key_missing", str(folder.home / "keys" / "database.password"),
    )  # fmt: skip
    password = folder.home / "keys" / "database.password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        folder.place()
    assert caught.value.code == "file_mode"
    password.chmod(0o600)
    place = folder.place()
    assert place == Server(server.url(name), PASSWORD)
    SqlStore(place).close()
    assert not folder.database.exists()
    (folder.home / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"database": server.socket_url(name)}))
    SqlStore(folder.place()).close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+pg8000://isthmus:secret@db/node", "postgresql://isthmus@db/node", "sqlite:///node.db",
        "postgresql+pg8000://db/node", "postgresql+pg8000://isthmus@db", "postgresql+pg8000://isthmus@/node",
        "postgresql+pg8000://isthmus@db/node?timeout=1", "mysql://isthmus@db/node",
    ],
)  # fmt: skip
def test_a_database_is_named_in_one_form_and_never_with_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(CONFIG | {"database": url}, "test")
    assert (caught.value.code, caught.value.fields["field"]) == ("out_of_bounds", "database")
