"""CSV cells that a spreadsheet cannot take for a formula, with numbers exact to the last digit."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import TextIO

_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|[+＋]?[0-9][0-9 -]*")


def neutral(text: str) -> str:
    """The text, with an apostrophe before it if a spreadsheet would calculate it. Numbers and phone numbers stay."""
    if text.lstrip(" ").startswith(_STARTS) and not _NUMBER.fullmatch(text):
        return "'" + text
    return text


def cell(value: object) -> str:
    """One value as text: None is empty, a number is written so that reading it gives the same number."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Real):
        return str(value)
    return neutral(str(value))


def write_csv(stream: TextIO, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and rows as CSV; open the stream with newline=''."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([cell(name) for name in header])
    writer.writerows([cell(value) for value in row] for row in rows)
