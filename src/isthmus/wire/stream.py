"""A line between two processes of this machine: length-prefixed bodies over a socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final

from isthmus.base.errors import LineError, PeerError
from isthmus.wire.message import MESSAGE_MAX_BYTES

_LENGTH = struct.Struct("<I")
_BUFFER_BYTES: Final = 2**20
"""So that a message of training passes in a few steps."""


class StreamLine:
    """One end of a connected socket; made by `open_stream`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def put(self, body: bytes) -> None:
        try:
            self._writer.write(_LENGTH.pack(len(body)))
            self._writer.write(body)
            await self._writer.drain()
        except (ConnectionError, RuntimeError):
            raise LineError("closed") from None

    async def get(self) -> bytes:
        try:
            (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if size > MESSAGE_MAX_BYTES:
                raise PeerError("bad_message", why="it is longer than any message may be")
            return await self._reader.readexactly(size)
        except (ConnectionError, asyncio.IncompleteReadError):
            raise LineError("closed") from None

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def open_stream(connected: socket.socket) -> StreamLine:
    """A line over one end of a socket pair; owns the socket from now on."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return StreamLine(*await asyncio.open_connection(sock=connected, limit=_BUFFER_BYTES))
