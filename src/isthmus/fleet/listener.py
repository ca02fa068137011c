"""What devices reach: enrol, check-in, blobs, reports, forget. Every request is signed with the key of its device."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web

from isthmus.base.clock import Clock
from isthmus.base.errors import IsthmusError, LineError, LocalError, PeerError, PolicyError
from isthmus.base.typed_json import write
from isthmus.crypto.seal import verify
from isthmus.protocols.device_round import (
    DEVICE_HEADER,
    JSON_MAX_BYTES,
    PATH,
    SIGNATURE_HEADER,
    Answer,
    CheckIn,
    Enrol,
    Signed,
    read_body,
    request_text,
)
from isthmus.protocols.device_round import Refused as Refusal
from isthmus.protocols.secure_sum import Report
from isthmus.wire.https import TlsServer
from isthmus.wire.peer import Refused

ENROLS_A_MINUTE: Final = 6000
CACHED_BYTES: Final = 64 * 2**20
HELD_BYTES: Final = 256 * 2**20
"""Of bodies that are being read or written down; who comes beyond it is told to come again."""

_LIMITS = {
    PATH + "enrol": JSON_MAX_BYTES,
    PATH + "check-in": JSON_MAX_BYTES,
    PATH + "forget": JSON_MAX_BYTES,
}
_BLOB = re.compile(re.escape(PATH) + r"blobs/([0-9a-f]{64})")
_HEX = re.compile(r"[0-9a-f]+")
_STATUS = {
    "bad_signature": 401,
    "unknown_device": 401,
    "bad_ticket": 403,
    "device_revoked": 403,
    "device_rounds_spent": 403,
    "not_found": 404,
    "report_changed": 409,
    "round_closed": 410,
    "rate": 429,
}


class Desks(Protocol):
    """What stands behind the listener: the leader."""

    async def enrol(self, device: bytes, said: Enrol) -> None: ...

    def know(self, device: bytes) -> None:
        """Raises PeerError `unknown_device`, PolicyError `device_revoked`."""

    def check_in(self, device: bytes, said: CheckIn) -> Answer: ...

    @property
    def report_bytes(self) -> int:
        """The longest report that any round takes."""

    async def take(self, device: bytes, report: Report) -> Signed: ...

    async def blob(self, digest: bytes, base: bytes | None) -> bytes: ...

    async def forget(self, device: bytes) -> None: ...


@dataclass(slots=True)
class Counts:
    """Requests since the start."""

    check_ins: int = 0
    reports: int = 0
    refused: int = 0


class DeviceServer(TlsServer):
    """`leader`: the public key that devices name in what they sign."""

    def __init__(self, desks: Desks, leader: bytes, clock: Clock) -> None:
        super().__init__(_LIMITS)
        self._desks = desks
        self._leader = leader
        self._clock = clock
        self._enrols: deque[float] = deque()
        self._blobs: OrderedDict[tuple[bytes, bytes | None], bytes] = OrderedDict()
        self._blob_bytes = 0
        self._held_bytes = 0
        self.counts = Counts()

    async def _reply(self, request: web.BaseRequest) -> web.Response:
        try:
            if (blob := _BLOB.fullmatch(request.path)) is not None:
                return await self._blob(request, bytes.fromhex(blob[1]))
            size = self._size(request)
            claimed = _header(request, DEVICE_HEADER, 32)
            if request.path != PATH + "enrol":
                self._desks.know(claimed)  # a stranger's body is not even read
            if self._held_bytes + size > HELD_BYTES:
                raise Refused(503)
            self._held_bytes += size
            try:
                body = await self._body(request)
                device = self._device(request, body)
                return await self._answer(request.path, device, body)
            finally:
                self._held_bytes -= size
        except IsthmusError as error:
            self.counts.refused += 1
            retry = isinstance(error, (LineError, LocalError))
            status = 503 if retry else _STATUS.get(error.code, 400)
            reply = web.Response(status=status, body=write(Refusal(error.code, retry)))
            if not request.content.at_eof():
                reply.force_close()
            return reply

    def _limit(self, path: str) -> int | None:
        return self._desks.report_bytes if path == PATH + "reports" else super()._limit(path)

    async def _answer(self, path: str, device: bytes, body: bytes) -> web.Response:
        if path == PATH + "enrol":
            self._limit_enrols()
            await self._desks.enrol(device, read_body(Enrol, body))
            return web.Response(body=b"")
        if path == PATH + "check-in":
            self.counts.check_ins += 1
            return web.Response(body=write(self._desks.check_in(device, read_body(CheckIn, body))))
        if path == PATH + "reports":
            self.counts.reports += 1
            return web.Response(body=write(await self._desks.take(device, Report.decode(body))))
        await self._desks.forget(device)
        return web.Response(body=b"")

    def _device(self, request: web.BaseRequest, body: bytes) -> bytes:
        """The key that signed the request. Raises PeerError `bad_signature`."""
        device = _header(request, DEVICE_HEADER, 32)
        signature = _header(request, SIGNATURE_HEADER, 64)
        verify(device, signature, request_text(self._leader, request.path_qs, body), "a device")
        return device

    async def _blob(self, request: web.BaseRequest, digest: bytes) -> web.Response:
        if request.method != "GET":
            raise Refused(405)
        device = self._device(request, b"")
        self._desks.know(device)
        given = request.query.get("from")
        if given is not None and not re.fullmatch(r"[0-9a-f]{64}", given):
            raise PeerError("bad_message", why="from is not a digest")
        base = bytes.fromhex(given) if given else None
        packed = self._blobs.get((digest, base))
        if packed is None:
            packed = await self._desks.blob(digest, base)
            self._remember((digest, base), packed)
        return web.Response(body=packed, headers={"Cache-Control": "private, max-age=31536000, immutable"})

    def _remember(self, key: tuple[bytes, bytes | None], packed: bytes) -> None:
        if key not in self._blobs:
            self._blobs[key] = packed
            self._blob_bytes += len(packed)
        while self._blob_bytes > CACHED_BYTES:
            self._blob_bytes -= len(self._blobs.popitem(last=False)[1])

    def _limit_enrols(self) -> None:
        now_s = self._clock.monotonic_s()
        while self._enrols and now_s - self._enrols[0] >= 60:
            self._enrols.popleft()
        if len(self._enrols) >= ENROLS_A_MINUTE:
            raise PolicyError("rate", what=f"{ENROLS_A_MINUTE} enrolments a minute", wait_s=60)
        self._enrols.append(now_s)


def _header(request: web.BaseRequest, name: str, size: int) -> bytes:
    text = request.headers.get(name, "")
    if len(text) != 2 * size or not _HEX.fullmatch(text):
        raise PeerError("bad_signature", partner="a device")
    return bytes.fromhex(text)
