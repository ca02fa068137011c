"""A database that is not a file in the node's folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SERVER_PATTERN = (
    r"^(sqlite|postgresql\+pg8000://[^\s:@/?]+@([^\s@/?]+/[^\s@/?]+|/[^\s@/?]+\?unix_sock=/[^\s?&]+))$"
)
"""`database` in config.yaml: `sqlite`, or the URL of a server, never with a password in it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL database: `postgresql+pg8000://user@host:port/name`, or `...user@/name?unix_sock=PATH`.

    Anywhere but on this machine the server must speak TLS with a certificate of the system's authorities or of `ca`.
    """

    url: str
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None

    def __str__(self) -> str:
        return self.url
