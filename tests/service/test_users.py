"""People: signing in, second factors, sessions, tokens, lock-outs, and what each refusal tells. (A1, A6, T24, T26)"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from isthmus.base import files
from isthmus.crypto.totp import STEP_S, code_at
from isthmus.service.api import make_app
from isthmus.service.audit import REFUSALS_OF_ONE
from isthmus.service.node import Node
from isthmus.service.users import PAUSE_MAX_S, PAUSE_S, SESSIONS_MAX, TRIES, name_digest, pause_s
from isthmus.store.audit import AuditKind
from isthmus.store.folder import NodeFolder, make_config
from isthmus.store.settings import Limits
from isthmus.wire.link import make_certificate
from tests.service.people import QUICK, SECOND, bearer, digest, give_pass, give_user
from tests.service.test_api import asking, check_problem
from tests.service.test_gate import drive
from tests.service.test_once import SetClock, key

WORDS = "four unrelated words here"
OFTEN = Limits(sign_ins_per_min=600)


class Desk:
    """Somebody at a machine: signs in, and sends requests with the session."""

    def __init__(self, client: httpx.AsyncClient, node: Node, name: str) -> None:
        self.client = client
        self.node = node
        self.name = name
        self.headers: dict[str, str] = {}
        self.secret = b""
        self.codes = 0

    async def send(
        self, method: str, path: str, body: dict[str, Any] | None = None, under: str | None = None
    ) -> httpx.Response:
        return await self.client.request(
            method, path, json=body, headers=self.headers | (key(under) if under else {})
        )

    async def sign_in(self, **given: Any) -> httpx.Response:
        body = {"name": self.name, "password": WORDS} | given
        answer = await self.client.post("/sign-in", json=body, headers={"Authorization": ""})
        if answer.status_code == 200:
            self.headers = bearer(answer.json()["token"])
        return answer

    async def enrol(self, once: str) -> None:
        """The first sign-in, up to the session with which everything can be done."""
        assert (await self.sign_in(once=once)).json()["enrolling"]
        made = (await self.send("POST", "/me/second-factor")).json()
        user = self.node.users.find(self.name)
        self.secret = self.node.vault.open(user.second or b"", f"second factor of {self.name}")
        assert made["address"].startswith(f"otpauth://totp/bank%3A{self.name}?secret={made['secret']}")
        answer = await self.send("POST", "/me/second-factor/confirm", {"code": self.code()})
        assert answer.status_code == 200, answer.text
        self.headers = bearer(answer.json()["token"])

    def code(self, apart: int = 0) -> str:
        """The code of now, or of so many steps away."""
        return code_at(self.secret or SECOND, int(self.node.clock.now().timestamp()) // STEP_S + apart)


def with_clock(
    tmp_path: Path,
    play: Callable[[httpx.AsyncClient, Node, SetClock], Awaitable[None]],
    limits: Limits = OFTEN,
) -> None:
    """As `asking`, with a clock that stands still until the test sets it."""
    clock = SetClock()

    async def run(client: httpx.AsyncClient, node: Node) -> None:
        await play(client, node, clock)

    asking(tmp_path, run, limits, clock)


async def added(client: httpx.AsyncClient, name: str, *roles: str) -> str:
    """Adds a user as the owner of the folder: its one-time code."""
    answer = await client.post("/users", json={"name": name, "roles": list(roles)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["once"])


def give_password(node: Node, name: str, *roles: Any, second_on: bool = True) -> None:
    give_user(node, name, *roles, second_on=second_on)
    user = node.users.find(name)
    assert node.store.put_user(replace(user, password=QUICK.hash(WORDS), version=2))


# --- signing in ---


def test_a_one_time_code_sets_a_password_and_the_second_factor_then_opens_everything(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        once = await added(client, "ann", "modeller")
        ann = Desk(client, node, "ann")
        check_problem(await ann.sign_in(once=once, password="short"), 422, "weak_password")
        session = (await ann.sign_in(once=once)).json()
        assert (session["name"], session["roles"], session["enrolling"]) == ("ann", ["modeller"], True)
        check_problem(await ann.send("GET", "/jobs"), 403, "second_factor")
        check_problem(await Desk(client, node, "ann").sign_in(once=once), 401, "wrong_sign_in")
        check_problem(
            await ann.send("POST", "/me/second-factor/confirm", {"code": "000000"}), 401, "wrong_sign_in"
        )
        made = (await ann.send("POST", "/me/second-factor")).json()
        assert len(made["secret"]) == 32
        ann.secret = node.vault.open(node.users.find("ann").second or b"", "second factor of ann")
        before = ann.headers
        confirmed = await ann.send("POST", "/me/second-factor/confirm", {"code": ann.code()})
        ann.headers = bearer(confirmed.json()["token"])
        assert (await ann.send("GET", "/jobs")).status_code == 200
        # The session that could do little is not the one that can do everything.
        check_problem(await client.get("/me", headers=before), 401, "sign_in")
        check_problem(await ann.send("POST", "/me/second-factor"), 409, "conflict")
        clock.time += timedelta(seconds=STEP_S)
        assert (await ann.sign_in(code=ann.code())).status_code == 200
        me = (await ann.send("GET", "/me")).json()
        assert (me["name"], me["kind"], me["roles"], me["party"]) == ("ann", "session", ["modeller"], "bank")

    with_clock(tmp_path, play)


def test_a_one_time_code_ends_after_a_day_and_belongs_to_its_user(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        once = await added(client, "ann", "modeller")
        await added(client, "bob", "modeller")
        check_problem(await Desk(client, node, "bob").sign_in(once=once), 401, "wrong_sign_in")
        check_problem(await client.get("/me", headers=bearer(once)), 401, "sign_in")
        clock.time += timedelta(hours=24)
        check_problem(await Desk(client, node, "ann").sign_in(once=once), 401, "wrong_sign_in")

    with_clock(tmp_path, play)


def test_a_code_of_the_app_opens_once(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        give_password(node, "ann", "modeller")
        ann = Desk(client, node, "ann")
        used = ann.code(1)
        assert (await ann.sign_in(code=used)).status_code == 200
        for code in (used, ann.code(0), ann.code(-1), ann.code(2), "", None, "0" * 16):
            check_problem(await ann.sign_in(code=code), 401, "wrong_sign_in")
            node.store.clear_tries(name_digest("ann"))
        clock.time += timedelta(seconds=STEP_S)
        both = await asyncio.gather(*(ann.sign_in(code=ann.code(1)) for _ in range(2)))
        assert sorted(answer.status_code for answer in both) == [200, 401]

    with_clock(tmp_path, play)


def test_whatever_is_wrong_the_answer_is_the_same_and_takes_one_hash(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        give_password(node, "ann", "modeller")
        give_user(node, "invited", "modeller")
        code = Desk(client, node, "ann").code()
        told = set()
        for body in (
            {"name": "ann", "password": "four unrelated words hers", "code": code},
            {"name": "ann", "password": WORDS},
            {"name": "ann", "password": WORDS, "code": "000000"},
            {"name": "ann", "password": "another dozen of letters", "once": "isthmus-1-x"},
            {"name": "invited", "password": WORDS},
            {"name": "nobody", "password": WORDS, "code": code},
            {"name": "nobody", "password": "another dozen of letters", "once": "isthmus-1-x"},
            {"name": "\u6f22", "password": WORDS},
            {"name": "local", "password": WORDS},
            {"name": "", "password": ""},
        ):
            before = QUICK.calls
            answer = await client.post("/sign-in", json=body)
            assert QUICK.calls == before + 1, body
            problem = check_problem(answer, 401, "wrong_sign_in")
            del problem["trace_id"]
            told.add(str(problem))
        assert len(told) == 1

    with_clock(tmp_path, play)


def test_a_name_of_nobody_takes_as_many_writes_as_one_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(files, "committed", written.append)

    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        give_password(node, "ann", "modeller")
        counts: dict[str, list[int]] = {"ann": [], "nobody": [], "nobody-else": []}
        for name, found in counts.items():
            for _ in range(TRIES + 2):
                written.clear()
                assert (await Desk(client, node, name).sign_in()).status_code in (401, 429)
                found.append(len(written))
        assert counts["ann"] == counts["nobody"] == counts["nobody-else"]

    with_clock(tmp_path, play)


def test_a_session_is_never_one_that_the_caller_brought(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        give_password(node, "ann", "modeller")
        give_user(node, "eve", "auditor")
        planted = give_pass(node, "planted", "eve")
        for brought in (planted, bearer("isthmus-s-chosen-by-eve"), bearer("secret-token")):
            clock.time += timedelta(seconds=STEP_S)
            body = {"name": "ann", "password": WORDS, "code": Desk(client, node, "ann").code()}
            answer = await client.post("/sign-in", json=body, headers=brought)
            assert answer.status_code == 200, answer.text
            assert answer.json()["token"] not in brought["Authorization"]
        assert (await client.get("/me", headers=planted)).json()["name"] == "eve"
        check_problem(await client.get("/me", headers=bearer("isthmus-s-chosen-by-eve")), 401, "sign_in")
        assert len({found.digest for found in node.store.passes("session", "ann")}) == 3

    with_clock(tmp_path, play)


# --- lock-out ---


def test_pauses_begin_with_the_fifth_failure_and_grow(tmp_path: Path) -> None:
    assert [pause_s(n) for n in range(8)] == [0, 0, 0, 0, 0, PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S]
    assert pause_s(10_000) == PAUSE_MAX_S

    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        give_password(node, "ann", "modeller", second_on=False)
        for name in ("ann", "nobody"):
            desk = Desk(client, node, name)
            for failures in range(1, TRIES + 3):
                check_problem(await desk.sign_in(password="wrong"), 401, "wrong_sign_in")
                if failures >= TRIES:
                    wait_s = pause_s(failures)
                    before = QUICK.calls
                    refused = await desk.sign_in()
                    assert check_problem(refused, 429, "locked_out")["fields"]["wait_s"] == str(wait_s)
                    assert refused.headers["retry-after"] == str(wait_s)
                    assert QUICK.calls == before
                    clock.time += timedelta(seconds=wait_s - 1)
                    check_problem(await desk.sign_in(), 429, "locked_out")
                    clock.time += timedelta(seconds=1)
        ann = Desk(client, node, "ann")
        clock.time += timedelta(seconds=PAUSE_MAX_S)
        assert (await ann.sign_in()).status_code == 200
        check_problem(await ann.sign_in(password="wrong"), 401, "wrong_sign_in")
        assert (await ann.sign_in()).status_code == 200

    with_clock(tmp_path, play)


def test_tries_at_the_same_time_are_counted_like_tries_in_a_row(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        give_password(node, "ann", "modeller", second_on=False)
        ann = Desk(client, node, "ann")
        answers = await asyncio.gather(*(ann.sign_in(password=f"guess {n}") for n in range(20)))
        codes = [answer.json()["code"] for answer in answers]
        assert (codes.count("wrong_sign_in"), codes.count("locked_out")) == (TRIES, 20 - TRIES)

    with_clock(tmp_path, play)


def test_a_lock_out_survives_a_restart_and_a_clock_that_is_set_back(tmp_path: Path) -> None:
    async def play() -> None:
        clock = SetClock()
        config = make_config({"party": "bank", "mode": "dial-out", "data": [str(tmp_path)]}, "test")
        folder = NodeFolder.create(tmp_path / "node", config, make_certificate)

        async def ask(*passwords: str) -> list[int]:
            node = Node(folder, clock, passwords=QUICK)
            if node.store.user("ann") is None:
                give_password(node, "ann", "modeller", second_on=False)
            app = make_app(node, None, OFTEN)
            try:
                async with httpx.AsyncClient(
                    transport=httpx.ASGITransport(app), base_url="http://node/api/v1"
                ) as client:
                    desk = Desk(client, node, "ann")
                    return [(await desk.sign_in(password=p)).status_code for p in passwords]
            finally:
                await node.close()

        assert await ask(*["wrong"] * TRIES) == [401] * TRIES
        assert await ask(WORDS, "wrong") == [429, 429]
        clock.time -= timedelta(days=300)
        assert await ask(WORDS) == [429]
        clock.time += timedelta(seconds=PAUSE_S)
        assert await ask(WORDS) == [200]

    asyncio.run(play())


def test_a_reset_ends_a_lock_out_and_all_that_stood_for_the_user(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        give_password(node, "ann", "modeller")
        session, token = give_pass(node, "s", "ann"), give_pass(node, "t", "ann", "token")
        ann = Desk(client, node, "ann")
        for _ in range(TRIES):
            await ann.sign_in(password="wrong")
        once = (await client.post("/users/ann/reset")).json()["once"]
        for headers in (session, token):
            check_problem(await client.get("/me", headers=headers), 401, "sign_in")
        check_problem(await ann.sign_in(code=ann.code()), 401, "wrong_sign_in")
        await ann.enrol(once)
        assert (await ann.send("GET", "/jobs")).status_code == 200

    with_clock(tmp_path, play)


# --- sessions ---


def test_a_session_ends_when_nobody_uses_it_and_after_its_time(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        give_password(node, "ann", "modeller")
        ann = Desk(client, node, "ann")
        await ann.sign_in(code=ann.code())
        for _ in range(24):
            clock.time += timedelta(minutes=29)
            assert (await ann.send("GET", "/me")).status_code == 200
        clock.time += timedelta(minutes=24)
        check_problem(await ann.send("GET", "/me"), 401, "sign_in")
        await ann.sign_in(code=ann.code())
        clock.time += timedelta(minutes=30)
        check_problem(await ann.send("GET", "/me"), 401, "sign_in")

    with_clock(tmp_path, play)


@pytest.mark.parametrize("change", ["password", "roles", "removal", "sign-out"])
def test_sessions_end_at_once(tmp_path: Path, change: str) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        give_password(node, "ann", "modeller", "operator")
        ann, other = Desk(client, node, "ann"), give_pass(node, "other", "ann")
        await ann.sign_in(code=ann.code())
        before = ann.headers
        match change:
            case "password":
                weak = await ann.send("POST", "/me/password", {"old": WORDS, "new": "aaaabbbbccccdddd"})
                check_problem(weak, 422, "weak_password")
                wrong = await ann.send(
                    "POST", "/me/password", {"old": WORDS + "!", "new": "and here are four others"}
                )
                check_problem(wrong, 401, "wrong_sign_in")
                assert (await ann.send("GET", "/me")).status_code == 200
                body = {"old": WORDS, "new": "and here are four others"}
                session = (await ann.send("POST", "/me/password", body)).json()
                assert (await client.get("/me", headers=bearer(session["token"]))).status_code == 200
            case "roles":
                assert (
                    await client.post("/users/ann/roles", json={"roles": ["operator"]})
                ).status_code == 200
            case "removal":
                assert (await client.delete("/users/ann")).status_code == 200
            case "sign-out":
                assert (await ann.send("POST", "/sign-out")).status_code == 200
                assert (await client.get("/me", headers=other)).status_code == 200
                other = before
        for headers in (before, other):
            check_problem(await client.get("/me", headers=headers), 401, "sign_in")

    with_clock(tmp_path, play)


def test_one_person_has_so_many_sessions_and_the_oldest_gives_way(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        give_password(node, "ann", "modeller", second_on=False)
        ann = Desk(client, node, "ann")
        await ann.sign_in()
        first = ann.headers
        for _ in range(SESSIONS_MAX):
            clock.time += timedelta(seconds=1)
            await ann.sign_in()
        assert node.users.sessions_of("ann") == SESSIONS_MAX
        check_problem(await client.get("/me", headers=first), 401, "sign_in")

    with_clock(tmp_path, play)


def test_an_event_stream_ends_with_the_session_of_its_reader(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        give_user(node, "ann", "modeller")
        give_pass(node, "s", "ann")
        person = node.users.who(b"s")
        assert person is not None
        assert node.users.still(person)
        node.users.set_roles("ann", ["auditor"])
        assert not node.users.still(person)
        give_pass(node, "s2", "ann")
        person = node.users.who(b"s2")
        assert person is not None
        node.store.remove_user("ann")
        assert not node.users.still(person)

    asking(tmp_path, play)


# --- tokens ---


def test_a_token_has_no_more_rights_than_its_user_and_never_administers_or_approves(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        give_user(node, "ann", "admin", "modeller", "approver")
        ann = give_pass(node, "s", "ann")
        made = (await client.post("/tokens", json={"user": "ann"}, headers=ann)).json()
        token = bearer(made["token"])
        assert (await client.get("/me", headers=token)).json()["roles"] == ["modeller"]
        for path, needed in (("/users", "admin or auditor"), ("/tokens", "")):
            answer = await client.get(path, headers=token)
            assert answer.status_code == (403 if needed else 200)
            assert not needed or answer.json()["fields"]["needed"] == needed
        check_problem(await client.post("/jobs/j-1/accept", headers=token), 403, "role")
        for roles in (["approver"], ["admin"], ["auditor"], ["modeller", "operator"], []):
            refused = await client.post("/tokens", json={"user": "ann", "roles": roles}, headers=ann)
            assert check_problem(refused, 422, "out_of_bounds")["field"] == "roles"
        node.users.set_roles("ann", ["admin", "operator"])
        assert (await client.get("/me", headers=token)).json()["roles"] == ["operator"]

    asking(tmp_path, play)


def test_a_token_is_made_by_whom_it_acts_for_or_by_an_admin_and_never_by_a_token(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        give_user(node, "ann", "modeller")
        give_user(node, "bob", "operator")
        ann = give_pass(node, "s", "ann")
        for user in ("bob", None):
            body = {"user": user, "roles": ["operator"]}
            check_problem(await client.post("/tokens", json=body, headers=ann), 403, "role")
        own = (await client.post("/tokens", json={"user": "ann", "days": 1}, headers=ann)).json()
        again = await client.post("/tokens", json={"user": "ann"}, headers=bearer(own["token"]))
        check_problem(again, 403, "second_factor")
        machine = (await client.post("/tokens", json={"roles": ["service"]})).json()
        me = (await client.get("/me", headers=bearer(machine["token"]))).json()
        assert (me["name"], me["roles"], me["kind"]) == (f"token-{machine['id']}", ["service"], "token")
        listed = (await client.get("/tokens")).json()["items"]
        assert {token["id"] for token in listed} == {own["id"], machine["id"]}
        assert all("token" not in token for token in listed)
        assert [t["id"] for t in (await client.get("/tokens", headers=ann)).json()["items"]] == [own["id"]]
        unknown = check_problem(await client.delete(f"/tokens/{'0' * 10}", headers=ann), 404, "not_found")
        foreign = check_problem(
            await client.delete(f"/tokens/{machine['id']}", headers=ann), 404, "not_found"
        )
        assert unknown["detail"].replace("0" * 10, machine["id"]) == foreign["detail"]
        for token, headers in ((own, ann), (machine, {})):
            assert (await client.delete(f"/tokens/{token['id']}", headers=headers)).status_code == 200
            check_problem(await client.get("/me", headers=bearer(token["token"])), 401, "sign_in")

    asking(tmp_path, play)


def test_a_token_ends_on_its_day_and_with_its_user(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        give_user(node, "ann", "modeller")
        tokens = [
            bearer((await client.post("/tokens", json={"user": "ann", "days": days})).json()["token"])
            for days in (1, 365)
        ]
        check_problem(await client.post("/tokens", json={"user": "ann", "days": 366}), 422, "out_of_bounds")
        clock.time += timedelta(days=1)
        assert [(await client.get("/me", headers=t)).status_code for t in tokens] == [401, 200]
        await client.delete("/users/ann")
        assert (await client.get("/me", headers=tokens[1])).status_code == 401
        await added(client, "ann", "modeller")
        assert (await client.get("/me", headers=tokens[1])).status_code == 401

    with_clock(tmp_path, play)


# --- people who manage people ---


def test_names_and_roles_are_of_fixed_form(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        for name in (
            "Ann",
            "a b",
            "",
            "local",
            "stranger",
            "token-1",
            "a/b",
            "-a",
            "a" * 33,
            "\u5b89",
            "ann\n",
        ):
            answer = await client.post("/users", json={"name": name, "roles": []})
            assert check_problem(answer, 422, "out_of_bounds")["field"] == "name"
        for roles in (["root"], "admin", [True]):
            refused = await client.post("/users", json={"name": "ann", "roles": roles})
            check_problem(refused, 422, "out_of_bounds")
        await added(client, "ann", "modeller")
        check_problem(await client.post("/users", json={"name": "ann", "roles": []}), 409, "already_there")

    asking(tmp_path, play)


def test_of_two_admins_who_change_the_same_roles_one_is_told(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await added(client, "ann", "modeller")
        bodies = [{"roles": ["modeller", more], "was": ["modeller"]} for more in ("auditor", "operator")]
        answers = await asyncio.gather(*(client.post("/users/ann/roles", json=body) for body in bodies))
        assert sorted(a.status_code for a in answers) == [200, 409]
        refused = next(a for a in answers if a.status_code == 409)
        check_problem(refused, 409, "conflict")

    asking(tmp_path, play)


def test_the_last_admin_stays(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await added(client, "ann", "admin", "modeller")
        check_problem(await client.delete("/users/ann"), 409, "last_admin")
        check_problem(await client.post("/users/ann/roles", json={"roles": ["modeller"]}), 409, "last_admin")
        await added(client, "bob", "admin")
        assert (await client.post("/users/ann/roles", json={"roles": ["modeller"]})).status_code == 200
        check_problem(await client.delete("/users/bob"), 409, "last_admin")

    asking(tmp_path, play)


# --- who did what ---


def test_every_line_of_the_log_names_the_person(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        for name in ("ann", "bob"):
            give_user(node, name, "operator")
            give_pass(node, name, name)
        before = node.store.last_line()
        assert before is not None
        await asyncio.gather(
            *(client.post("/partners/invite", headers=bearer(name)) for name in ("ann", "bob") * 5),
            *(client.post("/partners/invite") for _ in range(5)),
        )
        lines = node.store.audit(before.number)
        assert {(line.kind, line.actor) for line in lines} == {
            ("partner.invited", f"bank/{name}") for name in ("ann", "bob", "local")
        }
        assert len(lines) == 15
        assert node.audit.person == "bank/local"

    asking(tmp_path, play)


def test_what_people_do_about_people_is_on_record(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        ann = Desk(client, node, "ann")
        await ann.enrol(await added(client, "ann", "admin"))
        once = await client.post("/users", json={"name": "bob", "roles": []}, headers=ann.headers)
        assert once.status_code == 200
        await ann.send("POST", "/users/bob/roles", {"roles": ["auditor"]})
        await ann.send("POST", "/users/bob/reset")
        token = (await ann.send("POST", "/tokens", {"roles": ["operator"]})).json()
        await ann.send("DELETE", f"/tokens/{token['id']}")
        await ann.send("DELETE", "/users/bob")
        await ann.send("POST", "/me/password", {"old": "wrong", "new": "and here are four others"})
        await ann.send("POST", "/sign-out")
        lines = [(line.kind, line.actor, line.object, line.code) for line in node.store.audit()]
        assert lines[1:] == [
            ("user.added", "bank/local", "ann", ""),
            ("user.signed_in", "bank/ann", "ann", ""),
            ("user.second_factor", "bank/ann", "ann", ""),
            ("user.added", "bank/ann", "bob", ""),
            ("user.roles", "bank/ann", "bob", ""),
            ("user.reset", "bank/ann", "bob", ""),
            ("token.made", "bank/ann", token["id"], ""),
            ("token.revoked", "bank/ann", token["id"], ""),
            ("user.removed", "bank/ann", "bob", ""),
            ("user.sign_in_failed", "bank/ann", "ann", "wrong_sign_in"),
            ("user.signed_out", "bank/ann", "ann", ""),
        ]

    with_clock(tmp_path, play)


def test_a_role_too_low_is_told_who_can_give_it_and_a_flood_of_it_fills_no_disk(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        await added(client, "ann", "admin")
        give_user(node, "eve", "auditor")
        eve = give_pass(node, "eve", "eve")
        for language, words in (("en", "Who can give it: ann."), ("zh", "可授予该角色的人：ann。")):
            answer = await client.post("/jobs", json={}, headers=eve | {"Accept-Language": language})
            assert check_problem(answer, 403, "role")["hint"] == words
        for number in range(100):
            await client.post("/jobs", json={}, headers=eve)
            await client.post(f"/jobs/j-{number}/accept", headers=eve)
        for path in (
            "/datasets",
            "/partners/invite",
            "/users",
            "/tokens",
            "/jobs/x/refuse",
            "/partners/x/confirm",
        ):
            await client.post(path, json={}, headers=eve)
        told = [line for line in node.store.audit() if line.kind == "access.refused"]
        assert {(line.actor, line.code) for line in told} == {("bank/eve", "role")}
        assert [line.object for line in told][:2] == ["post/api/v1/jobs", "post/api/v1/jobs/job_id/accept"]
        assert len(told) == len({line.object for line in told}) == 8

    asking(tmp_path, play)


def test_refusals_on_record_are_bounded_by_person_and_hour(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        for number in range(1000):
            node.audit.write_refusal(AuditKind.ACCESS_REFUSED, f"x{number}", "bank/eve", "role")
        node.audit.write_refusal(AuditKind.ACCESS_REFUSED, "x", "bank/ann", "role")
        told = [line.actor for line in node.store.audit() if line.kind == "access.refused"]
        assert told == ["bank/eve"] * REFUSALS_OF_ONE + ["bank/ann"]

    asking(tmp_path, play)


# --- limits ---


def test_sign_ins_are_limited_by_name_and_by_address(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        app = make_app(node, "secret-token", Limits(sign_ins_per_min=3))

        async def ask(address: str, name: str) -> int:
            transport = httpx.ASGITransport(app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://node/api/v1") as caller:
                answer = await caller.post("/sign-in", json={"name": name, "password": WORDS})
                assert answer.status_code != 429 or answer.json()["code"] == "rate"
                return answer.status_code

        assert [await ask("10.0.0.1", f"n{n}") for n in range(4)] == [401] * 3 + [429]
        assert [await ask(f"10.0.1.{n}", "nobody") for n in range(4)] == [401] * 3 + [429]
        assert await ask("10.0.2.1", "somebody") == 401

    with_clock(tmp_path, play)


def test_all_tokens_of_one_person_share_its_limit(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        give_user(node, "ann", "modeller")
        give_user(node, "bob", "modeller")
        tokens = [give_pass(node, f"t{n}", "ann", "token") for n in range(3)]
        statuses = [(await client.get("/me", headers=tokens[n % 3])).status_code for n in range(12)]
        assert statuses == [200] * 10 + [429] * 2
        assert (await client.get("/me", headers=give_pass(node, "b", "bob"))).status_code == 200

    asking(tmp_path, play, Limits(burst=10, per_s=0.001))


def test_a_body_that_does_not_come_is_refused_in_time(tmp_path: Path) -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield b" "
        await asyncio.Event().wait()

    async def play(client: httpx.AsyncClient, node: Node) -> None:
        headers = [(b"authorization", b"Bearer t"), (b"content-type", b"application/json")]
        app = make_app(node, "t", Limits(body_s=0.05))
        assert (await drive(app, headers, silent()))[0] == 408

    asking(tmp_path, play)


def test_at_the_door_a_stranger_sends_little(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        answer = await client.post("/sign-in", json={"name": "a" * 20_000, "password": ""})
        check_problem(answer, 413, "too_large")

    asking(tmp_path, play)


# --- secrets ---


def test_no_secret_is_in_a_log_a_database_an_error_or_the_audit_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    canaries: list[str] = ["canary words of a password", "canary words that are new", "canary-wrong-password"]
    bodies: list[str] = []

    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        once = await added(client, "ann", "admin", "operator")
        ann = Desk(client, node, "ann")
        answers = [await ann.sign_in(once=once, password=canaries[0])]
        made = (await ann.send("POST", "/me/second-factor")).json()
        canaries.extend([once, made["secret"], made["address"]])
        ann.secret = node.vault.open(node.users.find("ann").second or b"", "second factor of ann")
        confirmed = await ann.send("POST", "/me/second-factor/confirm", {"code": ann.code()})
        canaries.extend([answers[0].json()["token"], confirmed.json()["token"]])
        ann.headers = bearer(confirmed.json()["token"])
        for path, body in (("/users", {"name": "bob", "roles": []}), ("/users/bob/reset", None)):
            shown = await ann.send("POST", path, body, under=f"k{path}")
            canaries.append(shown.json()["once"])
        canaries.append(
            (await ann.send("POST", "/tokens", {"roles": ["operator"]}, under="kt")).json()["token"]
        )
        canaries.append((await ann.send("POST", "/partners/invite", under="ki")).json()["line"])
        changed = await ann.send("POST", "/me/password", {"old": canaries[0], "new": canaries[1]}, under="kp")
        canaries.append(changed.json()["token"])
        answered = [
            await ann.sign_in(password=canaries[2], code="123456"),
            await client.get("/me", headers=bearer(canaries[3])),
            await client.post("/sign-in", json={"name": "ann", "password": canaries[0], "once": 7}),
            await client.post("/sign-in", json={"name": "ann", "password": canaries[0] * 20}),
            await client.post(
                "/sign-in", json={"name": canaries[2], "password": canaries[0], "x": canaries[1]}
            ),
            await client.get("/audit"),
            await client.get("/users"),
            await client.get("/tokens"),
            await client.get("/metrics"),
        ]
        bodies.extend(answer.text for answer in answered)
        bodies.append(repr(node.users.who(canaries[-1].encode())) + repr(vars(node.vault)))

    with_clock(tmp_path, play)
    canaries.append(SECOND.decode())
    files = [path for path in (tmp_path / "node").rglob("node.db*") if path.is_file()]
    assert files
    stored = b"".join(path.read_bytes() for path in files)
    for canary in canaries:
        assert canary.encode() not in stored, canary[:20]
        assert canary not in caplog.text
        assert not any(canary in body for body in bodies), canary[:20]
    assert b"$argon2id$" in stored


def test_a_reply_with_a_secret_is_replayed_to_whom_it_was_given_and_to_nobody_else(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        for name in ("ann", "bob"):
            give_user(node, name, "operator")
            give_pass(node, name, name)
        first, again, other = [
            await client.post("/partners/invite", headers=bearer(name) | key("k1"))
            for name in ("ann", "ann", "bob")
        ]
        assert first.content == again.content != other.content
        assert "idempotency-replayed" not in other.headers
        kept = node.store.connection.exec_driver_sql("SELECT body FROM kept_reply").all()
        assert len(kept) == 2
        assert not any(b"isthmus-invite" in body for (body,) in kept)

    asking(tmp_path, play)


def test_a_sign_in_is_not_kept_under_a_key(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node, clock: SetClock) -> None:
        give_password(node, "ann", "modeller", second_on=False)
        body = {"name": "ann", "password": WORDS}
        tokens = {
            (await client.post("/sign-in", json=body, headers=key("k"))).json()["token"] for _ in range(3)
        }
        assert len(tokens) == 3
        assert node.store.connection.exec_driver_sql("SELECT count(*) FROM kept_reply").scalar() == 0
        assert {found.digest for found in node.store.passes("session", "ann")} == {digest(t) for t in tokens}

    with_clock(tmp_path, play)


# --- the token of the folder ---


def test_the_token_of_the_folder_may_be_switched_off(tmp_path: Path) -> None:
    async def play(client: httpx.AsyncClient, node: Node) -> None:
        me = (await client.get("/me")).json()
        assert (me["name"], me["kind"]) == ("local", "local")
        assert me["roles"] == ["admin", "modeller", "approver", "auditor", "operator"]
        app = make_app(node, None)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://node/api/v1"
        ) as off:
            for given in ("secret-token", "", "None"):
                check_problem(await off.get("/me", headers=bearer(given)), 401, "sign_in")

    asking(tmp_path, play)


def test_the_settings_of_the_page_are_those_of_a_new_node(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "users.md").read_text("utf-8")
    told = yaml.safe_load(page.split("```yaml\n")[-1].split("```")[0])
    config = make_config({"party": "bank", "mode": "dial-out"}, "test").model_dump()
    assert told == {name: config[name] for name in ("local_token", "limits", "sign_in")}
