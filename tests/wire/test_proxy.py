"""Calls through an HTTP CONNECT proxy that is a process of its own: link, join and relay. (N1, N3)"""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isthmus.base.errors import IsthmusError, LineError
from isthmus.wire.link import Link, Partner, Proxy
from tests.wire.pair import (
    FAST,
    JOB,
    KEY_A,
    KEY_B,
    add_powers,
    dialing,
    listening,
    run,
    send_powers,
    tls,
    until,
)
from tests.wire.test_relay import Recording, called, relaying

PROGRAM = Path(__file__).with_name("connect_proxy.py")


class Running:
    """The proxy process; `lines` is what it has written."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def cuts_after(running: Running, seen: int) -> bool:
    return running.lines.count("cut") > seen


@contextmanager
def proxy(*arguments: str) -> Iterator[Running]:
    running = Running(*arguments)
    try:
        yield running
    finally:
        running.end()


async def both_ways(a: Link, b: Link, count: int = 40) -> None:
    here, there = a.open("b", JOB), b.open("a", JOB)
    _, _, one, two = await asyncio.gather(
        send_powers(here, count), send_powers(there, count), add_powers(here, count), add_powers(there, count)
    )
    assert one == two == 2**count - 1


def test_the_link_goes_through_a_proxy_that_asks_for_a_login() -> None:
    async def test() -> None:
        with proxy("--login", "bank:pass:word") as between:
            through = Proxy(between.url, "bank", "pass:word")
            assert "pass:word" not in repr(through)
            async with listening() as (a, port), dialing(port, proxy=through) as b:
                await both_ways(a, b)
                line, back = b.open("a", JOB, 1), a.open("b", JOB, 1)
                await line.put(bytes(3_000_000))
                assert len(await back.get()) == 3_000_000
            assert set(between.lines) == {f"200 127.0.0.1:{port}"}

    run(test)


@pytest.mark.parametrize(
    ("arguments", "given", "status"),
    [
        (("--login", "bank:right"), Proxy("", "bank", "wrong"), "407"),
        (("--login", "bank:right"), Proxy(""), "407"),
        (("--refuse",), Proxy(""), "403"),
    ],
)
def test_a_proxy_that_lets_nobody_through_is_named_with_its_reason(
    arguments: tuple[str, ...], given: Proxy, status: str
) -> None:
    async def test() -> None:
        with proxy(*arguments) as between:
            through = Proxy(between.url, given.user, given.password)
            async with listening() as (a, port), dialing(port, proxy=through) as b:
                await until(lambda: b.state("a").problem)
                problem = b.state("a").problem
                assert isinstance(problem, LineError)
                assert problem.code == "proxy_refused"
                for language in ("en", "zh"):
                    assert f"HTTP {status}" in problem.sentence(language)
                    assert between.url in problem.sentence(language)
                assert "wrong" not in problem.sentence("en")
                with pytest.raises(LineError) as refused:
                    await b.post_join(f"https://127.0.0.1:{port}", tls()[0], b"join")
                assert refused.value.code == "proxy_refused"
                assert not a.state("b").connected

    run(test)


def test_a_proxy_that_is_not_there_is_named() -> None:
    async def test() -> None:
        async with listening() as (_, port), dialing(port, proxy=Proxy("http://127.0.0.1:9")) as b:
            await until(lambda: b.state("a").problem)
            problem = b.state("a").problem
            assert problem is not None
            assert problem.code == "proxy_refused"

    run(test)


@pytest.mark.trust("N3")
def test_n3_a_proxy_that_cuts_idle_lines_costs_no_message() -> None:
    """Answers are held back for longer than the proxy allows silence, so every idle request is cut under way."""

    async def test() -> None:
        with proxy("--idle", "0.3") as between:
            through = Proxy(between.url)
            async with listening(poll_s=2.0) as (a, port), dialing(port, proxy=through, poll_s=2.0) as b:
                here, there = a.open("b", JOB), b.open("a", JOB)
                for number in range(4):
                    seen = between.lines.count("cut")
                    await until(functools.partial(cuts_after, between, seen))
                    await here.put(b"%d" % number)
                    assert await there.get() == b"%d" % number
                    await there.put(b"-%d" % number)
                    assert await here.get() == b"-%d" % number

    run(test)


def test_a_join_goes_through_the_proxy() -> None:
    async def test() -> None:
        async def joined(body: bytes, caller: str) -> bytes:
            return body[::-1]

        with proxy("--login", "bank:word") as between:
            async with listening(join=joined) as (_, port):
                b = Link(KEY_B, "b", proxy=Proxy(between.url, "bank", "word"), **FAST)
                try:
                    assert await b.post_join(f"https://127.0.0.1:{port}", tls()[0], b"abc") == b"cba"
                finally:
                    await b.close(0)
            assert between.lines == [f"200 127.0.0.1:{port}"]

    run(test)


def test_a_relay_is_reached_through_the_proxy_from_both_sides() -> None:
    async def test() -> None:
        with proxy() as between:
            through = Proxy(between.url)
            async with relaying(Recording()) as address:
                a = called(address, proxy=through)
                a.add_partner(Partner("b", KEY_B.public))
                b = Link(KEY_B, "b", proxy=through, **FAST)
                b.add_partner(Partner("a", KEY_A.public, address, tls()[0]))
                await a.start()
                await b.start()
                try:
                    await both_ways(a, b)
                finally:
                    await b.close(0)
                    await a.close(0)
            assert len(between.lines) >= 2
            assert {line.split()[0] for line in between.lines} == {"200"}

    run(test)


def test_a_certificate_that_is_not_the_pinned_one_is_refused_through_a_proxy_as_well() -> None:
    async def test() -> None:
        from isthmus.wire.link import certificate_der, make_certificate

        other = certificate_der(make_certificate("a", ["127.0.0.1"])[0])
        with proxy() as between:
            through = Proxy(between.url)
            async with listening() as (_, port), dialing(port, proxy=through, certificate=other) as b:
                await until(lambda: b.state("a").problem)
                problem: IsthmusError | None = b.state("a").problem
                assert problem is not None
                assert problem.code == "tls_intercepted"

    run(test)
