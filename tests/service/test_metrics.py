"""Health, readiness and figures: what a watcher sees, and what it does not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from isthmus.service.node import Node
from isthmus.store.records import JobState, StoredJob, StoredPartner
from tests.service.test_api import asking

NOW = datetime(2026, 1, 2, tzinfo=UTC)


async def figures(client: httpx.AsyncClient) -> dict[tuple[str, tuple[str, ...]], float]:
    answer = await client.get("http://node/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


def test_health_and_readiness_say_yes_or_no_and_nothing_else(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        del client.headers["authorization"]
        for path in ("/health", "/ready"):
            answer = await client.get(f"http://node{path}")
            assert (answer.status_code, answer.text) == (200, "ok\n")
            assert set(answer.headers) == {"content-length", "content-type"}
        node.store.connection.exec_driver_sql("ALTER TABLE partner RENAME TO gone")
        answer = await client.get("http://node/ready")
        assert (answer.status_code, answer.text) == (503, "not ready\n")
        node.store.connection.exec_driver_sql("ALTER TABLE gone RENAME TO partner")
        assert (await client.get("http://node/ready")).status_code == 200
        await node.close()
        assert (await client.get("http://node/ready")).status_code == 503
        assert (await client.get("http://node/health")).status_code == 200

    asking(tmp_path, play)


def test_figures_count_jobs_partners_and_requests(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        states: list[JobState] = ["running", "done", "done"]
        for number, state in enumerate(states):
            node.store.add_job(
                StoredJob(
                    f"j-{number}",
                    bytes([number]) * 32,
                    1,
                    b"{}",
                    "card",
                    "label_owner",
                    "bank",
                    state,
                    None,
                    NOW,
                    NOW,
                ),
                [],
            )
        node.store.put_partner(StoredPartner("new", bytes(32), None, None, (), False, NOW))
        for job_id in ("j-0", "j-1", "j-secret"):
            await client.get(f"/jobs/{job_id}")
        await client.get("/nowhere/canary")
        await client.request("CANARY", "/jobs")
        await client.get("/jobs", headers={"Authorization": "Bearer canary"})
        seen = await figures(client)
        assert {k[1][0]: v for k, v in seen.items() if k[0] == "isthmus_jobs" and v} == {
            "running": 1,
            "done": 2,
        }
        requests = {k[1]: v for k, v in seen.items() if k[0] == "isthmus_http_requests_total"}
        assert requests == {
            ("GET", "/api/v1/jobs/{job_id}", "200"): 2,
            ("GET", "/api/v1/jobs/{job_id}", "404"): 1,
            ("GET", "none", "404"): 1,
            ("GET", "none", "401"): 1,
            ("other", "none", "405"): 1,
        }
        assert seen["isthmus_http_request_seconds_count", ("/api/v1/jobs/{job_id}",)] == 3
        text = (await client.get("http://node/metrics")).text.lower()
        assert "canary" not in text
        assert "secret" not in text
        assert "new" not in text

    asking(tmp_path, play)


def test_figures_tell_the_bytes_of_a_confirmed_partner(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        line = (await client.post("/partners/invite")).json()["line"]
        assert line
        node.store.put_partner(StoredPartner("data-co", bytes(range(32)), None, None, (), True, NOW))
        node.partners.begin()
        node.link._peer("data-co").sent_bytes = 1234
        seen = await figures(client)
        assert seen["isthmus_link_bytes_total", ("sent", "data-co")] == 1234
        assert seen["isthmus_link_bytes_total", ("received", "data-co")] == 0
        assert seen["isthmus_link_connected", ("data-co",)] == 0

    asking(tmp_path, play)
