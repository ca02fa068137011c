"""A backup of the node, as a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from isthmus.service.backup import Backups
from isthmus.service.node import Node

_PIECE_BYTES = 2**18
_ZIP = "application/zip"


def backup_routes(api: APIRouter, node: Node) -> None:
    backups = Backups(node.folder, node.store, node.audit, node.clock)

    @api.get(
        "/backup",
        response_class=StreamingResponse,
        responses={200: {"content": {_ZIP: {"schema": {"type": "string", "format": "binary"}}}}},
    )
    async def backup() -> StreamingResponse:
        archive = await backups.make(node.audit.person)
        size = os.fstat(archive.fileno()).st_size
        return StreamingResponse(_pieces(archive), media_type=_ZIP, headers={"Content-Length": str(size)})


def _pieces(archive: BinaryIO) -> Iterator[bytes]:
    with archive:
        while piece := archive.read(_PIECE_BYTES):
            yield piece
