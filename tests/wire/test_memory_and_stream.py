"""The two lines within one machine: order, bounds, close."""

from __future__ import annotations

import asyncio
import socket

import pytest

from isthmus.base.errors import LineError, PeerError
from isthmus.wire.channel import Channel
from isthmus.wire.faults import FaultyLine
from isthmus.wire.memory import memory_pair
from isthmus.wire.message import MESSAGE_MAX_BYTES, Abort
from isthmus.wire.stream import StreamLine, open_stream
from tests.wire.pair import run


async def streams() -> tuple[StreamLine, StreamLine]:
    here, there = socket.socketpair()
    return await open_stream(here), await open_stream(there)


def test_bodies_come_in_order_over_memory_and_over_a_stream() -> None:
    async def test() -> None:
        for here, there in (memory_pair(2), await streams()):
            bodies = [bytes([k]) * (k * 1000) for k in range(20)]

            async def send(line: object = here, bodies: list[bytes] = bodies) -> None:
                for body in bodies:
                    await line.put(body)  # type: ignore[attr-defined]

            sending = asyncio.ensure_future(send())
            assert [await there.get() for _ in bodies] == bodies
            await sending
            await here.close()
            await there.close()

    run(test)


def test_a_memory_line_of_capacity_one_makes_the_sender_wait() -> None:
    async def test() -> None:
        here, there = memory_pair(1)
        await here.put(b"1")
        second = asyncio.ensure_future(here.put(b"2"))
        await asyncio.sleep(0)
        assert not second.done()
        assert await there.get() == b"1"
        await second
        assert await there.get() == b"2"

    run(test)


def test_what_was_put_before_a_close_is_still_delivered() -> None:
    async def test() -> None:
        for here, there in (memory_pair(1), await streams()):
            await here.put(b"last")
            await here.close()
            assert await there.get() == b"last"
            with pytest.raises(LineError, match="closed"):
                await there.get()
            await there.close()

    run(test)


def test_a_close_wakes_a_waiting_get_on_both_ends() -> None:
    async def test() -> None:
        here, there = memory_pair(1)
        waiting = [asyncio.ensure_future(end.get()) for end in (here, there)]
        await asyncio.sleep(0)
        await here.close()
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, LineError)
        with pytest.raises(LineError):
            await there.put(b"late")

        left, right = await streams()
        get = asyncio.ensure_future(right.get())
        await asyncio.sleep(0)
        await left.close()
        with pytest.raises(LineError):
            await get
        await right.close()

    run(test)


def test_a_length_beyond_any_message_is_refused_before_it_is_read() -> None:
    async def test() -> None:
        here, there = socket.socketpair()
        line = await open_stream(there)
        here.sendall((MESSAGE_MAX_BYTES + 1).to_bytes(4, "little"))
        with pytest.raises(PeerError) as caught:
            await line.get()
        assert caught.value.code == "bad_message"
        here.close()
        await line.close()

    run(test)


def test_a_partner_that_stops_is_named_by_its_code_only() -> None:
    async def test() -> None:
        here, there = memory_pair(1)
        await Channel(here).abort(LineError("unreachable", partner="secret-name", why="secret"))
        with pytest.raises(PeerError) as caught:
            await Channel(there, "b").recv(Abort)
        assert (caught.value.code, caught.value.fields["code"]) == ("partner_failed", "unreachable")
        assert "secret" not in str(caught.value)

    run(test)


def test_a_faulty_line_is_cut_after_as_many_bodies_as_it_was_told() -> None:
    async def test() -> None:
        here, there = memory_pair(4)
        cut = FaultyLine(here, 2)
        await cut.put(b"1")
        await cut.put(b"2")
        with pytest.raises(LineError):
            await cut.put(b"3")
        assert [await there.get(), await there.get()] == [b"1", b"2"]
        with pytest.raises(LineError):
            await there.get()

    run(test)
