"""`isthmus leader serve`: the process that devices speak to, beside the node whose folder and key it shares."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from isthmus.base.errors import ConfigError, LocalError
from isthmus.fleet.desk import Pace
from isthmus.fleet.helper_line import HelperLine
from isthmus.fleet.leader import Leader
from isthmus.service.leader_metrics import LeaderMetrics
from isthmus.service.relay import PLACE_PATTERN, unspecified
from isthmus.store.folder import NodeFolder
from isthmus.store.leader_folder import LeaderFolder, Place
from isthmus.wire.link import make_certificate, server_context

T = TypeVar("T")
_ADDRESS = re.compile(r"https://[^\s/@]{1,255}:[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Led:
    """A leader that has begun: where it is reached, and the port of its figures."""

    port: int
    address: str
    metrics_port: int | None


def serve_leader(
    folder: NodeFolder,
    listen: str | None,
    address: str | None,
    pace: Pace,
    metrics_port: int | None,
    ready: Callable[[Led], None],
) -> None:
    """Runs until SIGINT or SIGTERM. Where it was started before is where it is started again, unless another place is named.

    Raises ConfigError `not_a_node`, `missing_field`, `out_of_bounds`; LocalError `busy` while another leader runs, `port_taken`.
    """
    folder.config()
    folder.check_modes()
    leader_folder = LeaderFolder(folder.home)
    before = leader_folder.place()
    listen = listen or (before.listen if before else None)
    if listen is None:
        raise ConfigError("missing_field", where="isthmus leader serve", field="--listen")
    if not re.fullmatch(PLACE_PATTERN, listen):
        raise ConfigError("out_of_bounds", field="--listen", value=listen[:80], allowed="HOST:PORT")
    if address is not None and not _ADDRESS.fullmatch(address):
        raise ConfigError("out_of_bounds", field="--address", value=address[:80], allowed="https://HOST:PORT")
    if address is None and before is not None and before.listen == listen:
        address = before.address
    if address is None and unspecified(_host(listen)):
        raise ConfigError("missing_field", where="isthmus leader serve", field="--address")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    leader_folder.make()
    with leader_folder.locked():
        asyncio.run(_serve(folder, leader_folder, listen, address, pace, metrics_port, ready))


async def _serve(
    folder: NodeFolder,
    leader_folder: LeaderFolder,
    listen: str,
    address: str | None,
    pace: Pace,
    metrics_port: int | None,
    ready: Callable[[Led], None],
) -> None:
    host = _host(listen)
    hosts = sorted({*([] if unspecified(host) else [host]), *([_host(address[8:])] if address else [])})
    leader_folder.prepare(hosts, make_certificate)
    context = server_context(str(leader_folder.certificate), str(leader_folder.tls_key))
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    key = folder.party_key()
    leader = Leader(leader_folder.home, key, lambda card: HelperLine(card, key), pace=pace)
    figures: web.AppRunner | None = None
    try:
        await leader.start()
        port = await _listening(listen, leader.server.listen(host, int(listen.rpartition(":")[2]), context))
        figures_port = None
        if metrics_port is not None:
            figures = LeaderMetrics(leader).runner()
            await figures.setup()
            site = web.TCPSite(figures, "127.0.0.1", metrics_port)
            await _listening(f"127.0.0.1:{metrics_port}", site.start())
            figures_port = int(figures.addresses[0][1])
        address = address or f"https://{listen.rpartition(':')[0]}:{port}"
        leader_folder.keep_place(Place(f"{listen.rpartition(':')[0]}:{port}", address))
        ready(Led(port, address, figures_port))
        ending = [asyncio.create_task(over.wait()), asyncio.create_task(leader.failed())]
        done, pending = await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            task.result()  # a leader that cannot go on says why
    finally:
        if figures is not None:
            await figures.cleanup()
        await leader.close()


def _host(place: str) -> str:
    return place.rpartition(":")[0].strip("[]")


async def _listening(place: str, listening: Awaitable[T]) -> T:
    try:
        return await listening
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "it cannot be opened"
        raise LocalError("port_taken", port=place, why=why) from None
