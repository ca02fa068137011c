"""A helper behind real TLS, the leader's line to it, and helper processes that are killed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigError, IsthmusError, LineError, LocalError, PeerError, PolicyError
from isthmus.cli.helper import helper
from isthmus.cli.output import Settings
from isthmus.client.temporary import end
from isthmus.crypto.seal import PartyKey
from isthmus.fleet.cards import HelperCard, LeaderCard, read_card, write_card
from isthmus.fleet.helper import HelperConfig, HelperFolder, HelperServer, request_words
from isthmus.fleet.helper_line import HelperLine
from isthmus.protocols.secure_sum import Fault, Helper, Report, Ticket, open_sum, seal, ticket, total
from isthmus.service import archive
from isthmus.store.helper import Served
from isthmus.wire.https import client_context
from isthmus.wire.link import certificate_der, make_certificate, server_context
from tests.protocols.test_secure_sum import plain_sum
from tests.service.pair_of_nodes import free_port
from tests.sums import World, no_noise

NAMES = ("album-app", "audit-house")
YEAR_MS = 366 * 86_400_000


class Fleet(World):
    """A population whose helpers have folders; tickets are good for a year from now."""

    def __init__(self, home: Path, ports: tuple[int, int] = (0, 0), **fields: Any) -> None:
        super().__init__(**fields)
        self.folders = [HelperFolder(home / name) for name in NAMES]
        for folder, name, port in zip(self.folders, NAMES, ports, strict=True):
            config = HelperConfig(name, f"127.0.0.1:{port}", f"https://127.0.0.1:{port}")
            folder.make(config, ["127.0.0.1"])
        self.know_helpers()
        self.leader_card = write_card(
            LeaderCard("cloud-co", self.leader.public, (self.authority.public,)), self.leader
        )
        for folder in self.folders:
            rows = folder.rows()
            rows.allow("cloud-co", [Served("cloud-co", self.leader.public, self.authority.public, 20, 1000)])
            rows.close()

    def know_helpers(self) -> None:
        first, second = (read_card(HelperCard, folder.card()).helper for folder in self.folders)
        self.terms = replace(self.terms, helpers=(first, second))
        for place, folder in enumerate(self.folders):
            self.helpers[place] = Helper(*folder.keys(), self.helpers[place].allowances)

    def ticket(self, device: PartyKey) -> Ticket:
        now_ms = round(SystemClock().now().timestamp() * 1000)
        return ticket(self.authority, self.terms.population, device.public, now_ms + YEAR_MS)


@asynccontextmanager
async def running(fleet: Fleet, place: int = 0) -> AsyncIterator[HelperLine]:
    """One helper in this process, and the leader's line to it."""
    folder = fleet.folders[place]
    rows = folder.rows()
    server = HelperServer(NAMES[place], *folder.keys(), rows, no_noise, SystemClock())
    context = server_context(str(folder.certificate), str(folder.tls_key))
    port = await server.listen("127.0.0.1", 0, context)
    card = replace(read_card(HelperCard, folder.card()), address=f"https://127.0.0.1:{port}")
    line = HelperLine(write_card(card, folder.keys()[0]), fleet.leader)
    try:
        yield line
    finally:
        await line.close()
        await server.close()
        rows.close()


def test_two_helpers_behind_tls_open_a_sum_exactly(tmp_path: Path) -> None:
    async def work() -> None:
        fleet = Fleet(tmp_path, count=23)
        reports = fleet.reports()
        answers = []
        for place in (0, 1):
            async with running(fleet, place) as line:
                batch = fleet.batch(place, reports)
                assert (await line.look(batch)).rows() == {}
                answers.append(await line.answer(batch))
                assert await line.answer(batch) == answers[-1]
                assert await line.health() == {"name": NAMES[place], "batches": 1}
        words = total(fleet.terms, (r.masked for r in reports))
        opened = open_sum(fleet.terms, words, bytes(16), [r.id for r in reports], answers)
        assert opened.tolist() == plain_sum(fleet)

    asyncio.run(work())


@pytest.mark.trust("P11", "T16")
def test_what_a_helper_refuses_comes_as_its_reason(tmp_path: Path) -> None:
    async def work() -> None:
        fleet = Fleet(tmp_path, count=41)
        reports = fleet.reports()
        async with running(fleet) as line:
            with pytest.raises(PolicyError, match=r"cohort_too_small: 19 .* at least 20"):
                await line.answer(fleet.batch(0, reports[:19]))
            with pytest.raises(PeerError, match=r"helper_refused.*album-app.*bad_batch"):
                await line.answer(fleet.batch(1, reports[:20]))
            await line.answer(fleet.batch(0, reports[:20], b"1" * 16))
            again = fleet.batch(0, reports[19:40], b"2" * 16)
            assert (await line.look(again)).rows() == {reports[19].id: Fault.SEEN}
            with pytest.raises(PeerError, match="helper_refused"):
                await line.answer(again)
            rows = fleet.folders[0].rows()
            rows.allow("cloud-co", [Served("cloud-co", fleet.leader.public, fleet.authority.public, 20, 1)])
            with pytest.raises(PolicyError, match="noise_needed"):
                await line.answer(fleet.batch(0, reports[20:40], b"3" * 16))
            rows.allow("cloud-co", [])
            with pytest.raises(PolicyError, match="leader_unknown"):
                await line.answer(fleet.batch(0, reports[20:40], b"3" * 16))
            rows.close()

    asyncio.run(work())


def test_a_helper_that_is_away_or_another_is_named(tmp_path: Path) -> None:
    async def work() -> None:
        fleet = Fleet(tmp_path, ports=(free_port(), free_port()))
        batch = fleet.batch(0, fleet.reports())
        line = HelperLine(fleet.folders[0].card(), fleet.leader)
        with pytest.raises(LineError, match=r"helper_away.*album-app"):
            await line.answer(batch)
        await line.close()
        async with running(fleet) as right:
            certificate, _ = make_certificate("isthmus-helper", ["127.0.0.1"])
            card = replace(right.card, certificate=certificate_der(certificate))
            wrong = HelperLine(write_card(card, fleet.folders[0].keys()[0]), fleet.leader)
            with pytest.raises(LineError, match="tls_intercepted"):
                await wrong.answer(batch)
            await wrong.close()

    asyncio.run(work())


def test_a_stranger_is_told_nothing_and_its_body_is_not_read(tmp_path: Path) -> None:
    async def work() -> None:
        fleet = Fleet(tmp_path)
        batch = fleet.batch(0, fleet.reports())
        body = batch.encode()
        async with running(fleet) as line:
            stranger = PartyKey.generate()
            other = HelperLine(write_card(line.card, fleet.folders[0].keys()[0]), stranger)
            with pytest.raises(PolicyError, match="leader_unknown"):
                await other.answer(batch)
            await other.close()
            connector = aiohttp.TCPConnector(ssl=client_context(line.card.certificate))
            async with aiohttp.ClientSession(connector=connector) as session:
                digest = hashlib.sha256(body).digest()
                signed = fleet.leader.sign(request_words(line.card.key, "/helper/v1/answer", digest))
                good = {
                    "Isthmus-Leader": fleet.leader.public.hex(),
                    "Isthmus-Digest": digest.hex(),
                    "Isthmus-Signature": signed.hex(),
                }
                url = line.card.address + "/helper/v1/"
                cases: list[tuple[str, str, dict[str, str], bytes, int]] = [
                    ("POST", "answer", {}, body, 401),
                    ("POST", "answer", {**good, "Isthmus-Leader": "xyz"}, body, 401),
                    ("POST", "answer", {**good, "Isthmus-Signature": "00" * 64}, body, 502),
                    ("POST", "look", good, body, 502),
                    ("POST", "answer", good, body[:-1] + bytes([body[-1] ^ 1]), 502),
                    ("GET", "health", good, b"", 405),
                    ("POST", "anything", good, body, 404),
                    ("POST", "answer", good, body, 200),
                ]
                for method, path, headers, sent, status in cases:
                    async with session.request(method, url + path, data=sent, headers=headers) as reply:
                        assert reply.status == status, (method, path)

    asyncio.run(work())


def test_an_answer_that_is_not_for_the_batch_is_refused_by_the_leader(tmp_path: Path) -> None:
    async def work() -> None:
        fleet = Fleet(tmp_path, count=40)
        reports = fleet.reports()
        async with running(fleet) as line:
            first = fleet.batch(0, reports[:20])
            kept = await line.answer(first)

            async def same(what: str, batch: Any, limit_s: float) -> bytes:
                return kept

            line._ask = same  # type: ignore[method-assign]
            with pytest.raises(PeerError, match="helper_mismatch"):
                await line.answer(fleet.batch(0, reports[20:], b"2" * 16))
            with pytest.raises(PeerError, match="helper_mismatch"):
                await line.answer(fleet.batch(1, reports[:20]))

    asyncio.run(work())


# Folders


@pytest.mark.trust("T16", "U3")
def test_a_helper_put_back_from_a_backup_cannot_open_what_was_sealed_before(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    folder = fleet.folders[0]
    old = fleet.terms
    reports = fleet.reports()
    assert (folder.home / "once" / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f59")
    for path in (folder.home / "once").iterdir():  # what a backup tool passes by
        path.unlink()
    for use in (folder.keys, folder.rows, folder.card):
        with pytest.raises(ConfigError, match="helper_record"):
            use()
    before = (folder.home / "signing.key").read_bytes(), folder.certificate.read_bytes()
    folder.make(folder.config(), ["127.0.0.1"])
    assert before == ((folder.home / "signing.key").read_bytes(), folder.certificate.read_bytes())
    rows = folder.rows()
    rows.allow("cloud-co", [Served("cloud-co", fleet.leader.public, fleet.authority.public, 20, 1000)])
    fleet.know_helpers()
    batch = fleet.batch(0, reports, terms=old)
    fleet.ledgers[0] = rows
    with pytest.raises(PeerError, match="bad_batch"):
        fleet.answer(batch)
    assert fleet.open(fleet.reports()).tolist() == plain_sum(fleet)
    rows.close()


@pytest.mark.trust("T16")
def test_no_backup_of_a_node_holds_anything_of_a_helper_in_the_same_home(tmp_path: Path) -> None:
    Fleet(tmp_path)
    (tmp_path / NAMES[0]).rename(tmp_path / "helper")
    files = [
        path.relative_to(tmp_path).as_posix() for path in (tmp_path / "helper").rglob("*") if path.is_file()
    ]
    assert "helper/once/sealing.key" in files
    for name in files:
        assert not archive._NAME.fullmatch(name)
        assert not re.fullmatch(archive.SECRET_PATTERN, name)


def test_secrets_are_for_their_owner_alone_and_never_made_anew(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    folder = fleet.folders[0]
    secrets = [folder.home / "signing.key", folder.home / "once" / "sealing.key", folder.tls_key]
    for path in (*secrets, folder.home / "once" / "helper.db"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    with pytest.raises(ConfigError, match="already_there"):
        folder.make(folder.config(), [])
    for path in secrets:
        path.chmod(0o640)
        with pytest.raises(ConfigError, match="file_mode"):
            folder.keys()
        path.chmod(0o600)
    secrets[0].unlink()
    with pytest.raises(ConfigError, match="key_missing"):
        folder.keys()
    with pytest.raises(ConfigError, match="not_a_helper"):
        HelperFolder(tmp_path / "nowhere").keys()


def test_one_folder_serves_one_process(tmp_path: Path) -> None:
    folder = Fleet(tmp_path).folders[0]
    with folder.locked(), pytest.raises(LocalError, match="busy"), folder.locked():
        pass


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text.replace("cloud-co", "other-co"),
        lambda text: text.replace("LeaderCard", "HelperCard"),
        lambda text: json.dumps({**json.loads(text), "more": 1}),
        lambda text: json.dumps({**json.loads(text), "signature": "zz"}),
        lambda text: json.dumps({**json.loads(text), "signature": None}),
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: "",
    ],
)
def test_a_card_that_its_owner_did_not_sign_is_refused(change: Any, tmp_path: Path) -> None:
    key = PartyKey.generate()
    text = write_card(LeaderCard("cloud-co", key.public, (b"a" * 32,)), key)
    assert read_card(LeaderCard, text).name == "cloud-co"
    with pytest.raises(ConfigError, match="bad_card"):
        read_card(LeaderCard, change(text))


# Processes


@contextmanager
def process(place: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`isthmus helper serve`, in the home of that place."""
    command = (
        sys.executable,
        "-m",
        "isthmus.cli.main",
        "-o",
        "json",
        "--home",
        str(log.parent / f"home{place}"),
    )
    with log.open("ab") as stderr:
        started = subprocess.Popen(
            [*command, "helper", "serve", "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        assert started.stdout is not None
        assert json.loads(started.stdout.readline() or b"null"), log.read_text()
        yield started
    finally:
        end(started)


def isthmus(home: Path, *arguments: str) -> str:
    done = CliRunner().invoke(helper, arguments, obj=Settings(home=home, output="json"))
    assert done.exit_code == 0, done.exception
    return done.stdout


@pytest.mark.slow
@pytest.mark.trust("G7", "U9", "T17")
def test_a_helper_killed_at_any_moment_gives_one_answer_and_keeps_it(tmp_path: Path) -> None:
    """Two helper processes; the first is killed while it answers, again and again, until an answer is heard."""

    async def work() -> None:
        world = World(count=20, length=200_000, noise_std=5.0)
        cards, homes = [], []
        leader = tmp_path / "leader.json"
        leader.write_text(
            write_card(LeaderCard("cloud-co", world.leader.public, (world.authority.public,)), world.leader)
        )
        for place, name in enumerate(NAMES):
            home = tmp_path / f"home{place}"
            port = free_port()
            where = ("--listen", f"127.0.0.1:{port}", "--address", f"https://127.0.0.1:{port}")
            isthmus(home, "init", "--name", name, *where)
            isthmus(home, "allow", str(leader), "--floor", "20")
            cards.append(isthmus(home, "card"))
            homes.append(home)
        first, second = (read_card(HelperCard, card).helper for card in cards)
        terms = replace(world.terms, helpers=(first, second))
        now_ms = round(time.time() * 1000)
        reports: list[Report] = []
        for n, device in enumerate(world.devices):
            given = ticket(world.authority, terms.population, device.public, now_ms + YEAR_MS)
            reports.append(seal(terms, world.values(n), 1, device, given))
        answers: list[bytes] = []
        for place in (0, 1):
            batch = world.batch(place, reports, terms=terms)
            line = HelperLine(cards[place], world.leader)
            for delay_s in (0.05, 0.3) if place == 0 else ():
                with process(place, tmp_path / f"log{place}") as killed:
                    asked = asyncio.ensure_future(line.answer(batch))
                    await asyncio.sleep(delay_s)
                    killed.send_signal(signal.SIGKILL)
                    (heard,) = await asyncio.gather(asked, return_exceptions=True)
                    if isinstance(heard, bytes):
                        answers.append(heard)
                    else:
                        assert isinstance(heard, LineError)
            with process(place, tmp_path / f"log{place}"):
                one = await line.answer(batch)
                assert await line.answer(batch) == one
                assert all(kept == one for kept in answers[: len(answers) if place == 0 else 0])
                answers = [*answers, one] if place == 1 else [one]
            await line.close()
        words = total(terms, (r.masked for r in reports))
        opened = open_sum(terms, words, bytes(16), [r.id for r in reports], answers[-2:])
        off = opened - sum(world.values(n) for n in range(20))
        assert 0 < abs(off).max() < 200  # two noises of standard deviation 5
        told = json.loads(isthmus(homes[0], "status"))
        assert (told["batches"], told["reports"], told["leaders"][0]["floor"]) == (1, 20, 20)
        logs = (tmp_path / "log0").read_text() + (tmp_path / "log1").read_text()
        for folder in map(HelperFolder, (home / "helper" for home in homes)):
            signing, sealing = folder.keys()
            assert signing.to_bytes().hex() not in logs
            assert sealing.to_bytes().hex() not in logs

    asyncio.run(work())


def test_refusals_of_the_command_line(tmp_path: Path) -> None:
    def call(*arguments: str) -> Any:
        return CliRunner().invoke(helper, arguments, obj=Settings(home=tmp_path, output="json"))

    where = ("--listen", "127.0.0.1:0", "--address", "https://helper.example:1")
    for bad in (("--name", "No"), ("--listen", "x"), ("--address", "http://x")):
        made = call("init", "--name", "audit-house", *where, *bad)
        assert isinstance(made.exception, ConfigError)
        assert made.exception.code == "out_of_bounds"
    assert call("init", "--name", "audit-house", *where).exit_code == 0
    key, other = PartyKey.generate(), PartyKey.generate()
    card = tmp_path / "card"

    def give(owner: PartyKey) -> None:
        card.write_text(write_card(LeaderCard("cloud-co", owner.public, (b"a" * 32,)), owner))

    give(key)
    assert call("allow", str(card), "--floor", "19").exit_code == 2
    assert call("allow", str(card), "--floor", "30", "--plain-max", "2").exit_code == 0
    assert call("allow", str(card), "--floor", "40").exit_code == 0
    told = json.loads(call("status").stdout)["leaders"]
    assert [(leader["floor"], leader["plain_max"]) for leader in told] == [(40, 0)]
    give(other)
    taken = call("allow", str(card))
    assert isinstance(taken.exception, IsthmusError)
    assert taken.exception.code == "already_there"
    assert call("deny", "cloud-co").exit_code == 0
    assert isinstance(call("deny", "cloud-co").exception, ConfigError)
    assert call("allow", str(card)).exit_code == 0
