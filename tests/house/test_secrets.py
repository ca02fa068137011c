"""Whatever holds a secret shows nothing of it: every dataclass of the package, by the names of its fields. (U3, U10, M42)"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import isthmus
from isthmus.wire.message import Message

HOLDS = re.compile(r"secret|seed|token|password|private|sigma|mask|nonce|ephemeral|sending|receiving")
PUBLIC = {
    ("isthmus.jobs.spec.Run", "seed"),  # stands in the job file, which every party signs
    ("isthmus.fleet.simulate.Plan", "seed"),  # draws devices that do not exist
    ("isthmus.crypto.seal.Greeting", "ephemeral"),  # the public half of a session key
}


def dataclasses_of_the_package() -> Iterator[type[Any]]:
    seen = set()
    for found in pkgutil.walk_packages(isthmus.__path__, "isthmus."):
        if ".migrations" in found.name:  # run by alembic alone
            continue
        for value in vars(importlib.import_module(found.name)).values():
            if isinstance(value, type) and value.__module__ == found.name and dataclasses.is_dataclass(value):
                seen.add(value)
    yield from sorted(seen, key=lambda cls: f"{cls.__module__}.{cls.__qualname__}")


def shown(cls: type[Any]) -> Iterator[str]:
    """Fields that the repr of a dataclass shows; a repr of its own is looked at by hand."""
    made_by_dataclass = hasattr(cls.__repr__, "__wrapped__")
    for field in dataclasses.fields(cls):
        if made_by_dataclass and field.repr:
            yield field.name


def test_no_secret_is_in_a_repr() -> None:
    found = [
        (f"{cls.__module__}.{cls.__qualname__}", name)
        for cls in dataclasses_of_the_package()
        if not issubclass(cls, Message)
        for name in shown(cls)
        if HOLDS.search(name)
    ]
    assert set(found) - PUBLIC == set()


def test_the_census_sees_a_secret_that_shows() -> None:
    @dataclasses.dataclass
    class Shows:
        secret: bytes

    @dataclasses.dataclass
    class Hides:
        secret: bytes = dataclasses.field(repr=False)

    @dataclasses.dataclass
    class Speaks:
        secret: bytes

        def __repr__(self) -> str:
            return "Speaks()"

    assert [list(shown(cls)) for cls in (Shows, Hides, Speaks)] == [["secret"], [], []]


def test_the_census_finds_what_holds_one_time_secrets() -> None:
    holders = {f"{cls.__module__}.{cls.__qualname__}" for cls in dataclasses_of_the_package()}
    assert {"isthmus.protocols.hint._Ready", "isthmus.crypto.lattice.outer.Drawn"} <= holders
