"""A backup holds what cannot be made again and nothing for one use; what is no backup is refused. (G12, D7, M10)"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import zipfile
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest
import yaml

from isthmus.base.errors import ConfigError, LocalError
from isthmus.cli.main import run
from isthmus.client.temporary import TemporaryNodes, end
from isthmus.crypto.seal import PartyKey
from isthmus.service import archive, backup
from isthmus.service.archive import Manifest, PackedFile, measured, pack, unpack
from isthmus.service.backup import Backups, restore
from isthmus.service.node import Node
from isthmus.store.audit import AuditCheck, AuditKind
from isthmus.store.folder import NodeFolder, make_config
from isthmus.store.records import Invitation, KeptReply, StoredJob, StoredPartner
from isthmus.store.sql import SqlStore
from isthmus.wire.link import make_certificate
from tests.service.test_nodes import FAKE_NODE, text, tick, until

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONFIG = {"party": "bank", "mode": "direct", "listen": "127.0.0.1:0", "address": "https://127.0.0.1:8443"}
LEAVES = {
    *("config.yaml", "node.db", "lines.json", "manifest.json", "tls/cert.pem"),
    *(
        f"jobs/j-done/{name}"
        for name in ("job.json", "half.json", "report.json", "report.en.html", "scores.csv")
    ),
}
"""All that a backup of the node below holds."""


def job(name: str, state: str, number: int) -> StoredJob:
    return StoredJob(
        f"j-{name}", b"d" * 32, number, b"{}", "card", "label_owner", "bank", state, None, NOW, NOW  # type: ignore[arg-type]
    )  # fmt: skip


class Bank:
    """A node with partners, jobs in every state and secrets in every place where one may lie."""

    def __init__(self, home: Path) -> None:
        self.folder = NodeFolder.create(home, make_config(CONFIG, "test"), make_certificate)
        self.secrets: dict[str, bytes] = {}
        for place in ("keys/party.key", "keys/users.key", "token", "tls/key.pem"):
            self.secrets[place] = (home / place).read_bytes()
        self.secrets["the key itself"] = self.folder.party_key().to_bytes()
        for place in ("keys/database.password", "keys/proxy.password"):
            self.plant(place)
            (home / place).chmod(0o600)
        self.folder.record_key()
        self.folder.put_next_key(PartyKey.generate())
        for place in ("keys/record.key", "keys/party.next"):
            self.secrets[place] = (home / place).read_bytes()
        for name in ("j-done", "j-running"):
            for file in (
                "record.db",
                "record.db-wal",
                "spent",
                "pool.bin",
                "worker.log",
                "a.sock",
                "columns",
            ):
                self.plant(f"jobs/{name}/{file}")
            for file in ("job.json", "half.json", "report.json", "report.en.html", "scores.csv"):
                if name == "j-running":
                    self.plant(f"jobs/{name}/{file}")
                else:
                    (home / "jobs" / name / file).write_text(f"{file} of a job that is done")

    def plant(self, place: str) -> None:
        path = self.folder.home / place
        path.parent.mkdir(parents=True, exist_ok=True)
        self.secrets[place] = f"canary of {place}".encode().ljust(64, b".")
        path.write_bytes(self.secrets[place])

    def remember(self, store: SqlStore) -> None:
        for number, state in enumerate(("draft", "proposed", "queued", "running", "done", "refused"), 1):
            store.add_job(job(state, state, number), [])
        words = ("a", "b", "c", "d")
        store.put_partner(StoredPartner("data-co", b"k" * 32, None, None, words, True, NOW))
        self.secrets["an invitation"] = b"canary of an invitation, 32 byte"
        later = NOW + timedelta(days=9999)
        store.put_invitation(Invitation("i-1", self.secrets["an invitation"], later))
        self.secrets["a reply"] = b"canary of a reply that holds an invitation"
        store.claim_key(KeptReply("key", b"d" * 32, later), NOW)
        store.keep_reply("key", 200, self.secrets["a reply"])


def with_node(folder: NodeFolder, play: Callable[[Node], Awaitable[None]]) -> None:
    """Plays against a started node that has begun none of its jobs."""

    async def go() -> None:
        node = Node(folder)
        node.jobs.begin = lambda: None  # type: ignore[method-assign]
        await node.start()
        try:
            await play(node)
        finally:
            await node.close()

    asyncio.run(go())


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(tmp_path / "bank")


def made(bank: Bank, out: Path) -> Path:
    found: list[BinaryIO] = []

    async def play(node: Node) -> None:
        bank.remember(node.store)
        found.append(await Backups(bank.folder, node.store, node.audit, node.clock).make("bank"))

    with_node(bank.folder, play)
    with found[0], out.open("wb") as file:
        shutil.copyfileobj(found[0], file)
    return out


def leaked(bank: Bank, file: Path) -> set[str]:
    """Which secrets are in the archive, packed or unpacked."""
    with zipfile.ZipFile(file) as opened:
        texts = [file.read_bytes(), *(opened.read(info) for info in opened.infolist())]
    return {place for place, secret in bank.secrets.items() if any(secret in text for text in texts)}


def test_no_key_no_token_and_nothing_for_one_use_is_in_a_backup(bank: Bank, tmp_path: Path) -> None:
    file = made(bank, tmp_path / "bank.zip")
    assert leaked(bank, file) == set()
    with zipfile.ZipFile(file) as opened:
        assert set(opened.namelist()) == LEAVES - {"lines.json"}
        assert opened.namelist()[0] == "manifest.json"
    assert not list(bank.folder.home.glob(".backup-*"))


@pytest.mark.parametrize(
    ("weak", "found"),
    [
        ("pool.bin", {"jobs/j-done/pool.bin"}),
        ("record.db", {"jobs/j-done/record.db"}),
        ("../../keys/party.key", {"keys/party.key"}),
        ("../../token", {"token"}),
    ],
)
def test_a_copy_of_the_program_that_took_pools_or_keys_along_would_be_caught(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weak: str, found: set[str]
) -> None:
    monkeypatch.setattr(backup, "RESULTS", (*archive.RESULTS, weak))
    assert leaked(bank, made(bank, tmp_path / "bank.zip")) == found


def test_a_copy_that_left_out_no_table_would_be_caught(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqlStore, "one_time_tables", lambda self: [])
    assert leaked(bank, made(bank, tmp_path / "bank.zip")) == {"an invitation", "a reply"}


def put_keys_back(bank: Bank, home: Path) -> None:
    for place in ("keys/party.key", "keys/users.key", "tls/key.pem"):
        shutil.copy(bank.folder.home / place, home / place)


def test_a_node_is_made_from_a_backup_once_its_keys_are_put_back(bank: Bank, tmp_path: Path) -> None:
    file, home = made(bank, tmp_path / "bank.zip"), tmp_path / "new"
    manifest, missing = restore(file, home)
    folder = NodeFolder(home)
    names = ("database.password", "party.key", "proxy.password", "users.key")
    assert missing == [*(home / "keys" / name for name in names), folder.tls_key]
    for path in (home / "keys" / "party.key", home / "keys" / "users.key", folder.tls_key):
        with pytest.raises(ConfigError) as caught:
            folder.check_modes()
        assert (caught.value.code, caught.value.fields["path"]) == ("key_missing", str(path))
        shutil.copy(bank.folder.home / path.relative_to(home), path)
    assert folder.token() != bank.secrets["token"].decode()
    for path in home.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert (home / "jobs/j-done/scores.csv").read_text() == "scores.csv of a job that is done"
    assert folder.config() == bank.folder.config()

    async def play(node: Node) -> None:
        assert [p.name for p in node.store.partners()] == ["data-co"]
        assert node.store.invitation("i-1") is None
        states = {j.id: j.state for j in node.store.jobs()}
        assert states == {
            "j-draft": "draft", "j-proposed": "failed", "j-queued": "failed", "j-running": "failed",
            "j-done": "done", "j-refused": "refused",
        }  # fmt: skip
        failed = node.store.job("j-running")
        assert failed is not None
        assert failed.error == {
            "class": "LocalError", "code": "restored", "fields": {"made_at": manifest.made_at},
        }  # fmt: skip
        check = AuditCheck("bank", node.key.public)
        for line in node.store.audit():
            check.take(line)
        assert check.findings == []
        assert [(x.kind, x.object, x.code) for x in node.store.audit()] == [
            ("node.started", "", ""),
            *(("job.failed", f"j-{state}", "restored") for state in ("proposed", "queued", "running")),
            ("node.restored", "", ""),
            ("node.started", "", ""),
        ]
        assert node.store.audit()[-2].digest == manifest.digest

    with_node(folder, play)
    with closing(sqlite3.connect(bank.folder.database)) as old:
        last = old.execute("SELECT kind, digest FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    assert last == ("backup.made", manifest.digest)

    async def again(node: Node) -> None:
        assert [line.kind for line in node.store.audit()].count("node.restored") == 1

    with_node(folder, again)


def test_a_node_with_another_key_than_it_had_does_not_start(bank: Bank, tmp_path: Path) -> None:
    file, home, other = made(bank, tmp_path / "bank.zip"), tmp_path / "new", Bank(tmp_path / "other")

    async def play(node: Node) -> None:
        assert node.ready()

    def refused(place: str) -> None:
        right = (home / place).read_bytes()
        shutil.copy(other.folder.home / place, home / place)
        with pytest.raises(ConfigError) as caught:
            with_node(NodeFolder(home), play)
        assert (caught.value.code, caught.value.fields["path"]) == ("key_other", place)
        (home / place).write_bytes(right)

    restore(file, home)
    put_keys_back(bank, home)
    for place in ("keys/party.key", "tls/key.pem"):
        refused(place)
    with_node(NodeFolder(home), play)
    shutil.rmtree(home)
    restore(file, home, other.folder.party_key().public.hex())
    put_keys_back(bank, home)
    with pytest.raises(ConfigError):
        with_node(NodeFolder(home), play)
    shutil.copy(other.folder.home / "keys/party.key", home / "keys/party.key")
    with_node(NodeFolder(home), play)


def test_a_folder_with_anything_in_it_is_left_alone(bank: Bank, tmp_path: Path) -> None:
    file, home = made(bank, tmp_path / "bank.zip"), tmp_path / "new"
    home.mkdir()
    restore(file, home)
    before = sorted(path.name for path in home.iterdir())
    for place in (home, bank.folder.home, file):
        with pytest.raises(ConfigError) as caught:
            restore(file, place)
        assert caught.value.code == "already_there"
    assert sorted(path.name for path in home.iterdir()) == before


def damaged(file: Path, home: Path) -> str:
    """Is refused in words, and leaves nothing behind."""
    with pytest.raises(ConfigError) as caught:
        restore(file, home)
    assert caught.value.code == "backup_damaged"
    assert list(home.iterdir()) == []
    with pytest.raises(ConfigError):
        restore(file, home)
    return str(caught.value.fields["why"])


def test_a_backup_that_is_cut_or_changed_anywhere_is_refused(bank: Bank, tmp_path: Path) -> None:
    whole = made(bank, tmp_path / "bank.zip").read_bytes()
    file = tmp_path / "bad.zip"
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        damaged(file, tmp_path / "new")
    with zipfile.ZipFile(tmp_path / "bank.zip") as opened:
        places = [info.header_offset + 60 for info in opened.infolist()]
    for place in (*places, *range(200, len(whole), len(whole) // 40)):
        bad = bytearray(whole)
        bad[place] ^= 0x10
        file.write_bytes(bad)
        # What is not covered by the manifest, such as the time of a file, changes nothing that is unpacked.
        assert outcome(file) in ("backup_damaged", unpack(tmp_path / "bank.zip"))


def outcome(file: Path) -> str | Manifest:
    try:
        return unpack(file)
    except ConfigError as error:
        return error.code


def forged(
    out: Path, source: Path, change: Callable[[dict[str, bytes], Manifest], Manifest], link: str = ""
) -> Path:
    """An archive like `source`, with its files and its manifest changed by somebody who knows the form."""
    with zipfile.ZipFile(source) as opened:
        contents = {info.filename: opened.read(info) for info in opened.infolist()}
    manifest = change(contents, Manifest.model_validate_json(contents.pop("manifest.json")))
    out.unlink(missing_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("manifest.json", manifest.model_dump_json())
        for name, content in contents.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK if name == link else stat.S_IFREG) << 16
            packed.writestr(info, content, zipfile.ZIP_DEFLATED)
    return out


def with_file(name: str, content: bytes, said_bytes: int | None = None) -> Callable[..., Manifest]:
    """Puts in a file, or another one in its place, whose digest is right."""

    def change(contents: dict[str, bytes], manifest: Manifest) -> Manifest:
        contents[name] = content
        digest = hashlib.sha256(content).hexdigest()
        size = len(content) if said_bytes is None else said_bytes
        kept = [file for file in manifest.files if file.name != name]
        return manifest.model_copy(
            update={"files": [*kept, PackedFile(name=name, size_bytes=size, sha256=digest)]}
        )

    return change


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/etc/evil", "jobs/../../evil", "jobs/j-done/../../evil", "keys/party.key", "token", "lock",
        "jobs/j-done/record.db", "jobs/j-done/deeper/report.json", "tls/key.pem", "jobs\\j-done\\evil", "config.yaml/",
        "restored.json", "jobs/j-done/", "CONFIG.YAML", "control.json",
    ],
)  # fmt: skip
def test_a_name_that_a_backup_does_not_have_is_refused(bank: Bank, tmp_path: Path, name: str) -> None:
    source = made(bank, tmp_path / "bank.zip")
    why = damaged(forged(tmp_path / "bad.zip", source, with_file(name, b"evil")), tmp_path / "new")
    assert "does not belong" in why
    assert not list(tmp_path.rglob("evil*"))


def test_links_files_that_are_not_listed_and_names_given_twice_are_refused(
    bank: Bank, tmp_path: Path
) -> None:
    source, bad, home = made(bank, tmp_path / "bank.zip"), tmp_path / "bad.zip", tmp_path / "new"
    link = forged(bad, source, with_file("lines.json", b"/etc/passwd"), link="lines.json")
    assert "does not belong" in damaged(link, home)

    def unlisted(contents: dict[str, bytes], manifest: Manifest) -> Manifest:
        contents["lines.json"] = b"{}"
        return manifest

    assert "not those of its manifest" in damaged(forged(bad, source, unlisted), home)

    def missing(contents: dict[str, bytes], manifest: Manifest) -> Manifest:
        del contents["node.db"]
        return manifest.model_copy(update={"files": [f for f in manifest.files if f.name != "node.db"]})

    assert "not those of its manifest" in damaged(forged(bad, source, missing), home)
    shutil.copy(source, bad)
    with zipfile.ZipFile(bad, "a") as opened, pytest.warns(UserWarning, match="Duplicate"):
        opened.writestr("config.yaml", b"party: other")
    assert "twice" in damaged(bad, home)
    bad.unlink()
    with zipfile.ZipFile(bad, "w") as opened:
        opened.writestr("config.yaml", b"party: bank")
    assert "no manifest" in damaged(bad, home)


def test_no_more_is_unpacked_than_the_manifest_says(bank: Bank, tmp_path: Path) -> None:
    source, bad, home = made(bank, tmp_path / "bank.zip"), tmp_path / "bad.zip", tmp_path / "new"
    bomb = with_file("lines.json", bytes(200 * 2**20), said_bytes=10)
    assert "longer" in damaged(forged(bad, source, bomb), home)
    short = with_file("lines.json", b"{}", said_bytes=10)
    assert "not as it was" in damaged(forged(bad, source, short), home)
    huge = with_file("lines.json", b"{}", said_bytes=2**60)
    with pytest.raises(LocalError) as caught:
        restore(forged(bad, source, huge), home)
    assert caught.value.code == "disk_full"
    assert list(home.iterdir()) == []


def test_a_node_that_cannot_start_is_not_made(bank: Bank, tmp_path: Path) -> None:
    source, bad, home = made(bank, tmp_path / "bank.zip"), tmp_path / "bad.zip", tmp_path / "new"
    other = yaml.safe_dump(CONFIG | {"party": "shop"}).encode()
    assert "another node" in damaged(forged(bad, source, with_file("config.yaml", other)), home)
    server = yaml.safe_dump(CONFIG | {"database": "postgresql+pg8000://a@127.0.0.1/b"}).encode()
    assert "another node" in damaged(forged(bad, source, with_file("config.yaml", server)), home)
    assert "does not pass" in damaged(forged(bad, source, with_file("node.db", b"x" * 9000)), home)
    with zipfile.ZipFile(source) as opened:
        (tmp_path / "later.db").write_bytes(opened.read("node.db"))
    with closing(sqlite3.connect(tmp_path / "later.db")) as later:
        later.execute("PRAGMA user_version = 9")
    later_db = (tmp_path / "later.db").read_bytes()
    assert "later version" in damaged(forged(bad, source, with_file("node.db", later_db)), home)


def test_a_file_that_changes_while_it_is_packed_makes_no_backup_that_passes(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("config.yaml", "node.db")}
    for path in paths.values():
        path.write_text("before")
    told = [measured(name, path) for name, path in paths.items()]
    paths["node.db"].write_text("after!")
    manifest = Manifest(
        version="1", party="bank", public_key="ab" * 32, made_at="now", secrets=[], files=told
    )
    pack(manifest, paths, tmp_path / "bad.zip")
    with pytest.raises(ConfigError) as caught:
        unpack(tmp_path / "bad.zip")
    assert caught.value.code == "backup_damaged"


def test_the_copy_is_of_one_moment_while_the_node_goes_on_writing(bank: Bank, tmp_path: Path) -> None:
    async def play(node: Node) -> None:
        backups = Backups(bank.folder, node.store, node.audit, node.clock)
        making = [asyncio.ensure_future(backups.make("bank")) for _ in range(2)]
        for _ in range(200):
            node.audit.write(AuditKind.JOB_DONE, "j-1")
            await asyncio.sleep(0)
        for at, found in enumerate(await asyncio.gather(*making)):
            with found:
                (tmp_path / f"{at}.zip").write_bytes(found.read())
            restore(tmp_path / f"{at}.zip", tmp_path / f"new-{at}")
            store = SqlStore(tmp_path / f"new-{at}" / "node.db")
            check = AuditCheck("bank", node.key.public)
            for line in store.audit(limit=1000):
                check.take(line)
            store.close()
            assert check.findings == []

    with_node(bank.folder, play)


def test_what_an_earlier_backup_left_behind_is_cleared_away(bank: Bank, tmp_path: Path) -> None:
    left = bank.folder.home / ".backup-left"
    left.mkdir()
    (left / "node.db").write_bytes(b"x")
    made(bank, tmp_path / "bank.zip")
    assert not left.exists()


def test_a_full_disk_makes_no_backup_and_is_named(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(backup, "pack", full)
    with pytest.raises(LocalError) as caught:
        made(bank, tmp_path / "bank.zip")
    assert caught.value.code == "disk_full"
    assert not list(bank.folder.home.glob(".backup-*"))


def test_a_node_whose_database_is_on_a_server_says_what_makes_its_backups(bank: Bank) -> None:
    url = "postgresql+pg8000://isthmus@db.example/node"
    (bank.folder.home / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"database": url}))
    with pytest.raises(ConfigError) as caught:
        backup.need_file(bank.folder.config())
    assert (caught.value.code, "pg_dump" in caught.value.hint("en")) == ("backup_by_server", True)


@pytest.mark.slow
def test_both_sides_find_that_a_node_was_put_back_and_the_lost_job_runs_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "table.csv").write_text("id,x,bad\n" + "".join(f"u{i},{i},{i % 2}\n" for i in range(40)))
    with TemporaryNodes(["bank", "data-co"], tmp_path, [data], command=FAKE_NODE) as running:
        bank, partner = running.nodes
        for node in running.nodes:
            node.client.add_dataset("table", str(data / "table.csv"), "id")
        with (tmp_path / "bank.zip").open("wb") as out:
            bank.client.backup(out)
        assert running.run(text("lost"), None, tick, lambda job: None)["state"] == "done"
        lines = bank.client.check_audit().lines
        until(
            lambda: [
                h for h in bank.client.audit_heads()["heads"] if (h["number"], h["whose"]) == (lines, "own")
            ]
        )
        end(bank.process)
        bank.folder.home.rename(tmp_path / "broken")
        restore(tmp_path / "bank.zip", bank.folder.home)
        for place in ("keys/party.key", "keys/users.key", "tls/key.pem"):
            shutil.copy(tmp_path / "broken" / place, bank.folder.home / place)
        running.restart("bank")
        until(lambda: "cut" in {found.trouble for found in bank.client.check_audit().findings})
        until(lambda: partner.client.check_audit().findings)
        assert {f.trouble for f in partner.client.check_audit().findings} <= {"rewound", "forked"}
        assert bank.client.jobs() == []
        assert running.run(text("lost"), None, tick, lambda job: None)["state"] == "done"


def test_the_command_makes_checks_and_restores_while_the_node_runs_or_not(
    bank: Bank, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def call(*words: object) -> tuple[int, str, str]:
        code = run([str(word) for word in words])
        return code, *capfd.readouterr()

    home, file = bank.folder.home, tmp_path / "bank.zip"
    config = CONFIG | {"mode": "dial-out", "listen": None, "address": None}
    (home / "config.yaml").write_text(yaml.safe_dump(config))
    code, out, err = call("--home", home, "backup", file)
    assert (code, json.loads(out)["party"], "Keys are not in it" in err) == (0, "bank", True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    code, _, err = call("--home", home, "backup", file)
    assert (code, "[already_there]" in err) == (4, True)
    process = subprocess.Popen(
        [*FAKE_NODE, "--home", home, "serve", "--until-eof"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        until(lambda: bank.folder.announced())
        code, out, _ = call("--home", home, "backup", tmp_path / "second.zip")
        assert (code, json.loads(out)["files"]) == (0, len(unpack(tmp_path / "second.zip").files))
    finally:
        end(process)
    assert leaked(bank, file) | leaked(bank, tmp_path / "second.zip") == set()
    store = SqlStore(bank.folder.database)
    actors = [line.actor for line in store.audit() if line.kind == "backup.made"]
    store.close()
    assert actors == ["bank", "bank/local"]
    code, out, err = call("--lang", "zh", "--home", tmp_path / "new", "restore", file)
    assert (code, json.loads(out)["to_put_back"]) == (
        0, [str(tmp_path / "new" / place) for place in unpack(file).secrets]
    )  # fmt: skip
    assert {"keys/party.key", "tls/key.pem"} <= set(unpack(file).secrets)
    assert "请放回" in err
    file.write_bytes(file.read_bytes()[:-100])
    code, _, err = call("--lang", "en", "--home", tmp_path / "third", "restore", file)
    assert (code, "not a whole backup" in err) == (4, True)
    assert call("--home", tmp_path / "third", "restore", tmp_path / "none.zip")[0] == 4
    url = "postgresql+pg8000://isthmus@127.0.0.1:1/node"
    (home / "config.yaml").write_text(yaml.safe_dump(config | {"database": url}))
    code, _, err = call("--lang", "en", "--home", home, "backup", tmp_path / "third.zip")
    assert (code, "pg_dump" in err, sorted(p.name for p in tmp_path.glob("third*"))) == (4, True, ["third"])
