"""A helper: a small process of an organisation that is not the leader's. It takes masks off sums and can read none.

    HOME/helper/   helper.json  signing.key  tls/cert.pem tls/key.pem  lock
                   once/sealing.key  once/helper.db  once/CACHEDIR.TAG

Seeds are sealed to sealing.key; helper.db says which reports are used up. The two are made together and live in `once`, which is
marked so that backup tools pass it by: a helper that is put back from a backup gets new ones and cannot open old reports again.

It speaks POST /helper/v1/{look,answer,health} alone. A request names its leader and SHA-256 of its body in headers, signed by
the leader, so nothing is read from strangers; what the leader may have is decided in protocols/secure_sum.py.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import logging
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Final

from aiohttp import web

from isthmus.base import typed_json
from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigError, IsthmusError, LocalError, PeerError
from isthmus.base.files import write_file
from isthmus.base.workers import in_thread
from isthmus.crypto.hpke import SealingKey
from isthmus.crypto.seal import PartyKey, verify
from isthmus.fleet.cards import HelperCard, write_card
from isthmus.protocols.secure_sum import Allowance, Batch, Helper, Noise, answer, look
from isthmus.store.helper import HelperRows
from isthmus.wire.https import TlsServer
from isthmus.wire.link import certificate_der, make_certificate, server_context
from isthmus.wire.message import MESSAGE_MAX_BYTES
from isthmus.wire.peer import Refused

PATH: Final = "/helper/v1/"
LEADER_HEADER: Final = "Isthmus-Leader"
DIGEST_HEADER: Final = "Isthmus-Digest"
SIGNATURE_HEADER: Final = "Isthmus-Signature"
_LABEL = b"isthmus/helper/request/v1\0"
_CACHE_TAG = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n# Of no use in a backup: see isthmus.fleet.helper.\n"
)

_log = logging.getLogger(__name__)


def request_words(helper: bytes, path: str, digest: bytes) -> bytes:
    """What a leader signs for one request to the helper with this signing key."""
    return _LABEL + helper + path.encode() + b"\0" + digest


@dataclass(frozen=True, slots=True)
class HelperConfig:
    """`listen`: HOST:PORT; `address`: where leaders reach it, https."""

    name: str
    listen: str
    address: str


class HelperFolder:
    """Where a helper keeps what it has. A missing secret is an error and never a new one."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.certificate, self.tls_key = home / "tls" / "cert.pem", home / "tls" / "key.pem"
        self._config, self._signing, self._once = home / "helper.json", home / "signing.key", home / "once"
        self._sealing, self._record = self._once / "sealing.key", self._once / "helper.db"

    def make(self, config: HelperConfig, hosts: list[str]) -> None:
        """A new helper; or, where only `once` is gone, a new sealing key and an empty record for the old one.

        Raises ConfigError `already_there`.
        """
        if self._sealing.exists() and self._record.exists():
            raise ConfigError("already_there", what=str(self.home))
        for folder in (self.home, self.home / "tls", self._once):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._signing.exists():
            write_file(self._signing, PartyKey.generate().to_bytes().hex().encode())
        if not self.tls_key.exists() or not self.certificate.exists():
            certificate, key = make_certificate(f"isthmus-helper {config.name}", hosts)
            write_file(self.tls_key, key)
            write_file(self.certificate, certificate, 0o644)
        write_file(self._config, typed_json.write(config))
        write_file(self._once / "CACHEDIR.TAG", _CACHE_TAG, 0o644)
        for path in self._once.glob("helper.db*"):
            path.unlink()  # of another sealing key
        sealing = SealingKey.generate()
        write_file(self._sealing, sealing.to_bytes().hex().encode())
        HelperRows(self._record, sealing.public).close()

    def config(self) -> HelperConfig:
        """Raises ConfigError `not_a_helper` or `bad_document`."""
        try:
            return typed_json.read(HelperConfig, self._config.read_bytes())
        except FileNotFoundError:
            raise ConfigError("not_a_helper", path=str(self.home)) from None
        except ValueError as error:
            raise ConfigError("bad_document", where=str(self._config), why=str(error)) from None

    def keys(self) -> tuple[PartyKey, SealingKey]:
        """Raises ConfigError `not_a_helper`, `helper_record` or `file_mode`."""
        self.config()
        for path in (self._sealing, self._record):
            if not path.exists():
                raise ConfigError("helper_record", path=str(path))
        signing = PartyKey.from_bytes(_secret(self._signing))
        _secret(self.tls_key)
        return signing, SealingKey.from_bytes(_secret(self._sealing))

    def rows(self) -> HelperRows:
        """The record. Raises as `keys` does."""
        return HelperRows(self._record, self.keys()[1].public)

    def card(self) -> str:
        """What leaders get."""
        config, (signing, sealing) = self.config(), self.keys()
        der = certificate_der(self.certificate.read_bytes())
        return write_card(
            HelperCard(config.name, config.address, der, signing.public, sealing.public), signing
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process. Raises LocalError `busy` while another does."""
        with (self.home / "lock").open("w", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LocalError("busy", path=str(self.home)) from None
            yield


def _secret(path: Path) -> bytes:
    """The bytes of a key file in hexadecimal; of a PEM file, nothing."""
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError("file_mode", path=str(path))
        return b"" if path.suffix == ".pem" else bytes.fromhex(path.read_text("ascii"))
    except (FileNotFoundError, ValueError):
        raise ConfigError("key_missing", path=str(path)) from None


class HelperServer(TlsServer):
    """What leaders reach."""

    def __init__(
        self, name: str, signing: PartyKey, sealing: SealingKey, rows: HelperRows, noise: Noise, clock: Clock
    ) -> None:
        super().__init__(
            {PATH + "look": MESSAGE_MAX_BYTES, PATH + "answer": MESSAGE_MAX_BYTES, PATH + "health": 0}
        )
        self._name = name
        self._signing = signing
        self._sealing = sealing
        self._rows = rows
        self._noise = noise
        self._clock = clock

    async def _reply(self, request: web.BaseRequest) -> web.Response:
        self._size(request)
        try:
            digest = await in_thread(self._caller, request)
            body = await self._body(request)
            if not compare_digest(hashlib.sha256(body).digest(), digest):
                raise PeerError("bad_signature", partner="the leader")
            return web.Response(body=await in_thread(self._work, request.path, body))
        except IsthmusError as error:
            level = logging.ERROR if isinstance(error, LocalError) else logging.WARNING
            _log.log(level, "%s of %s refused: %s", request.path, request.remote, error)
            reply = web.Response(status=error.status, body=json.dumps({"code": error.code}).encode())
            if not request.content.at_eof():
                reply.force_close()
            return reply

    def _caller(self, request: web.BaseRequest) -> bytes:
        """SHA-256 of the body, as a leader that is served has signed it. Raises PeerError `bad_signature`, Refused."""
        found = []
        for header, size in ((LEADER_HEADER, 32), (DIGEST_HEADER, 32), (SIGNATURE_HEADER, 64)):
            text = request.headers.get(header, "")
            if not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", text):
                raise Refused(401)
            found.append(bytes.fromhex(text))
        leader, digest, signature = found
        if leader not in {served.leader for served in self._rows.allowed()}:
            raise Refused(401, b'{"code": "leader_unknown"}')
        verify(leader, signature, request_words(self._signing.public, request.path, digest), "the leader")
        return digest

    def _work(self, path: str, body: bytes) -> bytes:
        if path == PATH + "health":
            batches, _ = self._rows.counts()
            return json.dumps({"name": self._name, "batches": batches}).encode()
        batch = Batch.decode(body)
        allowances = tuple(
            Allowance(served.leader, served.authority, served.reports_min, served.plain_max)
            for served in self._rows.allowed()
        )
        helper = Helper(self._signing, self._sealing, allowances)
        now_ms = round(self._clock.now().timestamp() * 1000)
        if path == PATH + "look":
            looked = look(helper, batch, self._rows, now_ms)
            if faults := looked.rows():
                named = sorted(f"{id.hex()} {fault.name.lower()}" for id, fault in faults.items())
                _log.warning("to be left out of a batch: %s", ", ".join(named[:20]))
            return looked.encode()
        answered = answer(helper, batch, self._rows, now_ms, self._noise)
        _log.info("answered batch %s of %d reports", batch.id.hex(), len(batch.entries))
        return answered


def serve_helper(folder: HelperFolder, noise: Noise, clock: Clock, ready: Callable[[int], None]) -> None:
    """Runs until SIGINT or SIGTERM. `ready` hears of the port."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    config, (signing, sealing) = folder.config(), folder.keys()
    with folder.locked():
        rows = folder.rows()
        try:
            server = HelperServer(config.name, signing, sealing, rows, noise, clock)
            asyncio.run(_serve(folder, config.listen, server, ready))
        finally:
            rows.close()


async def _serve(
    folder: HelperFolder, listen: str, server: HelperServer, ready: Callable[[int], None]
) -> None:
    host, _, port = listen.rpartition(":")
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    context = server_context(str(folder.certificate), str(folder.tls_key))
    try:
        taken = await server.listen(host.strip("[]"), int(port), context)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "it cannot be opened"
        raise LocalError("port_taken", port=listen, why=why) from None
    try:
        ready(taken)
        await over.wait()
    finally:
        await server.close()
