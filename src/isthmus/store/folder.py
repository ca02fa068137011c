"""The folder of a node: config.yaml, keys/, tls/, node.db, lines.json, token, control.json, lock, jobs/.

Files with secrets have mode 0600, and that is checked at every start. A missing key is an error and never a new key.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from isthmus.base.errors import ConfigError, LocalError
from isthmus.base.files import move_file, write_file
from isthmus.crypto.seal import PartyKey
from isthmus.store.server import SERVER_PATTERN, Server
from isthmus.store.settings import Limits, SignIn

PARTY_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$"


MakeCertificate = Callable[[str, list[str]], tuple[bytes, bytes]]
"""Common name and hosts in; certificate and private key out, PEM."""


class RetentionConfig(BaseModel):
    """How long ended jobs are kept, in days; 0 keeps them for ever. The audit log is always kept."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    jobs_days: Annotated[int, Field(ge=0, le=36500)] = 0


class NodeConfig(BaseModel):
    """config.yaml. `direct` listens for partners, `dial-out` only calls them, `relay` is reached through the relay at `relay`.
    Calls go through `proxy` where one is named. Port 0: any free one. `local_token`: whether the token file of the folder
    opens the HTTP interface."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    party: Annotated[str, StringConstraints(pattern=PARTY_PATTERN)]
    mode: Literal["direct", "dial-out", "relay"]
    listen: Annotated[str, StringConstraints(pattern=r"^[^\s/]{1,255}:[0-9]{1,5}$")] | None = None
    address: Annotated[str, StringConstraints(pattern=r"^https://[^\s/]{1,255}:[0-9]{1,5}$")] | None = None
    relay: Annotated[str, StringConstraints(pattern=r"^https://[^\s/]{1,255}:[0-9]{1,5}$")] | None = None
    proxy: Annotated[str, StringConstraints(pattern=r"^http://[^\s/@]{1,255}:[0-9]{1,5}$")] | None = None
    proxy_user: Annotated[str, StringConstraints(pattern=r"^[^\s:]{1,255}$")] | None = None
    control_port: Annotated[int, Field(ge=0, le=65535)] = 0
    data: list[str] = Field(default_factory=list)
    retention: RetentionConfig = Field(default_factory=RetentionConfig)
    database: Annotated[str, StringConstraints(pattern=SERVER_PATTERN)] = "sqlite"
    local_token: bool = True
    limits: Limits = Limits()
    sign_in: SignIn = SignIn()

    @property
    def reached_at(self) -> str | None:
        """Where partners reach this node; None where it only calls."""
        return f"relay+{self.relay}" if self.mode == "relay" else self.address


@dataclass(frozen=True, slots=True)
class Control:
    """Where a running node is spoken to."""

    port: int
    token: str

    def __repr__(self) -> str:
        return f"Control(port={self.port})"


class NodeFolder:
    """The paths of one node and what may be done with them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.database = home / "node.db"
        self.certificate = home / "tls" / "cert.pem"
        self.tls_key = home / "tls" / "key.pem"
        self.jobs = home / "jobs"
        self.restored = home / "restored.json"
        self._config = home / "config.yaml"
        self._key = home / "keys" / "party.key"
        self._record_key = home / "keys" / "record.key"
        self._users_key = home / "keys" / "users.key"
        self.next_key_file = home / "keys" / "party.next"
        self.proxy_password_file = home / "keys" / "proxy.password"
        self.relay_certificate = home / "tls" / "relay.pem"
        self._token = home / "token"
        self._database_password = home / "keys" / "database.password"
        self._database_ca = home / "tls" / "database-ca.pem"
        self._control = home / "control.json"

    @staticmethod
    def create(home: Path, config: NodeConfig, make_certificate: MakeCertificate) -> NodeFolder:
        """A new node: folder, key, token and, where it listens, a certificate. Refuses a folder that is one."""
        folder = NodeFolder(home)
        if folder._config.exists() or folder._key.exists():
            raise ConfigError("already_there", what=f"a node in {home}")
        for part in (home, home / "keys", home / "tls", folder.jobs):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_secret(folder._key, PartyKey.generate().to_bytes().hex().encode())
        folder.make_token()
        _write_secret(folder._users_key, secrets.token_hex(32).encode())
        if config.address and config.listen:
            hosts = sorted({_host(config.address.removeprefix("https://")), _host(config.listen)})
            certificate, tls_key = make_certificate(config.party, hosts)
            folder.certificate.write_bytes(certificate)
            _write_secret(folder.tls_key, tls_key)
        text = yaml.safe_dump(
            config.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
        )
        folder._config.write_text(text, encoding="utf-8")
        return folder

    def config(self) -> NodeConfig:
        """Raises ConfigError, with the field, if the file does not fit."""
        if not self._config.is_file():
            raise ConfigError("not_a_node", path=str(self.home))
        where = str(self._config)
        try:
            document = _Once(self._config.read_text(encoding="utf-8")).get_single_data()
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
            raise ConfigError(
                "bad_document", where=where, why="it is not YAML, or a name stands twice"
            ) from None
        return make_config(document, where)

    def party_key(self) -> PartyKey:
        return PartyKey.from_bytes(bytes.fromhex(self._secret(self._key).decode()))

    def record_key(self) -> bytes:
        """The key that seals the records of running jobs, 32 bytes; made when there is none. Without it those records cannot be
        read, and nothing else is lost."""
        if not self._record_key.exists():
            _write_secret(self._record_key, secrets.token_bytes(32).hex().encode())
        return bytes.fromhex(self._secret(self._record_key).decode())

    def users_key(self, *, make: bool = False) -> bytes:
        """32 bytes that seal what the store keeps of people and must be read again. `make`: it may be made if it is missing,
        because nothing is sealed yet, as in the folder of an earlier version."""
        if make and not self._users_key.exists():
            _write_secret(self._users_key, secrets.token_hex(32).encode())
        return bytes.fromhex(self._secret(self._users_key).decode())

    def next_key(self) -> PartyKey | None:
        """The key that this party is changing to, if it is."""
        if not self.next_key_file.exists():
            return None
        return PartyKey.from_bytes(bytes.fromhex(self._secret(self.next_key_file).decode()))

    def put_next_key(self, key: PartyKey) -> None:
        write_file(self.next_key_file, key.to_bytes().hex().encode())

    def take_next_key(self) -> None:
        """The next key is the key from now on; the old one is gone."""
        move_file(self.next_key_file, self._key)

    def drop_next_key(self) -> None:
        self.next_key_file.unlink(missing_ok=True)

    def proxy_password(self) -> str:
        """What the proxy asks for. Raises ConfigError `file_mode` or `key_missing`."""
        return self._secret(self.proxy_password_file).decode().strip()

    def token(self) -> str:
        return self._secret(self._token).decode()

    def place(self) -> Path | Server:
        """Where the store is: the file in this folder, or the server that `database` names.

        The password of the server stands in keys/database.password; over a Unix socket it may be missing. An authority of the
        institution's own that vouches for the server stands in tls/database-ca.pem.
        """
        url = self.config().database
        if url == "sqlite":
            return self.database
        secret = self._database_password
        password = (
            self._secret(secret).decode().strip() if "unix_sock=" not in url or secret.exists() else None
        )
        return Server(url, password, self._database_ca if self._database_ca.exists() else None)

    def check_modes(self) -> None:
        """Raises ConfigError `file_mode` or `key_missing` for the first secret that is not as it must be."""
        # The folder of an earlier version has no key of users yet; one that was put back had one.
        users = (self._users_key,) if self._users_key.exists() or self.restored.exists() else ()
        for path in (self._key, *users, self._token, *((self.tls_key,) if self.certificate.exists() else ())):
            self._secret(path)
        for path in (self.next_key_file, self.proxy_password_file):
            if path.exists():
                self._secret(path)

    def make_token(self) -> None:
        """A new token, where there is none."""
        _write_secret(self._token, secrets.token_urlsafe(32).encode())

    def _secret(self, path: Path) -> bytes:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise ConfigError("key_missing", path=str(path)) from None
        if stat.S_IMODE(mode) & 0o077:
            raise ConfigError("file_mode", path=str(path))
        return path.read_bytes()

    def job(self, job_id: str) -> Path:
        return self.jobs / job_id

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process. Raises LocalError `busy` while another process does."""
        with open(self.home / "lock", "w", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LocalError("busy", path=str(self.home)) from None
            yield

    def announce(self, port: int, link_port: int | None) -> None:
        """Writes where the running node is spoken to."""
        text = json.dumps({"port": port, "link_port": link_port, "pid": os.getpid()})
        aside = self._control.with_suffix(".new")
        aside.write_text(text, encoding="ascii")
        aside.replace(self._control)

    def retire(self) -> None:
        """Takes back what `announce` wrote."""
        self._control.unlink(missing_ok=True)

    def announced(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._control.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def control(self) -> Control:
        """How to speak to the running node. Raises LocalError `not_running`."""
        self.config()
        found = self.announced()
        if found is None:
            raise LocalError("not_running", path=str(self.home))
        return Control(int(found["port"]), self.token())


class _Once(yaml.SafeLoader):
    """The safe loader, for which no name stands twice in a map: of two the last would win unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(names)) != len(names):
            raise yaml.YAMLError("a name stands twice")
        return super().construct_mapping(node, deep)


def make_config(document: Any, where: str) -> NodeConfig:
    """Checks the fields of a config. Raises ConfigError with the first that does not fit."""
    try:
        config = NodeConfig.model_validate(document)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the document"
        if first["type"] == "extra_forbidden":
            known = _known_at(first["loc"][:-1])
            raise ConfigError("unknown_field", where=where, field=field, known=known) from None
        if first["type"] == "missing":
            raise ConfigError("missing_field", where=where, field=field) from None
        shown, allowed = str(first["input"])[:80], first["msg"]
        raise ConfigError("out_of_bounds", field=field, value=shown, allowed=allowed) from None
    if config.mode == "direct" and not (config.listen and config.address):
        raise ConfigError("missing_field", where=where, field="listen and address")
    if config.mode == "relay" and not config.relay:
        raise ConfigError("missing_field", where=where, field="relay")
    for field in ("listen", "address") if config.mode != "direct" else ():
        if (value := getattr(config, field)) is not None:
            allowed = f"nothing, where mode is {config.mode}"
            raise ConfigError("out_of_bounds", field=field, value=value, allowed=allowed)
    if config.mode != "relay" and config.relay:
        allowed = f"nothing, where mode is {config.mode}"
        raise ConfigError("out_of_bounds", field="relay", value=config.relay, allowed=allowed)
    if config.proxy_user and not config.proxy:
        raise ConfigError("missing_field", where=where, field="proxy")
    return config


def _known_at(place: Sequence[int | str]) -> str:
    """The fields of the config, or of a section of it."""
    section = NodeConfig.model_fields[str(place[0])].annotation if place else NodeConfig
    return ", ".join(
        section.model_fields if isinstance(section, type) and issubclass(section, BaseModel) else ()
    )


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _write_secret(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
