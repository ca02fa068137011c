"""A typed channel over any line."""

from __future__ import annotations

import contextlib
from typing import Protocol, TypeVar

from isthmus.base.errors import IsthmusError, LineError, PeerError
from isthmus.wire.message import Abort, Message, kind_of
from isthmus.wire.meter import Meter

M = TypeVar("M", bound=Message)


class Line(Protocol):
    """Carries whole message bodies, in order, to one partner and back. A body is at most MESSAGE_MAX_BYTES long.

    `put` may wait while the partner is slow; `get` waits for the next body. Both raise LineError once the line is gone.
    """

    async def put(self, body: bytes) -> None: ...

    async def get(self) -> bytes: ...

    async def close(self) -> None: ...


class Channel:
    """Sends and receives messages of one job with one partner. The receiver names the type that is due."""

    def __init__(self, line: Line, partner: str = "partner", meter: Meter | None = None) -> None:
        self._line = line
        self.partner = partner
        self.meter = meter or Meter()

    async def send(self, message: Message) -> None:
        body = message.encode()
        self.meter.on_send(type(message).__name__, len(body))
        await self._line.put(body)

    async def recv(self, due: type[M]) -> M:
        """The next message, which must be of type `due`. Raises PeerError for anything else."""
        body = await self._line.get()
        if len(body) >= 2 and kind_of(body) == Abort.KIND:
            raise PeerError("partner_failed", code=Abort.decode(body).code, partner=self.partner)
        message = due.decode(body)
        self.meter.on_receive(due.__name__, len(body))
        return message

    async def abort(self, error: BaseException) -> None:
        """Tell the partner that this side has stopped; only the code of the error crosses."""
        code = error.code if isinstance(error, IsthmusError) else "bug"
        with contextlib.suppress(LineError):
            await self._line.put(Abort(code).encode())

    async def close(self) -> None:
        await self._line.close()
