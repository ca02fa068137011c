"""A PostgreSQL server for the tests of the store."""

from collections.abc import Iterator

import pytest
from tests.postgres import PASSWORD, PostgresServer, postgres_server

from isthmus.store.sql import Server


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def database(server: PostgresServer) -> Server:
    """A new, empty database."""
    return Server(server.url(server.make_database()), PASSWORD)
