"""The link over real sockets: HTTP/1.1 over TLS 1.3, what the port refuses, and lines that break."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.base.errors import ConfigError, IsthmusError, LineError
from isthmus.wire.envelope import BODY_MAX_BYTES, ENVELOPE_MAX_BYTES
from isthmus.wire.faults import ChaosProxy
from isthmus.wire.link import Link, Partner, certificate_der, client_context, make_certificate, server_context
from isthmus.wire.peer import EXCHANGE, HELLO, JOIN
from tests.wire.pair import (
    JOB,
    KEY_A,
    KEY_B,
    KEY_C,
    add_powers,
    dialing,
    listening,
    new_a,
    run,
    send_powers,
    tls,
    until,
)


async def ask(port: int, head: str, body: bytes = b"", context: ssl.SSLContext | None = None) -> bytes:
    """What the port answers to these very bytes, up to the first 4 KiB."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context or client_context(tls()[0]))
    try:
        writer.write(head.replace("\n", "\r\n").encode() + body)
        await writer.drain()
        return await asyncio.wait_for(reader.read(4096), 5)
    finally:
        writer.transport.abort()


def status(answer: bytes) -> int:
    return int(answer.split()[1])


@asynccontextmanager
async def through_proxy() -> AsyncIterator[tuple[Link, Link, ChaosProxy]]:
    async with listening() as (a, port):
        proxy = ChaosProxy("127.0.0.1", port)
        try:
            async with dialing(await proxy.listen()) as b:
                yield a, b, proxy
        finally:
            await proxy.close()


def test_bodies_cross_both_ways_over_https_whichever_side_dials() -> None:
    async def test() -> None:
        async with listening() as (a, port), dialing(port) as b:
            here, there = a.open("b", JOB), b.open("a", JOB)
            await asyncio.gather(
                send_powers(here, 30), send_powers(there, 30), add_powers(here, 30), add_powers(there, 30)
            )
            large = os.urandom(5 * 2**20)
            await asyncio.gather(here.put(large), there.put(large))
            assert [await here.get(), await there.get()] == [large, large]
            sent, received = a.state("b"), b.state("a")
            assert sent.sent_bytes > 5 * 2**20
            assert sent.received_bytes > 5 * 2**20
            assert received.sent_bytes > 5 * 2**20
            probe = await b.probe("a")
            assert probe.largest_body_bytes == BODY_MAX_BYTES

    run(test)


def test_two_dialers_are_told_apart_by_their_keys() -> None:
    async def test() -> None:
        async with listening() as (a, port), dialing(port) as b, dialing(port, KEY_C, name="c") as c:
            a.add_partner(Partner("c", KEY_C.public))
            await b.open("a", JOB).put(b"from b")
            await c.open("a", JOB).put(b"from c")
            assert await a.open("b", JOB).get() == b"from b"
            assert await a.open("c", JOB).get() == b"from c"

    run(test)


@pytest.mark.trust("T26")
def test_the_port_answers_link_paths_only() -> None:
    async def test() -> None:
        async with listening() as (_, port):
            for path in (
                "/",
                "/link",
                "/link/v1",
                "/link/v1/hello/",
                "/api/v1/jobs",
                "/link/v1/../v1/hello",
                "/%2e",
            ):
                answer = await ask(port, f"POST {path} HTTP/1.1\nHost: a\nContent-Length: 1\n\n", b"x")
                assert status(answer) == 404, path
                assert answer.endswith(b"\r\n\r\n")
            assert status(await ask(port, f"GET {HELLO} HTTP/1.1\nHost: a\n\n")) == 405
            assert b"aiohttp" not in await ask(port, "GET / HTTP/1.1\nHost: a\n\n")
            assert (
                status(await ask(port, f"POST {JOIN} HTTP/1.1\nHost: a\nContent-Length: 1\n\n", b"x")) == 404
            )

    run(test)


@pytest.mark.trust("P1")
def test_a_body_that_is_too_long_is_refused_before_it_is_sent() -> None:
    async def test() -> None:
        async with listening() as (_, port):
            for path, limit in ((HELLO, 164), (EXCHANGE, ENVELOPE_MAX_BYTES), (JOIN, 16384)):
                answer = await ask(port, f"POST {path} HTTP/1.1\nHost: a\nContent-Length: {limit + 1}\n\n")
                assert status(answer) == 413, path
            answer = await ask(port, f"POST {EXCHANGE} HTTP/1.1\nHost: a\nContent-Length: {10**12}\n\n")
            assert status(answer) == 413
            chunked = f"POST {EXCHANGE} HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n"
            assert status(await ask(port, chunked)) == 411

    run(test)


@pytest.mark.trust("T29")
def test_an_envelope_of_no_session_is_refused_by_its_header_alone() -> None:
    async def test() -> None:
        async with listening() as (_, port):
            head = f"POST {EXCHANGE} HTTP/1.1\nHost: a\nContent-Length: {ENVELOPE_MAX_BYTES}\n\n"
            assert status(await ask(port, head, os.urandom(300))) == 400
            assert (
                status(await ask(port, f"POST {EXCHANGE} HTTP/1.1\nHost: a\nContent-Length: 3\n\n", b"abc"))
                == 400
            )

    run(test)


@pytest.mark.trust("T22")
def test_tls_below_1_3_is_refused_and_a_listener_for_it_cannot_be_made() -> None:
    async def test() -> None:
        async with listening() as (_, port):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await ask(port, "GET / HTTP/1.1\nHost: a\n\n", context=context)
        a = new_a()
        weak = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        weak.minimum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ValueError, match=r"1\.3"):
            await a.listen("127.0.0.1", 0, weak)
        await a.close(0)

    run(test)


async def trouble(b: Link) -> IsthmusError | None:
    await until(lambda: b.state("a").problem is not None)
    return b.state("a").problem


@pytest.mark.trust("T22")
def test_another_certificate_than_the_pinned_one_is_named_as_such() -> None:
    async def test() -> None:
        other = certificate_der(make_certificate("a", ["127.0.0.1"])[0])
        for certificate in (other, None):
            async with listening() as (a, port), dialing(port, certificate=certificate) as b:
                problem = await trouble(b)
                assert problem is not None
                assert problem.code == "tls_intercepted"
                assert not a.state("b").connected

    run(test)


@pytest.mark.trust("T22")
def test_a_trusted_certificate_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        context = client_context(tls()[0])
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_mode == ssl.CERT_REQUIRED
        certificate, key = make_certificate("other", ["127.0.0.1"])
        (tmp_path / "c").write_bytes(certificate)
        (tmp_path / "k").write_bytes(key)
        context.load_verify_locations(cadata=certificate.decode())
        a = new_a()
        port = await a.listen("127.0.0.1", 0, server_context(str(tmp_path / "c"), str(tmp_path / "k")))
        with pytest.raises(ssl.SSLCertVerificationError, match="pinned"):
            await ask(port, "GET / HTTP/1.1\nHost: a\n\n", context=context)
        await a.close(0)

    run(test)


@pytest.mark.trust("T22")
def test_a_key_that_is_not_known_is_refused_over_https() -> None:
    async def test() -> None:
        async with listening() as (a, port), dialing(port, KEY_C) as c:
            await until(lambda: c.state("a").problem is not None)
            assert "key of this node" in str(c.state("a").problem)
            assert not a.state("b").connected

    run(test)


def test_nothing_listening_is_unreachable_and_it_connects_once_something_does() -> None:
    async def test() -> None:
        async with listening() as (a, port):
            proxy = ChaosProxy("127.0.0.1", port)
            proxy.refusing = True
            async with dialing(await proxy.listen()) as b:
                line = b.open("a", JOB)
                await line.put(b"patience")
                await until(lambda: b.state("a").problem is not None)
                problem = b.state("a").problem
                assert isinstance(problem, LineError)
                assert problem.code == "unreachable"
                proxy.refusing = False
                assert await a.open("b", JOB).get() == b"patience"
            await proxy.close()

    run(test)


@pytest.mark.trust("N1", "G3")
def test_connections_cut_in_the_middle_of_a_frame_lose_and_double_nothing() -> None:
    async def test() -> None:
        async with through_proxy() as (a, b, proxy):
            here, there = a.open("b", JOB), b.open("a", JOB)
            bodies = [os.urandom(size) for size in (100, 2_000_000, 50_000, 1_500_000, 10, 700_000)]

            async def send(line: object) -> None:
                for body in bodies:
                    await line.put(body)  # type: ignore[attr-defined]

            async def receive(line: object) -> None:
                for body in bodies:
                    proxy.cut_after_bytes = 40_000
                    assert await line.get() == body  # type: ignore[attr-defined]

            await asyncio.gather(send(here), send(there), receive(here), receive(there))
            assert proxy.cuts >= 2
            for _ in range(5):
                proxy.cut()
                await there.put(b"again")
                assert await here.get() == b"again"
                await here.put(b"and back")
                assert await there.get() == b"and back"

    run(test)


@pytest.mark.trust("N1")
def test_a_hole_in_one_direction_heals_when_the_connection_is_cut() -> None:
    async def test() -> None:
        async with through_proxy() as (a, b, proxy):
            here, there = a.open("b", JOB), b.open("a", JOB)
            await there.put(b"0")
            assert await here.get() == b"0"
            for hole in ("hole_there", "hole_back"):
                setattr(proxy, hole, True)
                await there.put(b"1")
                await here.put(b"2")
                await asyncio.sleep(0.05)
                setattr(proxy, hole, False)
                proxy.cut()
                assert [await here.get(), await there.get()] == [b"1", b"2"]

    run(test)


def test_a_partner_that_gets_another_address_keeps_its_channels() -> None:
    async def test() -> None:
        async with listening() as (a, port), dialing(port) as b:
            here, there = a.open("b", JOB), b.open("a", JOB)
            await there.put(b"1")
            assert await here.get() == b"1"
            proxy = ChaosProxy("127.0.0.1", port)
            b.add_partner(Partner("a", KEY_A.public, f"https://127.0.0.1:{await proxy.listen()}", tls()[0]))
            await there.put(b"2")
            await here.put(b"3")
            assert [await here.get(), await there.get()] == [b"2", b"3"]
            await b.close(0)
            await proxy.close()

    run(test)


def test_an_invitation_is_answered_by_the_callback_and_only_its_code_comes_back() -> None:
    async def test() -> None:
        callers: list[str] = []

        async def join(body: bytes, caller: str) -> bytes:
            callers.append(caller)
            if body == b"bad":
                raise ConfigError("bad_invitation", why="a secret detail")
            return body[::-1]

        async with listening(join=join) as (_, port):
            b = Link(KEY_B, "b")
            address = f"https://127.0.0.1:{port}"
            assert await b.post_join(address, tls()[0], b"abc") == b"cba"
            with pytest.raises(ConfigError) as caught:
                await b.post_join(address, tls()[0], b"bad")
            assert caught.value.code == "bad_invitation"
            assert "secret" not in str(caught.value)
            with pytest.raises(ValueError, match="16 KiB"):
                await b.post_join(address, tls()[0], bytes(16385))
            with pytest.raises(LineError):
                await b.post_join("https://127.0.0.1:9", tls()[0], b"abc")
            assert callers == ["127.0.0.1"] * 2
            await b.close()

    run(test)


def test_a_made_certificate_lasts_ten_years_and_names_its_hosts() -> None:
    pem, key = make_certificate("node", ["node.example.org", "10.1.2.3", "::1"])
    made = x509.load_pem_x509_certificate(pem)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["node.example.org"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.1.2.3", "::1"]
    assert (made.not_valid_after_utc - made.not_valid_before_utc).days >= 3650
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert b"PRIVATE KEY" in key
    assert certificate_der(pem) == made.public_bytes(Encoding.DER)
