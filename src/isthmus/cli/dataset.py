"""dataset: add, ls, show."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.table import IdForm


@click.group()
@common
def dataset() -> None:
    """The tables of this party. They never leave it."""


@dataset.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--name", help="Name of the dataset; the file's own name if it is not given.")
@click.option("--key", "--id", "key", required=True, help="Column that names a row at all parties.")
@click.option("--as", "form", type=click.Choice(get_args(IdForm)), default="none", show_default=True,
              help="Form of the key.")  # fmt: skip
@click.option("--label", help="Label column, at the label owner.")
@click.option("--positive", help="Label value that counts as 1; without it the label holds 0 and 1.")
@click.option("--objective", type=click.Choice(["binary", "regression"]), default="binary", show_default=True)
@click.option("--duplicates", type=click.Choice(["refuse", "first", "last"]), default="refuse", show_default=True,
              help="Which row of a repeated key counts.")  # fmt: skip
@click.option("--encoding", default="utf-8", show_default=True, help="Encoding of a CSV file.")
@click.option("--delimiter", help="Delimiter of a CSV file; comma if it is not given.")
@click.option("--missing", multiple=True, help="A cell that means nothing is there; may be repeated.")
@common
@pass_settings
def add(
    settings: Settings, /, file: Path, name: str | None, key: str, missing: tuple[str, ...], **options: Any
) -> None:
    """Register the next version of a CSV or Parquet file. It is read once and hashed."""
    name = name or file.stem.lower()
    with settings.client() as client:
        added = client.add_dataset(name, str(file.absolute()), key, missing=list(missing), **options)
    settings.show(added, lambda: table(("dataset", "rows", "columns", "sha256"), [
        (added["dataset"], added["rows"], added["columns"], added["sha256"][:16])]))  # fmt: skip


@dataset.command("ls")
@common
@pass_settings
def list_datasets(settings: Settings) -> None:
    """List the registered tables."""
    with settings.client() as client:
        datasets = client.datasets()
    rows = [
        (d["dataset"], d["rows"], d["columns"], d["key"], d["label"] or "", d["added_at"][:16])
        for d in datasets
    ]
    settings.show(datasets, lambda: table(("dataset", "rows", "columns", "key", "label", "added"), rows))
    if not datasets:
        settings.say(
            "No dataset yet. Next: isthmus dataset add FILE --key COLUMN",
            "还没有数据集。下一步：isthmus dataset add 文件 --key 列",
        )


@dataset.command()
@click.argument("title")
@common
@pass_settings
def show(settings: Settings, title: str) -> None:
    """Show the columns of a dataset, NAME or NAME@VERSION."""
    with settings.client() as client:
        found = client.dataset(title)

    def rows() -> str:
        head = ("column", "kind", "missing", "unique", "min", "p50", "max", "left out")
        return table(head, [
            (c["name"], c["kind"], f"{c['missing_share']:.1%}", c["unique"], _figure(c["min"]), _figure(c["p50"]),
             _figure(c["max"]), c["reason"]) for c in found["profile"]])  # fmt: skip

    settings.show(found, rows)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
