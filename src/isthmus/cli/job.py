"""job: plan, run, ls, show, watch, accept, refuse."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from isthmus.base.document import MAX_BYTES, read_document
from isthmus.base.errors import ConfigError
from isthmus.cli.output import Settings, common, job_error, pass_settings, table
from isthmus.client import Client
from isthmus.client.client import EngineView, JobView, PlanView
from isthmus.jobs.spec import apply_settings

POLL_S = 0.5
FAILED, WAITED = 1, 3


@click.group()
@common
def job() -> None:
    """Joint jobs: plan, propose, accept, follow."""


_job_file = click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
_settings_option = click.option("--set", "changes", multiple=True, help="NAME=VALUE put into the job file.")
_assume_option = click.option(
    "--assume",
    type=click.IntRange(1, 100_000),
    help="How many columns a partner has, where the job file names none.",
)


@job.command()
@_job_file
@_settings_option
@_assume_option
@common
@pass_settings
def plan(settings: Settings, file: Path, changes: tuple[str, ...], assume: int | None) -> None:
    """Say what a job file will do and who learns what. Reads no rows, costs nothing."""
    text = job_text(file, changes)
    with settings.client() as client:
        made = client.plan(text, assume)
    settings.show(made, lambda: plan_text(made, settings))


@job.command("run")
@_job_file
@_settings_option
@_assume_option
@click.option("--test-ids", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="File that lists the test rows, where the split is by ids.")  # fmt: skip
@click.option("--follow", is_flag=True, help="Wait for the end and show how far it is.")
@click.option("--timeout", type=float, help="Stop waiting after this many seconds; the job goes on.")
@common
@pass_settings
def run_job(
    settings: Settings,
    file: Path,
    changes: tuple[str, ...],
    assume: int | None,
    test_ids: Path | None,
    follow: bool,
    timeout: float | None,
) -> int:
    """Sign a job file and propose it to every feature owner. It runs once all have accepted."""
    text = job_text(file, changes)
    with settings.client() as client:
        proposed = client.propose(text, None if test_ids is None else str(test_ids.absolute()), assume)
        if follow:
            settings.say(f"Proposed as {proposed['id']}.", f"已提交，编号 {proposed['id']}。")
            return follow_job(settings, client, proposed["id"], timeout)
    settings.show(proposed, lambda: _table([proposed]))
    if proposed["state"] == "draft":
        waiting = f"a-{proposed['id'].removeprefix('j-')}"
        settings.say(
            f"Another person of this party runs: isthmus approval approve {waiting}",
            f"请本方另一人执行：isthmus approval approve {waiting}",
        )
        return 0
    settings.say(
        f"The partners run: isthmus job accept {proposed['id']}. Follow it: isthmus job watch {proposed['id']}",
        f"请合作方执行：isthmus job accept {proposed['id']}。跟踪进度：isthmus job watch {proposed['id']}",
    )
    return 0


@job.command("ls")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@common
@pass_settings
def list_jobs(settings: Settings, limit: int) -> None:
    """List jobs, newest first."""
    with settings.client() as client:
        jobs = client.jobs(limit)
    settings.show(jobs, lambda: _table(jobs))


@job.command()
@click.argument("job_id")
@common
@pass_settings
def show(settings: Settings, job_id: str) -> None:
    """Show both sides of a job: states, codes, where the results lie."""
    with settings.client() as client:
        found = client.job(job_id)
    settings.show(found, lambda: _whole(found))


@job.command()
@click.argument("job_id")
@click.option("--timeout", type=float, help="Stop waiting after this many seconds; the job goes on.")
@common
@pass_settings
def watch(settings: Settings, job_id: str, timeout: float | None) -> int:
    """Follow a job to its end."""
    with settings.client() as client:
        return follow_job(settings, client, job_id, timeout)


@job.command()
@click.argument("job_id")
@click.option(
    "--grant", is_flag=True, help="Give a grant of one run for exactly this job, where none covers it."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@pass_settings
def accept(settings: Settings, job_id: str, grant: bool, yes: bool) -> None:
    """Show what a proposed job is, who learns what, and sign it."""
    with settings.client() as client:
        made = client.plan_of(job_id)
        click.echo(plan_text(made, settings), err=True)
        if not yes:
            question = settings.words("Sign and accept this job?", "签署并接受该作业？")
            click.confirm(question, abort=True, err=True)
        accepted = client.accept_job(job_id, grant)
        waits = client.approval(f"a-{job_id.removeprefix('j-')}")
    settings.show(accepted, lambda: _table([accepted]))
    if waits["state"] == "open":
        settings.say("Another person has to approve it too.", "还须另一人同意。")


@job.command()
@click.argument("job_id")
@common
@pass_settings
def refuse(settings: Settings, job_id: str) -> None:
    """Refuse a proposed job. Nothing has run and nothing will."""
    with settings.client() as client:
        refused = client.refuse_job(job_id)
    settings.show(refused, lambda: _table([refused]))


@job.command()
@click.argument("job_id")
@common
@pass_settings
def pause(settings: Settings, job_id: str) -> None:
    """Halt a job at both sides; it keeps what is done until it is resumed here."""
    with settings.client() as client:
        paused = client.pause_job(job_id)
    settings.show(paused, lambda: _table([paused]))


@job.command()
@click.argument("job_id")
@click.option(
    "--from",
    "stage",
    type=click.Choice(["bin", "train", "evaluate"]),
    help="Do all from this stage on again.",
)
@common
@pass_settings
def resume(settings: Settings, job_id: str, stage: str | None) -> None:
    """Go on with a job that is paused, stopped here, or failed, from the last barrier that all have passed."""
    with settings.client() as client:
        resumed = client.resume_job(job_id, stage)
    settings.show(resumed, lambda: _table([resumed]))


@job.command()
@click.argument("job_id")
@common
@pass_settings
def stop(settings: Settings, job_id: str) -> None:
    """End a job at every party."""
    with settings.client() as client:
        stopped = client.stop_job(job_id)
    settings.show(stopped, lambda: _table([stopped]))


@job.command()
@click.argument("job_id")
@common
@pass_settings
def clone(settings: Settings, job_id: str) -> None:
    """Propose the same job file once more; every party signs the new run."""
    with settings.client() as client:
        cloned = client.clone_job(job_id)
    settings.show(cloned, lambda: _table([cloned]))


def job_text(file: Path, changes: tuple[str, ...]) -> str:
    """The job file as it goes to the node, with the changes of --set."""
    try:
        data = sys.stdin.buffer.read(MAX_BYTES + 1) if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise ConfigError("bad_path", path=str(file), why=error.strerror or "it cannot be read") from None
    document = read_document(data, str(file))
    return json.dumps(apply_settings(document, changes), ensure_ascii=False)


def follow_job(settings: Settings, client: Client, job_id: str, timeout_s: float | None = None) -> int:
    """Says each step on stderr, shows the job at its end, and raises the error it ended with."""
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    said = Said(settings)

    def check() -> None:
        if deadline_s is not None and time.monotonic() > deadline_s:
            raise _WaitedEnoughError

    def wait() -> None:
        check()
        time.sleep(POLL_S)

    try:
        ended = client.follow(job_id, wait, said.on_change, check)
    except _WaitedEnoughError:
        settings.say(
            f"{job_id} goes on; isthmus job watch {job_id}", f"{job_id} 仍在运行；isthmus job watch {job_id}"
        )
        return WAITED
    settings.show(ended, lambda: _whole(ended))
    if ended["error"]:
        raise job_error(ended["error"])
    return 0


class _WaitedEnoughError(Exception):
    pass


class Said:
    """Says a state or a step once, when it is new."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last = ""

    def on_change(self, job: JobView) -> None:
        text = self._words(job)
        if text != self._last:
            self._last = text
            click.echo(text, err=True)

    def _words(self, job: JobView) -> str:
        step = job["progress"]
        if job["state"] == "proposed":
            asked = ", ".join(p["party"] for p in job["parties"] if p["state"] == "asked")
            return self._settings.words(
                f"{job['id']} waits for {asked} to accept", f"{job['id']} 等待 {asked} 接受"
            )
        if not step:
            why = (
                f"  {job['error']['detail']}"
                if job["error"] and job["state"] in ("waiting", "paused")
                else ""
            )
            return f"{job['id']} {job['state']}{why}"
        of = f"  {step['done']}/{step['total']}" if step["total"] else ""
        eta = step["eta_s"]
        left = "" if eta is None else self._settings.words(f"  {eta:.0f} s left", f"  剩余约 {eta:.0f} 秒")
        note = f"  {step['note']}" if step["note"] else ""
        return f"{job['id']} {step['stage']}{of}{left}{note}"


def plan_text(made: PlanView, settings: Settings) -> str:
    """Parties, purpose, own columns, stages, engine and who learns what, for a person who has to decide."""
    w, resolved = settings.words, made["resolved"]
    parties, about = resolved["parties"], resolved["metadata"]
    parts = [
        f"{w('job', '作业')}       {about['name']}   {w('hash', '哈希')} {made['digest']}",
        f"{w('purpose', '用途')}   {about['purpose']}",
        f"{w('label owner', '标签方')}     {parties['label_owner']}",
        f"{w('feature owners', '特征方')}  {', '.join(parties['feature_owners'])}",
    ]
    if about["valid_until"]:
        parts.append(f"{w('valid until', '有效期至')}  {about['valid_until']}")
    if made["own_columns"] is not None:
        names = ", ".join(made["own_columns"])
        parts.append(
            f"{w('own columns that take part', '参与的本方列')} ({len(made['own_columns'])}): {names}"
        )
    parts.append("")
    parts.append(
        table(("stage", w("what happens", "内容")), [(s["stage"], s["what"]) for s in made["stages"]])
    )
    parts += ["", _engine_text(made["engine"], settings), *_room_text(made, settings)]
    parts += ["", *_grants_text(made, settings)]
    rows = [(leak["stage"], leak["party"], leak["learns"]) for leak in made["leaks"]]
    parts.append(table(("stage", w("party", "一方"), w("learns", "得知")), rows))
    return "\n".join(parts)


def _engine_text(engine: EngineView, settings: Settings) -> str:
    """The engine and its reason, one line of cost for each engine, and what to know beside it."""
    w = settings.words
    parts = [f"{w('engine', '引擎')}  {engine['chosen']}  ({engine['reason']})"]
    if engine["costs"]:
        head = (
            "engine",
            w("to partners", "发往对方"),
            w("back", "返回"),
            w("CPU", "CPU 时间"),
            w("on the line", "总耗时"),
            "",
        )
        rows = [
            (
                cost["engine"],
                f"{cost['up_bytes'] / 1e6:,.1f} MB",
                f"{cost['down_bytes'] / 1e6:,.1f} MB",
                _seconds(cost["cpu_s"]),
                _seconds(cost["wall_s"]),
                w("beyond its limits", "超出其上限") if cost["beyond"] else "",
            )
            for cost in engine["costs"]
        ]
        parts.append(table(head, rows))
    return "\n".join([*parts, *(f"- {note}" for note in engine["notes"])])


def _room_text(made: PlanView, settings: Settings) -> list[str]:
    """Memory and disk of each party, where they can be estimated."""
    w = settings.words
    return [
        f"- {room['party']}: "
        + w(
            f"about {room['memory_bytes'] / 1e6:,.0f} MB of memory, {room['disk_bytes'] / 1e6:,.0f} MB of disk",
            f"约需内存 {room['memory_bytes'] / 1e6:,.0f} MB，磁盘 {room['disk_bytes'] / 1e6:,.0f} MB",
        )
        for room in made["rooms"]
    ]


def _grants_text(made: PlanView, settings: Settings) -> list[str]:
    """Which grants the job would run under, and which are missing."""
    if not made["grants"]:
        return []
    w = settings.words
    states = {
        "found": ("found", "已有"),
        "ending": ("near its end", "即将到期或用尽"),
        "missing": ("missing", "缺失"),
    }
    rows = [
        (note["holder"], note["dataset"], w(*states[note["state"]]), note["words"]) for note in made["grants"]
    ]
    head = (w("grant of", "授权方"), w("dataset", "数据集"), w("state", "状态"), "")
    return [table(head, rows), ""]


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 100 else f"{seconds:.1f} s"


def _table(jobs: list[JobView]) -> str:
    rows = [
        (
            j["id"],
            j["name"],
            f"waiting ({j['waiting']['reason']})" if j["waiting"] else j["state"],
            j["role"].replace("_", " "),
            j["label_owner"],
            j["created_at"][:16],
            j["digest"][:16],
        )
        for j in jobs
    ]
    return table(("job", "name", "state", "role", "label owner", "created", "hash"), rows)


def _whole(job: JobView) -> str:
    parts = [_table([job]), ""]
    rows = [(p["party"], p["state"], "yes" if p["signed"] else "no", p["code"] or "") for p in job["parties"]]
    parts.append(table(("party", "state", "signed", "code"), rows))
    if job["error"]:
        parts += ["", f"{job['error']['detail']}  [{job['error']['code']}]", job["error"]["hint"]]
    if job["state"] not in ("proposed", "accepted", "refused"):
        parts += ["", f"files  {job['folder']}"]
    if job["result"]:
        figures = {k: v for k, v in job["result"].items() if isinstance(v, (int, float, str))}
        parts += ["", table(("figure", "value"), [(k, _figure(v)) for k, v in figures.items()])]
    return "\n".join(parts)


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
