"""health: whether the node answers, for whatever watches over it."""

from __future__ import annotations

import click

from isthmus.cli.output import Settings, common, pass_settings


@click.command()
@click.option("--ready", is_flag=True, help="Ask whether it takes work, too.")
@common
@pass_settings
def health(settings: Settings, ready: bool) -> int:
    """Say whether the node answers. Exit 0 if so, 1 if not."""
    with settings.client() as client:
        well = client.healthy(ready=ready)
    settings.say(*(("ok", "正常") if well else ("not ready", "未就绪")))
    return 0 if well else 1
