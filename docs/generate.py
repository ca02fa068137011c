"""Writes the generated pages: docs/reference/errors.md from the catalogue of errors.

python docs/generate.py            writes them
python docs/generate.py --check    exit 1 if one of them is not what would be written
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from isthmus.base.errors import CLASSES, Entry, IsthmusError

DOCS = Path(__file__).resolve().parent
ERRORS = DOCS / "reference" / "errors.md"

HEAD = """\
# Errors 错误代码

Written by `./run docs` from `src/isthmus/base/errors.py`; do not edit it here. 本页由 `./run docs` 生成，请勿手工修改。

Each error has a stable code, one sentence and one hint. Words in braces are filled in when it happens. The exit code is that
of the command line, the status that of the HTTP interface. Only the code crosses to a partner, never the filled-in words.

每个错误都有固定的代码、一句说明和一条建议；花括号内的内容在发生时填入。发送给合作方的只有代码，不含具体内容。
"""


def purpose(cls: type[IsthmusError]) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def status_of(cls: type[IsthmusError]) -> str:
    return f"HTTP {cls.status}, exit {cls.exit_code}"


def section(code: str, entry: Entry) -> str:
    return f"### `{code}`\n\n- {entry.en}\n- {entry.zh}\n- *{entry.hint_en}*\n- *{entry.hint_zh}*\n"


def errors_page() -> str:
    parts = [HEAD, "| class | codes |\n|---|---|"]
    for cls in CLASSES:
        links = " ".join(f"[`{code}`](#{code})" for code in sorted(cls.entries))
        parts[-1] += f"\n| `{cls.__name__}` ({status_of(cls)}) | {links} |"
    parts[-1] += "\n"
    for cls in CLASSES:
        parts.append(f"## {cls.__name__}\n\n{purpose(cls)} {status_of(cls)}.\n")
        parts += [section(code, entry) for code, entry in sorted(cls.entries.items())]
    return "\n".join(parts)


PAGES = {ERRORS: errors_page}


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the generated pages of docs/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    check = parser.parse_args().check
    stale = [path for path, make in PAGES.items() if not path.exists() or path.read_text("utf-8") != make()]
    for path in stale:
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(PAGES[path](), "utf-8")
        sys.stdout.write(f"{'out of date' if check else 'written'}: {path.relative_to(DOCS.parent)}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
