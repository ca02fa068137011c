"""helper: a process of its own that takes masks off the sums of fleets which another organisation leads."""

from __future__ import annotations

import json
import os
import re
from typing import TextIO
from urllib.parse import urlsplit

import click

from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigError
from isthmus.cli.ending import end_with_input
from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.crypto.seal import shown as fingerprint
from isthmus.fleet.cards import CARD_MAX_BYTES, LeaderCard, read_card
from isthmus.fleet.helper import HelperConfig, HelperFolder, serve_helper
from isthmus.privacy.noise import discrete_gaussian
from isthmus.protocols.secure_sum import REPORTS_FLOOR
from isthmus.service import environment
from isthmus.service.relay import PLACE_PATTERN
from isthmus.store.folder import PARTY_PATTERN
from isthmus.store.helper import Served


@click.group()
@common
def helper() -> None:
    """A helper takes masks off the sums of fleets that others lead. It can read none of them."""


def _folder(settings: Settings) -> HelperFolder:
    return HelperFolder(settings.home.absolute() / "helper")


@helper.command()
@click.option("--name", required=True, help="Name of this helper; task files name it.")
@click.option("--listen", required=True, help="HOST:PORT to listen on.")
@click.option("--address", required=True, help="https://NAME:PORT where leaders reach it.")
@common
@pass_settings
def init(settings: Settings, name: str, listen: str, address: str) -> None:
    """Make a helper in HOME/helper; where only its sealing key and record are gone, make new ones."""
    for field, value, pattern, allowed in (
        ("--name", name, PARTY_PATTERN, "a to z, 0 to 9 and -"),
        ("--listen", listen, PLACE_PATTERN, "HOST:PORT"),
        ("--address", address, r"https://[^\s/]{1,255}", "https://NAME:PORT"),
    ):
        if not re.fullmatch(pattern, value):
            raise ConfigError("out_of_bounds", field=field, value=value[:80], allowed=allowed)
    folder = _folder(settings)
    folder.make(HelperConfig(name, listen, address), [urlsplit(address).hostname or name])
    settings.say(
        f"The helper {name} is in {folder.home}. Next: isthmus helper card, isthmus helper allow CARD, isthmus helper serve",
        f"协助方 {name} 已建于 {folder.home}。下一步：isthmus helper card、isthmus helper allow 名片、isthmus helper serve",
    )


@helper.command()
@common
@pass_settings
def card(settings: Settings) -> None:
    """Write the card that leaders need, one line: isthmus helper card > card.json"""
    folder = _folder(settings)
    click.echo(folder.card())
    own = fingerprint(folder.keys()[0].public)
    settings.say(
        f"Fingerprint, to be compared by telephone: {own}",
        f"指纹（请通过电话核对）：{own}",
    )


@helper.command()
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.option("--floor", type=click.IntRange(REPORTS_FLOOR, 100_000), default=REPORTS_FLOOR, show_default=True,
              help="Fewest devices that a sum may be over.")  # fmt: skip
@click.option("--plain-max", type=click.IntRange(0, 1_000_000), default=0, show_default=True,
              help="Most sums without noise that a task may have.")  # fmt: skip
@common
@pass_settings
def allow(settings: Settings, file: TextIO, floor: int, plain_max: int) -> None:
    """Serve the leader whose card is in FILE (- for standard input). Given again, the new bounds count."""
    leader = read_card(LeaderCard, file.read(CARD_MAX_BYTES))
    rows = _folder(settings).rows()
    try:
        known = {served.leader for served in rows.allowed() if served.name == leader.name}
        if known - {leader.key}:
            raise ConfigError("already_there", what=leader.name)
        each = [Served(leader.name, leader.key, key, floor, plain_max) for key in leader.authorities]
        rows.allow(leader.name, each)
    finally:
        rows.close()
    settings.say(
        f"{leader.name} is served. Fingerprint, to be compared by telephone: {fingerprint(leader.key)}",
        f"已为 {leader.name} 提供服务。指纹（请通过电话核对）：{fingerprint(leader.key)}",
    )


@helper.command()
@click.argument("name")
@common
@pass_settings
def deny(settings: Settings, name: str) -> None:
    """Serve the leader NAME no longer, at once."""
    rows = _folder(settings).rows()
    try:
        if name not in {served.name for served in rows.allowed()}:
            raise ConfigError("not_found", what=name, list_command="isthmus helper status")
        rows.allow(name, [])
    finally:
        rows.close()
    settings.say(f"{name} is not served any more.", f"已停止为 {name} 提供服务。")


@helper.command()
@common
@pass_settings
def status(settings: Settings) -> None:
    """Show whom the helper serves and what it has answered."""
    folder = _folder(settings)
    config, (signing, _), rows = folder.config(), folder.keys(), folder.rows()
    try:
        allowed, (batches, reports) = rows.allowed(), rows.counts()
    finally:
        rows.close()
    leaders = [
        {
            "name": each.name,
            "fingerprint": fingerprint(each.leader),
            "authority": fingerprint(each.authority),
            "floor": each.reports_min,
            "plain_max": each.plain_max,
        }
        for each in allowed
    ]
    shown = {
        "name": config.name,
        "fingerprint": fingerprint(signing.public),
        "address": config.address,
        "batches": batches,
        "reports": reports,
        "leaders": leaders,
    }

    def as_table() -> str:
        lines = [f"{key}: {value}" for key, value in shown.items() if key != "leaders"]
        head = ("leader", "fingerprint", "authority", "floor", "plain_max")
        return "\n".join((*lines, table(head, [list(row.values()) for row in leaders])))

    settings.show(shown, as_table)


@helper.command()
@click.option("--until-eof", is_flag=True, help="End when standard input closes.")
@common
@pass_settings
def serve(settings: Settings, until_eof: bool) -> None:
    """Run the helper until Ctrl-C."""
    environment.check(os.environ)
    folder = _folder(settings)
    config = folder.config()

    def ready(port: int) -> None:
        if settings.as_json:
            click.echo(json.dumps({"name": config.name, "port": port}))
        settings.say(
            f"The helper {config.name} listens on {config.listen}; leaders reach it at {config.address}",
            f"协助方 {config.name} 已监听 {config.listen}；主导方地址 {config.address}",
        )

    if until_eof:
        end_with_input()
    serve_helper(folder, discrete_gaussian, SystemClock(), ready)
