"""relay: a process of its own for institutions that both only call out."""

from __future__ import annotations

import json
import os
import re

import click

from isthmus.base.errors import ConfigError
from isthmus.cli.ending import end_with_input
from isthmus.cli.output import Settings, common, pass_settings
from isthmus.service import environment
from isthmus.service.relay import PLACE_PATTERN, RelayFolder, serve_relay


@click.group()
@common
def relay() -> None:
    """A relay passes sealed requests between nodes that both only call out. It cannot read them."""


@relay.command()
@click.option("--listen", required=True, help="HOST:PORT on which nodes reach the relay.")
@click.option("--party", multiple=True,
              help="Fingerprint of a party that may use it; may be repeated. Anybody, if none is named.")  # fmt: skip
@click.option("--until-eof", is_flag=True, help="End when standard input closes.")
@common
@pass_settings
def serve(settings: Settings, listen: str, party: tuple[str, ...], until_eof: bool) -> None:
    """Run a relay until Ctrl-C. Its certificate lies in HOME/relay/relay.pem; give it to both sides."""
    if not re.fullmatch(PLACE_PATTERN, listen):
        raise ConfigError("out_of_bounds", field="--listen", value=listen[:80], allowed="HOST:PORT")
    environment.check(os.environ)
    folder = RelayFolder(settings.home.absolute() / "relay")

    def ready(port: int) -> None:
        if settings.as_json:
            click.echo(json.dumps({"port": port, "certificate": str(folder.certificate)}))
        settings.say(
            f"The relay listens on {listen}. Certificate for both sides: {folder.certificate}",
            f"中继已监听 {listen}。请将证书交给双方：{folder.certificate}",
        )

    if until_eof:
        end_with_input()
    serve_relay(folder, listen, _fingerprints(party), ready)


def _fingerprints(given: tuple[str, ...]) -> frozenset[bytes] | None:
    found = set()
    for text in given:
        figures = "".join(text.split()).lower()
        if not re.fullmatch(r"[0-9a-f]{32}", figures):
            raise ConfigError(
                "out_of_bounds", field="--party", value=text[:80], allowed="32 hexadecimal figures"
            )
        found.add(bytes.fromhex(figures))
    return frozenset(found) or None
