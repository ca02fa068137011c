"""demo --scenario album: a leader, two helpers and thirty phones, each a process here; one phone and one helper die."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import click

from isthmus.base.document import read_document
from isthmus.base.errors import LocalError
from isthmus.cli.output import Settings, table
from isthmus.client.client import Client
from isthmus.client.fleets import FleetTaskView, RoundView
from isthmus.client.temporary import SERVE, TemporaryNodes, end
from isthmus.crypto.seal import PartyKey
from isthmus.fleet.cards import LeaderCard
from isthmus.fleet.helper import HelperConfig, HelperFolder
from isthmus.protocols.device_round import population_digest
from isthmus.protocols.secure_sum import ticket
from isthmus.scenarios.album import data
from isthmus.scenarios.album.own import read_albums
from isthmus.store.helper import Served

SEED = 5
PHONES = 30
COHORT, LEAST = 24, 20
TRAIN_ROUNDS, EVALUATE_EVERY = 6, 3
LEADER, HELPERS, FLEET, TASK = "cloud-co", ("album-app", "audit-house"), "album-phones", "album-taste"
DIES, DIES_AT = 6, 5
"""Which phone is killed, and after which mini-batch of its first training."""
GAIN_AT_LEAST = 0.02
POLL_S = 0.3
MOST_S = 150.0
FAR_MS = 4_000_000_000_000


class Phone:
    """A phone's process, and the newest thing that it said."""

    def __init__(self, folder: Path, sign_in: Callable[[bytes], dict[str, Any]]) -> None:
        self.folder = folder
        self._sign_in = sign_in
        self.said: dict[str, Any] = {}
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Begins a process, as often as it takes."""
        self.starts += 1
        with (self.folder / "phone.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "isthmus.cli.demo_phone", str(self.folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        for line in process.stdout:
            said = json.loads(line)
            if "device" in said:
                answer = self._sign_in(bytes.fromhex(said["device"]))
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(json.dumps(answer).encode() + b"\n")
                    process.stdin.flush()
            else:
                self.said = said

    def close_input(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def wait(self) -> None:
        """Until what it said last has been read."""
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._reader.join(5)


@dataclass
class Helpers:
    """Two helpers, each with a folder and a process of its own."""

    root: Path
    folders: dict[str, HelperFolder] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def make(self) -> None:
        for name in HELPERS:
            place = f"127.0.0.1:{_free_port()}"
            folder = HelperFolder(self.root / name / "helper")
            folder.home.parent.mkdir(parents=True)
            folder.make(HelperConfig(name, place, f"https://{place}"), ["127.0.0.1"])
            self.folders[name] = folder

    def serve_for(self, leader: LeaderCard) -> None:
        """Each is told of the leader, as by `isthmus helper allow`."""
        for name, folder in self.folders.items():
            rows = folder.rows()
            rows.allow(
                leader.name, [Served(leader.name, leader.key, key, LEAST, 100) for key in leader.authorities]
            )
            rows.close()
            self.start(name)

    def start(self, name: str) -> None:
        """Begins its process; `wait` says when it listens."""
        home = self.folders[name].home.parent
        self.processes[name] = _launch(home, "helper", "serve", "--until-eof")

    def wait(self, name: str) -> None:
        _listens(self.processes[name], self.folders[name].home)


@dataclass
class _Watch:
    """Follows the rounds of the task, and kills one helper in the middle of them."""

    client: Client
    helpers: Helpers
    phones: list[Phone]
    line: Callable[[str, str], None]
    waited: bool = False
    killed_in: int = 0
    phone_died: bool = False
    _said: set[tuple[int, str]] = field(default_factory=set)

    def follow(self) -> FleetTaskView:
        until_s = time.monotonic() + MOST_S
        while True:
            task = self.client.task(FLEET, TASK)
            for row in reversed(task["rounds"]):
                self._tell(row)
                self._strike(row)
            for phone in self.phones:
                if phone.process.poll() is not None:
                    self.phone_died = phone.process.returncode == -9
                    self.line(
                        f"{phone.folder.name} was killed while it trained, and starts again",
                        f"{phone.folder.name} 在训练中被终止，现重新启动",
                    )
                    phone.start()
            if task["state"] != "running" or time.monotonic() > until_s:
                return task
            time.sleep(POLL_S)

    def _tell(self, row: RoundView) -> None:
        if row["phase"] == "opened" and (row["number"], "opened") not in self._said:
            self._said.add((row["number"], "opened"))
            kind = ("training", "训练") if row["kind"] == "train" else ("evaluation", "评估")
            counted = row["funnel"]["counted"]
            self.line(
                f"round {row['number']} ({kind[0]}): {counted} reports counted, two helpers opened their sum",
                f"第 {row['number']} 轮（{kind[1]}）：计入 {counted} 份上报，两个协助方共同打开总和",
            )

    def _strike(self, row: RoundView) -> None:
        """Kills a helper once the first round is over; starts it again once the round waits for nothing else."""
        name = HELPERS[1]
        process = self.helpers.processes[name]
        if row["number"] >= 2 and row["phase"] == "collecting" and not self.killed_in:
            process.kill()
            process.wait()
            self.killed_in = row["number"]
            self.line(f"{name} is killed", f"{name} 被终止")
        elif (
            row["number"] == self.killed_in
            and process.poll() is not None
            and row["phase"] not in ("collecting", "opened")
        ):
            time.sleep(1.5)
            again = next(
                each for each in self.client.task(FLEET, TASK)["rounds"] if each["number"] == self.killed_in
            )
            self.waited = again["phase"] not in ("opened", "aborted")
            self.line(
                f"round {row['number']} waits; {name} starts again",
                f"第 {row['number']} 轮等待中；{name} 重新启动",
            )
            self.helpers.start(name)


def demo_album(
    settings: Settings, root: Path, source: Path | None, check: Callable[[bool, str, str], None]
) -> None:
    """Runs the demo and tells `check` what holds; of a table of one's own, it is not said how well it must rank."""
    began_s = time.monotonic()
    albums = data.albums(PHONES, SEED) if source is None else read_albums(source, PHONES)

    def line(en: str, zh: str) -> None:
        click.echo(f"  {time.monotonic() - began_s:3.0f} s  {settings.words(en, zh)}")

    with _fleet(settings, root, albums, line) as (client, helpers, phones):
        document = read_document(data.TASK.read_bytes(), data.TASK.name)
        width = albums[0][0].features.size
        document["example"]["features"] = {"embedding": width}
        document["model"]["layers"][0] = {"layer_norm": width}
        document["rounds"] |= {
            "count": TRAIN_ROUNDS, "cohort": COHORT, "min_cohort": LEAST, "max_per_device": 12, "deadline_h": 0.05,
        }  # fmt: skip
        document["evaluate"]["every"] = EVALUATE_EVERY
        document["rollout"] = {"steps": [1.0], "hold_h": 0}
        client.start_task(FLEET, json.dumps(document))
        watch = _Watch(client, helpers, phones, line)
        task = watch.follow()
        released = client.releases(FLEET)
        time.sleep(3)  # phones hear of a release when they check in
        for phone in phones:
            phone.close_input()
        for phone in phones:
            phone.wait()
        _judge(settings, check, task, watch, phones, source is None, released[0]["number"] if released else 0)


@contextmanager
def _fleet(
    settings: Settings, root: Path, albums: list[list[data.Seen]], line: Callable[[str, str], None]
) -> Iterator[tuple[Client, Helpers, list[Phone]]]:
    """Everybody's processes; all end with the block."""
    helpers, phones = Helpers(root / "helpers"), list[Phone]()
    leader: subprocess.Popen[bytes] | None = None
    authority = PartyKey.generate()
    with TemporaryNodes([LEADER], root / "nodes", [], settings.language) as nodes:
        try:
            node = nodes.node(LEADER)
            client, key = node.client, node.folder.party_key()
            client.new_fleet(FLEET, authority.public.hex(), 8.0, 1e-6)
            helpers.make()
            for helper in helpers.folders.values():
                client.add_helper(helper.card())
            helpers.serve_for(LeaderCard(LEADER, key.public, (authority.public,)))
            leader = _launch(
                node.folder.home, "leader", "serve", "--listen", "127.0.0.1:0", "--wait-s", "1", "--until-eof"
            )
            _listens(leader, node.folder.home)
            for name in HELPERS:
                helpers.wait(name)
            line("a leader and two helpers of other organisations run", "主导方与两个其他机构的协助方已启动")
            population = population_digest(FLEET, key.public)

            def sign_in(device: bytes) -> dict[str, Any]:
                made = ticket(authority, population, device, FAR_MS)
                return {"ticket": made.signature.hex(), "expires_ms": made.expires_ms}

            app = client.fleet(FLEET)["app"]
            if app is None:
                raise LocalError("not_running", path=str(node.folder.home))
            text = json.dumps({**app, "app_version": "8.2", "epsilon_most": None})
            for number, album in enumerate(albums, 1):
                folder = root / "phones" / f"phone-{number:02}"
                folder.mkdir(parents=True, mode=0o700)
                seen = [(s.photo, s.features.tolist(), s.event, s.seconds, s.position) for s in album]
                (folder / "app.json").write_text(text, encoding="utf-8")
                dies_at = DIES_AT if number == DIES + 1 else 0
                (folder / "album.json").write_text(
                    json.dumps({"seen": seen, "dies_at": dies_at}), encoding="utf-8"
                )
                phones.append(Phone(folder, sign_in))
            _enrolled(client, phones)
            line(
                f"{PHONES} phones signed in, each with an album of its own",
                f"{PHONES} 台手机已注册，各持有自己的相册",
            )
            yield client, helpers, phones
        finally:
            for phone in phones:
                phone.close_input()
            end(*(phone.process for phone in phones if phone.process.poll() is None))
            end(*helpers.processes.values(), *([leader] if leader else []))


def _enrolled(client: Client, phones: list[Phone]) -> None:
    until_s = time.monotonic() + MOST_S
    while client.fleet(FLEET)["devices"] < len(phones):
        if time.monotonic() > until_s or any(phone.process.poll() is not None for phone in phones):
            raise LocalError("not_running", path=str(phones[0].folder.parent))
        time.sleep(POLL_S)


def _judge(
    settings: Settings,
    check: Callable[[bool, str, str], None],
    task: FleetTaskView,
    watch: _Watch,
    phones: list[Phone],
    ranks: bool,
    released: int,
) -> None:
    w = settings.words
    rounds = task["rounds"]
    measured = [
        row["figures"]["scores"] for row in rounds if row["kind"] == "evaluate" and row["phase"] == "opened"
    ]
    scores = measured[0] if measured else {}
    names = {
        "local_only": w("this phone alone", "仅本机"),
        "candidate": w("shared", "共享模型"),
        "personal": w("shared + personal", "共享 + 个人"),
    }
    rows = [
        (
            name, f"{scores[scorer]['accuracy']:.3f}", f"{scores[scorer]['auc_per_device']:.3f}",
            f"{scores[scorer]['hit_top3']:.3f}",
        )
        for scorer, name in names.items() if scorer in scores
    ]  # fmt: skip
    head = ("", w("accuracy", "准确率"), w("AUC per device", "每机 AUC"), w("liked of first 3", "前三命中"))
    click.echo("\n".join("  " + text for text in table(head, rows).splitlines()))
    sent = [phone.said.get("bytes", 0) for phone in phones]
    counts = [len(phone.said.get("rounds", [])) for phone in phones]
    click.echo(
        w(
            f"  {sum(counts)} reports, {sum(sent) / max(1, sum(counts)):,.0f} bytes each; "
            f"{sum(sent) / len(phones) / 1000:.1f} kB a phone in {len(rounds)} rounds",
            f"  共 {sum(counts)} 份上报，每份 {sum(sent) / max(1, sum(counts)):,.0f} 字节；"
            f"{len(rounds)} 轮内每台手机 {sum(sent) / len(phones) / 1000:.1f} kB",
        )
    )
    click.echo(
        w(
            f"  privacy: sums over at least {LEAST} phones, no noise (thirty phones cannot carry it); "
            f"a phone took part {max(counts)} of 12 times at most",
            f"  隐私：至少 {LEAST} 台手机的总和，未加噪声（30 台设备不足以承载）；单台最多参与 {max(counts)} 次，上限 12 次",
        )
    )
    click.echo("  " + w(phones[0].said.get("words", ""), phones[0].said.get("words_zh", "")))

    def auc(scorer: str) -> float:
        return float(scores[scorer]["auc_per_device"]) if scorer in scores else 0.0

    planned = TRAIN_ROUNDS + TRAIN_ROUNDS // EVALUATE_EVERY
    opened = [row for row in rounds if row["phase"] == "opened"]
    died = phones[DIES]
    for holds, en, zh in (
        (task["state"] == "finished" and len(opened) == planned, "every round opened", "每一轮均已打开"),
        (all(row["funnel"]["counted"] >= LEAST for row in opened), f"no sum is over fewer than {LEAST} phones",
         f"没有少于 {LEAST} 台手机的总和"),
        (not ranks or auc("candidate") > auc("local_only") + GAIN_AT_LEAST,
         f"the shared model ranks better than a phone alone by {GAIN_AT_LEAST}", f"共享模型比仅用本机数据至少高 {GAIN_AT_LEAST}"),
        (not ranks or auc("personal") > auc("local_only") + GAIN_AT_LEAST, "so does the personal head", "个人模型同样如此"),
        (watch.phone_died and died.starts == 2 and bool(died.said.get("rounds")),
         "the killed phone went on", "被终止的手机已继续"),
        (watch.waited, "a round waited for its helper and opened", "轮次等待协助方恢复后打开"),
        (all(len(set(phone.said["rounds"])) == len(phone.said["rounds"]) for phone in phones if phone.said),
         "no phone reported twice in a round", "没有手机在同一轮中重复上报"),
        (not ranks or sum(phone.said.get("release", 0) == released > 0 for phone in phones) >= LEAST,
         "the released model reached the phones", "发布的模型已送达手机"),
    ):  # fmt: skip
        check(holds, en, zh)


def _launch(home: Path, *command: str) -> subprocess.Popen[bytes]:
    """Starts `isthmus --home HOME COMMAND`."""
    with (home / f"{command[0]}.log").open("ab") as log:
        return subprocess.Popen(
            [*SERVE, "--home", str(home), "-o", "json", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
        )  # fmt: skip


def _listens(process: subprocess.Popen[bytes], home: Path) -> None:
    """Waits until a process says where it listens."""
    stdout: IO[bytes] | None = process.stdout
    assert stdout is not None
    if not json.loads(stdout.readline() or b"null"):
        raise LocalError("not_running", path=str(home))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
