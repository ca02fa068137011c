"""The device's line to the leader: HTTPS to one pinned certificate, every request signed; closed between two works."""

from __future__ import annotations

import hashlib
import http.client
import ssl
from hmac import compare_digest
from typing import Any, Final

from isthmus.base.errors import LineError, PeerError
from isthmus.base.typed_json import write
from isthmus.crypto.seal import PartyKey
from isthmus.device.config import LeaderCard
from isthmus.protocols.device_round import (
    BLOB_MAX_BYTES,
    DEVICE_HEADER,
    JSON_MAX_BYTES,
    PATH,
    SIGNATURE_HEADER,
    Refused,
    read_body,
    request_text,
    unpack_blob,
)

TIMEOUT_S: Final = 30.0


class Line:
    """Use it in a `with`. Every call raises LineError `unreachable` when nothing came of it, PeerError for a bad answer."""

    def __init__(self, leader: LeaderCard, key: PartyKey) -> None:
        self._leader = leader
        self._key = key
        self._connection: http.client.HTTPSConnection | None = None
        self.sent = 0
        self.received = 0

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *ended: object) -> None:
        self._close()

    def post(self, what: str, said: Any) -> bytes | Refused:
        """`said`: a dataclass, written as JSON, or bytes as they are."""
        body = said if isinstance(said, bytes) else write(said)
        return self._ask("POST", PATH + what, body, JSON_MAX_BYTES)

    def blob(self, name: bytes, base: tuple[bytes, bytes] | None = None) -> bytes | Refused:
        """The blob with this SHA-256; `base`: name and content of one that it may be told as the difference from."""
        query = f"?from={base[0].hex()}" if base else ""
        packed = self._ask("GET", f"{PATH}blobs/{name.hex()}{query}", b"", 2 * BLOB_MAX_BYTES)
        return packed if isinstance(packed, Refused) else unpack_blob(packed, name, base[1] if base else None)

    def task(self, digest: bytes) -> bytes | Refused:
        """The signed task with this digest, as it came: whoever reads it checks that."""
        packed = self._ask("GET", f"{PATH}blobs/{digest.hex()}", b"", 2 * BLOB_MAX_BYTES)
        return packed if isinstance(packed, Refused) else unpack_blob(packed, None)

    def _ask(self, method: str, path: str, body: bytes, most: int) -> bytes | Refused:
        headers = {
            DEVICE_HEADER: self._key.public.hex(),
            SIGNATURE_HEADER: self._key.sign(request_text(self._leader.key, path, body)).hex(),
        }
        try:
            try:
                reply = self._send(method, path, body, headers)
            except (http.client.RemoteDisconnected, ConnectionError):
                self._close()  # a connection that was kept open may be gone; every request may be sent twice
                reply = self._send(method, path, body, headers)
            found = reply.read(most + 1)
        except (http.client.HTTPException, OSError) as error:
            self._close()
            why = type(error).__name__ if isinstance(error, http.client.HTTPException) else str(error)
            raise LineError("unreachable", partner=self._leader.name, why=why[:120]) from None
        self.sent += len(body)
        self.received += len(found)
        if len(found) > most:
            self._close()
            raise PeerError("bad_message", why="an answer is longer than allowed")
        if reply.status == 200:
            return found
        if reply.status == 503 or not found:
            raise LineError("unreachable", partner=self._leader.name, why=f"HTTP {reply.status}")
        return read_body(Refused, found)

    def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> http.client.HTTPResponse:
        if self._connection is None:
            host, port = self._leader.place
            self._connection = http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT_S, context=_context(self._leader.certificate)
            )
        self._connection.request(method, path, body if method == "POST" else None, headers)
        return self._connection.getresponse()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _context(certificate: str) -> ssl.SSLContext:
    """TLS 1.3 to whoever holds the key of this certificate; its names do not matter, and no other certificate passes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).digest()

    class Pinned(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            shown = self.getpeercert(binary_form=True) or b""
            if not compare_digest(hashlib.sha256(shown).digest(), pin):
                raise ssl.SSLError("the certificate is not the one that the app knows")

    context.sslsocket_class = Pinned
    return context
