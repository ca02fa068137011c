"""The leader's line to one helper. Whatever is asked twice is answered the same, so a request may be sent again at any time."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from typing import Any, Final

import aiohttp

from isthmus.base.errors import IsthmusError, LineError, PeerError, PolicyError
from isthmus.crypto.seal import PartyKey
from isthmus.fleet.cards import HelperCard, read_card
from isthmus.fleet.helper import DIGEST_HEADER, LEADER_HEADER, PATH, SIGNATURE_HEADER, request_words
from isthmus.protocols.secure_sum import Answer, Batch, Looked, Terms, check_answer
from isthmus.wire.https import client_context
from isthmus.wire.message import MESSAGE_MAX_BYTES

CONNECT_S: Final = 15.0
LOOK_S: Final = 180.0
ANSWER_S: Final = 600.0


class HelperLine:
    """`card`: that of the helper, `key`: the leader's. Its certificate is the only one that passes."""

    def __init__(self, card: str, key: PartyKey) -> None:
        self.card: HelperCard = read_card(HelperCard, card)
        self._key = key
        self._session: aiohttp.ClientSession | None = None

    async def look(self, batch: Batch) -> Looked:
        """What the helper wants left out of the batch, and why. Raises LineError `helper_away` or `tls_intercepted`, which pass;
        PolicyError and PeerError where the helper refuses."""
        looked = Looked.decode(await self._ask("look", batch, LOOK_S))
        if not looked.rows().keys() <= {entry.id for entry in batch.rows()}:
            raise PeerError("helper_mismatch", helper=self.card.name)
        return looked

    async def answer(self, batch: Batch) -> bytes:
        """The encoded answer, checked. Raises as `look` does, and PeerError `helper_mismatch` or `sum_check_failed`."""
        body = await self._ask("answer", batch, ANSWER_S)
        said = Answer.decode(body)
        ids = [entry.id for entry in batch.rows()]
        if said.place != batch.place:
            raise PeerError("helper_mismatch", helper=self.card.name)
        check_answer(Terms.decode(batch.terms), batch.id, ids, said)
        return body

    async def health(self) -> dict[str, Any]:
        """The helper's name and how many batches it has answered. Raises LineError."""
        try:
            found = json.loads(await self._ask("health", None, LOOK_S))
        except ValueError:
            raise PeerError("bad_message", why="it is no JSON") from None
        if not isinstance(found, dict):
            raise PeerError("bad_message", why="it is no map")
        return found

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self, what: str, batch: Batch | None, limit_s: float) -> bytes:
        body = b"" if batch is None else batch.encode()
        digest = hashlib.sha256(body).digest()
        signature = self._key.sign(request_words(self.card.key, PATH + what, digest))
        headers = {
            LEADER_HEADER: self._key.public.hex(),
            DIGEST_HEADER: digest.hex(),
            SIGNATURE_HEADER: signature.hex(),
        }
        timeout = aiohttp.ClientTimeout(total=limit_s, sock_connect=CONNECT_S)
        url = self.card.address.rstrip("/") + PATH + what
        try:
            async with self._open().post(
                url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as reply:
                size = reply.content_length
                if size is None or size > MESSAGE_MAX_BYTES:
                    raise LineError("helper_away", helper=self.card.name)
                said = await reply.content.readexactly(size)
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError):
            raise LineError("tls_intercepted", partner=self.card.name) from None
        except (aiohttp.ClientError, asyncio.IncompleteReadError, OSError, TimeoutError, ValueError):
            raise LineError("helper_away", helper=self.card.name) from None
        if reply.status != 200:
            raise self._refused(said, batch)
        return said

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=client_context(self.card.certificate), limit=4, force_close=True
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._session

    def _refused(self, said: bytes, batch: Batch | None) -> IsthmusError:
        """The error for an answer that is a refusal; what is not known as one is a helper that will be there later."""
        try:
            code = json.loads(said)["code"]
        except (ValueError, KeyError, TypeError):
            code = ""
        match code:
            case "cohort_too_small" if batch is not None:
                floor = Terms.decode(batch.terms).reports_min
                return PolicyError("cohort_too_small", count=len(batch.entries), floor=floor)
            case "noise_needed":
                return PolicyError("noise_needed")
            case "leader_unknown":
                return PolicyError("leader_unknown", leader=self._key.public.hex())
            case "bad_batch" | "bad_message" | "bad_signature":
                return PeerError("helper_refused", helper=self.card.name, code=code)
        return LineError("helper_away", helper=self.card.name)
