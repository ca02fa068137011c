"""init, doctor, version: the node itself."""

from __future__ import annotations

import platform
import sqlite3
from dataclasses import asdict
from pathlib import Path

import click

import isthmus
from isthmus.base.errors import ConfigError, IsthmusError, LocalError
from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.service.doctor import examine_node
from isthmus.service.keys import shown as fingerprint
from isthmus.service.letter import Way, write_letter
from isthmus.service.users import check_name, first_admin
from isthmus.store.folder import NodeFolder, make_config
from isthmus.wire.link import certificate_der, make_certificate


@click.command()
@click.option("--party", required=True, help="Name of this institution: a-z, 0-9 and -.")
@click.option("--listen", help="HOST:PORT for partners to call. Without it this node only calls out.")
@click.option("--address", help="https://HOST:PORT under which partners reach it.")
@click.option("--relay", help="https://HOST:PORT of a relay, where neither side can listen.")
@click.option("--relay-certificate", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="The relay's certificate (PEM), from its operator.")  # fmt: skip
@click.option("--proxy", help="http://HOST:PORT of the proxy through which this node calls out.")
@click.option("--proxy-user", help="User at the proxy; the password goes into keys/proxy.password.")
@click.option("--data", multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Folder whose files may be registered; may be repeated. The current folder if none is named.")  # fmt: skip
@click.option("--control-port", type=click.IntRange(0, 65535), default=0, show_default=True,
              help="Loopback port of the commands; 0 is any free one.")  # fmt: skip
@click.option(
    "--admin", default="admin", show_default=True, help="Name of the first user, who adds the others."
)
@common
@pass_settings
def init(
    settings: Settings,
    party: str,
    listen: str | None,
    address: str | None,
    relay: str | None,
    relay_certificate: Path | None,
    proxy: str | None,
    proxy_user: str | None,
    data: tuple[Path, ...],
    control_port: int,
    admin: str,
) -> None:
    """Make the folder of a new node: key, token, certificate, config."""
    if address and not listen:
        raise ConfigError("missing_field", where="--address", field="--listen")
    if listen and not address:
        address = f"https://{listen}"
    if (relay is None) != (relay_certificate is None):
        where, field = ("--relay", "--relay-certificate") if relay else ("--relay-certificate", "--relay")
        raise ConfigError("missing_field", where=where, field=field)
    pem = relay_certificate.read_bytes() if relay_certificate else None
    if pem is not None:
        try:
            certificate_der(pem)
        except ValueError:
            where = str(relay_certificate)
            raise ConfigError("bad_document", where=where, why="it is no certificate in PEM") from None
    folders = [str(folder.resolve()) for folder in data or (Path(),)]
    fields = {
        "party": party,
        "mode": "relay" if relay else "direct" if listen else "dial-out",
        "listen": listen,
        "address": address,
        "relay": relay,
        "proxy": proxy,
        "proxy_user": proxy_user,
        "control_port": control_port,
        "data": folders,
    }
    config = make_config(fields, "init")
    check_name(admin)
    folder = NodeFolder.create(settings.home.absolute(), config, make_certificate)
    if pem is not None:
        folder.relay_certificate.write_bytes(pem)
    key = folder.party_key()
    once = first_admin(folder, admin)
    shown = {"party": party, "home": str(folder.home), "mode": config.mode, "address": config.reached_at,
             "key": key.public.hex(), "fingerprint": fingerprint(key.public), "data": folders, "admin": admin,
             "once": once}  # fmt: skip
    settings.show(shown, lambda: table(("field", "value"), list(shown.items())))
    if proxy_user:
        settings.say(
            f"Write the password of the proxy, readable by you alone, to {folder.proxy_password_file}",
            f"请将代理密码写入仅本人可读的文件 {folder.proxy_password_file}",
        )
    settings.say(
        f"{admin} signs in within 24 hours, while the node runs, with the code above, which is shown this once: "
        f"isthmus sign-in --user {admin} --once CODE\nNext: isthmus serve",
        f"{admin} 须在 24 小时内、节点运行时以上方登录码登录（仅显示这一次）："
        f"isthmus sign-in --user {admin} --once 登录码\n下一步：isthmus serve",
    )


@click.command()
@click.option("--partner", help="Also try the path to this partner.")
@click.option("--idle-s", type=click.FloatRange(0, 60), default=5, show_default=True,
              help="With --partner: how long a silence to try; 30 shows whether a gateway cuts idle lines.")  # fmt: skip
@click.option(
    "--letter", is_flag=True, help="Write the request to the network team, one page, and nothing else."
)
@common
@pass_settings
def doctor(settings: Settings, partner: str | None, idle_s: float, letter: bool) -> int:
    """Look at the node, its machine, and the line to a partner. Exit 1 if something fails."""
    if letter:
        click.echo(_letter(settings), nl=False)
        return 0
    try:
        with settings.client() as client:
            findings = client.doctor(partner, idle_s)
    except IsthmusError as error:
        if partner or error.code not in ("not_running", "key_missing", "file_mode", "not_a_node"):
            raise
        language = settings.language
        findings = [asdict(finding) for finding in examine_node(settings.folder, language)]
        findings.append(
            {
                "probe": "node",
                "value": error.sentence(language),
                "verdict": "fail",
                "cure": error.hint(language),
            }
        )
    settings.show(
        findings,
        lambda: table(
            ("", "probe", "value", "cure"),
            [(f["verdict"], f["probe"], f["value"], f["cure"]) for f in findings],
        ),
    )
    return 1 if any(finding["verdict"] == "fail" for finding in findings) else 0


def _letter(settings: Settings) -> str:
    """Names the partners where the node runs; without it only what the config says."""
    config = settings.folder.config()
    ways: list[Way] = []
    try:
        with settings.client() as client:
            ways = [Way(partner["name"], partner["address"]) for partner in client.partners()]
    except LocalError:
        settings.say("The node does not run: partners are left out.", "节点未运行：未列出合作方。")
    return write_letter(config, ways, settings.language)


@click.command()
@common
@pass_settings
def version(settings: Settings) -> None:
    """Versions of the program and what it stands on."""
    shown = {
        "isthmus": isthmus.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }
    settings.show(shown, lambda: "\n".join(f"{name} {number}" for name, number in shown.items()))
