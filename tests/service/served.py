"""A node behind a port of this machine: HTTP as a stranger meets it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn

from isthmus.base.canonical import canonical_json
from isthmus.jobs.spec import parse_job, resolve
from isthmus.service.api import make_app
from isthmus.service.node import Node
from isthmus.store.folder import NodeFolder, make_config
from isthmus.store.records import Answer, StoredJob, StoredPartner
from isthmus.store.settings import Limits
from isthmus.wire.link import make_certificate
from tests.jobs.examples import document

TOKEN = "token-of-a-test"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
HELD = {"title": "risk@1", "name": "new", "job_id": "j-1"}
"""What the node holds, by the name that a path has for it."""


@dataclass
class Served:
    """Where the node answers, and what it says of itself."""

    port: int
    document: dict[str, Any]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """A node in a thread, with a dataset, a partner that nobody confirmed, and a job that was refused."""
    (folder / "t.csv").write_text("phone,x,bad\n" + "".join(f"138{i:08d},{i},{i % 2}\n" for i in range(40)))
    ready: list[tuple[uvicorn.Server, Served]] = []
    up = threading.Event()

    async def serve() -> None:
        config = make_config({"party": "bank", "mode": "dial-out", "data": [str(folder)]}, "test")
        node = Node(NodeFolder.create(folder / "node", config, make_certificate))
        await node.start()
        await node.datasets.add("risk", str(folder / "t.csv"), key="phone")
        node.store.put_partner(StoredPartner("new", bytes(32), None, None, ("a",) * 4, False, NOW))
        job = canonical_json(resolve(parse_job(document())))
        stored = StoredJob("j-1", bytes(32), 1, job, "card", "label_owner", "bank", "refused", None, NOW, NOW)
        node.store.add_job(stored, [Answer("bank", "accepted", b"s")])
        app = make_app(node, TOKEN, Limits(burst=1_000_000, per_s=100_000))
        config_of = uvicorn.Config(app, "127.0.0.1", 0, log_config=None, access_log=False, lifespan="off")
        server = uvicorn.Server(config_of)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - the server sends no event
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        ready.append((server, Served(port, app.openapi())))
        up.set()
        await serving
        await node.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert up.wait(60)
    server, found = ready[0]
    try:
        yield found
    finally:
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive()
