"""try: own files, one person, one machine; a temporary node for every table."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import click

from isthmus.base.errors import IsthmusError
from isthmus.base.files import write_file
from isthmus.cli.job import POLL_S, Said
from isthmus.cli.output import Settings, common, job_error, pass_settings
from isthmus.client.client import JobView
from isthmus.client.temporary import TemporaryNodes
from isthmus.jobs.spec import JobFile, apply_settings, parse_job
from isthmus.table import IdForm, file_digest

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_ECHOES = frozenset({"partner_failed", "closed", "refused"})
"""Codes that say no more than that the other side stopped."""


@click.command("try")
@click.option("--label-table", required=True, type=_FILE, help="Table with the label.")
@click.option("--feature-table", "feature_tables", required=True, multiple=True, type=_FILE,
              help="Table of a feature owner; one to three.")  # fmt: skip
@click.option("--id", "--key", "key", required=True, help="Column that names a row in every table.")
@click.option("--as", "form", type=click.Choice(get_args(IdForm)), default="none", show_default=True,
              help="Form of the ids.")  # fmt: skip
@click.option("--label", required=True, help="Label column.")
@click.option("--positive", help="Label value that counts as 1; without it the label holds 0 and 1.")
@click.option(
    "--test-ids",
    type=_FILE,
    help="File with the ids of the test rows; without it a seeded fifth of the rows.",
)
@click.option("--encoding", default="utf-8", show_default=True, help="Encoding of the CSV files.")
@click.option(
    "--set", "changes", multiple=True, help="NAME=VALUE put into the job file, for example trees=50."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the results."
)
@common
@pass_settings
def try_(
    settings: Settings, label_table: Path, feature_tables: tuple[Path, ...], key: str, form: IdForm, label: str,
    positive: str | None, test_ids: Path | None, encoding: str, changes: tuple[str, ...], out: Path,
) -> None:  # fmt: skip
    """Train a joint model over own files: report.html, report.json and scores.csv in OUT."""
    tables = dict(zip(_names(len(feature_tables)), (label_table, *feature_tables), strict=True))
    document = standard_job(tables, key, form, label, positive, test_ids, settings.language)
    document = apply_settings(document, changes)
    job = parse_job(document)
    out.mkdir(parents=True, exist_ok=True)
    began_s = time.monotonic()
    data = sorted({path.resolve().parent for path in (*tables.values(), *([test_ids] if test_ids else []))})
    with tempfile.TemporaryDirectory(prefix="isthmus-try-") as work:
        settings.say(f"Starting {len(tables)} nodes on loopback.", f"正在本机启动 {len(tables)} 个节点。")
        with TemporaryNodes(list(tables), Path(work), data, settings.language) as nodes:
            _register(nodes, tables, job, encoding, settings)
            ended = nodes.run(
                json.dumps(document), test_ids, lambda: time.sleep(POLL_S), Said(settings).on_change
            )
            if ended["error"]:
                raise _first_cause(nodes, ended)
            _collect(Path(ended["folder"]), out, job.report.languages[0])
        _count_all_nodes(out / "report.json", time.monotonic() - began_s)
    settings.show(
        ended["result"], lambda: f"{out / 'report.html'}\n{out / 'report.json'}\n{out / 'scores.csv'}"
    )


def standard_job(
    tables: dict[str, Path], key: str, form: IdForm, label: str, positive: str | None, test_ids: Path | None, language: str
) -> dict[str, Any]:  # fmt: skip
    """The job that `try` runs when nothing is set: every row outside the test ids trains, no early stop."""
    owner, *partners = tables
    split: dict[str, Any] = {"by": "hash", "train": 0.8, "valid": 0, "test": 0.2}
    if test_ids is not None:
        split = {"by": "ids", "valid": 0, "test_ids_sha256": file_digest(test_ids)}
    return {
        "apiVersion": "isthmus/v1",
        "kind": "Job",
        "metadata": {"name": "try", "purpose": "Try a joint model over own files on one machine"},
        "parties": {"label_owner": owner, "feature_owners": partners},
        "inputs": {
            party: {"dataset": f"{party}@1", "keys": [[{"column": key, "as": form}]]} for party in tables
        },
        "align": {"min_rows": 100},
        "sample": {"label": label, **({} if positive is None else {"positive": positive})},
        "split": split,
        "model": {"min_child_rows": 20, "stop_after": 0},
        "crypto": {"engine": "lattice-hint"},
        "report": {"languages": [language]},
    }


def _names(partners: int) -> list[str]:
    if partners == 1:
        return ["label-owner", "feature-owner"]
    return ["label-owner", *(f"feature-owner-{place}" for place in range(1, partners + 1))]


def _register(
    nodes: TemporaryNodes, tables: dict[str, Path], job: JobFile, encoding: str, settings: Settings
) -> None:
    for party, path in tables.items():
        settings.say(f"Reading {path.name}.", f"正在读取 {path.name}。")
        options: dict[str, Any] = {}
        if party == job.parties.label_owner:
            positive = job.sample.positive
            options = {
                "label": job.sample.label,
                "positive": None if positive is None else str(positive),
                "objective": job.model.objective,
            }
        given = job.inputs[party].key
        nodes.node(party).client.add_dataset(
            party,
            str(path.resolve()),
            given.column,
            form=given.form,
            duplicates=job.align.duplicates,
            encoding=encoding,
            **options,
        )


def _first_cause(nodes: TemporaryNodes, ended: JobView) -> IsthmusError:
    """The error that began it, at whichever node it arose."""
    shown = [ended["error"], *(node.client.job(ended["id"])["error"] for node in nodes.nodes[1:])]
    errors = [error for error in shown if error]
    causes = [error for error in errors if error["code"] not in _ECHOES]
    return job_error((causes or errors)[0])


def _collect(folder: Path, out: Path, language: str) -> None:
    for source, name in (
        (f"report.{language}.html", "report.html"),
        ("report.json", "report.json"),
        ("scores.csv", "scores.csv"),
    ):
        shutil.copyfile(folder / source, out / name)


def _count_all_nodes(path: Path, wall_s: float) -> None:
    """The label owner's report counts its own process; here one person pays for all of them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(path.read_text(encoding="utf-8"))
    peak_mb = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    whole = {
        "cpu_s": used.ru_utime + used.ru_stime,
        "wall_s": wall_s,
        "peak_mb": peak_mb,
        "cost_covers": "all nodes",
    }
    write_file(path, json.dumps({**report, **whole}, ensure_ascii=False, indent=1).encode())
