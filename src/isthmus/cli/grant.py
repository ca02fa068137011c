"""grant: ask, give, ls, show, refuse, revoke."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from isthmus.base.errors import ConfigError
from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.client.agreements import GrantView

_STATES = {
    "asked": ("asked", "已申请"),
    "given": ("given", "有效"),
    "refused": ("refused", "已拒绝"),
    "revoked": ("revoked", "已撤销"),
    "expired": ("expired", "已到期"),
}


@click.group()
@common
def grant() -> None:
    """What a partner may do with a dataset: for which purpose, until when, how often."""


_until = click.option("--until", metavar="DAY", help="Last day, 2026-12-31.")
_days = click.option("--days", type=click.IntRange(1, 3660), help="The same, as a number of days from today.")
_purpose = click.option("--purpose", help="As in metadata.purpose of the job file, to the letter.")
_operation = click.option("--operation", "operations", multiple=True,
                          type=click.Choice(["align", "train", "score"]),
                          help="What is allowed; may be repeated. A job needs align and train.")  # fmt: skip
_runs = click.option("--runs", type=click.IntRange(1, 1000), help="How many runs; 1 if it is not given.")
_min_rows = click.option("--min-rows", type=click.IntRange(100), help="Least number of shared rows of a job.")


@grant.command()
@click.argument("holder")
@click.argument("dataset")
@_purpose
@_until
@_days
@_runs
@_min_rows
@_operation
@common
@pass_settings
def ask(
    settings: Settings, /, holder: str, dataset: str, until: str | None, days: int | None, **said: Any
) -> None:
    """Ask HOLDER for a grant of its DATASET."""
    with settings.client() as client:
        asked = client.ask_grant(holder, dataset=dataset, **_said(until, days, said))
    settings.show(asked, lambda: _table([asked], settings))
    settings.say(f"At {holder}: isthmus grant ls", f"请 {holder} 查看：isthmus grant ls")


@grant.command()
@click.argument("dataset", required=False)
@click.option("--partner", help="Who may use it.")
@click.option("--ask", "asked", metavar="GRANT", help="Answer this request; what is not said is as asked.")
@_purpose
@_until
@_days
@_runs
@click.option("--runs-30d", type=click.IntRange(1, 1000), help="Most runs in 30 days; 20 if it is not given.")
@click.option("--include", multiple=True, help="A column or a pattern that is allowed; all if none is given.")
@click.option("--exclude", multiple=True, help="A column or a pattern that is not.")
@click.option("--alias", "aliases", multiple=True, metavar="COLUMN=ALIAS",
              help="What the partner is told of a column.")  # fmt: skip
@_min_rows
@click.option("--partner-rows-max", type=click.IntRange(100), help="Most ids that the partner may bring.")
@click.option(
    "--min-change", type=click.IntRange(0), help="By how many ids runs of 30 days differ, if they do."
)
@_operation
@common
@pass_settings
def give(
    settings: Settings,
    /,
    dataset: str | None,
    partner: str | None,
    asked: str | None,
    until: str | None,
    days: int | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    aliases: tuple[str, ...],
    **said: Any,
) -> None:
    """Sign a grant of DATASET, NAME or NAME@VERSION, to a partner; or answer a request with --ask."""
    if asked is None and partner is None:
        raise ConfigError("missing_field", where="grant give", field="--partner")
    terms = _said(until, days, said) | ({"dataset": dataset} if dataset else {})
    if include:
        terms["include"] = list(include)
    terms |= {"exclude": list(exclude), "aliases": dict(_pair(alias) for alias in aliases)}
    with settings.client() as client:
        given = client.give_grant(partner, asked, **terms)
    settings.show(given, lambda: _whole(given, settings))


@grant.command("ls")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@common
@pass_settings
def list_grants(settings: Settings, limit: int) -> None:
    """List grants given and received, and requests, newest first."""
    with settings.client() as client:
        grants = client.grants(limit)
    settings.show(grants, lambda: _table(grants, settings))
    if not grants:
        settings.say(
            "No grant yet. Next: isthmus grant give DATASET --partner NAME",
            "还没有授权。下一步：isthmus grant give 数据集 --partner 名称",
        )


@grant.command()
@click.argument("grant_id")
@common
@pass_settings
def show(settings: Settings, grant_id: str) -> None:
    """Show all terms of a grant."""
    with settings.client() as client:
        found = client.grant(grant_id)
    settings.show(found, lambda: _whole(found, settings))


@grant.command()
@click.argument("grant_id")
@common
@pass_settings
def refuse(settings: Settings, grant_id: str) -> None:
    """Say no to what a partner asked for."""
    with settings.client() as client:
        refused = client.refuse_grant(grant_id)
    settings.show(refused, lambda: _table([refused], settings))


@grant.command()
@click.argument("grant_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@pass_settings
def revoke(settings: Settings, grant_id: str, yes: bool) -> None:
    """Take a grant back. Jobs under it stop at their next step; it never comes back."""
    with settings.client() as client:
        found = client.grant(grant_id)
        click.echo(_whole(found, settings), err=True)
        if not yes:
            question = settings.words(
                "Revoke this grant, and stop what runs under it?", "撤销该授权，并停止正在使用它的作业？"
            )
            click.confirm(question, abort=True, err=True)
        revoked = client.revoke_grant(grant_id)
    settings.show(revoked, lambda: _table([revoked], settings))


def _said(until: str | None, days: int | None, said: dict[str, Any]) -> dict[str, Any]:
    if days is not None:
        until = (datetime.now(UTC).date() + timedelta(days=days)).isoformat()
    terms = {name: value for name, value in said.items() if value is not None and value != ()}
    if "operations" in terms:
        terms["operations"] = list(terms["operations"])
    return terms | ({"until": until} if until else {})


def _pair(text: str) -> tuple[str, str]:
    column, equals, alias = text.rpartition("=")
    if not equals or not column or not alias:
        raise ConfigError("bad_document", where=f"--alias {text}", why="it is not COLUMN=ALIAS")
    return column, alias


def _last_day(g: GrantView, settings: Settings) -> str:
    left = g["days_left"]
    return f"{g['until']} ({settings.words(f'{left} days', f'{left} 天')})"


def _table(grants: list[GrantView], settings: Settings) -> str:
    w = settings.words
    rows = [
        (
            g["id"],
            w(*_STATES[g["state"]]),
            g["holder"],
            g["user"],
            g["dataset"],
            _last_day(g, settings),
            f"{g['runs_left']}/{g['runs']}",
            g["purpose"] if len(g["purpose"]) <= 40 else g["purpose"][:39] + "…",
        )
        for g in grants
    ]
    head = ("grant", w("state", "状态"), w("holder", "持有方"), w("user", "使用方"), w("dataset", "数据集"),
            w("until", "有效期至"), w("runs left", "剩余次数"), w("purpose", "用途"))  # fmt: skip
    return table(head, rows)


def _whole(g: GrantView, settings: Settings) -> str:
    w = settings.words
    rows: list[tuple[str, object]] = [
        (w("state", "状态"), w(*_STATES[g["state"]])),
        (w("holder", "持有方"), g["holder"]),
        (w("user", "使用方"), g["user"]),
        (w("dataset", "数据集"), g["dataset"]),
        (w("purpose", "用途"), g["purpose"]),
        (w("allowed", "允许的操作"), ", ".join(g["operations"])),
        (w("until", "有效期至"), _last_day(g, settings)),
        (w("runs left", "剩余次数"), f"{g['runs_left']}/{g['runs']}"),
        (w("runs in 30 days", "30 天内次数上限"), g["runs_30d"] or ""),
        (w("least shared rows", "共有样本下限"), g["min_rows"]),
        (w("most ids of the user", "使用方标识数上限"), g["partner_rows_max"] or ""),
        (w("least change between runs", "两次运行的最小差异"), g["min_change"] or 0),
        (w("for one job file", "仅限作业文件"), g["job"]),
        (w("columns", "列数"), g["columns"] or ""),
        (w("aliases", "别名"), ", ".join(g["aliases"])),
    ]
    if g["own_columns"]:
        own = g["own_columns"]
        rows.append(
            (w("own columns", "本方列"), f"+ {', '.join(own['include'])}  - {', '.join(own['exclude'])}")
        )
        rows += [(f"  {name}", alias) for name, alias in own["aliases"].items()]
    return table((g["id"], ""), rows)
