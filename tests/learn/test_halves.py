"""Halves of models as a broken disk or another party leaves them. (F10)

Signatures of halves, older schemas and halves of other jobs come with deployments; what is read today is a document.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from isthmus.base.errors import DataError
from isthmus.learn.bins import CategoryBins, ColumnBins, NumericBins
from isthmus.learn.tree import FeatureHalf, Inner, LabelHalf, OwnSplit, Tree, half_from_json

COLUMNS: list[ColumnBins] = [
    NumericBins("age", (1.5, 2.5), 0),
    CategoryBins("city", (("a",), ("b", "c")), 2, 0),
]
LABEL = LabelHalf(
    "binary", 0.25, list(COLUMNS), ["data-co"], [OwnSplit(0, 1, True)],
    [Tree({0: Inner(0, 0), 1: Inner(1, 3)}, {2: 0.5, 3: -0.5, 4: 0.1})],
)  # fmt: skip
FEATURE = FeatureHalf(list(COLUMNS), [OwnSplit(1, 1, False)])
HALVES: dict[str, LabelHalf | FeatureHalf] = {"label-owner": LABEL, "feature-owner": FEATURE}
ODD: tuple[Any, ...] = (
    None, True, -1, 2**63, 10**400, 1.5, float("inf"), float("nan"), "", "x", "\ud800", [], [[]], [None] * 3, {}, {"a": 1},
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    parts: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, part in parts:
        yield (*path, name)
        yield from places(part, (*path, name))


def read(document: Any, role: str) -> bool:
    """Whether it is read; what is not has to be refused as a damaged half."""
    try:
        half_from_json(document, role)
    except DataError:
        return False
    return True


@pytest.mark.parametrize("role", HALVES)
def test_a_half_comes_back_as_it_was(role: str) -> None:
    assert half_from_json(json.loads(json.dumps(HALVES[role].to_json())), role) == HALVES[role]


@pytest.mark.parametrize("role", HALVES)
def test_whatever_stands_in_a_half_it_is_read_or_refused(role: str) -> None:
    whole = HALVES[role].to_json()
    refused = 0
    for path in places(whole):
        for value in ODD:
            changed = copy.deepcopy(whole)
            holder: Any = changed
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = value
            refused += not read(changed, role)
    assert refused > 200


@pytest.mark.parametrize("role", HALVES)
def test_a_half_without_one_of_its_fields_is_refused(role: str) -> None:
    whole = HALVES[role].to_json()
    for name in set(whole) - {"note"}:
        with pytest.raises(DataError, match="bad_model"):
            half_from_json({key: value for key, value in whole.items() if key != name}, role)


@pytest.mark.parametrize("document", [None, 7, "half", [], [HALVES["label-owner"].to_json()], {}], ids=str)
def test_a_document_of_another_form_is_refused(document: Any) -> None:
    for role in HALVES:
        with pytest.raises(DataError, match="bad_model"):
            half_from_json(document, role)


def test_a_half_of_the_other_role_or_of_a_later_format_is_refused() -> None:
    for role, other in (("label-owner", "feature-owner"), ("feature-owner", "label-owner")):
        with pytest.raises(DataError, match="bad_model"):
            half_from_json(HALVES[other].to_json(), role)
        with pytest.raises(DataError, match="bad_model"):
            half_from_json(HALVES[role].to_json() | {"format": "isthmus-half/2"}, role)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("trees", 0, "inner", 1, 1), 2),
        (("trees", 0, "inner", 1, 1), -1),
        (("trees", 0, "inner", 0, 2), 1),
        (("trees", 0, "inner", 0, 2), -1),
        (("trees", 0, "leaf", 0, 1), float("nan")),
        (("base",), float("inf")),
        (("splits", 0, 0), 2),
        (("splits", 0, 1), -1),
        (("splits", 0, 1), 256),
        (("columns", 0, "cuts"), [2.5, 1.5]),
        (("columns", 0, "cuts"), [1.5, float("nan")]),
        (("columns", 0, "missing_bin"), 7),
        (("columns", 1, "unseen_bin"), -1),
    ],
    ids=str,
)
def test_a_half_that_points_beyond_itself_or_holds_no_numbers_is_refused(
    path: tuple[Any, ...], value: Any
) -> None:
    changed: Any = LABEL.to_json()
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    with pytest.raises(DataError, match="bad_model"):
        half_from_json(changed, "label-owner")
