"""config.yaml, field by field as its schema describes it: no text for a number or a truth value, nothing twice. (A10)"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from isthmus.base.errors import ConfigError
from isthmus.store.folder import NodeConfig, NodeFolder, make_config
from isthmus.wire.link import make_certificate

GOOD: dict[str, Any] = {
    "party": "bank",
    "mode": "direct",
    "listen": "127.0.0.1:8443",
    "address": "https://127.0.0.1:8443",
    "control_port": 0,
    "data": [],
}
WORDS_FOR_TRUTH = ("true", "false", "True", "False", "yes", "no", "on", "off", "1", "0", "")
Steps = tuple[str, ...]


def fields(model: type[BaseModel] = NodeConfig, path: Steps = ()) -> Iterator[tuple[Steps, set[Any]]]:
    """Every field with the types that it takes, those of sections too."""
    for name, field in model.model_fields.items():
        types = set(plain(field.annotation))
        yield (*path, name), types
        for section in types:
            if isinstance(section, type) and issubclass(section, BaseModel):
                yield from fields(section, (*path, name))


def plain(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from plain(get_args(annotation)[0])
    elif NoneType in get_args(annotation):
        for option in get_args(annotation):
            yield from plain(option)
    else:
        yield get_origin(annotation) or annotation


FIELDS = dict(fields())


@pytest.fixture
def folder(tmp_path: Path) -> NodeFolder:
    return NodeFolder.create(tmp_path / "node", make_config(GOOD, "a test"), make_certificate)


def refusal(folder: NodeFolder, text: str) -> ConfigError:
    (folder.home / "config.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        folder.config()
    return caught.value


def put(path: Steps, value: Any) -> str:
    for step in reversed(path):
        value = {step: value}
    return yaml.safe_dump(GOOD | value)


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_a_word_is_neither_a_number_nor_a_truth_value(folder: NodeFolder, path: Steps) -> None:
    types = FIELDS[path]
    others: list[Any] = [{"a": 1}, [[]], [True], 1.5, 10**30]
    if not {str} & types:
        others += WORDS_FOR_TRUTH
    if float in types:
        others = [value for value in others if not isinstance(value, int | float) or isinstance(value, bool)]
    if bool in types:
        others += [0, 1]
    else:
        others += [True, False]
    for value in others:
        assert refusal(folder, put(path, value)).code in (
            "out_of_bounds",
            "unknown_field",
            "missing_field",
        ), value


@pytest.mark.parametrize("name", ["DEBUG", "debug", "Party", "listen ", "control-port", "env", "<<"])
def test_a_field_that_nobody_knows_is_named(folder: NodeFolder, name: str) -> None:
    for value in ("False", False, None, 1):
        error = refusal(folder, yaml.safe_dump({**GOOD, name: value}))
        assert (error.code, error.fields["field"]) == ("unknown_field", name)


@pytest.mark.parametrize(
    "text",
    [
        "party: bank\nmode: dial-out\nparty: shop\n",
        "party: bank\nmode: dial-out\ndata: [/srv/a]\ndata: [/srv/b]\n",
        "party: bank\nmode: dial-out\n---\nparty: shop\nmode: dial-out\n",
        "party: !!python/object/apply:os.getcwd []\nmode: dial-out\n",
        "? [a]\n: 1\n",
        "party: bank\nmode: dial-out\ndata: " + "[" * 5_000,
        "party: \0\n",
    ],
    ids=[
        "twice",
        "a-list-twice",
        "two-documents",
        "a-tag",
        "a-key-that-is-a-list",
        "deep",
        "nul",
    ],
)
def test_a_config_that_is_more_than_a_map_of_fields_is_refused(folder: NodeFolder, text: str) -> None:
    assert refusal(folder, text).code in ("bad_document", "unknown_field")


def test_no_variable_of_the_environment_changes_a_config(
    folder: NodeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder.config()
    for path in FIELDS:
        for prefix in ("", "ISTHMUS_", "isthmus_"):
            monkeypatch.setenv(prefix + "_".join(path).upper(), "1")
    monkeypatch.setenv("DEBUG", "True")
    assert folder.config() == before
