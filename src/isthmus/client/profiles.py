"""Profiles: where a node is and the session with which somebody is signed in there; one file each, for its owner alone."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from isthmus.base.errors import ConfigError
from isthmus.base.files import write_file

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Profile:
    """`url` is that of the interface, without a path."""

    name: str
    url: str
    user: str
    token: str = field(repr=False)


class Profiles:
    """The profiles of whoever runs the program: $XDG_CONFIG_HOME/isthmus/profiles, or under ~/.config."""

    def __init__(self, folder: Path | None = None) -> None:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        self._folder = folder or base / "isthmus" / "profiles"

    def read(self, name: str) -> Profile:
        """Raises ConfigError `no_profile`, or `file_mode` where others can read it."""
        path = self._path(name)
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise ConfigError("file_mode", path=str(path))
            return Profile(**json.loads(path.read_text("utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            raise ConfigError("no_profile", name=name) from None

    def write(self, profile: Profile) -> None:
        check_url(profile.url)
        path = self._path(profile.name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(path, json.dumps(asdict(profile)).encode())

    def drop(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
            allowed = "1 to 64 of a-z 0-9 . _ -"
            raise ConfigError("out_of_bounds", field="--profile", value=name[:64], allowed=allowed)
        return self._folder / f"{name}.json"


def check_url(url: str) -> None:
    """A session goes over TLS, or does not leave the machine. Raises ConfigError `out_of_bounds`."""
    parts = urlsplit(url)
    inside = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not ((parts.scheme == "https" and parts.hostname) or inside) or parts.path.strip("/") or parts.query:
        allowed = "https://HOST:PORT, or http:// on this machine, without a path"
        raise ConfigError("out_of_bounds", field="--url", value=url[:200], allowed=allowed)
