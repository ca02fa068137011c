"""approval: ls, show, approve, refuse."""

from __future__ import annotations

import click

from isthmus.cli.job import plan_text
from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.client.agreements import ApprovalView

_STATES = {
    "open": ("open", "待审批"),
    "approved": ("approved", "已同意"),
    "refused": ("refused", "已拒绝"),
    "closed": ("closed", "已失效"),
}


@click.group()
@common
def approval() -> None:
    """What waits for a decision of this party."""


@approval.command("ls")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@common
@pass_settings
def list_approvals(settings: Settings, limit: int) -> None:
    """List what waits and what was decided, newest first."""
    with settings.client() as client:
        approvals = client.approvals(limit)
    settings.show(approvals, lambda: _table(approvals, settings))
    if not approvals:
        settings.say("Nothing waits here.", "没有待审批的事项。")


@approval.command()
@click.argument("approval_id")
@common
@pass_settings
def show(settings: Settings, approval_id: str) -> None:
    """Show a request: the job, who learns what, which grant covers it."""
    with settings.client() as client:
        found = client.approval(approval_id)
        made = client.plan_of(found["job"])
    settings.show(found, lambda: f"{_table([found], settings)}\n\n{plan_text(made, settings)}")


@approval.command()
@click.argument("approval_id")
@click.option(
    "--grant", is_flag=True, help="Give a grant of one run for exactly this job, where none covers it."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@pass_settings
def approve(settings: Settings, approval_id: str, grant: bool, yes: bool) -> None:
    """Show what it is about, and say yes."""
    with settings.client() as client:
        found = client.approval(approval_id)
        click.echo(plan_text(client.plan_of(found["job"]), settings), err=True)
        if not yes:
            question = settings.words("Approve and sign?", "同意并签署？")
            click.confirm(question, abort=True, err=True)
        approved = client.approve(approval_id, grant)
    settings.show(approved, lambda: _table([approved], settings))
    if approved["state"] == "open":
        settings.say("Another person has to approve it too.", "还须另一人同意。")


@approval.command()
@click.argument("approval_id")
@click.option("--reason", default="", help="Why; kept at this party.")
@common
@pass_settings
def refuse(settings: Settings, approval_id: str, reason: str) -> None:
    """Say no. Nothing has run and nothing will."""
    with settings.client() as client:
        refused = client.refuse_approval(approval_id, reason)
    settings.show(refused, lambda: _table([refused], settings))


def _table(approvals: list[ApprovalView], settings: Settings) -> str:
    w = settings.words
    rows = [
        (
            a["id"],
            w(*_STATES[a["state"]]),
            a["job"],
            a["name"],
            a["asked_by"],
            f"{len(a['people'])}/{a['needed']}  {', '.join(a['people'])}",
            a["decided_by"],
            a["reason"],
        )
        for a in approvals
    ]
    head = ("approval", w("state", "状态"), w("job", "作业"), w("name", "名称"), w("asked by", "申请方"),
            w("said yes", "已同意"), w("decided by", "决定人"), w("reason", "理由"))  # fmt: skip
    return table(head, rows)
