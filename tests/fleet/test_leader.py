"""A leader over its real listener: rounds, reports, releases, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from isthmus.base.clock import SystemClock
from isthmus.base.typed_json import read, write
from isthmus.fleet import models
from isthmus.fleet.rollout import LIVE
from isthmus.protocols.device_round import Outcome, Refused, Release, Round, read_paper, sign_paper, vector_of
from isthmus.protocols.secure_sum import Answer, Batch, Terms
from isthmus.store.fleet import FINISHED, STOPPED, ReleaseRow
from isthmus.wire.https import client_context
from tests.fleet.world import Fleet, Phone, phones, task_of, until
from tests.sums import sign_answer

pytestmark = pytest.mark.filterwarnings("error")


async def drive(made: list[Phone], done: Callable[[], bool]) -> None:
    """Every device works until `done`."""
    async with asyncio.timeout(40):
        while not done():
            await asyncio.gather(*(phone.work() for phone in made))
            await asyncio.sleep(0.02)


def test_a_task_runs_to_its_end_and_the_sum_is_exact(tmp_path: Path) -> None:
    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        async with fleet.leading() as (_, port), phones(fleet, port, 24) as made:
            manifest = fleet.run(task_of())
            await drive(made, lambda: fleet.rows.tasks()[0].state == FINISHED)
            task = fleet.rows.tasks()[0]
            rounds = fleet.rows.rounds(task.digest)
            assert [(row.kind, row.phase) for row in rounds] == [
                ("train", "opened"),
                ("evaluate", "opened"),
                ("train", "opened"),
                ("evaluate", "opened"),
            ]
            shown = [read(Round, row.shown.encode()).models for row in rounds]
            made_by = [json.loads(row.figures).get("model") for row in rounds]
            assert shown[1][1].hex() == made_by[0] == shown[2][0].hex(), (
                "each round goes on from the one before"
            )
            assert shown[3][1].hex() == made_by[2] == task.model.hex()
            model = vector_of(fleet.rows.blob(task.model) or b"")
            first = vector_of(fleet.rows.blob(bytes.fromhex(json.loads(rounds[1].figures)["in_use"])) or b"")
            # Every device moved every parameter by 0.1, twice; rounding is by chance, so the mean of 20 is near.
            assert np.abs(model - first - 0.2).max() < 0.01
            assert manifest.digest == task.digest
            for row in rounds:
                counted = [
                    each for each in fleet.rows.reports(task.digest, row.number) if each.fate == "counted"
                ]
                assert json.loads(row.figures)["reports"] == len(counted) >= 20
                assert fleet.rows.lost(task.digest, row.number)["uploaded"] >= 20
            assert not list((tmp_path / "fleet" / "spool").iterdir())

    asyncio.run(run())


def test_a_noised_sum_of_a_part_of_the_words_under_a_bound_that_moves(tmp_path: Path) -> None:
    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        async with fleet.leading() as (_, port), phones(fleet, port, 24) as made:
            manifest = fleet.run(
                task_of(
                    privacy={"dp": {"epsilon": 8.0, "delta": 1e-5}},
                    sum={"keep": 0.8},
                    local={"clip_quantile": 0.5},
                    rounds={"count": 2},
                    evaluate={"every": 2},
                )
            )
            await drive(made, lambda: fleet.rows.tasks()[0].state == FINISHED)
            first, second, last = fleet.rows.rounds(manifest.digest)
            bounds = [json.loads(row.shown)["clip"] for row in (first, second, last)]
            assert bounds[0] == 1.0
            assert 0.7 < bounds[1] < 1.3
            assert bounds[1] != 1.0
            assert bounds[2] == 0, "nothing is clipped when one measures"
            assert all(line.asked == 3 for line in fleet.lines.values())
            (entry,) = fleet.rows.spent("phones")
            assert json.loads(entry)["rounds"] == 3

    asyncio.run(run())


@pytest.mark.trust("T17", "T21")
def test_a_bucket_that_a_helper_spoils_is_named_and_the_model_is_made_from_the_others(tmp_path: Path) -> None:
    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        line = fleet.lines["audit-house"]
        honest = line.answer

        async def lie(batch: Batch) -> bytes:
            """The first answer is spoilt and signed all the same."""
            said = Answer.decode(await honest(batch))
            if line.asked > 1:
                return said.encode()
            spoilt = bytes([said.sum[0] ^ 0x40]) + said.sum[1:-1] + bytes([said.sum[-1] ^ 0x20])
            return sign_answer(line.helper.signing, Terms.decode(batch.terms), said, spoilt)

        line.answer = lie  # type: ignore[method-assign]
        async with fleet.leading() as (_, port), phones(fleet, port, 62) as made:
            fleet.run(
                task_of(rounds={"count": 1, "cohort": 60}, robust={"buckets": 3, "combine": "trimmed_mean"})
            )
            await drive(made, lambda: fleet.rows.tasks()[0].state == FINISHED)
            task = fleet.rows.tasks()[0]
            first = fleet.rows.rounds(task.digest)[0]
            figures = json.loads(first.figures)
            assert (figures["buckets"], len(figures["flagged"])) == (3, 1)
            start = vector_of(fleet.rows.blob(read(Round, first.shown.encode()).models[0]) or b"")
            model = vector_of(fleet.rows.blob(bytes.fromhex(figures["model"])) or b"")
            assert np.abs(model - start - 0.1).max() < 0.02, "as all devices moved it"

    asyncio.run(run())


def test_with_rounds_at_once_the_next_one_does_not_wait_for_a_helper(tmp_path: Path) -> None:
    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        fleet.lines["album-app"].away = True
        async with fleet.leading() as (_, port), phones(fleet, port, 24) as made:
            fleet.run(
                task_of(rounds={"count": 2, "strategy": "fedbuff", "at_once": 2}, evaluate={"every": 2})
            )
            task = fleet.rows.tasks()[0].digest
            await drive(made, lambda: len(fleet.rows.rounds(task)) == 2)
            first, second = fleet.rows.rounds(task)
            assert first.phase == "looking"
            assert read(Round, first.shown.encode()).models == read(Round, second.shown.encode()).models
            await drive(made, lambda: fleet.rows.rounds(task)[1].phase == "looking")
            fleet.lines["album-app"].away = False
            await drive(made, lambda: fleet.rows.tasks()[0].state == FINISHED)
            rounds = fleet.rows.rounds(task)
            assert [(row.kind, row.phase) for row in rounds] == [
                ("train", "opened"), ("train", "opened"), ("evaluate", "opened"),
            ]  # fmt: skip
            start = vector_of(fleet.rows.blob(read(Round, first.shown.encode()).models[0]) or b"")
            model = vector_of(fleet.rows.blob(fleet.rows.tasks()[0].model) or b"")
            # A whole step, and one that came a model late: 1 / sqrt(2) of it, in sixteenths.
            assert np.abs(model - start - 0.1 * (1 + 11 / 16)).max() < 0.02

    asyncio.run(run())


def test_the_same_report_again_gets_the_same_receipt_even_after_its_round(tmp_path: Path) -> None:
    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        async with fleet.leading() as (_, port), phones(fleet, port, 20) as made:
            fleet.run(task_of(rounds={"count": 1}))
            first = made[0]
            await until(lambda: fleet.rows.rounds(fleet.rows.tasks()[0].digest))
            offer = None
            while offer is None:
                offer = (await first.check_in()).offer
            report = await first.make(offer)
            receipt, again = await asyncio.gather(first.send(report), first.send(report))
            assert receipt == again == await first.send(report)
            other = await first.make(offer)
            status, body = await first.call("reports", other.encode())
            assert (status, read(Refused, body).code) == (409, "report_changed")
            await drive(made, lambda: fleet.rows.rounds(fleet.rows.tasks()[0].digest)[0].phase == "opened")
            assert await first.send(report) == receipt
            status, body = await first.call("reports", other.encode())
            assert (status, read(Refused, body).code) == (410, "round_closed")

    asyncio.run(run())


@pytest.mark.trust("G7")
def test_a_leader_that_is_ended_anywhere_goes_on_where_it_was(tmp_path: Path) -> None:
    """Taken, closed, looked at, answered by one helper: each time the next leader goes on from the rows."""

    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        for line in fleet.lines.values():
            line.away = True
        async with fleet.leading() as (_, port), phones(fleet, port, 20) as made:
            fleet.run(task_of(rounds={"count": 1}))
            task = fleet.rows.tasks()[0].digest
            await until(lambda: fleet.rows.rounds(task))
            for phone in made[:7]:
                await phone.work_once()
            sent = [each.sent[0].id for each in made[:7]]
            keys = [(each.key, each.ticket) for each in made]
        for stage in ("taken", "looking", "answering"):
            async with fleet.leading() as (_, port), phones(fleet, port, 0):
                connector = aiohttp.TCPConnector(ssl=client_context(fleet.certificate))
                async with aiohttp.ClientSession(connector=connector) as session:
                    again = [Phone(fleet, port, session) for _ in keys]
                    for phone, (key, ticket) in zip(again, keys, strict=True):
                        phone.key, phone.ticket = key, ticket
                    if stage == "taken":
                        assert sorted(each.id for each in fleet.rows.reports(task, 1)) == sorted(sent)
                        assert not await again[0].work(), "it has reported in this round already"
                        for phone in again[7:]:
                            await phone.work_once()
                        await until(lambda: fleet.rows.rounds(task)[0].phase == "looking")
                    elif stage == "looking":
                        fleet.lines["album-app"].away = False
                        await until(lambda: '"looked":[true,false]' in fleet.rows.rounds(task)[0].state)
                    else:
                        fleet.lines["audit-house"].away = False
                        await until(lambda: fleet.rows.rounds(task)[0].phase == "opened")
                        assert json.loads(fleet.rows.rounds(task)[0].figures)["reports"] == 20

    asyncio.run(run())


def test_a_helper_that_stays_away_ends_the_round_and_the_next_one_begins(tmp_path: Path) -> None:
    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        fleet.lines["album-app"].away = True
        async with fleet.leading() as (_, port), phones(fleet, port, 20) as made:
            fleet.run(task_of(rounds={"count": 1, "answer_h": 0.0003}))
            task = fleet.rows.tasks()[0].digest
            await drive(made, lambda: len(fleet.rows.rounds(task)) == 2)
            first = fleet.rows.rounds(task)[0]
            assert (first.phase, '"reason":"helper_away"' in first.state) == ("aborted", True)
            fleet.lines["album-app"].away = False
            await drive(made, lambda: fleet.rows.rounds(task)[1].phase == "opened")

    asyncio.run(run())


def test_strangers_wrong_signatures_and_revoked_devices_are_turned_away(tmp_path: Path) -> None:
    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        async with fleet.leading() as (_, port), phones(fleet, port, 2) as made:
            stranger = Phone(fleet, port, made[0].session)
            status, body = await stranger.call("check-in", b"{}")
            assert (status, read(Refused, body).code) == (401, "unknown_device")
            stranger.ticket = made[0].ticket
            with pytest.raises(AssertionError, match="bad_signature"):
                await stranger.enrol()
            url = f"https://127.0.0.1:{port}/device/v1/check-in"
            async with made[0].session.post(url, data=b"{}") as reply:
                assert reply.status == 401
            async with made[0].session.post(f"https://127.0.0.1:{port}/device/v1/other", data=b"{}") as reply:
                assert reply.status == 404
            status, body = await made[0].call("check-in", b'{"population":"phones"}')
            assert (status, read(Refused, body).code) == (400, "bad_message")
            assert (await made[1].call("forget", b"{}"))[0] == 200
            status, body = await made[1].call("check-in", b"{}")
            assert (status, read(Refused, body).code) == (403, "device_revoked")
            with pytest.raises(AssertionError, match="device_revoked"):
                await made[1].enrol()
            status, body = await made[0].call("blobs/" + "ab" * 32, b"", "GET")
            assert (status, read(Refused, body).code) == (404, "not_found")
            assert fleet.rows.count_devices("phones") == 1
            long = bytes(100_000)
            assert (await made[0].call("reports", long))[0] == 413, "no round takes so much"
            status, body = await Phone(fleet, port, made[0].session).call("check-in", long)
            assert (status, read(Refused, body).code) == (401, "unknown_device")

    asyncio.run(run())


def test_the_kill_switch_stops_rounds_and_devices(tmp_path: Path) -> None:
    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        async with fleet.leading() as (_, port), phones(fleet, port, 20) as made:
            fleet.run(task_of())
            task = fleet.rows.tasks()[0].digest
            await until(lambda: fleet.rows.rounds(task))
            await made[0].work_once()
            fleet.rows.stop_population("phones", True)
            await until(lambda: fleet.rows.rounds(task)[0].phase == "aborted")
            answer = await made[1].check_in()
            assert (answer.stopped, answer.offer) == (True, None)
            await asyncio.sleep(0.1)
            assert len(fleet.rows.rounds(task)) == 1
            fleet.rows.stop_population("phones", False)
            await until(lambda: len(fleet.rows.rounds(task)) == 2)

    asyncio.run(run())


def test_a_released_model_reaches_its_share_of_devices_first(tmp_path: Path) -> None:
    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        async with fleet.leading() as (_, port), phones(fleet, port, 40) as made:
            fleet.run(task_of(rounds={"count": 1}, rollout={"hold_h": 1000}))
            await drive(made, lambda: fleet.rows.tasks()[0].state == FINISHED)
            (release,) = fleet.rows.releases("phones")
            assert release.model == fleet.rows.tasks()[0].model
            for phone in made:
                phone.releases.clear()
                await phone.check_in()
            have = [phone for phone in made if phone.releases]
            assert 8 <= len(have) <= 32, "half of 40, chosen by digest"
            paper = read_paper(Release, have[0].releases[0], fleet.key.public)
            assert (paper.number, paper.model) == (release.number, release.model)
            have[0].release, have[0].outcome = paper.number, Outcome(paper.task, 1, "late")
            assert (await have[0].check_in()).release is None, "it has it already"

    asyncio.run(run())


def test_a_task_ends_with_its_last_day_and_so_do_its_rounds(tmp_path: Path) -> None:
    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        async with fleet.leading() as (_, port), phones(fleet, port, 1) as made:
            fleet.run(task_of(metadata={"valid_until": "2000-01-01"}))
            await until(lambda: fleet.rows.tasks()[0].state == STOPPED)
            assert fleet.rows.tasks()[0].reason == "expired"
            assert (await made[0].check_in()).offer is None
            assert fleet.rows.rounds(fleet.rows.tasks()[0].digest) == []

    asyncio.run(run())


def test_a_release_of_a_task_that_has_ended_keeps_to_its_share_when_the_leader_begins_anew(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        fleet.run(task_of(rollout={"steps": [0.5, 1.0], "hold_h": 100}))
        task = fleet.rows.tasks()[0]
        fleet.rows.end_task(task.digest, FINISHED, "")
        paper = write(sign_paper(Release("phones", task.digest, task.model, 1), fleet.key)).decode()
        now_ms = round(SystemClock().now().timestamp() * 1000)
        row = ReleaseRow("phones", 1, task.digest, task.model, paper, 0, now_ms, LIVE, "{}")
        fleet.rows.add_release(row)
        async with fleet.leading() as (leader, port), phones(fleet, port, 24) as made:
            told = [(await phone.check_in()).release is not None for phone in made]
            assert 0 < sum(told) < 24
            fleet.rows.step_release("phones", 1, 1, now_ms)
            await until(lambda: leader._releases["phones"][0].step == 1)
            assert all([(await phone.check_in()).release for phone in made])

    asyncio.run(run())


def test_the_next_round_shows_the_model_of_the_one_before_however_long_its_opening_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_round = models.after_round

    def slowly(*args: Any) -> models.Made:
        time.sleep(0.15)  # many ticks
        return after_round(*args)

    monkeypatch.setattr(models, "after_round", slowly)

    async def run() -> None:
        fleet = Fleet(tmp_path / "fleet")
        async with fleet.leading() as (_, port), phones(fleet, port, 20) as made:
            fleet.run(task_of(rounds={"count": 2}))
            await drive(made, lambda: fleet.rows.tasks()[0].state == FINISHED)
            shown = [
                read(Round, row.shown.encode()) for row in fleet.rows.rounds(fleet.rows.tasks()[0].digest)
            ]
            assert [each.kind for each in shown] == ["train", "evaluate", "train", "evaluate"]
            first, second = shown[0].models[0], shown[2].models[0]
            assert shown[1].models == (first, second)
            assert shown[3].models[1] == fleet.rows.tasks()[0].model
            assert len({first, second, shown[3].models[1]}) == 3

    asyncio.run(run())
