"""HTTP/1.1 over TLS 1.3 under the link: requests, the listening socket, certificates.

Neither end follows redirects, decompresses, or reads more than a path accepts. TLS shows who listens by its pinned
certificate; who calls is shown by the envelope, not by a client certificate, so that a gateway may end TLS.
"""

from __future__ import annotations

import abc
import asyncio
import base64
import contextlib
import hashlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from typing import Any, Final

import aiohttp
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from isthmus.base.errors import LineError
from isthmus.wire.envelope import ENVELOPE_MAX_BYTES, HEADER_BYTES
from isthmus.wire.listener import LIMITS, Caller, Listener
from isthmus.wire.peer import EXCHANGE, Partner, Peer, Refused

_CONNECT_S: Final = 15.0
_STALL_S: Final = 60.0
_BODY_S: Final = 120.0
_GREET_S: Final = 15.0
_IDLE_S: Final = 120.0
_CONNECTIONS_MAX: Final = 1024
_BUFFER_BYTES: Final = 512 * 2**10
_SLICE_BYTES: Final = 128 * 2**10
_LARGE_BYTES: Final = 512 * 2**10

Count = Callable[[str, int, int], None]
"""Told of header bytes: partner's name, sent, received."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy to which CONNECT is sent; with a user and a password where it asks for them."""

    url: str
    user: str | None = None
    password: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str] | None:
        if self.user is None:
            return None
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Proxy-Authorization": f"Basic {login}"}


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class HttpTransport:
    """The dialer's transport: keeps connections open and uses them again. Raises Refused or LineError."""

    def __init__(self, poll_s: float, proxy: Proxy | None = None, count: Count | None = None) -> None:
        self._poll_s = poll_s
        self._proxy = proxy
        self._count = count
        self.pace: dict[str, tuple[float, float]] = {}
        """Of the newest large answer of each partner: seconds until it began, and then until it was there."""
        self._sessions: dict[tuple[str, str | None, bytes | None], aiohttp.ClientSession] = {}

    async def __call__(self, partner: Partner, path: str, body: bytes) -> bytes:
        reply = await self.post(partner, path, body)
        if reply.status != 200:
            raise Refused(reply.status, reply.body[:256])
        return reply.body

    async def post(
        self, partner: Partner, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request to the host of `partner`, and its answer of whatever status."""
        session = self._session(partner)
        url = f"{(partner.address or '').rstrip('/')}{path}"
        now_s = asyncio.get_running_loop().time
        asked_s = now_s()
        try:
            async with session.post(
                url,
                data=_slices(body),
                headers={"Content-Length": str(len(body)), **(headers or {})},
                proxy=self._proxy.url if self._proxy else None,
                proxy_headers=self._proxy.headers if self._proxy else None,
                allow_redirects=False,
            ) as response:
                size = response.content_length
                if size is None or size > ENVELOPE_MAX_BYTES:
                    raise Refused(response.status if response.status != 200 else 502)
                began_s = now_s()
                reply = await _take(response.content, size)
                if size >= _LARGE_BYTES:
                    self.pace[partner.name] = (began_s - asked_s, now_s() - began_s)
                self._counted(partner, response)
                return Reply(response.status, response.headers, reply)
        except aiohttp.ClientHttpProxyError as error:
            assert self._proxy is not None
            raise LineError(
                "proxy_refused", proxy=self._proxy.url, partner=partner.name, why=f"HTTP {error.status}"
            ) from None
        except aiohttp.ClientProxyConnectionError as error:
            assert self._proxy is not None
            raise LineError(
                "proxy_refused", proxy=self._proxy.url, partner=partner.name, why=_short(error)
            ) from None
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError):
            raise LineError("tls_intercepted", partner=partner.name) from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise LineError("unreachable", partner=partner.name, why=_short(error)) from None

    async def forget(self, partner: Partner) -> None:
        """Close the connections to a partner."""
        if (session := self._sessions.pop(_place(partner), None)) is not None:
            await session.close()

    async def close(self) -> None:
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()

    def _session(self, partner: Partner) -> aiohttp.ClientSession:
        if (session := self._sessions.get(_place(partner))) is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                ssl=client_context(partner.certificate_der),
                keepalive_timeout=60.0,
                socket_factory=_socket,
            )
            session = self._sessions[_place(partner)] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                read_bufsize=_BUFFER_BYTES,
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=_CONNECT_S, sock_connect=_CONNECT_S, sock_read=self._poll_s + _STALL_S
                ),
            )
        return session

    def _counted(self, partner: Partner, response: aiohttp.ClientResponse) -> None:
        if self._count is not None:
            asked = response.request_info
            line = len(f"POST {asked.url.raw_path} HTTP/1.1\r\n\r\n")
            sent = line + sum(len(k) + len(v) + 4 for k, v in asked.headers.items())
            status = len(f"HTTP/1.1 {response.status} {response.reason}\r\n\r\n")
            received = status + sum(len(k) + len(v) + 4 for k, v in response.raw_headers)
            self._count(partner.name, sent, received)


def _place(partner: Partner) -> tuple[str, str | None, bytes | None]:
    return partner.name, partner.address, partner.certificate_der


class TlsServer(abc.ABC):
    """A listening socket for a few known paths, each with the length that it accepts."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = limits
        self._web: web.Server | None = None
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._busy: set[RequestHandler] = set()
        self._used_s: dict[RequestHandler, tuple[float, float]] = {}

    async def listen(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """The port that was taken."""
        if context.minimum_version != ssl.TLSVersion.TLSv1_3:
            raise ValueError("the link speaks TLS 1.3 only; make the context with server_context")
        loop = asyncio.get_running_loop()
        self._web = web.Server(
            self._serve,
            access_log=None,
            auto_decompress=False,
            lingering_time=0.0,
            keepalive_timeout=_IDLE_S,
            read_bufsize=_BUFFER_BYTES,
        )
        self._server = await loop.create_server(
            self._connection, host, port, ssl=context, ssl_handshake_timeout=_GREET_S, backlog=256
        )
        self._sweeper = loop.create_task(self._sweep())
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is None or self._web is None or self._sweeper is None:
            return
        self._server.close()
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._web.shutdown(1.0)
        await self._server.wait_closed()
        self._server = None

    def _connection(self) -> RequestHandler:
        assert self._web is not None
        handler = self._web()
        now_s = asyncio.get_running_loop().time()
        self._used_s[handler] = (now_s, _GREET_S)
        if len(self._web.connections) >= _CONNECTIONS_MAX:
            idle = [c for c in self._web.connections if c not in self._busy]
            if idle:
                min(idle, key=lambda c: self._used_s.get(c, (0.0, 0.0))[0]).force_close()
        return handler

    async def _sweep(self) -> None:
        """Close connections that say nothing."""
        while True:
            await asyncio.sleep(5.0)
            now_s = asyncio.get_running_loop().time()
            alive = self._web.connections if self._web else []
            self._used_s = {c: self._used_s.get(c, (now_s, _GREET_S)) for c in alive}
            for connection, (used_s, allowed_s) in self._used_s.items():
                if connection not in self._busy and now_s - used_s > allowed_s:
                    connection.force_close()

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        protocol = request.protocol
        self._busy.add(protocol)
        try:
            reply = await self._reply(request)
        except Refused as refusal:
            reply = self._refusal(request, refusal)
        finally:
            self._busy.discard(protocol)
            self._used_s[protocol] = (asyncio.get_running_loop().time(), _IDLE_S)
        reply.headers["Server"] = "isthmus"
        return reply

    @abc.abstractmethod
    async def _reply(self, request: web.BaseRequest) -> web.Response:
        """Answer one request. Raises Refused."""

    @staticmethod
    def _refusal(request: web.BaseRequest, refusal: Refused) -> web.Response:
        reply = web.Response(status=refusal.status, body=refusal.body)
        if not request.content.at_eof():
            reply.force_close()
        return reply

    def _limit(self, path: str) -> int | None:
        """The greatest body at a path; None for a path that there is not."""
        return self._limits.get(path)

    def _size(self, request: web.BaseRequest) -> int:
        """The length of the body, once path, method and length are acceptable."""
        if (limit := self._limit(request.path)) is None:
            raise Refused(404)
        if request.method != "POST":
            raise Refused(405)
        size = request.content_length
        if size is None or "Transfer-Encoding" in request.headers:
            raise Refused(411)
        if size > limit:
            raise Refused(413)
        return size

    async def _body(
        self, request: web.BaseRequest, first: int = 0, expect: Callable[[bytes, int], None] | None = None
    ) -> bytes:
        """`expect` sees the first `first` bytes and the size before the rest is read, and may raise Refused."""
        if (size := self._size(request)) == 0:
            return b""
        try:
            async with asyncio.timeout(_BODY_S):
                if expect is None or size < first:
                    return await request.content.readexactly(size)
                front = await request.content.readexactly(first)
                expect(front, size)
                return await _take(request.content, size - first, front)
        except TimeoutError:
            raise Refused(408) from None
        except (asyncio.IncompleteReadError, web.RequestPayloadError, aiohttp.ClientError):
            raise Refused(400) from None


class HttpServer(TlsServer):
    """The listening socket of a node: hands the bodies of known paths to the listener."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(LIMITS)
        self._listener = listener

    async def _reply(self, request: web.BaseRequest) -> web.Response:
        caller = Caller(request.remote or "")
        try:
            if request.path == EXCHANGE:
                body = await self._body(request, HEADER_BYTES, self._listener.expect)
            else:
                body = await self._body(request)
            reply = web.Response(body=await self._listener.handle(request.path, body, caller))
        except Refused as refusal:
            reply = self._refusal(request, refusal)
        if caller.peer is not None:
            self._count(caller.peer, request, reply)
        return reply

    @staticmethod
    def _count(peer: Peer, request: web.BaseRequest, reply: web.Response) -> None:
        line = len(f"{request.method} {request.path} HTTP/1.1\r\n\r\n")
        peer.received_bytes += line + sum(len(k) + len(v) + 4 for k, v in request.raw_headers)
        peer.received_bytes += request.content_length or 0
        body = reply.body if isinstance(reply.body, bytes) else b""
        peer.sent_bytes += len(body) + _ANSWER_HEADER_BYTES + len(str(len(body)))


_ANSWER_HEADER_BYTES: Final = len(
    "HTTP/1.1 200 OK\r\nContent-Length: \r\nContent-Type: application/octet-stream\r\n"
    "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: isthmus\r\n\r\n"
)


async def _slices(body: bytes) -> AsyncIterator[memoryview]:
    """Slices that a slow line can swallow one by one; the time limit of the answer begins after the last."""
    view = memoryview(body)
    for start in range(0, len(view), _SLICE_BYTES):
        yield view[start : start + _SLICE_BYTES]


async def _take(content: aiohttp.StreamReader, size: int, front: bytes = b"") -> bytes:
    """`front` and the next `size` bytes, copied once. Raises Refused(400) when there are not as many."""
    parts = [front]
    while size > 0:
        part, _ = await content.readchunk()
        if not part and content.at_eof():
            break
        parts.append(part)
        size -= len(part)
    if size != 0:
        raise Refused(400)
    return b"".join(parts)


def server_context(certificate_path: str, key_path: str) -> ssl.SSLContext:
    """TLS 1.3 only, with the certificate (PEM) of this node."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate_path, key_path)
    return context


def client_context(certificate_der: bytes | None) -> ssl.SSLContext:
    """TLS 1.3 only. A pinned certificate is the only one that passes, byte for byte; its names do not matter then."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if certificate_der is None:
        context.load_default_certs()
        return context
    pin = hashlib.sha256(certificate_der).digest()

    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            shown = self.getpeercert(binary_form=True) or b""
            if not compare_digest(hashlib.sha256(shown).digest(), pin):
                raise ssl.SSLCertVerificationError(1, "the certificate is not the pinned one")

    context.check_hostname = False
    context.load_verify_locations(cadata=certificate_der)
    context.sslobject_class = Pinned
    return context


def make_certificate(common_name: str, hosts: list[str]) -> tuple[bytes, bytes]:
    """(certificate, private key) in PEM: EC P-256, self-signed, ten years, for DNS names and IP addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host.encode("idna").decode("ascii")))
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3652))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(key, SHA256())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), secret


def certificate_der(certificate_pem: bytes) -> bytes:
    """The bytes to pin."""
    return x509.load_pem_x509_certificate(certificate_pem).public_bytes(Encoding.DER)


def _socket(info: Any) -> socket.socket:
    """A socket that notices when what it has sent is not acknowledged, and when the other host is gone."""
    made = socket.socket(info[0], info[1], info[2])
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 15),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", 30000),
    ):
        if (option := getattr(socket, name, None)) is not None:
            with contextlib.suppress(OSError):
                made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def _short(error: Exception) -> str:
    """One line that says what happened, without addresses of memory or the like."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    number = getattr(error, "os_error", error)
    text = getattr(number, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:160]
