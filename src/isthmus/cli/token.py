"""token: new, ls, revoke."""

from __future__ import annotations

import click

from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.client.users import TokenView
from isthmus.service.users import TOKEN_DAYS_MAX, TOKEN_ROLES
from isthmus.store.users import USER_ROLES

ROLES = click.Choice([role for role in USER_ROLES if role in TOKEN_ROLES])


@click.group()
@common
def token() -> None:
    """Tokens of the HTTP interface, for programs."""


@token.command()
@click.option(
    "--role", "roles", multiple=True, type=ROLES, help="May be repeated. All of the user if none is named."
)
@click.option(
    "--user", "name", help="For whom it acts. Without it and with --role: for a program of its own."
)
@click.option("--expires", "days", type=click.IntRange(1, TOKEN_DAYS_MAX), default=90, show_default=True,
              metavar="DAYS", help="Days until it ends.")  # fmt: skip
@common
@pass_settings
def new(settings: Settings, roles: tuple[str, ...], name: str | None, days: int) -> None:
    """Make a token, and show it this once."""
    with settings.client() as client:
        if name is None and not roles:
            name = client.me()["name"]
        made = client.new_token(name, roles or None, days)
    settings.show(made, lambda: table(("field", "value"), list(made.items())))
    settings.say(
        "The token is shown this once; send it as: Authorization: Bearer TOKEN",
        "令牌仅显示这一次；使用方式：Authorization: Bearer 令牌",
    )


@token.command("ls")
@common
@pass_settings
def list_tokens(settings: Settings) -> None:
    """List tokens: all of them for an admin or an auditor, else the own ones."""
    with settings.client() as client:
        tokens = client.tokens()
    settings.show(tokens, lambda: _table(settings, tokens))


@token.command()
@click.argument("token_id", metavar="ID")
@common
@pass_settings
def revoke(settings: Settings, token_id: str) -> None:
    """End a token at once."""
    with settings.client() as client:
        revoked = client.revoke_token(token_id)
    settings.show(revoked, lambda: _table(settings, [revoked]))


def _table(settings: Settings, tokens: list[TokenView]) -> str:
    head = settings.words("id user roles made-by expires", "编号 用户 角色 创建者 到期").split()
    rows = [
        (t["id"], t["user"] or "-", ", ".join(t["roles"] or ["-"]), t["made_by"], t["expires_at"][:10])
        for t in tokens
    ]
    return table(head, rows)
