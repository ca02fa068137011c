"""audit: ls, verify, export."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from typing import TextIO

import click

from isthmus.base.errors import ConfigError
from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.store.audit import AuditCheck, Finding, line_of, lineage_of


@click.group()
@common
def audit() -> None:
    """What this node has on record: who agreed to what, what ran, what was refused."""


@audit.command("ls")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many lines."
)
@common
@pass_settings
def list_lines(settings: Settings, limit: int) -> None:
    """Show the newest lines, oldest of them first."""
    with settings.client() as client:
        lines = deque(client.audit(), maxlen=limit)
    rows = [(line.number, line.at[:19], line.actor, line.kind, line.object, line.code) for line in lines]
    settings.show(
        [asdict(line) for line in lines],
        lambda: table(("line", "at", "who", "what", "object", "code"), rows),
    )


@audit.command()
@click.option("--since", help="Begin at this time, 2026-01-02T00:00:00Z for example.")
@common
@pass_settings
def export(settings: Settings, since: str | None) -> None:
    """Write the log as JSON lines: isthmus audit export > audit.jsonl"""
    with settings.client() as client:
        for line in client.audit(since):
            click.echo(line.to_json())


@audit.command()
@click.argument("file", type=click.File("r", encoding="utf-8"), required=False)
@click.option(
    "--key", help="Public key (64 hexadecimal figures) of the party whose log FILE is, present or earlier."
)
@common
@pass_settings
def verify(settings: Settings, file: TextIO | None, key: str | None) -> int:
    """Recompute the log of the node, or an exported FILE. Exit 1 if a line was changed, moved, deleted or cut.

    The log of the node is compared with the heads that partners hold. A FILE is read without a node and without heads.
    """
    if file is None:
        with settings.client() as client:
            check = client.check_audit()
    else:
        check = _check_file(file, key)
    shown = {"lines": check.lines, "findings": [asdict(finding) for finding in check.findings]}
    rows = [
        (_place(found), found.trouble, found.partner, _sentence(found, settings)) for found in check.findings
    ]
    settings.show(shown, lambda: table(("line", "what", "partner", ""), rows))
    if check.findings:
        settings.say("The audit log does not hold.", "审计日志未通过校验。")
    else:
        settings.say(f"{check.lines} lines, all as written.", f"共 {check.lines} 行，均与写入时一致。")
    return 1 if check.findings else 0


def _check_file(file: TextIO, key: str | None) -> AuditCheck:
    if key is None:
        raise ConfigError("missing_field", where="audit verify FILE", field="--key")
    try:
        public_key = bytes.fromhex(key)
    except ValueError:
        raise ConfigError(
            "out_of_bounds", field="--key", value=key[:80], allowed="hexadecimal figures"
        ) from None
    lines = [line_of(text) for text in file]
    if not lines:
        raise ConfigError("bad_document", where=file.name, why="it holds no line")
    check = AuditCheck(lines[0].party, lineage_of(lines, public_key), lines[0].number)
    for line in lines:
        check.take(line)
    return check


def _place(found: Finding) -> str:
    return str(found.first) if found.first == found.last else f"{found.first}-{found.last}"


def _sentence(found: Finding, settings: Settings) -> str:
    match found.trouble:
        case "missing":
            return settings.words("deleted", "已被删除")
        case "changed":
            return settings.words("changed, or moved from another place", "内容被修改，或来自其他位置")
        case "unlinked":
            return settings.words(
                "not the line that the next one was written after", "不是下一行写入时的前一行"
            )
        case "rewritten":
            return settings.words("the partner holds another one", "与合作方留存的记录不一致")
        case "cut":
            return settings.words(
                "cut from the end, or the database is an older one: the partner holds a head of them",
                "末尾被截断，或数据库为旧备份：合作方持有这些行的摘要",
            )
        case "bad_receipt":
            return settings.words("a kept head whose signature does not hold", "留存的摘要签名无效")
        case "forked":
            return settings.words(
                "the partner signed two heads with this number", "合作方对同一编号签署了两个摘要"
            )
        case "rewound":
            return settings.words("the partner's own log has gone back to before", "合作方自己的日志曾回退")
