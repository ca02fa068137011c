"""Lists come in pages: steady order, no item twice or missed, cursors that fit their list only."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.service.node import Node
from isthmus.service.paging import read_cursor, write_cursor
from isthmus.store.records import StoredJob, StoredPartner
from tests.service.test_api import asking, check_problem

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def fill(node: Node, first: int, count: int) -> None:
    for number in range(first, first + count):
        node.store.add_job(
            StoredJob(
                f"j-{number}",
                bytes([number]) * 32,
                1,
                b"{}",
                "card",
                "label_owner",
                "bank",
                "proposed",
                None,
                NOW,
                NOW,
            ),
            [],
        )
        node.store.put_partner(StoredPartner(f"p{number:03}", bytes(32), None, None, (), False, NOW))
        node.store.add_dataset(
            f"d{number % 3}",
            "/t.csv",
            "a" * 64,
            {"key": "id", "as": "none", "label": None},
            {"rows": 1, "columns": []},
            NOW,
        )
    for number in range(count):
        node.store.add_event("j-0", NOW, "stage.state", "", {"stage": str(number)})


async def walk(client: httpx.AsyncClient, path: str, limit: int) -> list[list[dict[str, Any]]]:
    pages, query = [], {"limit": str(limit)}
    while True:
        body = (await client.get(path, params=query)).json()
        pages.append(body["items"])
        if body["next"] is None:
            return pages
        query["cursor"] = body["next"]


@pytest.mark.parametrize(
    ("path", "name"),
    [("/jobs", "id"), ("/partners", "name"), ("/datasets", "dataset"), ("/jobs/j-0/events", "id")],
)
def test_pages_hold_every_item_once_in_the_order_of_the_whole(tmp_path: Path, path: str, name: str) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        fill(node, 0, 14)
        whole = [item[name] for item in (await walk(client, path, 200))[0]]
        assert len(whole) == len(set(whole)) == (15 if path.endswith("events") else 14)
        for limit in (1, 4, 7, 15):
            pages = await walk(client, path, limit)
            assert [item[name] for items in pages for item in items] == whole
            assert all(len(items) == limit for items in pages[:-1])
            assert pages[-1]

    asking(tmp_path, play)


def test_a_job_that_comes_in_between_shifts_nothing(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        fill(node, 0, 6)
        first = (await client.get("/jobs", params={"limit": "2"})).json()
        fill(node, 6, 3)
        second = (await client.get("/jobs", params={"limit": "2", "cursor": first["next"]})).json()
        assert [j["id"] for j in first["items"] + second["items"]] == ["j-5", "j-4", "j-3", "j-2"]

    asking(tmp_path, play)


def test_a_cursor_of_another_list_or_of_nobody_is_refused(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        fill(node, 0, 3)
        jobs = (await client.get("/jobs", params={"limit": "1"})).json()["next"]
        bad = [
            "",
            "x",
            "!!!",
            "a" * 1000,
            jobs[:-3],
            write_cursor("jobs", ["j-none"]),
            write_cursor("jobs", [1]),
        ]
        bad += [write_cursor("jobs", []), write_cursor("partners", ["a"]), "W" * 999]
        for cursor in bad:
            answer = await client.get("/jobs", params={"cursor": cursor})
            assert check_problem(answer, 422, "out_of_bounds")["field"] == "cursor"
        for path in ("/partners", "/datasets", "/jobs/j-0/events"):
            check_problem(await client.get(path, params={"cursor": jobs}), 422, "out_of_bounds")
        huge = write_cursor("events", [2**63])
        check_problem(await client.get("/jobs/j-0/events", params={"cursor": huge}), 422, "out_of_bounds")
        for path in ("/jobs", "/partners", "/datasets", "/jobs/j-0/events"):
            for limit in ("0", "201", "-1", "x"):
                answer = await client.get(path, params={"limit": limit})
                assert check_problem(answer, 422, "out_of_bounds")["field"] == "limit"

    asking(tmp_path, play)


def test_a_cursor_says_what_was_written() -> None:
    assert read_cursor("datasets", write_cursor("datasets", ["名 a", 7]), str, int) == ["名 a", 7]
    assert read_cursor("datasets", None, str, int) is None
