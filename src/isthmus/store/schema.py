"""Files that people write, as strict sections: what does not fit is told by the path of its field, with what is allowed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import pydantic
from annotated_types import Ge, Interval, Le
from pydantic import BaseModel, ConfigDict, StringConstraints

from isthmus.base.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


class Section(BaseModel):
    """Strict: unknown fields, text for numbers, truth values for numbers and NaN are refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=True
    )


def read_sections(
    root: type[M], document: dict[str, Any], where: str, patterns: Mapping[str, str] | None = None
) -> M:
    """`document` as `root`. `patterns`: words for the patterns of texts. Raises ConfigError `unknown_field`,
    `missing_field`, `out_of_bounds`."""
    _refuse_huge_integers(document, "")
    try:
        return root.model_validate_json(json.dumps(document))
    except pydantic.ValidationError as error:
        raise _translate(root, error, where, patterns or {}) from None


def bounds(field: str, value: Any, allowed: str) -> ConfigError:
    return ConfigError("out_of_bounds", field=field, value=_show(value), allowed=allowed)


def _show(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _refuse_huge_integers(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, part in value.items():
            _refuse_huge_integers(part, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _refuse_huge_integers(part, f"{path}[{index}]")
    elif isinstance(value, int) and abs(value) > 2**53:
        raise bounds(path, "a whole number beyond 2^53", "whole numbers within 2^53")


# --- the schema as a tree: known names, allowed values ---


def _inner(annotation: Any) -> Any:
    """The type without Annotated and without None."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        options = [a for a in get_args(annotation) if a is not type(None)]
        if type(None) in get_args(annotation) and len(options) == 1:
            annotation = options[0]
            continue
        return annotation


def _marks(annotation: Any) -> Iterator[Any]:
    """Every bound that stands on a type, through None and nested Annotated."""
    if get_origin(annotation) is Annotated:
        for mark in get_args(annotation)[1:]:
            yield from mark if isinstance(mark, Interval) else (mark,)
        yield from _marks(get_args(annotation)[0])
    elif type(None) in get_args(annotation):
        for option in get_args(annotation):
            yield from _marks(option)


def _fields(annotation: Any) -> dict[str, Any]:
    """Name in the file to annotated type, for a section; empty for a leaf."""
    kind = _inner(annotation)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        hints = get_type_hints(kind, include_extras=True)
        return {field.alias or name: hints[name] for name, field in kind.model_fields.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return {}


def leaves(annotation: Any, path: tuple[str, ...], parties: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    kind = _inner(annotation)
    if get_origin(kind) is dict:
        for party in parties:
            yield from leaves(get_args(kind)[1], (*path, party), ())
        return
    below = _fields(annotation)
    if not below:
        yield path
    for name, part in below.items():
        yield from leaves(part, (*path, name), parties)


def _descend(root: Any, loc: Sequence[str | int]) -> tuple[str, Any, Any]:
    """Path as a user writes it, type of the last step that the schema knows, and type of what holds it."""
    path, annotation, holder = "", Any, root
    current: Any = root
    for step in loc:
        kind = _inner(current)
        below = _fields(current)
        if isinstance(step, int) and get_origin(kind) is tuple:
            path, current = f"{path}[{step}]", get_args(kind)[0]
        elif get_origin(kind) is dict:
            path, current = f"{path}.{step}", get_args(kind)[1]
        elif isinstance(step, str) and below:
            holder = current
            path, current = (f"{path}.{step}" if path else step), below.get(step, Any)
        else:
            break
        annotation = current
    return path, annotation, holder


def _allowed(annotation: Any, patterns: Mapping[str, str]) -> str:
    """The bounds of a leaf in words."""
    low = high = pattern = None
    current = _inner(annotation)
    for mark in _marks(annotation):
        if isinstance(mark, Ge):
            low = mark.ge
        elif isinstance(mark, Le):
            high = mark.le
        elif isinstance(mark, StringConstraints):
            pattern, low, high = mark.pattern, mark.min_length, mark.max_length
    if get_origin(current) is Literal:
        return ", ".join(str(a) for a in get_args(current))
    if current is str:
        if pattern:
            return patterns.get(str(pattern), f"a text that fits {pattern}")
        return f"a text of {low} to {high} characters" if high else "a text"
    if current in (int, float):
        word = "a whole number" if current is int else "a number"
        if low is not None and high is not None:
            return f"{word} from {low} to {high}"
        return f"{word}, at least {low}" if low is not None else word
    if get_origin(current) is tuple:
        return "a list"
    return "a map of fields" if _fields(current) or get_origin(current) is dict else "a text or a number"


def _translate(
    root: Any, error: pydantic.ValidationError, where: str, patterns: Mapping[str, str]
) -> ConfigError:
    """The first thing that does not fit, as an error of ours; unknown fields first."""
    found = error.errors(include_url=False, include_context=False)
    unknown = [e for e in found if e["type"] in ("extra_forbidden", "unexpected_keyword_argument")]
    first = (unknown or found)[0]
    path, annotation, holder = _descend(root, first["loc"])
    if unknown:
        return ConfigError("unknown_field", where=where, field=path, known=", ".join(_fields(holder)))
    if first["type"] in ("missing", "missing_argument"):
        return ConfigError("missing_field", where=where, field=path)
    allowed = _allowed(annotation, patterns)
    if first["type"] in ("too_short", "too_long"):
        allowed = first["msg"]
    return bounds(path, first["input"], allowed)
