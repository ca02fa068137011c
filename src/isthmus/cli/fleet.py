"""fleet: new, ls, show, plan, run, watch, stop, kill, rollout, devices, block, helper, ticket, app, simulate."""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from isthmus.base.document import MAX_BYTES, read_document
from isthmus.base.errors import ConfigError, PolicyError
from isthmus.base.files import write_file
from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.client import Client
from isthmus.client.fleets import (
    DeviceView,
    FleetPlanView,
    FleetTaskView,
    FleetView,
    HelperView,
    ReleaseView,
    RoundView,
)
from isthmus.crypto.seal import PartyKey

POLL_S = 1.0
WAITED = 3
REFUSED = 6
_KEY = re.compile(r"[0-9a-f]{64}")
STATES = {
    "running": ("running", "运行中"),
    "paused": ("paused", "已暂停"),
    "stopped": ("stopped", "已停止"),
    "finished": ("finished", "已完成"),
}
PHASES = {
    "collecting": ("collecting reports", "收集上报"),
    "looking": ("helpers look", "协助方检查"),
    "forming": ("forming batches", "组成批次"),
    "answering": ("helpers answer", "协助方作答"),
    "opened": ("opened", "已开启"),
    "aborted": ("given up", "已放弃"),
}
KINDS = {"train": ("train", "训练"), "evaluate": ("evaluate", "评估")}
FUNNEL = {
    "checked_in": ("checked in", "签到"),
    "eligible": ("eligible", "符合条件"),
    "offered": ("offered", "获派"),
    "uploaded": ("uploaded", "已上报"),
    "counted": ("counted", "计入"),
}
LOST = {
    "version": ("another app version", "应用版本不符"),
    "not_sampled": ("not sampled", "未被抽样"),
    "not_eligible": ("not eligible", "不符合条件"),
    "quota": ("took part often enough", "参与次数已满"),
    "ticket_ends": ("its ticket ends too soon", "凭证即将到期"),
    "too_soon": ("too soon after the last time", "距上次参与过近"),
    "not_needed": ("not needed", "名额已满"),
    "gone": ("not heard of again", "失去联系"),
    "late": ("late", "迟到"),
    "too_few_examples": ("too few examples", "样本不足"),
    "interrupted": ("interrupted", "被中断"),
    "refused": ("refused by the device", "设备拒绝"),
    "failed": ("failed on the device", "设备失败"),
    "left_out": ("left out by a helper", "被协助方排除"),
    "batch_refused": ("in a batch that a helper refused", "所在批次被协助方拒绝"),
}


class _Commands(click.Group):
    """Loads the simulation when it is asked for: no other command needs its imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "simulate"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "simulate":
            from isthmus.cli.fleet_simulate import simulate

            return simulate
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands)
@common
def fleet() -> None:
    """Devices of an app that train together, each sending one sealed message a round."""


@fleet.command()
@click.argument("name")
@click.option("--authority", help="Public key of the app's sign-in (64 hexadecimal figures).")
@click.option("--new-authority", type=click.Path(path_type=Path, dir_okay=False),
              help="Make that key now and keep its secret half in this file, for the app's back end.")  # fmt: skip
@click.option("--epsilon", type=float, default=8.0, show_default=True,
              help="The privacy that all tasks together may cost one device.")  # fmt: skip
@click.option("--delta", type=float, default=1e-6, show_default=True, help="The delta of that.")
@common
@pass_settings
def new(
    settings: Settings,
    name: str,
    authority: str | None,
    new_authority: Path | None,
    epsilon: float,
    delta: float,
) -> None:
    """Make a fleet."""
    if (authority is None) == (new_authority is None):
        raise click.UsageError("Give --authority or --new-authority, one of them.")
    if new_authority is not None and new_authority.exists():
        raise ConfigError("already_there", what=str(new_authority))
    with settings.client() as client:
        if new_authority is not None:
            key = PartyKey.generate()
            authority = key.public.hex()
            # Kept before the fleet is made: a fleet whose key nobody has is of no use.
            write_file(new_authority, key.to_bytes().hex().encode())
        try:
            made = client.new_fleet(name, authority or "", epsilon, delta)
        except (ConfigError, PolicyError):
            if new_authority is not None:
                new_authority.unlink()
            raise
    settings.show(made, lambda: _table([made], settings))
    if new_authority is not None:
        settings.say(
            f"The app's back end signs tickets with {new_authority}. Keep it there; it is in no backup.",
            f"应用后端使用 {new_authority} 签发设备凭证。请妥善保存，备份中不包含该文件。",
        )


@fleet.command("ls")
@common
@pass_settings
def list_fleets(settings: Settings) -> None:
    """List the fleets that this party leads."""
    with settings.client() as client:
        fleets = client.fleets()
    settings.show(fleets, lambda: _table(fleets, settings))
    if not fleets:
        settings.say(
            "No fleet yet. Next: isthmus fleet new NAME --new-authority FILE",
            "还没有设备群。下一步：isthmus fleet new 名称 --new-authority 文件",
        )


@fleet.command()
@click.argument("name")
@common
@pass_settings
def show(settings: Settings, name: str) -> None:
    """Show a fleet: devices, tasks, releases, and the funnel of the newest round."""
    with settings.client() as client:
        found, tasks, releases = client.fleet(name), client.tasks(name), client.releases(name)
        newest = client.task(name, tasks[0]["name"], rounds=1)["rounds"] if tasks else []
    whole = {**found, "tasks": tasks, "releases": releases, "newest_round": newest[0] if newest else None}

    def text() -> str:
        parts = [_table([found], settings), "", _budget_line(found, settings)]
        if tasks:
            parts += ["", _task_table(tasks, settings)]
        if newest:
            parts += ["", funnel_text(newest[0], settings)]
        if releases:
            parts += ["", _release_table(releases, settings)]
        return "\n".join(parts)

    settings.show(whole, text)
    if not found["leader_running"]:
        settings.say(
            "The leader does not run, so nothing moves. Next: isthmus leader serve --listen HOST:PORT",
            "主导方未运行，任务不会推进。下一步：isthmus leader serve --listen 主机:端口",
        )


@fleet.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@common
@pass_settings
def plan(settings: Settings, file: Path) -> int:
    """Say what the task in FILE will do, what devices send, who learns what, and what it costs in privacy. Nothing is spent.

    Exit 6 if something would refuse the task now.
    """
    name, document = task_text(file)
    with settings.client() as client:
        made = client.plan_task(name, document)
    settings.show(made, lambda: plan_text(made, settings))
    return REFUSED if made["obstacles"] else 0


@fleet.command("run")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--follow", is_flag=True, help="Say each round as it moves, until the task ends.")
@common
@pass_settings
def run_task(settings: Settings, file: Path, follow: bool) -> int:
    """Sign the task in FILE and set its privacy aside; the leader opens its first round."""
    name, document = task_text(file)
    with settings.client() as client:
        started = client.start_task(name, document)
        if follow:
            return _follow(settings, client, name, started["name"], None)
    settings.show(started, lambda: _task_table([started], settings))
    return 0


@fleet.command()
@click.argument("task")
@click.option("--fleet", "name", help="The fleet of the task, where several have one of this name.")
@click.option(
    "--timeout", "timeout_s", type=float, help="Stop watching after so many seconds; the task goes on."
)
@common
@pass_settings
def watch(settings: Settings, task: str, name: str | None, timeout_s: float | None) -> int:
    """Say each round of a task as it moves, until the task ends."""
    with settings.client() as client:
        return _follow(settings, client, name or _fleet_of(client, task), task, timeout_s)


@fleet.command()
@click.argument("task")
@click.option("--fleet", "name", help="The fleet of the task, where several have one of this name.")
@common
@pass_settings
def stop(settings: Settings, task: str, name: str | None) -> None:
    """End a task: open rounds are given up, what was released stays."""
    with settings.client() as client:
        stopped = client.stop_task(name or _fleet_of(client, task), task)
    settings.show(stopped, lambda: _task_table([stopped], settings))


@fleet.command()
@click.argument("name")
@click.option("--undo", is_flag=True, help="Let the fleet work again.")
@common
@pass_settings
def kill(settings: Settings, name: str, undo: bool) -> None:
    """The kill switch: no device of this fleet is offered work, and open rounds are given up."""
    with settings.client() as client:
        killed = client.kill_fleet(name, undo)
    settings.show(killed, lambda: _table([killed], settings))


@fleet.command("rollout")
@click.argument("name")
@click.option("--next", "move", flag_value="next", help="Give the release to the next share of devices now.")
@click.option("--back", "move", flag_value="back", help="Give the model before it back to all devices.")
@common
@pass_settings
def roll_out(settings: Settings, name: str, move: str | None) -> None:
    """Show the releases of a fleet, or move the newest."""
    with settings.client() as client:
        releases = client.releases(name) if move is None else [client.move_rollout(name, move)]
    settings.show(releases, lambda: _release_table(releases, settings))
    if not releases:
        settings.say(
            "No release yet. A task makes one when its gate is passed.",
            "还没有发布。任务通过门槛后会产生发布。",
        )


@fleet.command()
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--device", help="The key of one device.")
@common
@pass_settings
def devices(settings: Settings, name: str, limit: int, device: str | None) -> None:
    """List the devices of a fleet, by their keys."""
    key = None if device is None else _key(device, "--device")
    with settings.client() as client:
        found = client.devices(name, limit, key)
    settings.show(found, lambda: _device_table(found, settings))


@fleet.command()
@click.argument("name")
@click.argument("device")
@common
@pass_settings
def block(settings: Settings, name: str, device: str) -> None:
    """Block a device, named by its key: it is no longer spoken to, and its key does not come back."""
    key = _key(device, "DEVICE")
    with settings.client() as client:
        blocked = client.block_device(name, key)
    settings.show(blocked, lambda: _device_table([blocked], settings))


@fleet.group()
@common
def helper() -> None:
    """The helpers: services of two other organisations, which take the masks off."""


@helper.command("add")
@click.argument("cardfile", type=click.Path(path_type=Path, dir_okay=False))
@common
@pass_settings
def add_helper(settings: Settings, cardfile: Path) -> None:
    """Add the helper whose card is in CARDFILE, as `isthmus helper card` printed it over there."""
    card = _read(cardfile).decode("utf-8", "replace")
    with settings.client() as client:
        added = client.add_helper(card)
    settings.show(added, lambda: _helper_table([added], settings))
    settings.say(
        f"Fingerprint, to be compared by telephone: {added['fingerprint']}",
        f"指纹（请通过电话核对）：{added['fingerprint']}",
    )


@helper.command("ls")
@common
@pass_settings
def list_helpers(settings: Settings) -> None:
    """List the helpers that tasks may name."""
    with settings.client() as client:
        found = client.helpers()
    settings.show(found, lambda: _helper_table(found, settings))
    if not found:
        settings.say(
            "No helper yet. Next: isthmus fleet helper add CARDFILE",
            "还没有协助方。下一步：isthmus fleet helper add 名片文件",
        )


@fleet.command()
@click.option("--authority", "authority_file", required=True, type=click.Path(path_type=Path, dir_okay=False),
              help="The file with the secret key of the app's sign-in.")  # fmt: skip
@click.option("--fleet", "name", required=True, help="The fleet that the ticket is for.")
@click.option("--device", required=True, help="The public key of the device.")
@click.option("--days", type=click.IntRange(1, 3660), default=365, show_default=True)
@click.option("--leader", "leader_key", help="Public key of the leader; asked of the node if left out.")
@common
@pass_settings
def ticket(
    settings: Settings, authority_file: Path, name: str, device: str, days: int, leader_key: str | None
) -> None:
    """Sign a ticket for a device that has signed in: what the app's back end does. With --leader no node is needed."""
    from isthmus.protocols.device_round import population_digest
    from isthmus.protocols.secure_sum import ticket as sign_ticket

    authority = _authority(authority_file)
    if leader_key is None:
        with settings.client() as client:
            app = client.fleet(name)["app"]
        if app is None:
            raise _no_leader(name)
        leader_key = app["leader"]["key"]
    population = population_digest(name, bytes.fromhex(_key(leader_key, "--leader")))
    until = datetime.now(UTC) + timedelta(days=days)
    made = sign_ticket(
        authority, population, bytes.fromhex(_key(device, "--device")), round(until.timestamp() * 1000)
    )
    shown = {"ticket": made.signature.hex(), "expires_ms": made.expires_ms}
    settings.show(shown, lambda: f"{shown['ticket']}\n{shown['expires_ms']}")


@fleet.command()
@click.argument("name")
@click.option("--app-version", default="1.0", show_default=True, help="Version of the app that it goes into.")
@click.option("--epsilon-most", type=click.FloatRange(0, min_open=True),
              help="Devices refuse tasks that promise less privacy; what the fleet has in all, if left out.")  # fmt: skip
@click.option(
    "--any-privacy", is_flag=True, help="Devices take any task, also one without differential privacy."
)
@common
@pass_settings
def app(
    settings: Settings, name: str, app_version: str, epsilon_most: float | None, any_privacy: bool
) -> None:
    """Print the JSON that goes into the app: the leader and its certificate, who enrols devices, the helpers that it accepts."""
    from isthmus.device.config import Config

    with settings.client() as client:
        found = client.fleet(name)["app"]
    if found is None:
        raise _no_leader(name)
    most = None if any_privacy else epsilon_most or found["epsilon_most"]
    text = json.dumps({**found, "app_version": app_version, "epsilon_most": most}, indent=2)
    Config.from_json(text)
    click.echo(text)


def task_text(file: Path) -> tuple[str, str]:
    """The fleet that a task file names, and the file as it goes to the node."""
    data = sys.stdin.buffer.read(MAX_BYTES + 1) if str(file) == "-" else _read(file)
    document = read_document(data, str(file))
    section = document.get("fleet")
    name = section.get("name") if isinstance(section, dict) else None
    if not isinstance(name, str):
        raise ConfigError("missing_field", where=str(file), field="fleet.name")
    return name, json.dumps(document, ensure_ascii=False)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError("bad_path", path=str(file), why=error.strerror or "it cannot be read") from None


def _authority(file: Path) -> PartyKey:
    text = _read(file).decode("ascii", "replace").strip()
    if file.stat().st_mode & 0o077:
        raise ConfigError("file_mode", path=str(file))
    if not _KEY.fullmatch(text):
        raise ConfigError("bad_path", path=str(file), why="it holds no key of 64 hexadecimal figures")
    return PartyKey.from_bytes(bytes.fromhex(text))


def _key(text: str, option: str) -> str:
    if not _KEY.fullmatch(text.lower()):
        raise ConfigError("out_of_bounds", field=option, value=text[:80], allowed="64 hexadecimal figures")
    return text.lower()


def _no_leader(name: str) -> ConfigError:
    needed = "led: isthmus leader serve --listen HOST:PORT"
    show = f"isthmus fleet show {name}"
    return ConfigError(
        "conflict", what=name, state="without a leader so far", needed=needed, show_command=show
    )


def _fleet_of(client: Client, task: str) -> str:
    for each in client.fleets():
        if any(found["name"] == task for found in client.tasks(each["name"], 10_000)):
            return each["name"]
    raise ConfigError("not_found", what=f"task {task[:64]}", list_command="isthmus fleet ls")


def plan_text(made: FleetPlanView, settings: Settings) -> str:
    """Work, bytes, floors, privacy, who learns what, what is in the way; for a person who has to decide."""
    w = settings.words
    begins = w("a fresh model", "全新模型")
    if made["begins_with"] is not None:
        begins = w(f"release {made['begins_with']}", f"发布 {made['begins_with']}")
    rows = [
        (w("task", "任务"), made["task"]),
        (w("purpose", "用途"), made["purpose"]),
        (w("hash", "哈希"), made["digest"] or w("not yet: a helper is missing", "尚无：缺少协助方")),
        (w("begins with", "起点"), f"{begins}, {made['parameters']:,} {w('parameters', '个参数')}"),
        (w("rounds", "轮次"), f"{made['rounds']} + {made['evaluations']} {w('to evaluate', '轮评估')}"),
        (
            w("reports a round", "每轮上报"),
            w(
                f"{made['reports_a_round']:,}; given up below {made['floor']:,}; {made['buckets']} sums",
                f"{made['reports_a_round']:,}；少于 {made['floor']:,} 则放弃；分 {made['buckets']} 个求和",
            ),
        ),
        (
            w("a device sends", "单台设备发送"),
            w(
                f"{_bytes(made['upload_bytes'])} a round, at most {made['times_a_device']} times",
                f"每轮 {_bytes(made['upload_bytes'])}，最多 {made['times_a_device']} 次",
            ),
        ),
        (w("and fetches", "单台设备下载"), _bytes(made["fetch_bytes"])),
        (w("privacy of a device", "单台设备的隐私"), _privacy(made, settings)),
    ]
    parts = [table(("", ""), rows), ""]
    parts.append(
        table(
            (w("who", "谁"), w("learns", "得知")), [(leak["who"], leak["learns"]) for leak in made["learns"]]
        )
    )
    for obstacle in made["obstacles"]:
        parts += ["", f"{obstacle['detail']}  [{obstacle['code']}]", obstacle["hint"]]
    return "\n".join(parts)


def _privacy(made: FleetPlanView, settings: Settings) -> str:
    left = f"{made['budget']['epsilon_left']:.3g}/{made['budget']['epsilon']:.3g}"
    if made["epsilon"] is None:
        return settings.words(
            "no noise: sums are exact, and a model may remember a device",
            "不加噪声：求和精确，模型可能记住单台设备",
        )
    return settings.words(
        f"epsilon {made['epsilon']:g}, delta {made['delta']:g} are set aside; epsilon left before: {left}",
        f"将预留 epsilon {made['epsilon']:g}、delta {made['delta']:g}；此前剩余 epsilon：{left}",
    )


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.2f} MB" if size >= 1_000_000 else f"{size / 1e3:,.1f} kB"


# --- rounds as they move ---


def _follow(settings: Settings, client: Client, name: str, task: str, timeout_s: float | None) -> int:
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    said: dict[int, str] = {}
    while True:
        found = client.task(name, task)
        for row in reversed(found["rounds"]):
            text = round_text(row, settings)
            if said.get(row["number"]) != text:
                said[row["number"]] = text
                click.echo(text, err=True)
        if found["state"] not in ("running", "paused"):
            break
        if deadline_s is not None and time.monotonic() > deadline_s:
            settings.say(
                f"{task} goes on; isthmus fleet watch {task}", f"{task} 仍在运行；isthmus fleet watch {task}"
            )
            return WAITED
        time.sleep(POLL_S)
    settings.show(found, lambda: _whole(found, settings))
    return 0 if found["state"] == "finished" else 1


def round_text(row: RoundView, settings: Settings) -> str:
    """A round on one line."""
    w, funnel = settings.words, row["funnel"]
    said = f"{w('round', '轮次')} {row['number']}  {w(*KINDS[row['kind']])}  {w(*PHASES[row['phase']])}"
    said += f"  {funnel['uploaded']}/{row['target']}"
    if row["phase"] == "opened":
        said += w(f"  {funnel['counted']} counted", f"  计入 {funnel['counted']}")
    if row["waits_for"]:
        which = ", ".join(str(helper + 1) for helper in row["waits_for"])
        said += w(f"  waits for helper {which}", f"  等待协助方 {which}")
    if row["reason"]:
        said += f"  ({row['reason']})"
    figures = "  ".join(
        f"{name} {value:.4g}" for name, value in row["figures"].items() if isinstance(value, (int, float))
    )
    return f"{said}  {figures}".rstrip()


def funnel_text(row: RoundView, settings: Settings) -> str:
    """Devices of a round step by step, and why the others were lost."""
    w = settings.words
    steps = [(w(*FUNNEL[step]), count) for step, count in row["funnel"].items()]
    lost = [(f"  - {w(*LOST.get(why, (why, why)))}", count) for why, count in row["lost"].items()]
    return "\n".join([round_text(row, settings), table(("", w("devices", "设备数")), [*steps, *lost])])


# --- tables ---


def _table(fleets: list[FleetView], settings: Settings) -> str:
    w = settings.words
    rows = [
        (
            f["name"],
            w("stopped", "已停用") if f["stopped"] else w("in use", "启用"),
            f["devices"],
            f["tasks"].get("running", 0),
            f"{f['release']['number']} ({f['release']['share']:.0%})" if f["release"] else "-",
            w("runs", "运行中") if f["leader_running"] else w("does not run", "未运行"),
        )
        for f in fleets
    ]
    head = (
        w("fleet", "设备群"),
        w("state", "状态"),
        w("devices", "设备数"),
        w("tasks running", "运行中任务"),
        w("release", "发布"),
        w("leader", "主导方"),
    )
    return table(head, rows)


def _budget_line(found: FleetView, settings: Settings) -> str:
    budget = found["budget"]
    return settings.words(
        f"privacy of a device: epsilon {budget['epsilon_left']:.3g} of {budget['epsilon']:.3g} left, "
        f"delta {budget['delta_left']:.2g} of {budget['delta']:.2g}",
        f"单台设备的隐私预算：epsilon 剩余 {budget['epsilon_left']:.3g}/{budget['epsilon']:.3g}，"
        f"delta 剩余 {budget['delta_left']:.2g}/{budget['delta']:.2g}",
    )


def _task_table(tasks: list[FleetTaskView], settings: Settings) -> str:
    w = settings.words
    rows = [
        (
            t["name"],
            w(*STATES[t["state"]]),
            f"{t['rounds_done']}/{t['rounds_planned']}",
            t["rounds_given_up"],
            t["strategy"],
            ", ".join(t["helpers"]),
            f"{t['budget']['spent']:.3g}/{t['budget']['epsilon']:.3g}" if t["budget"] else w("none", "无"),
            t["created_at"][:16],
        )
        for t in tasks
    ]
    head = (
        w("task", "任务"),
        w("state", "状态"),
        w("rounds", "轮次"),
        w("given up", "放弃"),
        w("strategy", "策略"),
        w("helpers", "协助方"),
        "epsilon",
        w("started", "开始于"),
    )
    return table(head, rows)


def _whole(task: FleetTaskView, settings: Settings) -> str:
    parts = [_task_table([task], settings)]
    if task["reason"]:
        parts += ["", task["reason"]]
    if task["rounds"]:
        parts += ["", funnel_text(task["rounds"][0], settings)]
    return "\n".join(parts)


def _release_table(releases: list[ReleaseView], settings: Settings) -> str:
    w = settings.words
    states = {
        "live": ("in use", "使用中"),
        "replaced": ("replaced", "已被取代"),
        "rolled_back": ("taken back", "已撤回"),
    }
    rows = [
        (
            r["number"],
            r["task"],
            w(*states[r["state"]]),
            f"{r['share']:.0%}" if r["share"] >= 0.01 else f"{r['share']:.2%}",
            f"{r['step']}/{r['steps']}",
            r["since"][:16],
            r["model"][:16],
        )
        for r in releases
    ]
    head = (
        w("release", "发布"),
        w("task", "任务"),
        w("state", "状态"),
        w("devices", "设备占比"),
        w("step", "步骤"),
        w("since", "起始时间"),
        w("model", "模型"),
    )
    return table(head, rows)


def _device_table(found: list[DeviceView], settings: Settings) -> str:
    w = settings.words
    rows = [
        (
            d["key"],
            d["app_version"],
            d["enrolled_at"][:16],
            d["ticket_until"][:10],
            w("blocked", "已封禁") if d["blocked"] else "",
        )
        for d in found
    ]
    head = (
        w("device", "设备"),
        w("app", "应用版本"),
        w("enrolled", "注册于"),
        w("ticket until", "凭证有效期至"),
        "",
    )
    return table(head, rows)


def _helper_table(found: list[HelperView], settings: Settings) -> str:
    w = settings.words
    rows = [(h["name"], h["address"], h["fingerprint"], h["added_at"][:16]) for h in found]
    head = (w("helper", "协助方"), w("address", "地址"), w("fingerprint", "指纹"), w("added", "添加于"))
    return table(head, rows)
