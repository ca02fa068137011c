"""The gate: bodies are bounded before they are read and strict when they are, floods are told to wait. (A3, A4, A9, T29)"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.base.clock import SystemClock
from isthmus.service.api import make_app
from isthmus.service.gate import BODY_MAX_BYTES, DEPTH_MAX
from isthmus.service.node import Node
from isthmus.store.folder import NodeFolder, make_config
from isthmus.store.settings import Limits
from isthmus.wire.link import make_certificate
from tests.service.test_api import asking, check_problem

JSON = {"content-type": "application/json"}


async def drive(
    app: Any, headers: list[tuple[bytes, bytes]], chunks: AsyncIterator[bytes]
) -> tuple[int, int]:
    """One POST, chunk by chunk: the status, and how many bytes the application asked for."""
    taken, status = 0, 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        chunk = await anext(chunks)
        taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/api/v1/jobs/plan", "raw_path": b"/api/v1/jobs/plan", "query_string": b"", "root_path": "",
        "headers": headers, "client": ("127.0.0.1", 1), "server": ("node", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return status, taken


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 65536


@pytest.mark.parametrize(
    ("headers", "status", "most"),
    [
        (
            [(b"authorization", b"Bearer t"), (b"content-type", b"application/json")],
            413,
            BODY_MAX_BYTES + 65536,
        ),
        ([(b"authorization", b"Bearer t"), (b"content-length", b"%d" % (BODY_MAX_BYTES + 1))], 413, 0),
        ([(b"authorization", b"Bearer t"), (b"content-length", b"9" * 5000)], 413, 0),
        ([(b"authorization", b"Bearer t"), (b"content-length", b"-1")], 400, 0),
        ([(b"authorization", b"Bearer t"), (b"content-length", b"\xb2")], 400, 0),
        ([(b"authorization", b"Bearer u"), (b"content-length", b"9")], 401, 0),
        ([], 401, 0),
    ],
)
def test_no_more_of_a_body_is_read_than_is_needed_to_refuse_it(
    tmp_path: Path, headers: list[tuple[bytes, bytes]], status: int, most: int
) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        answered, taken = await drive(make_app(node, "t"), headers, endless())
        assert answered == status
        assert taken <= most

    asking(tmp_path, play)


@pytest.mark.parametrize(
    "body",
    [
        b'{"document": "a", "document": "b"}',
        b'{"document": "a", "docu\\u006dent": "b"}',
        b'{"document": {"a": [{"b": 1, "b": 1}]}}',
        b'{"document": "a\\u0000b"}',
        b'{"document": "\\\\\\u0000"}',
        b'{"a\\u0000": 1}',
        b'{"document": "\x00"}',
        b'{"document": "\\ud800"}',
        b'{"document": "\\udc00\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"document": "\xed\xa0\x80"}',
        b'{"document": "\xff"}',
        b'{"document": NaN}',
        b'{"document": -Infinity}',
        b'{"document": 1e999}',
        b'{"document": ' + b"9" * 5000 + b"}",
        b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1),
        b'{"a":' * 100_000,
        b'["\\"", ' + b"[" * 1000,
        b"[" * 4_000_000,
        b'"' + b"\\" * 999_999,
        b"{'document': 1}",
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b" ",
    ],
)
def test_a_body_that_is_not_strict_json_is_refused(tmp_path: Path, body: bytes) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        for language in ("en", "zh"):
            headers = JSON | {"Accept-Language": language}
            answer = await client.post("/jobs/plan", content=body, headers=headers)
            told = check_problem(answer, 400, "bad_document")
            assert ("无法解析" in told["detail"]) == (language == "zh")

    asking(tmp_path, play)


@pytest.mark.parametrize(
    "body",
    [
        b'{"document": "[[[{{{ \\" ]]\\\\u0000 \\ud83d\\ude00"}',
        b'{"document": "' + b"[" * 100_000 + b'"}',
        b'{"document": "", "document ": ' + b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1) + b"}",
    ],
)
def test_what_only_looks_like_it_comes_through_the_gate(tmp_path: Path, body: bytes) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        answer = await client.post("/jobs/plan", content=body, headers=JSON)
        assert answer.status_code == 422, answer.text

    asking(tmp_path, play)


def test_only_json_is_read(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        for kind in (
            "text/plain",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded",
            "",
        ):
            answer = await client.post("/jobs/plan", content=b"{}", headers={"content-type": kind})
            check_problem(answer, 415, "bad_document")
        plain = await client.post(
            "/jobs/plan", content=b"{}", headers={"content-type": "Application/JSON; charset=utf-8"}
        )
        check_problem(plain, 422, "missing_field")

    asking(tmp_path, play)


class StandingClock(SystemClock):
    """A clock that moves only when the test says so."""

    time_s = 0.0

    def monotonic_s(self) -> float:
        return self.time_s


def test_a_flood_is_told_how_long_to_wait_and_others_are_served(tmp_path: Path) -> None:
    async def play() -> None:
        clock = StandingClock()
        config = make_config({"party": "bank", "mode": "dial-out", "data": [str(tmp_path)]}, "test")
        node = Node(NodeFolder.create(tmp_path / "node", config, make_certificate), clock)
        app = make_app(node, "t", Limits(burst=10, per_s=0.5))
        right, wrong = {"Authorization": "Bearer t"}, {"Authorization": "Bearer u"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:

            async def statuses(path: str, headers: dict[str, str], count: int) -> list[int]:
                return [(await client.get(path, headers=headers)).status_code for _ in range(count)]

            assert await statuses("/metrics", wrong, 12) == [401] * 10 + [429] * 2
            assert await statuses("/api/v1/node", right, 12) == [200] * 10 + [429] * 2
            assert await statuses("/health", {}, 30) == [200] * 30
            refused = await client.get("/api/v1/node", headers=right | {"Accept-Language": "zh"})
            assert check_problem(refused, 429, "rate")["hint"] == "请等待 2 秒后重试。"
            assert refused.headers["retry-after"] == "2"
            clock.time_s = 1.9
            assert await statuses("/api/v1/node", right, 1) == [429]
            clock.time_s = 2.0
            assert await statuses("/api/v1/node", right, 2) == [200, 429]
            clock.time_s = 10_000.0
            assert await statuses("/api/v1/node", right, 11) == [200] * 10 + [429]
        await node.close()

    asyncio.run(play())
