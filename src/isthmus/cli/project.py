"""project: new, invite, ls, show, archive."""

from __future__ import annotations

import click

from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.client.agreements import ProjectView


@click.group()
@common
def project() -> None:
    """A purpose that several parties share; jobs name it in metadata.project."""


@project.command()
@click.argument("name")
@click.option("--purpose", required=True, help="What the project is for, 10 to 500 characters.")
@click.option(
    "--party", "parties", multiple=True, help="A confirmed partner that takes part; may be repeated."
)
@click.option(
    "--four-eyes", is_flag=True, help="Every job takes two people of each party. Cannot be changed."
)
@common
@pass_settings
def new(settings: Settings, name: str, purpose: str, parties: tuple[str, ...], four_eyes: bool) -> None:
    """Make a project and tell its parties."""
    with settings.client() as client:
        made = client.new_project(name, purpose, list(parties), four_eyes)
    settings.show(made, lambda: _table([made], settings))


@project.command()
@click.argument("name")
@click.argument("party")
@common
@pass_settings
def invite(settings: Settings, name: str, party: str) -> None:
    """Add PARTY, a confirmed partner, to a project of this party."""
    with settings.client() as client:
        grown = client.invite_to_project(name, party)
    settings.show(grown, lambda: _table([grown], settings))


@project.command("ls")
@common
@pass_settings
def list_projects(settings: Settings) -> None:
    """List the projects of this party and those it was invited to."""
    with settings.client() as client:
        projects = client.projects()
    settings.show(projects, lambda: _table(projects, settings))
    if not projects:
        settings.say(
            "No project yet. Next: isthmus project new NAME --purpose TEXT",
            "还没有项目。下一步：isthmus project new 名称 --purpose 用途",
        )


@project.command()
@click.argument("name")
@common
@pass_settings
def show(settings: Settings, name: str) -> None:
    """Show a project."""
    with settings.client() as client:
        found = client.project(name)
    settings.show(found, lambda: f"{_table([found], settings)}\n\n{found['purpose']}")


@project.command()
@click.argument("name")
@common
@pass_settings
def archive(settings: Settings, name: str) -> None:
    """End a project: no new job in it, at any party where this one made it."""
    with settings.client() as client:
        ended = client.archive_project(name)
    settings.show(ended, lambda: _table([ended], settings))


def _table(projects: list[ProjectView], settings: Settings) -> str:
    w = settings.words
    states = {"active": ("active", "进行中"), "archived": ("archived", "已归档")}
    rows = [
        (
            p["name"],
            w(*states[p["state"]]),
            p["maker"],
            ", ".join(p["parties"]),
            w("yes", "是") if p["four_eyes"] else w("no", "否"),
        )
        for p in projects
    ]
    head = (
        "project",
        w("state", "状态"),
        w("made by", "发起方"),
        w("parties", "参与方"),
        w("four eyes", "双人审批"),
    )
    return table(head, rows)
