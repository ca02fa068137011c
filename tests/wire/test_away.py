"""Clocks that differ or jump, and lines that are away for a second, a minute or an hour."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from isthmus.base.clock import SystemClock
from isthmus.base.errors import LineError
from isthmus.wire.dialer import Transport
from isthmus.wire.link import Partner, certificate_der, server_context
from tests.wire.pair import (
    JOB,
    Pair,
    Wire,
    add_powers,
    dialing,
    memory_links,
    new_a,
    new_b,
    run,
    send_powers,
    until,
)


class Wrong(SystemClock):
    """Off by so much; with `jumps` it goes back and forth with every look."""

    def __init__(self, off: timedelta, *, jumps: bool = False) -> None:
        self._off = off
        self._jumps = jumps
        self._looks = 0

    def now(self) -> datetime:
        self._looks += 1
        return super().now() + (-self._off if self._jumps and self._looks % 2 else self._off)


YEARS = timedelta(days=3650)


@pytest.mark.trust("P6")
@pytest.mark.parametrize(
    ("off", "jumps"),
    [(timedelta(minutes=10), False), (-YEARS, False), (YEARS, False), (YEARS, True)],
)
def test_a_clock_that_is_wrong_or_jumps_has_no_effect_but_on_what_is_shown(
    off: timedelta, jumps: bool
) -> None:
    async def test() -> None:
        a = new_a(clock=Wrong(off, jumps=jumps))
        b = new_b(Wire(a))
        await a.start()
        await b.start()
        here, there = a.open("b", JOB), b.open("a", JOB)
        _, _, one, two = await asyncio.gather(
            send_powers(here, 60), send_powers(there, 60), add_powers(here, 60), add_powers(there, 60)
        )
        assert one == two == 2**60 - 1
        shown = b.state("a").clock_offset_s
        assert shown is not None
        if not jumps:
            assert abs(shown - off.total_seconds()) < 5
        await b.close(0)
        await a.close(0)

    run(test)


class Fast(SystemClock):
    """An hour that takes a second."""

    def __init__(self, times: float) -> None:
        self._times = times
        self._began_s = time.monotonic()

    def monotonic_s(self) -> float:
        return (time.monotonic() - self._began_s) * self._times

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._times)


@pytest.mark.trust("N1", "G3")
@pytest.mark.parametrize("away_s", [1.0, 60.0, 3600.0])
@pytest.mark.parametrize("after", [0, 1, 5, 20])
def test_a_line_that_is_away_for_long_at_any_message_goes_on_by_itself(away_s: float, after: int) -> None:
    """Before or after the request has arrived, every other time; away times and pauses are those of the product."""

    async def test() -> None:
        clock = Fast(away_s / 0.2 if away_s > 1 else 4.0)
        requests = 0
        back_s = float("inf")
        told: list[LineError] = []

        def wrap(inner: Transport) -> Transport:
            async def send(partner: Partner, path: str, body: bytes) -> bytes:
                nonlocal requests, back_s
                requests += 1
                if requests == after + 5:
                    back_s = clock.monotonic_s() + away_s
                    if after % 2:
                        await inner(partner, path, body)
                if back_s != float("inf") and clock.monotonic_s() < back_s:
                    raise LineError("unreachable", partner="a", why="cut")
                return await inner(partner, path, body)

            return send

        async with memory_links(wrap, clock=clock, poll_s=20.0, retry_s=0.2) as links:
            await _both_ways(links, told)
        assert clock.monotonic_s() > back_s

    async def _both_ways(links: Pair, told: list[LineError]) -> None:
        a, b = links.open()

        async def watch() -> None:
            while True:
                problem = links.b.state("a").problem
                if isinstance(problem, LineError):
                    told.append(problem)
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch())
        _, _, one, two = await asyncio.gather(
            send_powers(a, 40), send_powers(b, 40), add_powers(a, 40), add_powers(b, 40)
        )
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert one == two == 2**40 - 1
        assert told

    run(test)


@pytest.mark.trust("T22", "D5")
def test_a_pinned_certificate_that_has_ended_is_refused(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(days=2))
    pem = builder.not_valid_after(now - timedelta(days=1)).sign(key, SHA256()).public_bytes(Encoding.PEM)
    (tmp_path / "c").write_bytes(pem)
    (tmp_path / "k").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    async def test() -> None:
        a = new_a()
        port = await a.listen("127.0.0.1", 0, server_context(str(tmp_path / "c"), str(tmp_path / "k")))
        async with dialing(port, certificate=certificate_der(pem)) as b:
            await until(lambda: b.state("a").problem)
            assert not a.state("b").connected
        await a.close(0)

    run(test)
