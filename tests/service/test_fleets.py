"""Fleets over the HTTP interface: made, planned, started, stopped, rolled out; who may, what is on record, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.base.typed_json import read
from isthmus.fleet import rollout
from isthmus.fleet.rounds import BatchState
from isthmus.fleet.task import load_task
from isthmus.protocols.device_round import Manifest, Release, Signed, read_paper
from isthmus.service import fleet_shapes
from isthmus.service.node import Node
from isthmus.service.shapes import PageShape
from isthmus.store.fleet import RUNNING, STOPPED, FleetRows, Task
from isthmus.store.leader_folder import LeaderFolder, Place
from tests.service.fleet_rows import (
    AUTHORITY,
    card,
    device_key,
    give_devices,
    give_release,
    give_round,
    state,
    task_text,
)
from tests.service.people import give_pass, give_user
from tests.service.test_api import asking, check_problem


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def get(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def make(client: httpx.AsyncClient, helpers: tuple[str, ...] = ("app-co", "audit-house")) -> Any:
    for number, name in enumerate(helpers):
        await post(client, "/helpers", card=card(name, 10 * number + 1))
    return await post(client, "/fleets", name="phones", authority=AUTHORITY.public.hex(), epsilon=8.0)


async def start(client: httpx.AsyncClient, node: Node, **sections: dict[str, Any]) -> Task:
    text = task_text(**sections)
    await post(client, "/fleets/phones/tasks", document=text)
    row = node.fleets.rows.task(json.loads(text)["metadata"]["name"])
    assert row is not None
    return row


def kinds(node: Node) -> list[tuple[str, str, str]]:
    return [
        (line.kind, line.actor, line.object)
        for line in node.store.audit()
        if line.kind.split(".")[0] in ("fleet", "helper")
    ]


def test_a_node_without_fleets_says_so_and_makes_no_folder(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        for path in ("/fleets", "/helpers"):
            assert await get(client, path) == {"items": [], "next": None}
        check_problem(await client.get("/fleets/phones"), 404, "not_found")
        assert not (tmp_path / "node" / "fleet").exists()

    asking(tmp_path, play)


def test_a_fleet_is_made_once_and_shows_what_it_has(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        made = await make(client)
        assert (made["devices"], made["release"], made["app"], made["leader_running"]) == (
            0,
            None,
            None,
            False,
        )
        assert made["budget"] == {"epsilon": 8.0, "delta": 1e-6, "epsilon_left": 8.0, "delta_left": 1e-6}
        again = {"name": "phones", "authority": AUTHORITY.public.hex()}
        check_problem(await client.post("/fleets", json=again), 409, "already_there")
        bad: list[dict[str, Any]] = [
            {"name": "Big Phones"},
            {"authority": "5f"},
            {"epsilon": 0.0},
            {"delta": 0.5},
        ]
        for wrong in bad:
            check_problem(await client.post("/fleets", json=again | wrong), 422, "out_of_bounds")
        give_devices(node.fleets.rows, 9)
        shown = await get(client, "/fleets/phones")
        assert (shown["devices"], shown["versions"]) == (9, {"8.2": 6, "8.1": 3})
        assert kinds(node)[-1] == ("fleet.made", "bank/local", "phones")
        node.fleets.folder.certificate.write_text("PEM")
        node.fleets.folder.keep_place(Place("0.0.0.0:8444", "https://leader.example:8444"))
        app = (await get(client, "/fleets/phones"))["app"]
        fleet_shapes.AppShape.model_validate(app)
        assert app["leader"] == {
            "name": "bank",
            "address": "leader.example:8444",
            "key": node.key.public.hex(),
            "certificate": "PEM",
        }
        assert (app["population"], app["authority"]) == ("phones", AUTHORITY.public.hex())
        assert [each["name"] for each in app["helpers"]] == ["app-co", "audit-house"]

    asking(tmp_path, play)


def test_the_rows_are_there_after_the_node_was_started_again(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        other = FleetRows(tmp_path / "node" / "fleet")
        other.stop_population("phones", True)
        other.close()
        assert (await get(client, "/fleets/phones"))["stopped"] is True

    asking(tmp_path, play)


def test_a_plan_says_what_a_task_costs_and_spends_nothing(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        before = kinds(node)
        plan = await post(client, "/fleets/phones/tasks/plan", document=task_text())
        assert (plan["parameters"], plan["rounds"], plan["evaluations"], plan["floor"]) == (9, 20, 2, 20)
        assert (plan["epsilon"], plan["delta"], plan["budget"]["epsilon_left"]) == (3.0, 1e-7, 8.0)
        assert plan["noise_std"] > 0
        assert plan["upload_bytes"] > 2 * 9
        assert plan["obstacles"] == []
        assert plan["begins_with"] is None
        assert {leak["who"] for leak in plan["learns"]} >= {"bank", "app-co", "audit-house", "device"}
        assert load_task(plan["document"].encode()) == load_task(task_text().encode())
        assert kinds(node) == before
        assert node.fleets.rows.tasks() == []
        started = await post(client, "/fleets/phones/tasks", document=task_text())
        assert started["digest"] == plan["digest"]
        chinese = await client.post(
            "/fleets/phones/tasks/plan", json={"document": task_text()}, headers={"Accept-Language": "zh"}
        )
        assert "权重" in chinese.json()["learns"][1]["learns"]
        plain = await post(client, "/fleets/phones/tasks/plan", document=task_text(privacy={"dp": "none"}))
        assert (plain["epsilon"], plain["noise_std"]) == (None, 0.0)

    asking(tmp_path, play)


def test_a_plan_names_what_is_in_the_way_and_a_start_is_refused_by_it(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client, ("app-co",))
        plan = await post(client, "/fleets/phones/tasks/plan", document=task_text())
        assert [each["code"] for each in plan["obstacles"]] == ["not_found"]
        assert "audit-house" in plan["obstacles"][0]["detail"]
        assert plan["digest"] is None
        path = "/fleets/phones/tasks"
        check_problem(await client.post(path, json={"document": task_text()}), 404, "not_found")
        await post(client, "/helpers", card=card("audit-house", 30))
        await start(client, node)
        second = task_text(metadata={"name": "taste-2"}, privacy={"dp": {"epsilon": 5.5, "delta": 1e-7}})
        plan = await post(client, path + "/plan", document=second)
        assert [each["code"] for each in plan["obstacles"]] == ["privacy_spent"]
        assert plan["budget"]["epsilon_left"] == 5.0
        check_problem(await client.post(path, json={"document": second}), 403, "privacy_spent")
        check_problem(await client.post(path, json={"document": task_text()}), 409, "already_there")
        await post(client, "/fleets/phones/kill")
        third = task_text(metadata={"name": "taste-3"}, privacy={"dp": {"epsilon": 1.0, "delta": 1e-7}})
        plan = await post(client, path + "/plan", document=third)
        assert [each["code"] for each in plan["obstacles"]] == ["conflict"]
        check_problem(await client.post(path, json={"document": third}), 409, "conflict")
        assert [task.name for task in node.fleets.rows.tasks()] == ["taste-1"]

    asking(tmp_path, play)


def test_a_task_file_that_does_not_fit_is_refused_with_its_field(tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"fleet": {"name": "tablets"}}, "fleet.name"),
        ({"parties": {"leader": "shop"}}, "parties.leader"),
        ({"metadata": {"valid_until": "2025-01-01"}}, "metadata.valid_until"),
        ({"rounds": {"min_cohort": 19}}, "rounds.min_cohort"),
        ({"robust": {"buckets": 3}}, "robust.buckets"),
        ({"parties": {"helpers": ["app-co", "app-co"]}}, "parties"),
    ]

    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        for sections, field in wrong:
            for path in ("/fleets/phones/tasks/plan", "/fleets/phones/tasks"):
                answer = await client.post(path, json={"document": task_text(**sections)})
                assert check_problem(answer, 422, "out_of_bounds")["field"] == field

    asking(tmp_path, play)


def test_a_start_that_is_sent_again_acts_once_and_a_plan_is_never_kept(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        key, path = {"Idempotency-Key": "one"}, "/fleets/phones/tasks"
        first = await client.post(path, json={"document": task_text()}, headers=key)
        again = await client.post(path, json={"document": task_text()}, headers=key)
        assert (first.status_code, again.json()) == (200, first.json())
        assert len(node.fleets.rows.tasks()) == 1
        other = {"document": task_text(metadata={"name": "taste-2"})}
        check_problem(await client.post(path, json=other, headers=key), 422, "key_reused")
        for body in ({"document": task_text()}, other):
            plan = await client.post(path + "/plan", json=body, headers={"Idempotency-Key": "two"})
            assert plan.status_code == 200

    asking(tmp_path, play)


def test_a_started_task_is_signed_sets_its_privacy_aside_and_can_be_stopped_once(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        row = await start(client, node)
        manifest = read_paper(Manifest, Signed(row.manifest, row.signature), node.key.public)
        assert (manifest.digest, manifest.authority) == (row.digest, AUTHORITY.public)
        assert [helper.name for helper in manifest.helpers] == ["app-co", "audit-house"]
        assert manifest.helpers[1].sealing == bytes([12] * 32)
        assert (await get(client, "/fleets/phones"))["budget"]["epsilon_left"] == 5.0
        shown = await get(client, "/fleets/phones/tasks/taste-1")
        assert (shown["state"], shown["budget"]) == (RUNNING, {"spent": 0.0, "epsilon": 3.0, "delta": 1e-7})
        stopped = await post(client, "/fleets/phones/tasks/taste-1/stop")
        assert (stopped["state"], stopped["reason"]) == (STOPPED, "by bank/local")
        check_problem(await client.post("/fleets/phones/tasks/taste-1/stop"), 409, "conflict")
        assert kinds(node)[-2:] == [
            ("fleet.task_started", "bank/local", "phones/taste-1"),
            ("fleet.task_stopped", "bank/local", "phones/taste-1"),
        ]
        assert node.store.audit()[-1].digest == row.digest.hex()
        await post(client, "/fleets", name="tablets", authority=AUTHORITY.public.hex())
        check_problem(await client.get("/fleets/tablets/tasks/taste-1"), 404, "not_found")
        check_problem(await client.post("/fleets/tablets/tasks/taste-1/stop"), 404, "not_found")

    asking(tmp_path, play)


def test_a_round_shows_who_came_how_far_and_why_the_others_did_not(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        row, rows = await start(client, node), node.fleets.rows
        first = BatchState(b"1" * 16, 20, (True, True))
        refused = BatchState(b"2" * 16, 21, (True, False), "cohort_too_small")
        lost = {
            "checked_in": 90,
            "eligible": 60,
            "offered": 50,
            "uploaded": 44,
            "gone": 6,
            "not_eligible": 30,
        }
        give_round(rows, row, 1, state("opened", 44, (first, refused)), **lost)
        give_round(rows, row, 2, state("aborted", 3, reason="too_few"), checked_in=4, eligible=3, offered=3)
        waiting = BatchState(b"3" * 16, 40, (True, False))
        give_round(rows, row, 3, state("answering", 40, (waiting,)), checked_in=50, eligible=45, offered=42)
        shown = await get(client, "/fleets/phones/tasks/taste-1")
        fleet_shapes.WholeFleetTaskShape.model_validate(shown)
        assert (shown["rounds_planned"], shown["rounds_done"], shown["rounds_given_up"]) == (20, 1, 1)
        assert [each["number"] for each in shown["rounds"]] == [3, 2, 1]
        opened = shown["rounds"][2]
        assert opened["funnel"] == {
            "checked_in": 90,
            "eligible": 60,
            "offered": 50,
            "uploaded": 44,
            "counted": 20,
        }
        assert opened["lost"] == {"gone": 6, "not_eligible": 30, "left_out": 3, "batch_refused": 21}
        given_up, answering = shown["rounds"][1], shown["rounds"][0]
        assert (given_up["reason"], given_up["funnel"]["counted"]) == ("too_few", 0)
        assert (answering["waits_for"], answering["funnel"]["counted"]) == ([1], 0)
        assert (await get(client, "/fleets/phones"))["rounds"] == {"answering": 1}
        newest = await get(client, "/fleets/phones/tasks/taste-1?rounds=1")
        assert [each["number"] for each in newest["rounds"]] == [3]

    asking(tmp_path, play)


def test_a_release_goes_to_the_next_share_and_back_to_the_model_before(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        row, rows = await start(client, node), node.fleets.rows
        path = "/fleets/phones/rollout"
        check_problem(await client.post(path, json={"move": "next"}), 404, "not_found")
        give_release(rows, row, 1, b"1" * 32, 2)
        check_problem(await client.post(path, json={"move": "back"}), 409, "conflict")
        give_release(rows, row, 2, b"2" * 32)
        shares = [(await post(client, path, move="next"))["share"] for _ in range(2)]
        assert shares == [0.1, 1.0]
        check_problem(await client.post(path, json={"move": "next"}), 409, "conflict")
        back = await post(client, path, move="back")
        assert (back["number"], back["model"], back["share"]) == (3, "31" * 32, 1.0)
        signed = read(Signed, rows.releases("phones")[0].signed.encode())
        paper = read_paper(Release, signed, node.key.public)
        assert paper == Release("phones", row.digest, b"1" * 32, 3)
        listed = (await get(client, "/fleets/phones/releases"))["items"]
        assert [(each["number"], each["state"]) for each in listed] == [
            (3, "live"),
            (2, "rolled_back"),
            (1, "replaced"),
        ]
        check_problem(await client.post(path, json={"move": "back"}), 409, "conflict")
        assert [kind for kind, _, _ in kinds(node)][-3:] == [
            "fleet.rolled_out",
            "fleet.rolled_out",
            "fleet.rolled_back",
        ]

    asking(tmp_path, play)


def test_who_is_not_in_the_share_of_a_release_keeps_the_one_before(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        row, rows = await start(client, node), node.fleets.rows
        give_release(rows, row, 1, b"1" * 32, 2)
        give_release(rows, row, 2, b"2" * 32, 1)
        steps = {row.digest: (0.01, 0.1, 1.0)}
        used = [rollout.release_for(device_key(n), rows.releases("phones"), steps) for n in range(400)]
        numbers = [each.number for each in used if each is not None]
        assert len(numbers) == 400
        assert 10 < numbers.count(2) < 90
        await post(client, "/fleets/phones/rollout", move="back")
        used = [rollout.release_for(device_key(n), rows.releases("phones"), steps) for n in range(50)]
        assert {(each.number, each.model) for each in used if each is not None} == {(3, b"1" * 32)}

    asking(tmp_path, play)


def test_the_next_task_goes_on_from_the_model_that_devices_have(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        row, rows = await start(client, node), node.fleets.rows
        body = rows.blob(row.model)
        assert body is not None
        give_release(rows, row, 1, row.model)
        dp = {"dp": {"epsilon": 1.0, "delta": 1e-7}}
        plan = await post(
            client, "/fleets/phones/tasks/plan", document=task_text(metadata={"name": "t-2"}, privacy=dp)
        )
        assert plan["begins_with"] == 1
        same = await start(client, node, metadata={"name": "t-2"}, privacy=dp, run={"seed": 9})
        assert same.model == row.model
        other = await start(
            client,
            node,
            metadata={"name": "t-3"},
            privacy=dp,
            model={"layers": [{"dense": 2}, "softmax"], "loss": "ce"},
        )
        assert other.model != row.model
        assert len(rows.blob(other.model) or b"") == 4 * 18

    asking(tmp_path, play)


def test_devices_come_in_pages_and_one_can_be_blocked_for_good(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        give_devices(node.fleets.rows, 7)
        found, cursor = [], ""
        while True:
            page = await get(client, f"/fleets/phones/devices?limit=3{cursor}")
            found += [each["key"] for each in page["items"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert found == [device_key(number).hex() for number in range(7)]
        key = device_key(4).hex()
        blocked = await post(client, "/fleets/phones/block", device=key)
        assert (blocked["key"], blocked["blocked"]) == (key, True)
        one = await get(client, f"/fleets/phones/devices?device={key}")
        assert [each["blocked"] for each in one["items"]] == [True]
        assert (await get(client, "/fleets/phones"))["devices"] == 6
        unknown = await client.post("/fleets/phones/block", json={"device": "5f" * 32})
        check_problem(unknown, 404, "not_found")
        assert node.store.audit()[-1].digest == key
        check_problem(await client.get("/fleets/phones/devices?cursor=bm8"), 422, "out_of_bounds")

    asking(tmp_path, play)


def test_the_kill_switch_is_thrown_and_undone_and_both_are_on_record(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        assert (await post(client, "/fleets/phones/kill"))["stopped"] is True
        assert (await post(client, "/fleets/phones/kill", undo=True))["stopped"] is False
        assert [kind for kind, _, _ in kinds(node)][-2:] == ["fleet.killed", "fleet.resumed"]
        check_problem(await client.post("/fleets/none/kill"), 404, "not_found")

    asking(tmp_path, play)


def test_a_party_that_leads_a_fleet_does_not_change_its_key(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        refused = check_problem(await client.post("/partners/rotate", json={}), 409, "conflict")
        assert "phones" in refused["detail"]
        assert node.keys.row is None

    asking(tmp_path, play)


def test_a_card_is_checked_and_a_new_one_takes_the_place_of_the_old(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        good = card("app-co", 1)
        for wrong in (
            "",
            "{}",
            "[]",
            good[:-1],
            good.replace("8445", "8446"),
            good.replace("app-co", "app-cd"),
        ):
            check_problem(await client.post("/helpers", json={"card": wrong}), 422, "bad_card")
        own = await client.post("/helpers", json={"card": card("bank", 1)})
        check_problem(own, 422, "out_of_bounds")
        for seed in (1, 5):
            await post(client, "/helpers", card=card("app-co", seed))
        (kept,) = (await get(client, "/helpers"))["items"]
        assert kept["sealing"] == "06" * 32
        assert [kind for kind, _, _ in kinds(node)] == ["helper.added"] * 2

    asking(tmp_path, play)


def test_answers_of_fleets_keep_to_their_shapes(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        row = await start(client, node)
        give_devices(node.fleets.rows, 2)
        give_release(node.fleets.rows, row, 1, row.model)
        give_round(node.fleets.rows, row, 1, state("collecting", 7), checked_in=9)
        fleet_shapes.FleetPlanShape.model_validate(
            await post(client, "/fleets/phones/tasks/plan", document=task_text())
        )
        for path, shape, count in (
            ("/fleets", PageShape[fleet_shapes.FleetShape], 1),
            ("/fleets/phones/devices", PageShape[fleet_shapes.DeviceShape], 2),
            ("/fleets/phones/releases", PageShape[fleet_shapes.ReleaseShape], 1),
            ("/fleets/phones/tasks", PageShape[fleet_shapes.FleetTaskShape], 1),
            ("/helpers", PageShape[fleet_shapes.HelperShape], 2),
        ):
            assert len(shape.model_validate(await get(client, path)).items) == count, path

    asking(tmp_path, play)


def test_a_person_who_acts_is_named_and_one_whose_role_is_too_low_is_refused(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await make(client)
        give_user(node, "ann", "approver")
        headers = give_pass(node, "ann", "ann")
        body = {"document": task_text()}
        check_problem(await client.post("/fleets/phones/tasks", json=body, headers=headers), 403, "role")
        assert (await client.post("/fleets/phones/tasks/plan", json=body, headers=headers)).status_code == 200
        assert (await client.post("/fleets/phones/kill", headers=headers)).status_code == 200
        assert kinds(node)[-1] == ("fleet.killed", "bank/ann", "phones")

    asking(tmp_path, play)


def test_one_leader_holds_a_folder_and_the_node_sees_it(tmp_path: Path) -> None:
    folder = LeaderFolder(tmp_path)
    folder.make()
    assert not folder.running()
    with folder.locked():
        assert folder.running()
        with pytest.raises(Exception, match="busy"), folder.locked():
            pass
    assert not folder.running()
