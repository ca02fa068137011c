"""Every field of the job file, as its schema describes it: whatever is unknown or out of bounds is refused with its path. (A8)"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from isthmus.base.document import read_document
from isthmus.base.errors import ConfigError
from isthmus.jobs.spec import JobFile, load_job, parse_job, resolve
from tests.jobs.examples import document

SCHEMA = JobFile.model_json_schema(by_alias=True)
PARTIES = ("bank", "data-co")
Path = tuple[str | int, ...]


def plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without its references."""
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def sections(schema: dict[str, Any] = SCHEMA, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every map of fields, and every field that is none, each with its path; a list stands for its first item."""
    schema = plain(schema)
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from sections(part, (*path, name))
    for more in schema.get("patternProperties", {}).values():
        for party in PARTIES:
            yield from sections(more, (*path, party))
    first = schema["prefixItems"][0] if schema.get("prefixItems") else schema.get("items")
    if first:
        yield from sections(first, (*path, 0))


FOUND = dict(sections())
MAPS = [path for path, schema in FOUND.items() if schema.get("properties")]
LEAVES = [path for path, schema in FOUND.items() if not schema.get("properties")]


@cache
def full() -> dict[str, Any]:
    """A job file in which every field is given."""
    job = resolve(parse_job(document()))
    for given in job["inputs"].values():
        given["columns"] |= {"exclude": ["staff"], "categorical": ["city"], "numeric": ["age"]}
    job["split"]["test_ids_sha256"] = None
    return job


def at(job: Any, path: Path) -> Any:
    for step in path:
        job = job[step]
    return job


def put(path: Path, value: Any) -> dict[str, Any]:
    job = copy.deepcopy(full())
    at(job, path[:-1])[path[-1]] = value
    return job


def written(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def refused(job: dict[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_job(job)
    return caught.value


def options(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [plain(option) for option in schema.get("anyOf", [schema])]


def beyond(schema: dict[str, Any]) -> Iterator[Any]:
    """Values that no option of a field takes."""
    given = options(schema)
    kinds = {option.get("type") for option in given} | {
        type(o["const"]).__name__ for o in given if "const" in o
    }
    yield {"a": 1}
    yield [[]]
    yield [True]
    if "null" not in kinds:
        yield None
    for option in given:
        kind = option.get("type")
        if kind in ("integer", "number"):
            low, high = option.get("minimum"), option.get("maximum")
            step = 1 if kind == "integer" else 0.0001
            if low is not None:
                yield low - step
            if high is not None:
                yield high + step
            yield from (-1_000_000_000, 2**53 + 2, 10**40) if low is not None else (10**40,)
            yield from (True, False)
            if "string" not in kinds:
                yield from ("1", "", "1.0", "NaN")
            if kind == "integer":
                yield from (1.5, 1e300)
        elif kind == "string" and ("enum" in option or "const" in option):
            yield from ("none of these", "", 7, option.get("const", "") + " ", [option.get("const", "")])
        elif kind == "string":
            if "integer" not in kinds:
                yield 7
            if "pattern" in option:
                yield from ("\u0000", "a b", "../a", "\n", "A" * 70, "a" * 5000, "{{7*7}}", "__class__")
            if "maxLength" in option:
                yield "a" * (option["maxLength"] + 1)
            if option.get("minLength"):
                yield "a" * (option["minLength"] - 1)
        elif kind == "array":
            yield "text"
            yield 7
            if option.get("minItems"):
                yield []
            if "maxItems" in option:
                item = (
                    plain(option["items"])
                    if isinstance(option.get("items"), dict)
                    else option["prefixItems"][0]
                )
                yield [example(item)] * (option["maxItems"] + 1)


def example(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    return "a" if schema.get("type") == "string" else schema.get("minimum", 0)


def test_the_schema_names_every_field_of_a_job_file() -> None:
    def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
        if isinstance(value, dict):
            for name, part in value.items():
                yield from leaves(part, (*path, name))
        elif isinstance(value, list) and value:
            yield from leaves(value[0], (*path, 0))
        else:
            yield path

    assert set(leaves(full())) <= set(FOUND)
    assert {path[0] for path in FOUND if path} == set(full())
    assert len(MAPS) >= 20
    assert all(len(list(beyond(FOUND[path]))) >= 4 for path in LEAVES)


@pytest.mark.parametrize("path", LEAVES[::5], ids=written)
def test_a_file_is_refused_in_the_words_of_its_document(path: Path) -> None:
    job = put(path, {"a": 1})
    with pytest.raises(ConfigError) as read:
        load_job(json.dumps(job).encode())
    assert str(read.value) == str(refused(job))


def test_the_full_job_file_is_taken() -> None:
    assert resolve(parse_job(full()))["model"] == full()["model"]


@pytest.mark.parametrize("path", LEAVES, ids=written)
def test_a_value_that_the_schema_does_not_allow_is_refused_with_its_path(path: Path) -> None:
    name = written(path)
    for value in beyond(FOUND[path]):
        error = refused(put(path, value))
        field = error.fields["field"]
        assert error.code in ("out_of_bounds", "unknown_field", "missing_field"), value
        assert field == name or field.startswith((name + "[", name + ".")), (field, value)
        assert len(error.sentence("en")) < 400, value


@pytest.mark.parametrize("path", MAPS, ids=written)
def test_a_field_that_the_schema_does_not_name_is_refused_with_its_path(path: Path) -> None:
    for name in ("nobody-knows", "", "__class__", "\u540d\u5b57", "a" * 300):
        error = refused(put((*path, name), 1))
        assert error.code == "unknown_field", name
        assert error.fields["field"] == (f"{written(path)}.{name}" if path else name)


@pytest.mark.parametrize("path", MAPS[1:], ids=written)
def test_a_section_of_another_form_is_refused_with_its_path(path: Path) -> None:
    others: tuple[Any, ...] = (None, [], "text", 7, True)
    for value in others:
        error = refused(put(path, value))
        assert (error.code, error.fields["field"]) == ("out_of_bounds", written(path)), value


@pytest.mark.parametrize("path", [path for path in LEAVES if path[-1] != 0], ids=written)
def test_what_yaml_could_write_for_a_field_and_json_not_is_refused(path: Path) -> None:
    for text in (".nan", "1e999", "!!python/name:os.system", "*a"):
        job = json.dumps(put(path, "PUT-HERE")).replace('"PUT-HERE"', text)
        with pytest.raises(ConfigError) as caught:
            parse_job(read_document(job.encode(), "job.yaml"))
        assert caught.value.code in ("out_of_bounds", "bad_document"), text
