"""Events of a job as a stream: nothing lost, signs of life, an end with the job. (A1)"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from isthmus.base.clock import SystemClock
from isthmus.service.node import Node
from isthmus.service.stream import LOOK_S, STILL_S, STREAMS_MAX, Streams
from isthmus.store.records import JobState, StoredJob
from tests.service.test_api import asking, check_problem

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STREAM = {"Accept": "text/event-stream"}


class FastClock(SystemClock):
    """Every sleep ends at once, and moves the time by what was slept."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def monotonic_s(self) -> float:
        return self.time_s

    async def sleep(self, seconds: float) -> None:
        self.time_s += seconds
        await asyncio.sleep(0)


def add_job(node: Node, *states: JobState) -> None:
    job = StoredJob("j-1", bytes(32), 1, b"{}", "card", "label_owner", "bank", "proposed", None, NOW, NOW)
    node.store.add_job(job, [])
    for state in states:
        node.store.move_job("j-1", {"proposed", "accepted", "queued", "running"}, state, NOW)


def told(text: str) -> list[tuple[int | None, str, dict[str, Any]]]:
    """The events of a stream: id, kind, data."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "event" in lines:
            number = int(lines["id"]) if "id" in lines else None
            found.append((number, lines["event"], json.loads(lines["data"])))
    return found


def test_a_stream_holds_what_the_pages_hold_and_ends_with_the_job(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        add_job(node, "queued", "running")
        for number in range(450):
            node.store.add_event("j-1", NOW, "stage.state", "bank", {"stage": f"列{number}\n"})
        node.store.move_job("j-1", {"running"}, "done", NOW)
        answer = await client.get("/jobs/j-1/events", headers=STREAM)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        events = told(answer.text)
        assert len(events) == 454
        assert events[-1][1:] == ("job.state", events[-1][2])
        assert events[-1][2]["data"] == {"state": "done"}
        assert [e[2] for e in events[:200]] == (await client.get("/jobs/j-1/events")).json()["items"]
        resumed = await client.get(
            "/jobs/j-1/events", headers={**STREAM, "Last-Event-ID": str(events[449][0])}
        )
        assert told(resumed.text) == events[450:]
        after = await client.get("/jobs/j-1/events", params={"after": events[452][0]}, headers=STREAM)
        assert told(after.text) == events[453:]

    asking(tmp_path, play)


def test_a_stream_that_cannot_be_is_refused_as_a_problem(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        add_job(node)
        check_problem(await client.get("/jobs/j-9/events", headers=STREAM), 404, "not_found")
        for bad in ("x", "-1", str(2**63)):
            answer = await client.get("/jobs/j-1/events", headers={**STREAM, "Last-Event-ID": bad})
            check_problem(answer, 422, "out_of_bounds")

    asking(tmp_path, play)


async def some(stream: AsyncIterator[str], count: int) -> list[str]:
    return [await anext(stream) for _ in range(count)]


def test_a_silent_stream_gives_signs_of_life_and_then_what_happens(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        add_job(node)
        clock = FastClock()
        stream = Streams("bank", node.jobs, node.store, clock).follow("j-1", 0, 15, lambda: True)
        first = await some(stream, 4)
        assert [text[0] for text in first] == ["r", "i", ":", ":"]
        assert clock.time_s == 30
        node.store.move_job("j-1", {"proposed"}, "refused", NOW)
        rest = [text async for text in stream]
        assert [event[2]["data"] for event in told("".join(rest))] == [{"state": "refused"}]
        assert clock.time_s == 30 + LOOK_S

    asking(tmp_path, play)


def test_a_stream_ends_when_its_reader_may_no_longer_read(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        add_job(node)
        clock = FastClock()
        stream = Streams("bank", node.jobs, node.store, clock).follow("j-1", 0, 1, lambda: clock.time_s < 60)
        told = [text async for text in stream]
        assert 60 <= clock.time_s < 60 + STILL_S + 1
        assert told[-1].startswith(": ")

    asking(tmp_path, play)


def test_closing_ends_every_stream_and_there_is_room_for_so_many(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        add_job(node)
        streams: Streams = client._transport.app.state.streams  # type: ignore[attr-defined]
        following = [streams.follow("j-1", 0, 15, lambda: True) for _ in range(STREAMS_MAX)]
        for stream in following:
            await anext(stream)
        refused = await client.get("/jobs/j-1/events", headers=STREAM)
        check_problem(refused, 429, "rate")
        assert refused.headers["retry-after"] == "1"
        streams.close()
        for stream in following:
            async for _ in stream:
                pass
        node.store.move_job("j-1", {"proposed"}, "refused", NOW)
        assert (await client.get("/jobs/j-1/events", headers=STREAM)).status_code == 200

    asking(tmp_path, play)
