"""user: add, ls, rm, reset, roles, password."""

from __future__ import annotations

from dataclasses import replace

import click

from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.cli.sign_in import ask_new, ask_secret
from isthmus.client.profiles import Profiles
from isthmus.client.users import UserView
from isthmus.store.users import USER_ROLES

ROLES = click.Choice(USER_ROLES)


@click.group()
@common
def user() -> None:
    """The people of this node and their roles."""


@user.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, type=ROLES, help="May be repeated.")
@common
@pass_settings
def add(settings: Settings, name: str, roles: tuple[str, ...]) -> None:
    """Add a user, and show the one-time code with which it chooses a password."""
    with settings.client() as client:
        added = client.add_user(name, roles)
    _show_once(settings, added)


@user.command("ls")
@common
@pass_settings
def list_users(settings: Settings) -> None:
    """List users, their roles, and whether they have signed in."""
    with settings.client() as client:
        users = client.users()
    settings.show(users, lambda: _table(settings, users))


@user.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@pass_settings
def rm(settings: Settings, name: str, yes: bool) -> None:
    """Remove a user, with its sessions and tokens."""
    if not yes:
        click.confirm(settings.words(f"Remove {name}?", f"确定删除 {name}？"), abort=True, err=True)
    with settings.client() as client:
        removed = client.remove_user(name)
    settings.show(removed, lambda: _table(settings, [removed]))


@user.command()
@click.argument("name")
@common
@pass_settings
def reset(settings: Settings, name: str) -> None:
    """End password, second factor, sessions, tokens and lock-out of a user, and show a new one-time code."""
    with settings.client() as client:
        done = client.reset_user(name)
    _show_once(settings, done)


@user.command()
@click.argument("name")
@click.option("--add", "more", multiple=True, type=ROLES, help="A role to give; may be repeated.")
@click.option("--remove", "less", multiple=True, type=ROLES, help="A role to take; may be repeated.")
@common
@pass_settings
def roles(settings: Settings, name: str, more: tuple[str, ...], less: tuple[str, ...]) -> None:
    """Show or change the roles of a user. A change ends its sessions."""
    with settings.client() as client:
        found = client.user(name)
        if more or less:
            wanted = [role for role in USER_ROLES if role in {*found["roles"], *more} - set(less)]
            found = client.set_roles(name, wanted, found["roles"])
    settings.show(found, lambda: _table(settings, [found]))


@user.command()
@common
@pass_settings
def password(settings: Settings) -> None:
    """Change the own password. Ends all own sessions but this one."""
    if settings.profile is None:
        raise click.UsageError(
            settings.words("Name the profile: --profile NAME", "请指定登录配置：--profile 名称")
        )
    profiles = Profiles()
    profile = profiles.read(settings.profile)
    old = ask_secret(settings, "Old password", "旧密码")
    with settings.client() as client:
        session = client.change_password(old, ask_new(settings))
    profiles.write(replace(profile, token=session["token"]))
    settings.say("The password is changed.", "密码已修改。")


def _show_once(settings: Settings, added: UserView) -> None:
    settings.show(added, lambda: table(("field", "value"), list(added.items())))
    settings.say(
        f"Hand the code over by a way you trust; it is shown this once and opens once, within 24 hours: "
        f"isthmus sign-in --user {added['name']} --once CODE",
        f"请通过可信渠道转交登录码；仅显示这一次，24 小时内可使用一次："
        f"isthmus sign-in --user {added['name']} --once 登录码",
    )


def _table(settings: Settings, users: list[UserView]) -> str:
    yes, no = settings.words("yes", "是"), settings.words("no", "否")
    head = settings.words("user roles state second-factor sessions", "用户 角色 状态 双因素 会话").split()
    words = {"invited": settings.words("invited", "已邀请"), "active": settings.words("active", "已启用")}
    rows = [
        (
            u["name"],
            ", ".join(u["roles"]),
            words[u["state"]],
            yes if u["second_factor"] else no,
            u["sessions"],
        )
        for u in users
    ]
    return table(head, rows)
