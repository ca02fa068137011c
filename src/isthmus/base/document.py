"""Reads YAML and JSON as data: no tags, anchors, aliases or repeated keys, no guessed dates; bounded."""

from __future__ import annotations

import re
from typing import Any

import yaml

from isthmus.base.errors import ConfigError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32

_INTEGER = re.compile(r"[-+]?[0-9]{1,400}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?")
_WORDS: dict[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
    ".nan": float("nan"),
    ".inf": float("inf"),
    "-.inf": float("-inf"),
}


def read_document(data: bytes, where: str) -> dict[str, Any]:
    """The map that a YAML or JSON file holds. Raises ConfigError `bad_document`."""
    if len(data) > MAX_BYTES:
        raise _bad(where, f"it has more than {MAX_BYTES // 1024} KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _bad(where, "it is not UTF-8") from None
    document = read_value(text, where)
    if not isinstance(document, dict):
        raise _bad(where, "it is not a map of fields")
    return document


def read_value(text: str, where: str) -> Any:
    """One YAML value, by the same rules."""
    builder = _Builder(where)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _bad(where, f"{error.problem or 'not YAML'}{line}") from None
    except yaml.YAMLError:
        raise _bad(where, "it holds characters that no document may hold") from None
    return builder.document


def _bad(where: str, why: str) -> ConfigError:
    return ConfigError("bad_document", where=where, why=why)


class _Builder:
    """Builds a document from parser events, without recursion."""

    def __init__(self, where: str) -> None:
        self.document: Any = None
        self._where = where
        self._documents = 0
        self._open: list[tuple[Any, list[str]]] = []  # the container, and the key that waits for its value

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _bad(self._where, f"anchors and aliases are not allowed (line {line})")
        if getattr(event, "tag", None) is not None:
            raise _bad(self._where, f"tags are not allowed (line {line})")
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _bad(self._where, "it holds more than one document")
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.MappingStartEvent):
            self._start({}, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._start([], line)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._open.pop()

    def _start(self, container: Any, line: int) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise _bad(self._where, f"it is nested deeper than {MAX_DEPTH} levels (line {line})")
        self._put(container, line)
        self._open.append((container, []))

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        text = event.value
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise _bad(self._where, f"a text is not well-formed (line {line})")
        if self._open and isinstance(self._open[-1][0], dict) and not self._open[-1][1]:
            container, waiting = self._open[-1]
            if text in container:
                raise _bad(self._where, f"{text} stands there twice (line {line})")
            waiting.append(text)
        else:
            self._put(text if event.style else _plain(text), line)

    def _put(self, value: Any, line: int) -> None:
        if not self._open:
            self.document = value
            return
        container, waiting = self._open[-1]
        if isinstance(container, list):
            container.append(value)
        elif waiting:
            container[waiting.pop()] = value
        else:
            raise _bad(self._where, f"a key is not a text (line {line})")


def _plain(text: str) -> Any:
    """Value of an unquoted scalar: null, true, false, a number, or else a text."""
    if text.lower() in _WORDS and (text.islower() or not text.isalpha()):
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
