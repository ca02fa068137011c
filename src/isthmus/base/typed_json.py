"""Frozen dataclasses as canonical JSON and back, strictly: every field there, of its type, and no other field.

Types: bool, int, float (a whole number will do), str, bytes (lower-case hexadecimal), tuples of one type, `X | None`, maps
from text to one type, and dataclasses of the same kind. Standard library only.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from isthmus.base.canonical import canonical_json

T = TypeVar("T")

DEPTH_MAX = 16


def write(value: Any) -> bytes:
    """Canonical JSON of a dataclass."""
    return canonical_json(plain(value))


def plain(value: Any) -> Any:
    """The same as maps, lists, text and numbers."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def read(cls: type[T], body: bytes) -> T:
    """The `cls` that `body` spells. Raises ValueError that names the field."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_map, parse_constant=_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return shape(cls, value)


def shape(cls: type[T], value: Any) -> T:
    """`cls` from maps, lists, text and numbers. Raises ValueError that names the field."""
    found: T = _shape(cls, value, "", 0)
    return found


def _map(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is given twice")
    return found


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _shape(kind: Any, value: Any, where: str, depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise ValueError("it is nested too deeply")
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where, depth)
    origin = get_origin(kind)
    if origin in (UnionType, Union):
        if value is None and NoneType in get_args(kind):
            return None
        (inner,) = (each for each in get_args(kind) if each is not NoneType)
        return _shape(inner, value, where, depth)
    if origin is tuple and isinstance(value, list):
        inner = get_args(kind)[0]
        return tuple(_shape(inner, each, f"{where}[{i}]", depth + 1) for i, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        inner = get_args(kind)[1]
        return {key: _shape(inner, each, _under(where, key), depth + 1) for key, each in value.items()}
    return _leaf(kind, value, where)


def _leaf(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) is int and abs(value) <= 2**53:
        return float(value)
    if kind is bytes and isinstance(value, str) and value == value.lower():
        try:
            return bytes.fromhex(value)
        except ValueError:
            pass
    if type(value) is kind and not (kind is float and not math.isfinite(value)):
        return value
    raise ValueError(f"{where or 'it'} is not {_WORDS.get(kind, 'of its kind')}")


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    bytes: "hexadecimal text",
}


def _dataclass(kind: Any, value: Any, where: str, depth: int) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'it'} is not a map of fields")
    hints = _hints(kind)
    for name in hints:
        if name not in value:
            raise ValueError(f"{_under(where, name)} is missing")
    for name in value:
        if name not in hints:
            raise ValueError(f"{_under(where, name)[:80]} is unknown")
    return kind(
        **{name: _shape(each, value[name], _under(where, name), depth + 1) for name, each in hints.items()}
    )


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _under(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
