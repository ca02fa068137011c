"""What every command shares: where the node is, which language, table or JSON. Data goes to stdout, talk to stderr."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from isthmus.base.errors import IsthmusError, rebuild
from isthmus.client import Client
from isthmus.client.profiles import Profiles
from isthmus.store.folder import NodeFolder

F = TypeVar("F", bound=Callable[..., Any])


def _default_home() -> Path:
    return Path(os.environ.get("ISTHMUS_HOME") or Path.home() / ".isthmus")


def _default_language() -> str:
    chosen = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if chosen.startswith("zh") else "en"


@dataclass
class Settings:
    """Filled by the options before a command runs; made once for a run of the program."""

    home: Path = field(default_factory=_default_home)
    language: str = field(default_factory=_default_language)
    output: str | None = None
    profile: str | None = None

    @property
    def folder(self) -> NodeFolder:
        return NodeFolder(self.home.absolute())

    def client(self) -> Client:
        """The node of the profile that was named, else that of the folder."""
        if self.profile is None:
            return Client(self.folder, self.language)
        profile = Profiles().read(self.profile)
        return Client.at(profile.url, profile.token, self.language)

    def words(self, en: str, zh: str) -> str:
        """The text in the language of this run."""
        return zh if self.language == "zh" else en

    def say(self, en: str, zh: str) -> None:
        """One line of talk."""
        click.echo(self.words(en, zh), err=True)

    @property
    def as_json(self) -> bool:
        return self.output == "json" or (self.output is None and not sys.stdout.isatty())

    def show(self, data: Any, table: Callable[[], str]) -> None:
        """JSON in a pipe or when asked for, else the table."""
        click.echo(json.dumps(data, ensure_ascii=False, indent=2) if self.as_json else table())


pass_settings = click.make_pass_decorator(Settings)


def common(command: F) -> F:
    """The options that every command and every group takes."""

    def keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
        def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
            if value is not None:
                setattr(context.find_object(Settings), name, value)

        return callback

    for option in (
        click.option("--home", type=click.Path(path_type=Path, file_okay=False), callback=keep("home"),
                     expose_value=False, help="Folder of the node (ISTHMUS_HOME, ~/.isthmus)."),
        click.option("--profile", callback=keep("profile"), expose_value=False,
                     help="Act as who signed in under this name, instead of with the folder."),
        click.option("--lang", type=click.Choice(["en", "zh"]), callback=keep("language"),
                     expose_value=False, is_eager=True, help="Language of words and errors."),
        click.option("-o", "--output", type=click.Choice(["table", "json"]), callback=keep("output"),
                     expose_value=False, help="Table at a terminal, JSON in a pipe, unless named here."),
    ):  # fmt: skip
        command = option(command)
    return command


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns side by side; wide characters count as two."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(_width(row[at]) for row in cells) for at in range(len(head))]
    lines = []
    for row in cells:
        padded = [cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def job_error(shown: dict[str, Any]) -> IsthmusError:
    """The error that a job ended with."""
    return rebuild(shown["class"], shown["code"], shown["fields"])
