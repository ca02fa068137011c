"""sign-in, sign-out: a session at a node, kept in a profile."""

from __future__ import annotations

import click

from isthmus.base.errors import IsthmusError, PolicyError
from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.client import Client
from isthmus.client.profiles import Profile, Profiles, check_url
from isthmus.client.users import SessionView

CODES_ASKED = 4
"""So often a code of the app is asked for while it is set up: one less than locks the name."""


@click.command("sign-in")
@click.option("--user", "name", required=True, help="Your name at this node.")
@click.option(
    "--url", help="https://HOST:PORT of its interface. The node of --home on this machine if none is named."
)
@click.option("--once", help="The one-time code that an admin gave you; you then choose a password.")
@common
@pass_settings
def sign_in(settings: Settings, name: str, url: str | None, once: str | None) -> None:
    """Sign in, and keep the session under --profile (your name if none is named)."""
    url = url or f"http://127.0.0.1:{settings.folder.control().port}"
    check_url(url)
    profiles, profile = Profiles(), settings.profile or name
    with Client.at(url, language=settings.language) as client:
        if once is None:
            password = ask_secret(settings, "Password", "密码")
            code = click.prompt(
                settings.words("Code of the app (empty if there is none)", "验证器应用的验证码（没有则留空）"),
                default="", show_default=False, err=True,
            )  # fmt: skip
            session = client.sign_in(name, password, code.replace(" ", "") or None)
        else:
            session = client.sign_in(name, ask_new(settings), once=once)
    if session["enrolling"]:
        with Client.at(url, session["token"], settings.language) as client:
            session = _set_up(settings, client)
    profiles.write(Profile(profile, url, name, session["token"]))
    shown = {"user": name, "roles": session["roles"], "profile": profile, "expires_at": session["expires_at"]}
    settings.show(shown, lambda: table(("field", "value"), list(shown.items())))
    settings.say(f"Next: isthmus --profile {profile} job ls", f"下一步：isthmus --profile {profile} job ls")


@click.command("sign-out")
@common
@pass_settings
def sign_out(settings: Settings) -> None:
    """End the session of --profile, and forget it."""
    if settings.profile is None:
        raise click.UsageError(
            settings.words("Name the profile: --profile NAME", "请指定登录配置：--profile 名称")
        )
    try:
        with settings.client() as client:
            client.sign_out()
    except PolicyError as error:
        if error.code != "sign_in":  # else it had ended before
            raise
    Profiles().drop(settings.profile)
    settings.say("Signed out.", "已退出登录。")


def ask_secret(settings: Settings, en: str, zh: str) -> str:
    return str(click.prompt(settings.words(en, zh), hide_input=True, err=True))


def ask_new(settings: Settings) -> str:
    words = settings.words("New password, at least 12 characters", "新密码，至少 12 个字符")
    again = settings.words("Once more", "再输入一次")
    return str(click.prompt(words, hide_input=True, confirmation_prompt=again, err=True))


def _set_up(settings: Settings, client: Client) -> SessionView:
    """Shows the secret of the app, and asks for a code until one fits."""
    made = client.begin_second_factor()
    settings.say(
        f"Add this to your authenticator app; it is shown this once:\n  {made['secret']}\n  {made['address']}",
        f"请添加到验证器应用，仅显示这一次：\n  {made['secret']}\n  {made['address']}",
    )
    words = settings.words("Code of the app", "验证器应用的验证码")
    for left in range(CODES_ASKED, 0, -1):
        try:
            return client.confirm_second_factor(click.prompt(words, err=True).replace(" ", ""))
        except IsthmusError as error:
            if error.code != "wrong_sign_in" or left == 1:
                raise
            settings.say("That code does not fit; take the next one.", "验证码不正确，请使用下一个。")
    raise AssertionError
