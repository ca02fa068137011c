"""leader: serve, card, status; the process that devices speak to, beside a node."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from isthmus.base.errors import ConfigError
from isthmus.cli.ending import end_with_input
from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.fleet.cards import LeaderCard, write_card
from isthmus.fleet.desk import Pace
from isthmus.service import environment
from isthmus.service.keys import shown
from isthmus.store.fleet import FleetRows
from isthmus.store.fleet_views import FleetViews
from isthmus.store.leader_folder import LeaderFolder


@click.group()
@common
def leader() -> None:
    """What devices speak to: it opens rounds, takes reports and asks the helpers. Runs beside the node whose folder it shares."""


@leader.command()
@click.option("--listen", help="HOST:PORT on which devices reach it; where it listened before, if left out.")
@click.option("--address", help="https://HOST:PORT under which devices know it, where that is another.")
@click.option("--wait-s", type=click.FloatRange(1, 86_400), default=60.0, show_default=True,
              help="How long a device waits between two check-ins at least; large fleets wait longer.")  # fmt: skip
@click.option("--metrics-port", type=click.IntRange(0, 65535),
              help="Show /metrics and /health on 127.0.0.1 at this port; 0 takes a free one.")  # fmt: skip
@click.option("--until-eof", is_flag=True, help="End when standard input closes.")
@common
@pass_settings
def serve(
    settings: Settings,
    listen: str | None,
    address: str | None,
    wait_s: float,
    metrics_port: int | None,
    until_eof: bool,
) -> None:
    """Run the leader until Ctrl-C."""
    from isthmus.service.leading import Led, serve_leader

    environment.check(os.environ)
    certificate = LeaderFolder(settings.folder.home).certificate

    def ready(led: Led) -> None:
        if settings.as_json:
            told = {"port": led.port, "address": led.address, "certificate": str(certificate)}
            click.echo(json.dumps(told | {"metrics_port": led.metrics_port}))
        settings.say(
            f"Devices reach the leader at {led.address}. What goes into the app: isthmus fleet app NAME",
            f"设备通过 {led.address} 连接主导方。写入应用的配置：isthmus fleet app 名称",
        )

    if until_eof:
        end_with_input()
    serve_leader(settings.folder, listen, address, Pace(least_s=wait_s), metrics_port, ready)


@leader.command()
@common
@pass_settings
def card(settings: Settings) -> None:
    """Write the card that helpers need, one line: isthmus leader card > card.json. Once more after a new fleet."""
    folder = settings.folder
    name, key = folder.config().party, folder.party_key()
    authorities = tuple(
        sorted({bytes.fromhex(each["authority"]) for each in _fleets(LeaderFolder(folder.home))})
    )
    if not authorities:
        raise ConfigError("not_found", what="fleet", list_command="isthmus fleet ls")
    click.echo(write_card(LeaderCard(name, key.public, authorities), key))
    settings.say(
        f"Fingerprint, to be compared by telephone: {shown(key.public)}",
        f"指纹（请通过电话核对）：{shown(key.public)}",
    )


@leader.command()
@common
@pass_settings
def status(settings: Settings) -> int:
    """Say whether the leader of this folder runs, and what it is at. Exit 0 if it runs, 1 if not."""
    settings.folder.config()
    folder = LeaderFolder(settings.folder.home)
    place, running = folder.place(), folder.running()
    found: dict[str, Any] = {
        "running": running,
        "listen": place and place.listen,
        "address": place and place.address,
        "certificate": str(folder.certificate) if folder.certificate.exists() else None,
        "fleets": _fleets(folder),
    }
    settings.show(found, lambda: _table(found, settings))
    return 0 if running else 1


def _fleets(folder: LeaderFolder) -> list[dict[str, Any]]:
    if not folder.database.exists():
        return []
    rows = FleetRows(folder.home)
    try:
        views = FleetViews(rows)
        return [
            {
                "name": each.name,
                "authority": each.authority.hex(),
                "stopped": each.stopped,
                "devices": rows.count_devices(each.name),
                "tasks": views.count_tasks(each.name),
                "rounds": views.open_rounds(each.name),
            }
            for each in rows.populations()
        ]
    finally:
        rows.close()


def _table(found: dict[str, Any], settings: Settings) -> str:
    w = settings.words
    where = found["address"] or w("not started yet", "尚未启动过")
    state = w("runs", "运行中") if found["running"] else w("does not run", "未运行")
    parts = [f"{w('leader', '主导方')}  {state}  {where}"]
    if found["fleets"]:
        head = (
            w("fleet", "设备群"),
            w("devices", "设备数"),
            w("tasks running", "运行中任务"),
            w("open rounds", "进行中轮次"),
        )
        rows = [
            (
                each["name"] + (w("  (stopped)", "（已停用）") if each["stopped"] else ""),
                each["devices"],
                each["tasks"].get("running", 0),
                ", ".join(f"{phase} {count}" for phase, count in each["rounds"].items()) or "-",
            )
            for each in found["fleets"]
        ]
        parts += ["", table(head, rows)]
    return "\n".join(parts)
