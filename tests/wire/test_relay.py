"""Two links that only call out, and a relay between them: honest, full, gone, or malicious. (T22, T23, K16)"""

from __future__ import annotations

import asyncio
import functools
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from isthmus.base.clock import SystemClock
from isthmus.base.errors import IsthmusError, LineError
from isthmus.crypto.seal import PartyKey, fingerprint
from isthmus.wire.https import HttpTransport
from isthmus.wire.link import Link, Partner
from isthmus.wire.peer import EXCHANGE, HELLO, Here
from isthmus.wire.relay import (
    ANSWER,
    ASK,
    CHALLENGE,
    NUMBER,
    PATH,
    REGISTER,
    STATUS,
    TAKE,
    TO,
    Ask,
    Quota,
    Relay,
    register_text,
)
from isthmus.wire.relayed import Relayed
from tests.wire.pair import FAST, JOB, KEY_A, KEY_B, KEY_C, add_powers, run, send_powers, tls, until

CANARY = b"canary-of-the-relay-"


class Recording(Relay):
    """Keeps everything that goes through it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(tls()[0], **settings)
        self.asks: list[Ask] = []
        self.answers: list[tuple[int, bytes]] = []

    def _pass_on(self, ask: Ask) -> None:
        self.asks.append(ask)
        super()._pass_on(ask)

    def _answered(self, ask: Ask, status: int, body: bytes) -> None:
        self.answers.append((status, body))
        super()._answered(ask, status, body)


@asynccontextmanager
async def relaying(relay: Relay) -> AsyncIterator[str]:
    port = await relay.listen("127.0.0.1", 0, tls()[1])
    try:
        yield f"relay+https://127.0.0.1:{port}"
    finally:
        await relay.close()


def called(address: str, key: PartyKey = KEY_A, name: str = "a", **settings: Any) -> Link:
    """Takes what comes through the relay."""
    link = Link(key, name, **{**FAST, **settings})
    link.take_from(address, tls()[0])
    return link


def caller(address: str, key: PartyKey = KEY_B, name: str = "b", **settings: Any) -> Link:
    link = Link(key, name, **{**FAST, **settings})
    link.add_partner(Partner("a", KEY_A.public, address, tls()[0]))
    return link


@asynccontextmanager
async def two(relay: Relay, **settings: Any) -> AsyncIterator[tuple[Link, Link]]:
    async with relaying(relay) as address:
        a, b = called(address, **settings), caller(address, **settings)
        a.add_partner(Partner("b", KEY_B.public))
        await a.start()
        await b.start()
        try:
            yield a, b
        finally:
            await b.close(0)
            await a.close(0)


async def both_ways(a: Link, b: Link, count: int = 60) -> None:
    here, there = a.open("b", JOB), b.open("a", JOB)
    _, _, one, two = await asyncio.gather(
        send_powers(here, count), send_powers(there, count), add_powers(here, count), add_powers(there, count)
    )
    assert one == two == 2**count - 1


@pytest.mark.trust("T23")
def test_t23_messages_cross_a_relay_that_holds_nothing_readable() -> None:
    async def test() -> None:
        relay = Recording()
        async with two(relay) as (a, b):
            await both_ways(a, b)
            line, back = b.open("a", JOB, 1), a.open("b", JOB, 1)
            body = CANARY * 200_000
            await asyncio.gather(line.put(body), back.put(CANARY))
            assert await back.get() == body
            assert await line.get() == CANARY
        seen = b"".join([ask.body for ask in relay.asks] + [body for _, body in relay.answers])
        assert len(seen) > len(body)
        assert CANARY not in seen
        assert {ask.path for ask in relay.asks} == {HELLO, EXCHANGE}
        assert {(ask.sender, ask.receiver) for ask in relay.asks} == {(KEY_B.fingerprint, KEY_A.fingerprint)}
        assert relay._held_bytes == 0
        assert not relay._asks

    run(test)


class Evil(Recording):
    """Plays one trick on some of the requests and answers that it passes on."""

    def __init__(self, trick: str) -> None:
        super().__init__()
        self.trick = trick
        self.tricks = 0
        self._luck = random.Random(5)
        self._kept: list[bytes] = []
        self._said: list[tuple[int, bytes]] = []

    def _pass_on(self, ask: Ask) -> None:
        if ask.path == EXCHANGE and self._luck.random() < 0.3:
            self.tricks += 1
            if self.trick == "drop request":
                ask.answer.set_result((429, b""))
                return
            if self.trick == "garble request":
                at = self._luck.randrange(len(ask.body))
                ask.body = ask.body[:at] + bytes([ask.body[at] ^ 1]) + ask.body[at + 1 :]
            elif self.trick == "cut request":
                ask.body = ask.body[: len(ask.body) // 2]
            elif self.trick == "replay request" and self._kept:
                ask.body = self._luck.choice(self._kept)
            elif self.trick == "duplicate request":
                twin = Ask(ask.number ^ 1, ask.sender, ask.receiver, ask.path, ask.body, asyncio.Future())
                self._asks[twin.number] = twin
                super()._pass_on(twin)
            elif self.trick == "reorder":
                asyncio.get_running_loop().call_later(self._luck.random() * 0.05, super()._pass_on, ask)
                return
        self._kept.append(ask.body)
        super()._pass_on(ask)

    def _answered(self, ask: Ask, status: int, body: bytes) -> None:
        if ask.path == EXCHANGE and status == 200 and self._luck.random() < 0.3:
            self.tricks += 1
            if self.trick == "drop answer":
                status, body = 503, b""
            elif self.trick == "garble answer":
                at = self._luck.randrange(len(body))
                body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
            elif self.trick == "replay answer" and self._said:
                status, body = self._luck.choice(self._said)
            elif self.trick == "reflect":
                body = ask.body
            elif self.trick == "invent":
                body = os.urandom(len(body))
        self._said.append((status, body))
        super()._answered(ask, status, body)


TRICKS = (
    "drop request",
    "garble request",
    "cut request",
    "replay request",
    "duplicate request",
    "reorder",
    "drop answer",
    "garble answer",
    "replay answer",
    "reflect",
    "invent",
)


@pytest.mark.trust("T22", "T23", "K16")
@pytest.mark.parametrize("trick", TRICKS)
def test_t22_t23_k16_whatever_a_relay_does_to_what_it_passes_on_each_message_comes_once_and_in_order(
    trick: str,
) -> None:
    async def test() -> None:
        relay = Evil(trick)
        async with two(relay) as (a, b):
            await both_ways(a, b)
        assert relay.tricks > 5

    run(test)


@pytest.mark.trust("T22", "T23")
def test_t22_a_relay_that_swaps_requests_between_partners_makes_neither_of_them_believe_it() -> None:
    """What B and C send to A changes places: A gets every message of either, as the partner's whose it is."""

    class Swaps(Recording):
        waiting: Ask | None = None
        swapped = 0

        def _pass_on(self, ask: Ask) -> None:
            other = self.waiting
            if ask.path == EXCHANGE and other is not None and other.sender != ask.sender:
                if not other.answer.done() and self.swapped < 5:
                    self.swapped += 1
                    ask.body, other.body = other.body, ask.body
                self.waiting = None
                super()._pass_on(other)
            elif ask.path == EXCHANGE and other is None and self.swapped < 5:
                self.waiting = ask
                asyncio.get_running_loop().call_later(0.1, self._let_go, ask)
                return
            super()._pass_on(ask)

        def _let_go(self, ask: Ask) -> None:
            if self.waiting is ask:
                self.waiting = None
                super()._pass_on(ask)

    async def test() -> None:
        relay = Swaps()
        async with two(relay) as (a, b):
            address = next(iter(a._relays))[0]
            c = caller("relay+" + address, KEY_C, "c")
            a.add_partner(Partner("c", KEY_C.public))
            await c.start()
            try:
                of_b, of_c = a.open("b", JOB), a.open("c", JOB)
                to_b, to_c = b.open("a", JOB), c.open("a", JOB)
                for number in range(10):
                    await asyncio.gather(to_b.put(b"b%d" % number), to_c.put(b"c%d" % number))
                    assert (await of_b.get(), await of_c.get()) == (b"b%d" % number, b"c%d" % number)
            finally:
                await c.close(0)
        assert relay.swapped > 2

    run(test)


def test_a_relay_that_is_started_again_is_used_again_and_the_messages_go_on() -> None:
    async def test() -> None:
        first = Recording()
        port = await first.listen("127.0.0.1", 0, tls()[1])
        address = f"relay+https://127.0.0.1:{port}"
        a, b = called(address), caller(address)
        a.add_partner(Partner("b", KEY_B.public))
        await a.start()
        await b.start()
        second = Recording()
        try:
            here, there = a.open("b", JOB), b.open("a", JOB)
            await there.put(b"one")
            assert await here.get() == b"one"
            await first.close()
            await there.put(b"two")
            await until(lambda: not b.state("a").connected)
            problem = b.state("a").problem
            assert isinstance(problem, LineError)
            await second.listen("127.0.0.1", port, tls()[1])
            assert await here.get() == b"two"
            await here.put(b"three")
            assert await there.get() == b"three"
        finally:
            await b.close(0)
            await a.close(0)
            await second.close()

    run(test)


@pytest.mark.trust("N1")
def test_n1_without_the_partner_the_relay_says_so_and_the_line_waits() -> None:
    async def test() -> None:
        relay = Recording()
        async with relaying(relay) as address:
            b = caller(address)
            await b.start()
            line = b.open("a", JOB)
            await line.put(b"for later")
            await until(lambda: b.state("a").problem)
            problem = b.state("a").problem
            assert problem is not None
            assert "the relay does not hear from it" in problem.sentence("en")
            a = called(address)
            a.add_partner(Partner("b", KEY_B.public))
            try:
                assert await a.open("b", JOB).get() == b"for later"
            finally:
                await b.close(0)
                await a.close(0)

    run(test)


class Stranger:
    """Speaks to a relay by hand."""

    def __init__(self, address: str) -> None:
        self.http = HttpTransport(0.1)
        self.place = Partner("relay", bytes(32), address.removeprefix("relay+"), tls()[0])

    async def post(self, path: str, given: bytes = b"", /, **headers: str) -> tuple[int, bytes]:
        reply = await self.http.post(self.place, path, given, headers)
        return reply.status, reply.body

    async def register(self, key: PartyKey, nonce: bytes | None = None) -> tuple[int, bytes]:
        nonce = nonce or (await self.post(CHALLENGE))[1]
        return await self.post(REGISTER, key.public + nonce + key.sign(register_text(tls()[0], nonce)))


def test_only_who_holds_a_key_registers_with_it_and_only_members_are_served() -> None:
    async def test() -> None:
        relay = Recording(parties=[KEY_A.fingerprint, KEY_B.fingerprint])
        async with relaying(relay) as address:
            someone = Stranger(address)
            try:
                _, nonce = await someone.post(CHALLENGE)
                forged = KEY_A.public + nonce + KEY_B.sign(register_text(tls()[0], nonce))
                assert (await someone.post(REGISTER, forged))[0] == 401
                assert (await someone.register(KEY_A, nonce))[0] == 401  # a challenge is used up by a try
                assert (await someone.register(KEY_A, bytes(32)))[0] == 401
                _, nonce = await someone.post(CHALLENGE)
                elsewhere = KEY_A.sign(register_text(b"another relay", nonce))
                assert (await someone.post(REGISTER, KEY_A.public + nonce + elsewhere))[0] == 401
                assert (await someone.register(KEY_C))[0] == 403
                status, token = await someone.register(KEY_B)
                assert status == 200
                bearer = {"Authorization": f"Bearer {token.hex()}"}
                for path in (TAKE, ASK, ANSWER):
                    assert (await someone.post(path))[0] == 401
                    assert (await someone.post(path, Authorization="Bearer zz"))[0] == 401
                    assert (await someone.post(path, Authorization=f"Bearer {bytes(32).hex()}"))[0] == 401
                assert (await someone.post("/link/v1/hello", **bearer))[0] == 404
                to_a = {TO: KEY_A.fingerprint.hex(), PATH: EXCHANGE}
                assert (await someone.post(ASK, b"x", **bearer, **to_a))[0] == 503
                assert (await someone.post(ASK, b"x", **bearer, **{**to_a, TO: "no"}))[0] == 400
                assert (await someone.post(ASK, b"x", **bearer, **{**to_a, PATH: "/etc"}))[0] == 400
                made_up = {NUMBER: "7", STATUS: "200"}
                assert (await someone.post(ANSWER, b"x", **bearer, **made_up))[0] == 404
                assert (await someone.post(ANSWER, b"x", **bearer, **{**made_up, NUMBER: "9" * 400}))[
                    0
                ] == 404
            finally:
                await someone.http.close()

    run(test)


def test_nobody_answers_in_the_place_of_another() -> None:
    async def test() -> None:
        relay = Recording()
        async with relaying(relay) as address:
            someone = Stranger(address)
            try:
                bearers = []
                for key in (KEY_A, KEY_B, KEY_C):
                    _, token = await someone.register(key)
                    bearers.append({"Authorization": f"Bearer {token.hex()}"})
                a, b, c = bearers
                taking = asyncio.create_task(someone.http.post(someone.place, TAKE, b"", a))
                await until(lambda: relay._members[KEY_A.fingerprint].taking)
                to_a = {TO: KEY_A.fingerprint.hex(), PATH: EXCHANGE}
                asking = asyncio.create_task(
                    someone.http.post(someone.place, ASK, b"question", {**b, **to_a})
                )
                taken = await taking
                assert taken.body == b"question"
                answer = {NUMBER: taken.headers[NUMBER], STATUS: "200"}
                assert (await someone.post(ANSWER, b"false", **c, **answer))[0] == 404
                assert (await someone.post(ANSWER, b"odd", **a, **{**answer, STATUS: "999"}))[0] == 400
                assert (await someone.post(ANSWER, b"true", **a, **answer))[0] == 200
                assert (await someone.post(ANSWER, b"again", **a, **answer))[0] == 404
                assert (await asking).body == b"true"
            finally:
                await someone.http.close()

    run(test)


def test_t29_what_is_held_for_one_party_has_a_bound_and_others_are_served_meanwhile() -> None:
    async def test() -> None:
        relay = Recording(quota=Quota(requests=8, party_bytes=100_000, all_bytes=10**6))
        async with relaying(relay) as address:
            someone = Stranger(address)
            try:
                _, of_a = await someone.register(KEY_A)
                _, of_b = await someone.register(KEY_B)
                _, of_c = await someone.register(KEY_C)
                a, b, c = ({"Authorization": f"Bearer {t.hex()}"} for t in (of_a, of_b, of_c))

                def ask(who: dict[str, str], key: PartyKey, size: int) -> asyncio.Task[Any]:
                    where = {TO: key.fingerprint.hex(), PATH: EXCHANGE}
                    return asyncio.create_task(
                        someone.http.post(someone.place, ASK, bytes(size), {**who, **where})
                    )

                for who, key in ((a, KEY_A), (c, KEY_C)):
                    taking = asyncio.create_task(someone.http.post(someone.place, TAKE, b"", who))
                    await until(functools.partial(getattr, relay._members[key.fingerprint], "taking"))
                    first = ask(b, key, 10)
                    await taking
                    held = [first] if key is KEY_A else []
                held += [ask(b, KEY_A, 30_000) for _ in range(3)]
                await until(lambda: len(relay.asks) == 5)
                refused = await ask(b, KEY_A, 30_000)
                assert refused.status == 429
                assert relay._held_bytes < 100_000
                through = ask(a, KEY_C, 10)
                taken = await someone.http.post(someone.place, TAKE, b"", c)
                await someone.http.post(
                    someone.place, ANSWER, b"yes", {**c, NUMBER: taken.headers[NUMBER], STATUS: "200"}
                )
                assert (await through).body == b"yes"
            finally:
                await relay.close()
                await asyncio.gather(*held, first, return_exceptions=True)
                await someone.http.close()
        assert relay._held_bytes == 0

    run(test)


def test_a_relay_with_another_certificate_is_not_spoken_to() -> None:
    async def test() -> None:
        from isthmus.wire.link import certificate_der, make_certificate

        other = certificate_der(make_certificate("other", ["127.0.0.1"])[0])
        async with relaying(Recording()) as address:
            here = Here(KEY_B, "b", SystemClock(), bytes(16), 0.1, 0.01, 1)
            http = HttpTransport(0.1)
            try:
                with pytest.raises(IsthmusError) as caught:
                    await Relayed(here, http, address, other).ask(Partner("a", KEY_A.public), HELLO, b"x")
                assert caught.value.code == "tls_intercepted"
            finally:
                await http.close()

    run(test)


def test_a_party_is_found_at_the_relay_while_it_changes_its_key() -> None:
    async def test() -> None:
        relay = Recording()
        async with two(relay) as (a, b):
            new = PartyKey.from_bytes(b"n" * 32)
            here, there = a.open("b", JOB), b.open("a", JOB)
            await there.put(b"old")
            assert await here.get() == b"old"
            a.offer_key(new)
            await until(lambda: new.fingerprint in relay._members)
            known = b._peers["a"].partner
            b.add_partner(Partner("a", KEY_A.public, known.address, known.certificate_der, new.public))
            await until(lambda: any(ask.receiver == new.fingerprint for ask in relay.asks))
            await there.put(b"both")
            assert await here.get() == b"both"
            a.turn_key()
            b.add_partner(Partner("a", new.public, known.address, known.certificate_der))
            await there.put(b"new")
            assert await here.get() == b"new"
            assert relay.asks[-1].receiver == fingerprint(new.public)

    run(test)


def test_a_relay_that_does_not_know_the_new_key_yet_carries_the_line_under_the_old_one() -> None:
    async def test() -> None:
        relay = Recording(parties=[KEY_A.fingerprint, KEY_B.fingerprint])
        async with two(relay) as (a, b):
            new = PartyKey.from_bytes(b"n" * 32)
            here, there = a.open("b", JOB), b.open("a", JOB)
            a.offer_key(new)
            known = b._peers["a"].partner
            b.add_partner(Partner("a", KEY_A.public, known.address, known.certificate_der, new.public))
            b.renew("a")
            await there.put(b"under the old key")
            assert await here.get() == b"under the old key"
            await until(lambda: b.state("a").connected)
            assert {ask.receiver for ask in relay.asks} == {KEY_A.fingerprint}

    run(test)
