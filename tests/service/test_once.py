"""Idempotency keys: one request, one object, one reply, also over a restart. (A5)"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from isthmus.base.clock import SystemClock
from isthmus.service.api import make_app
from isthmus.service.node import Node
from isthmus.store.folder import NodeFolder, make_config
from isthmus.store.records import KeptReply
from isthmus.wire.link import make_certificate
from tests.service.test_api import asking, check_problem

WANTED = {"name": "t", "key": "id"}


class SetClock(SystemClock):
    """A clock whose `now` the test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time


def body(tmp_path: Path, **changes: str) -> dict[str, str]:
    file = tmp_path / "t.csv"
    file.write_text("id,x\n" + "".join(f"u{i},{i}\n" for i in range(9)))
    return WANTED | {"path": str(file)} | changes


def key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


def signed_in(node: Node) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(make_app(node, "t"), raise_app_exceptions=False),
        base_url="http://node/api/v1",
        headers={"Authorization": "Bearer t"},
    )


def test_the_same_request_under_one_key_acts_once_and_another_is_refused(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        given = body(tmp_path)
        first = await client.post("/datasets", json=given, headers=key("k1"))
        again = await client.post("/datasets", json=given, headers=key("k1"))
        assert first.status_code == again.status_code == 200
        assert first.content == again.content
        assert (again.headers["idempotency-replayed"], "idempotency-replayed" in first.headers) == (
            "true",
            False,
        )
        other = await client.post("/datasets", json=given | {"key": "x"}, headers=key("k1"))
        check_problem(other, 422, "key_reused")
        check_problem(await client.post("/partners/invite", headers=key("k1")), 422, "key_reused")
        assert [d.title for d in node.datasets.all()] == ["t@1"]
        await client.post("/datasets", json=given, headers=key("k2"))
        await client.post("/datasets", json=given)
        assert len(node.datasets.all()) == 3

    asking(tmp_path, play)


def test_two_at_the_same_time_under_one_key_make_one_object(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        given = body(tmp_path)
        answers = await asyncio.gather(
            *(client.post("/datasets", json=given, headers=key("k1")) for _ in range(5))
        )
        assert {(a.status_code, a.content) for a in answers} == {(200, answers[0].content)}
        assert len(node.datasets.all()) == 1

    asking(tmp_path, play)


def test_a_refusal_frees_the_key(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        given = body(tmp_path, key="none")
        check_problem(await client.post("/datasets", json=given, headers=key("k1")), 422, "missing_column")
        mended = await client.post("/datasets", json=given | {"key": "id"}, headers=key("k1"))
        assert mended.status_code == 200

    asking(tmp_path, play)


def test_a_malformed_key_is_refused_and_a_plan_keeps_nothing(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        for bad in ("", "a b", "k" * 129, "\xe9"):
            answer = await client.post(
                "/partners/invite", headers=[(b"idempotency-key", bad.encode("latin-1"))]
            )
            assert check_problem(answer, 422, "out_of_bounds")["field"] == "Idempotency-Key"
        for document in ("a: 1", "b: 1"):
            answer = await client.post("/jobs/plan", json={"document": document}, headers=key("k1"))
            check_problem(answer, 422, "unknown_field")

    asking(tmp_path, play)


def test_a_reply_outlives_the_process_and_ends_after_a_day(tmp_path: Path) -> None:
    async def play() -> None:
        clock = SetClock()
        config = make_config({"party": "bank", "mode": "dial-out", "data": [str(tmp_path)]}, "test")
        folder = NodeFolder.create(tmp_path / "node", config, make_certificate)
        lines = []
        for later in (timedelta(0), timedelta(hours=24), timedelta(seconds=1)):
            clock.time += later
            node = Node(folder, clock)
            async with signed_in(node) as client:
                lines.append((await client.post("/partners/invite", headers=key("k1"))).json()["line"])
            await node.close()
        assert lines[0] == lines[1] != lines[2]

    asyncio.run(play())


def test_a_request_that_was_broken_off_is_never_done_again(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        given = body(tmp_path)
        node.datasets.add = None  # type: ignore[method-assign,assignment]
        check_problem(await client.post("/datasets", json=given, headers=key("k1")), 500, "bug")
        del node.datasets.add
        check_problem(await client.post("/datasets", json=given, headers=key("k1")), 409, "key_unfinished")
        assert node.datasets.all() == []

    asking(tmp_path, play)


def test_the_stored_reply_is_in_no_repr() -> None:
    assert "secret" not in repr(KeptReply("k", b"d", datetime(2026, 1, 2, tzinfo=UTC), 200, b"secret"))


def test_a_full_disk_under_the_key_itself_is_told_in_words_and_the_next_try_goes_through(
    tmp_path: Path,
) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        ask = node.store.connection.exec_driver_sql
        ask(f"PRAGMA max_page_count = {ask('PRAGMA page_count').scalar()}")
        long = "x" * 100
        status = 200
        for number in range(1000):
            refused = await client.post("/partners/invite", headers=key(f"{long}-{number}"))
            if (status := refused.status_code) != 200:
                break
        assert status == 507
        check_problem(refused, 507, "disk_full")
        ask("PRAGMA max_page_count = 100000")
        assert (await client.post("/partners/invite", headers=key("k1"))).status_code == 200

    asking(tmp_path, play)
