"""partner: invite, accept, confirm, rotate, revoke, ls."""

from __future__ import annotations

from typing import TextIO

import click

from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.client.client import PartnerView


@click.group()
@common
def partner() -> None:
    """The other institutions: invite one, compare words, confirm."""


@partner.command()
@common
@pass_settings
def invite(settings: Settings) -> None:
    """Write an invitation, one line: isthmus partner invite > invite.txt"""
    with settings.client() as client:
        line = client.invite()
    click.echo(line)
    settings.say(
        "Hand this line to your partner by a way you trust. It opens one join and ends in seven days.",
        "请通过可信渠道将这一行交给合作方。仅可使用一次，七天后失效。",
    )


@partner.command()
@click.argument("file", type=click.File("r", encoding="ascii"))
@common
@pass_settings
def accept(settings: Settings, file: TextIO) -> None:
    """Accept the invitation in FILE (- for standard input), or the reply that answers yours."""
    with settings.client() as client:
        accepted = client.accept_partner(file.read(17 * 1024))
    if accepted["reply"]:
        click.echo(accepted["reply"])
        settings.say(
            f"{accepted['name']} does not listen. Give the line above back; there: isthmus partner accept FILE",
            f"{accepted['name']} 不监听端口。请把上面一行交回对方，由对方执行：isthmus partner accept 文件",
        )
    else:
        settings.show(accepted, lambda: _table([accepted], settings))
    _tell_words(settings, accepted)


@partner.command()
@click.argument("name")
@click.argument("words", nargs=4)
@common
@pass_settings
def confirm(settings: Settings, name: str, words: tuple[str, ...]) -> None:
    """Confirm a partner with the four words that it reads to you."""
    with settings.client() as client:
        confirmed = client.confirm_partner(name, list(words))
    settings.show(confirmed, lambda: _table([confirmed], settings))
    settings.say(f"Next: isthmus doctor --partner {name}", f"下一步：isthmus doctor --partner {name}")


@partner.command()
@click.option("--overlap-days", type=click.IntRange(1, 90), default=7, show_default=True,
              help="How long the old key counts beside the new one for partners that are away.")  # fmt: skip
@common
@pass_settings
def rotate(settings: Settings, overlap_days: int) -> None:
    """Change the key of this node; every partner is told over the link."""
    with settings.client() as client:
        rotation = client.rotate(overlap_days)
    settings.show(
        rotation,
        lambda: table(
            ("field", "value"),
            [(name, ", ".join(v) if isinstance(v, list) else v or "-") for name, v in rotation.items()],
        ),
    )
    settings.say(
        "Partners follow by themselves; jobs go on. Compare the fingerprint with them: isthmus partner ls",
        "合作方会自动跟进，作业不受影响。请与对方核对指纹：isthmus partner ls",
    )


@partner.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@pass_settings
def revoke(settings: Settings, name: str, yes: bool) -> None:
    """Trust a partner no more, at once. It can come back by a new invitation only."""
    if not yes:
        asked = settings.words(
            f"Revoke {name}? Its jobs stop and it is refused from now on.",
            f"确定撤销 {name}？其作业将停止，此后一律拒绝其连接。",
        )
        click.confirm(asked, abort=True, err=True)
    with settings.client() as client:
        revoked = client.revoke_partner(name)
    settings.show(revoked, lambda: _table([revoked], settings))
    settings.say(
        f"{name} is revoked. To work with it again: isthmus partner invite",
        f"已撤销 {name}。如需恢复合作：isthmus partner invite",
    )


@partner.command("ls")
@common
@pass_settings
def list_partners(settings: Settings) -> None:
    """List partners, their words, and whether the line stands."""
    with settings.client() as client:
        partners = client.partners()
        own = client.node()["fingerprint"]
    settings.show(partners, lambda: _table(partners, settings))
    settings.say(f"Fingerprint of this node: {own}", f"本节点指纹：{own}")
    if not partners:
        settings.say(
            "No partner yet. Next: isthmus partner invite", "还没有合作方。下一步：isthmus partner invite"
        )


def _tell_words(settings: Settings, joined: PartnerView) -> None:
    words = " ".join(joined["words"])
    settings.say(
        f"Four words of this join: {words}\n"
        f"Let {joined['name']} read theirs by phone (there: isthmus partner ls), then at both sides: "
        f"isthmus partner confirm NAME WORD WORD WORD WORD",
        f"本次建立关系的四个词：{words}\n"
        f"请 {joined['name']} 在电话中读出其四个词（对方执行 isthmus partner ls），一致后双方各自执行："
        f"isthmus partner confirm 名称 四个词",
    )


def _table(partners: list[PartnerView], settings: Settings) -> str:
    yes, no = settings.words("yes", "是"), settings.words("no", "否")
    rows = [
        (p["name"], yes if p["confirmed"] else no, yes if p["connected"] else no, " ".join(p["words"]),
         p["fingerprint"], p["next_fingerprint"] or "",
         p["problem"]["detail"] if p["problem"] else "")
        for p in partners
    ]  # fmt: skip
    return table(("partner", "confirmed", "connected", "words", "fingerprint", "next", "problem"), rows)
