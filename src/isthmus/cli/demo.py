"""demo: a bank and a data partner, or a fleet of phones, all of them real processes on this machine."""

from __future__ import annotations

import asyncio
import csv
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from isthmus.base.document import read_document
from isthmus.base.errors import ConfigError
from isthmus.base.record import TRAINED
from isthmus.cli.job import POLL_S
from isthmus.cli.output import Settings, common, job_error, pass_settings, table
from isthmus.client.client import JobView
from isthmus.client.temporary import TemporaryNodes
from isthmus.jobs.instruction import read_options
from isthmus.jobs.plan import make_plan
from isthmus.jobs.spec import JobFile, apply_settings, job_digest, parse_job, resolve
from isthmus.jobs.twin import pooled_scores
from isthmus.learn.metrics import Evaluation, evaluate
from isthmus.scenarios import credit_card, generated
from isthmus.scenarios.credit_card import data as credit_card_data
from isthmus.scenarios.portfolio import DemoTables
from isthmus.table import ReadOptions, file_digest, read_ids, read_table

SEED = 20260401
BANK, PARTNER = "river-bank", "data-co"
GAIN_AT_LEAST = 0.02
PARITY = 0.005


@dataclass
class Checks:
    """What the demo promises; each is one line of the end, and all must hold."""

    failed: list[str] = field(default_factory=list)
    held: int = 0

    def check(self, holds: bool, en: str, zh: str, settings: Settings) -> None:
        if holds:
            self.held += 1
        else:
            self.failed.append(settings.words(en, zh))

    def tell(self, settings: Settings, began_s: float) -> None:
        spent_s = time.monotonic() - began_s
        for text in self.failed:
            click.echo(settings.words(f"  does not hold: {text}", f"  未通过：{text}"))
        if not self.failed:
            en, zh = f"all {self.held} checks hold", f"{self.held} 项检查全部通过"
            click.echo(settings.words(f"  {en}, {spent_s:.0f} s", f"  {zh}，{spent_s:.0f} 秒"))


@click.command()
@click.option(
    "--scenario",
    type=click.Choice(["credit-card", "album"]),
    default="credit-card",
    show_default=True,
    help="album: a leader, two helpers and thirty phones instead of two nodes.",
)
@click.option("--data", "source", default="real", show_default=True,
              help="real; generated; or a folder with bank.csv, partner.csv and test_ids.csv. album: real; or a CSV with person, "
                   "rating and an embedding.")  # fmt: skip
@click.option("--rows", default=20_000, show_default=True, type=click.IntRange(2_000, 1_000_000),
              help="People in a generated portfolio.")  # fmt: skip
@click.option(
    "--set", "changes", multiple=True, help="NAME=VALUE put into the job file, for example trees=10."
)
@click.option("--keep", is_flag=True, help="Leave both nodes running until Ctrl-C.")
@common
@pass_settings
def demo(
    settings: Settings, scenario: str, source: str, rows: int, changes: tuple[str, ...], keep: bool
) -> int:
    """Two real nodes on loopback train one model on real data, in under two minutes."""
    root = Path(".demo") / scenario
    began_s = time.monotonic()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    if scenario == "album":
        if keep or changes:
            raise click.UsageError("The album takes neither --keep nor --set.")
        return _album(settings, root, source, began_s)
    kind = settings.words(
        {"real": "real data, one table split by column", "generated": f"generated data, {rows:,} people"}.get(
            source, source
        ),
        {"real": "真实数据，一张表按列拆分", "generated": f"生成数据，{rows:,} 人"}.get(source, source),
    )
    click.echo(f"isthmus demo · {scenario} · {kind}")
    tables = _tables(source, rows, root / "data")
    document = _document(tables, changes)
    job = parse_job(document)
    checks, line = Checks(), _Lines(settings)
    with TemporaryNodes(
        [BANK, PARTNER], root / "nodes", [tables.label_csv.parent], settings.language
    ) as nodes:
        _register(nodes, tables)
        line.done(1, "link", "建联", settings.words(
            "two nodes joined over TLS, four words compared at both sides", "两个节点经 TLS 互联，双方核对四个词"))  # fmt: skip
        blow = _Blow(nodes, line, job.model.trees)
        ended = nodes.run(json.dumps(document), tables.test_ids_csv, lambda: time.sleep(POLL_S), blow.follow)
        if ended["error"]:
            raise job_error(ended["error"])
        _judge(settings, line, checks, nodes, ended, job, tables, root, blow)
        checks.tell(settings, began_s)
        if keep:
            for node in nodes.nodes:
                click.echo(f"  isthmus --home {node.folder.home} job ls")
            settings.say("Both nodes run until Ctrl-C.", "两个节点持续运行，按 Ctrl-C 结束。")
            while True:
                time.sleep(1)
    return 1 if checks.failed else 0


def _album(settings: Settings, root: Path, source: str, began_s: float) -> int:
    """Phones instead of nodes."""
    from isthmus.cli.demo_album import demo_album

    real = settings.words("real pictures, generated tastes", "真实图片，生成的偏好")
    click.echo(f"isthmus demo · album · {real if source == 'real' else source}")
    checks = Checks()
    own = None if source == "real" else Path(source)
    demo_album(settings, root, own, lambda holds, en, zh: checks.check(holds, en, zh, settings))
    checks.tell(settings, began_s)
    return 1 if checks.failed else 0


class _Lines:
    """One line a stage, as it ends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._began_s = time.monotonic()
        self._stage = ""
        self.seconds: dict[str, float] = {}

    def done(self, number: int, en: str, zh: str, text: str) -> None:
        now_s = time.monotonic()
        spent_s, self._began_s = now_s - self._began_s, now_s
        name = self._settings.words(f"{en:<10}", zh)
        click.echo(f"  {number} {name} {text}  {self._settings.words('ok', '完成')} {spent_s:.0f} s")

    def follow(self, job: JobView) -> None:
        """Where the job stands, on stderr, once a change."""
        step = job["progress"] or {}
        stage = step.get("stage") or job["state"]
        if stage != self._stage:
            self._stage = stage
            click.echo(f"    … {stage}", err=True)


class _Blow:
    """Kills the partner's node, as a power cut would, once a third of the trees is done, and starts it again."""

    def __init__(self, nodes: TemporaryNodes, line: _Lines, trees: int) -> None:
        self._nodes, self._line, self._due = nodes, line, max(1, trees // 3)
        self.at_tree = 0

    def follow(self, job: JobView) -> None:
        self._line.follow(job)
        step = job["progress"] or {}
        if not self.at_tree and step.get("stage") == "train" and step["done"] >= self._due:
            self.at_tree = step["done"]
            self._nodes.node(PARTNER).process.kill()
            self._nodes.restart(PARTNER)

    def redone(self, job_id: str) -> int:
        """How many trees either side did again."""
        return max(redone_by(node.client.events(job_id))[0] for node in self._nodes.nodes)


def redone_by(events: list[dict[str, Any]]) -> tuple[int, int]:
    """How many barriers a party passed again, at most in one attempt, and how many attempts there were."""
    highest, again, most, attempts = 0, 0, 0, 0
    for event in events:
        if event["kind"] == "job.attempt":
            attempts, again = attempts + 1, 0
        elif event["kind"] == "job.barrier":
            barrier = event["data"]["barrier"]
            again += (
                barrier <= highest and barrier != TRAINED
            )  # no work lies before that one but its last tree
            highest, most = max(highest, barrier), max(most, again)
    return most, attempts


def _tables(source: str, rows: int, folder: Path) -> DemoTables:
    folder.mkdir(parents=True)
    if source == "real":
        return credit_card_data.write_tables(folder, SEED)
    if source == "generated":
        return generated.write_tables(folder, rows, SEED)
    files = [Path(source) / name for name in ("bank.csv", "partner.csv", "test_ids.csv")]
    for path in files:
        if not path.is_file():
            raise ConfigError("bad_path", path=str(path), why="there is no such file")
    bank, partner = (read_ids(path, ReadOptions(id="phone", id_form="phone-cn")) for path in files[:2])
    return DemoTables(
        files[0].resolve(), files[1].resolve(), files[2].resolve(), len(set(bank) & set(partner))
    )


def _document(tables: DemoTables, changes: tuple[str, ...]) -> dict[str, Any]:
    template = Path(credit_card.__file__).with_name("job.yaml")
    document = read_document(template.read_bytes(), template.name)
    document["split"]["test_ids_sha256"] = file_digest(tables.test_ids_csv)
    return apply_settings(document, changes)


def _register(nodes: TemporaryNodes, tables: DemoTables) -> None:
    bank, partner = nodes.node(BANK).client, nodes.node(PARTNER).client
    bank.add_dataset("card-holders", str(tables.label_csv.resolve()), "phone", form="phone-cn", label="bad")
    partner.add_dataset("habits", str(tables.feature_csv.resolve()), "phone", form="phone-cn")


def _judge(
    settings: Settings, line: _Lines, checks: Checks, nodes: TemporaryNodes, ended: JobView, job: JobFile,
    tables: DemoTables, root: Path, blow: _Blow,
) -> None:  # fmt: skip
    """Compares what the job gave with what it promised, and prints the table."""
    folder = Path(ended["folder"])
    report = json.loads((folder / "report.json").read_text())
    figures, seconds = report["rows"], {s["stage"]: s["wall_s"] for s in report["stages"]}
    w = settings.words
    line.done(2, "job", "作业", w("align, bin, train and evaluate, job file signed by both parties",
                                  "对齐、分箱、训练、评估，作业文件由双方签署"))  # fmt: skip
    click.echo(w(
        f"      {figures['label']:,} x {figures['feature'][0]:,} keys -> {figures['common']:,} shared rows",
        f"      {figures['label']:,} x {figures['feature'][0]:,} 个标识 -> 共有 {figures['common']:,} 行"))  # fmt: skip
    redone = blow.redone(ended["id"])
    if blow.at_tree:
        click.echo(w(
            f"      partner killed at tree {blow.at_tree}, came back and went on; trees done again: {redone}",
            f"      合作方在第 {blow.at_tree} 棵树时被强制终止，恢复后继续；重做 {redone} 棵"))  # fmt: skip
    signed = nodes.node(BANK).client.plan_of(ended["id"])["resolved"]
    resolved, digest = parse_job(signed), job_digest(signed)
    names = {name: read_options(resolved, name, {}) for name in (BANK, PARTNER)}
    both = [read_table(tables.label_csv, names[BANK]), read_table(tables.feature_csv, names[PARTNER])]
    test_ids = read_ids(tables.test_ids_csv, ReadOptions(id="phone", id_form="phone-cn"))
    twin, labels = asyncio.run(pooled_scores(resolved, digest, both, test_ids))
    scores = _scores(folder / "scores.csv")
    line.done(
        3, "twin", "孪生", w("the same job on pooled tables, in the clear", "在合并数据上以明文重跑同一作业")
    )
    pooled = evaluate(labels, np.array(list(twin.values())))
    alone, joint = report["metrics"]["alone"], report["metrics"]["joint"]
    _print_table(w, report, pooled, seconds)
    accepted = {p["party"] for p in ended["parties"]}
    crossed = {k["kind"] for k in report["bytes"]["kinds"]}
    shown = (ended["result"] or {})["metrics"]
    linked = all(n.client.partners()[0]["connected"] for n in nodes.nodes)
    same = all(shown[k]["auc"] == report["metrics"][k]["auc"] for k in ("alone", "joint"))
    gain = joint["auc"] - alone["auc"]
    for holds, en, zh in (
        (linked, "both nodes see the line", "双方均已连通"),
        (
            accepted == {BANK, PARTNER} and ended["digest"] == digest.hex() and stands_for(job, signed),
            "one job file, accepted by both",
            "双方接受同一作业文件",
        ),
        (figures["common"] == tables.true_overlap, "the overlap is the true one", "交集与真实重合数一致"),
        (scores == twin, "scores equal the twin bit for bit", "分数与孪生逐位相同"),
        (abs(joint["auc"] - pooled.auc) <= PARITY, "joint equals pooled", "联合与合并一致"),
        (gain >= GAIN_AT_LEAST, f"a gain of at least {GAIN_AT_LEAST}", f"增益不低于 {GAIN_AT_LEAST}"),
        (
            crossed <= set(make_plan(resolved).messages),
            "only planned kinds of message crossed",
            "仅有计划内的消息类型",
        ),
        (
            redone <= 1 and (not blow.at_tree or (ended["result"] or {})["attempts"] > 1),
            "a killed partner goes on, one tree redone at most",
            "被终止的合作方自动继续，至多重做一棵树",
        ),
        (same, "report and node show the same figures", "报告与节点数字一致"),
    ):
        checks.check(holds, en, zh, settings)
    copy = root / "report"
    copy.mkdir()
    for name in ("report.en.html", "report.zh.html", "report.json", "scores.csv"):
        shutil.copyfile(folder / name, copy / name)
    click.echo(w("  report  ", "  报告  ") + f"{copy / 'report.en.html'}  {copy / 'report.zh.html'}")


def stands_for(job: JobFile, signed: dict[str, Any]) -> bool:
    """Whether a signed document is that job file; what the node froze in it are the engine and the vectors it counted."""
    frozen = signed["crypto"]
    promised = resolve(job)
    if job.crypto.engine == "auto":
        promised["crypto"]["engine"] = frozen["engine"]
    if job.crypto.vectors_max == 0:
        promised["crypto"]["vectors_max"] = frozen["vectors_max"]
    return promised == signed


def _print_table(
    w: Callable[[str, str], str], report: dict[str, Any], pooled: Evaluation, seconds: dict[str, float]
) -> None:
    alone, joint, traffic = report["metrics"]["alone"], report["metrics"]["joint"], report["bytes"]
    crossed = f"{traffic['sent_by_label'] / 1e6:.1f} / {traffic['sent_by_feature'] / 1e6:.1f} MB"
    head = ("", "AUC", "KS", w("bad in worst 10 %", "最差 10 % 捕获坏样本"), w("bytes out / in", "发送 / 接收"),
            w("rounds", "轮次"), w("s", "秒"), "")  # fmt: skip
    gain = f"{w('gain', '增益')} {joint['auc'] - alone['auc']:+.4f} AUC"
    rows = (
        (w("bank alone", "银行单方"), *_figures(alone), "-", "-", f"{seconds.get('baseline', 0):.0f}", ""),
        (
            w("joint", "联合"),
            *_figures(joint),
            crossed,
            report["rounds"],
            f"{sum(seconds.values()):.0f}",
            gain,
        ),
        (
            w("pooled", "合并"),
            *_figures(asdict(pooled)),
            "-",
            "-",
            "",
            w("what no party may have", "任何一方都不得拥有"),
        ),
    )
    click.echo("\n".join("  " + text for text in table(head, rows).splitlines()))


def _figures(measured: dict[str, Any]) -> tuple[str, str, str]:
    return f"{measured['auc']:.4f}", f"{measured['ks']:.4f}", f"{measured['worst_tenth_capture']:.1%}"


def _scores(path: Path) -> dict[str, float]:
    with path.open(newline="", encoding="utf-8") as stream:
        return {row[0]: float(row[1]) for row in list(csv.reader(stream))[1:]}
