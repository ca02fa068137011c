"""serve: runs the node."""

from __future__ import annotations

import json
import os

import click

from isthmus.cli.ending import end_with_input
from isthmus.cli.output import Settings, common, pass_settings
from isthmus.service import environment, kernels
from isthmus.service.node import Node
from isthmus.service.serve import serve as run_node


@click.command()
@click.option("--until-eof", is_flag=True, help="End when standard input closes.")
@common
@pass_settings
def serve(settings: Settings, until_eof: bool) -> None:
    """Run the node until Ctrl-C."""

    def ready(node: Node, port: int) -> None:
        if settings.as_json:
            click.echo(json.dumps({"party": node.config.party, "port": port, "link_port": node.link_port}))
        config = node.config
        en, zh = "it calls out only", "仅主动外连"
        if config.listen:
            en, zh = (
                f"partners reach it at {config.address} (listening on {config.listen})",
                f"合作方地址 {config.address}（监听 {config.listen}）",
            )
        elif config.relay:
            en, zh = (
                f"partners reach it through the relay {config.relay}",
                f"合作方经中继 {config.relay} 连接",
            )
        settings.say(f"{config.party} runs; {en}", f"{config.party} 已启动；{zh}")

    environment.check(os.environ)
    if until_eof:
        end_with_input()
    kernels.bring(os.environ)
    run_node(settings.folder, ready)
