"""`isthmus serve`: holds the folder, runs the node and its HTTP interface until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn

from isthmus.base.errors import LocalError
from isthmus.service.api import make_app
from isthmus.service.node import WORKER, Node
from isthmus.store.folder import NodeFolder
from isthmus.wire import heap


def serve(folder: NodeFolder, ready: Callable[[Node, int], None], worker: Sequence[str] = WORKER) -> None:
    """Runs until SIGINT or SIGTERM. `ready` hears of the port of the HTTP interface once it answers."""
    folder.config()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with folder.locked():
        asyncio.run(_serve(folder, ready, worker))


class _Server(uvicorn.Server):
    """Leaves signals to us: after one of them the node is closed in order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(folder: NodeFolder, ready: Callable[[Node, int], None], worker: Sequence[str]) -> None:
    node = Node(folder, worker=worker)
    with socket.socket() as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", node.config.control_port))
            listener.listen(128)
        except OSError as error:
            why = error.strerror or "it cannot be opened"
            raise LocalError("port_taken", port=node.config.control_port, why=why) from None
        port = listener.getsockname()[1]
        app = make_app(node, folder.token() if node.config.local_token else None)
        config = uvicorn.Config(app, access_log=False, log_config=None, lifespan="off", server_header=False)
        server = _Server(config)

        def leave() -> None:
            server.should_exit = True
            app.state.streams.close()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, leave)
        try:
            await node.start()
            folder.announce(port, node.link_port)
            heap.settle()
            ready(node, port)
            await server.serve(sockets=[listener])
        finally:
            folder.retire()
            await node.close()
