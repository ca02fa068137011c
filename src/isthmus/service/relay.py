"""`isthmus relay serve`: a process that passes sealed requests between parties that only call out."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
from collections.abc import Callable, Collection
from pathlib import Path

from isthmus.base.errors import ConfigError, LocalError
from isthmus.base.files import write_file
from isthmus.wire.link import certificate_der, make_certificate, server_context
from isthmus.wire.relay import Relay

PLACE_PATTERN = r"[^\s/]{1,255}:[0-9]{1,5}"


class RelayFolder:
    """Where a relay keeps its certificate; it keeps nothing else."""

    def __init__(self, home: Path) -> None:
        self.certificate = home / "relay.pem"
        self.key = home / "relay.key"

    def prepare(self, hosts: list[str]) -> bytes:
        """The certificate (DER), made the first time. Raises ConfigError `file_mode` for a key that others can read."""
        if not self.certificate.exists() or not self.key.exists():
            self.certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            certificate, key = make_certificate("isthmus-relay", hosts)
            write_file(self.key, key)
            write_file(self.certificate, certificate, 0o644)
        if self.key.stat().st_mode & 0o077:
            raise ConfigError("file_mode", path=str(self.key))
        return certificate_der(self.certificate.read_bytes())


def serve_relay(
    folder: RelayFolder, listen: str, parties: Collection[bytes] | None, ready: Callable[[int], None]
) -> None:
    """Runs until SIGINT or SIGTERM. `ready` hears of the port."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(_serve(folder, listen, parties, ready))


async def _serve(
    folder: RelayFolder, listen: str, parties: Collection[bytes] | None, ready: Callable[[int], None]
) -> None:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    names = [] if unspecified(host) else [host]
    relay = Relay(folder.prepare(names), parties)
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    context = server_context(str(folder.certificate), str(folder.key))
    try:
        taken = await relay.listen(host, int(port), context)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "it cannot be opened"
        raise LocalError("port_taken", port=listen, why=why) from None
    try:
        ready(taken)
        await over.wait()
    finally:
        await relay.close()


def unspecified(host: str) -> bool:
    """Whether it stands for all addresses of a machine, and so for none that could be called."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
