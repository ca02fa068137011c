"""Pages of a list: items in a steady order, and an opaque cursor that says where the next page begins."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query

from isthmus.base.errors import ConfigError

Item = TypeVar("Item")
LIMIT_MAX = 200
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="The most items of one page.")]
Cursor = Annotated[
    str | None, Query(max_length=1024, description="`next` of the page before; leave it out for the first.")
]


def page(
    kind: str,
    items: Sequence[Item],
    limit: int,
    place: Callable[[Item], list[str | int]],
    view: Callable[[Item], dict[str, Any]],
) -> dict[str, Any]:
    """`items` holds one more than `limit` where there is a next page; `place` is where an item stands in the order."""
    shown = items[:limit]
    more = len(items) > limit
    return {
        "items": [view(item) for item in shown],
        "next": write_cursor(kind, place(shown[-1])) if more else None,
    }


def write_cursor(kind: str, place: list[str | int]) -> str:
    return base64.urlsafe_b64encode(json.dumps([kind, *place]).encode()).decode().rstrip("=")


def read_cursor(kind: str, cursor: str | None, *parts: type[str] | type[int]) -> list[Any] | None:
    """The place that `write_cursor` wrote for this kind of list. Raises ConfigError `out_of_bounds`."""
    if cursor is None:
        return None
    try:
        found = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (ValueError, RecursionError):
        raise bad_cursor() from None
    if not isinstance(found, list) or [type(part) for part in found] != [str, *parts] or found[0] != kind:
        raise bad_cursor()
    if any(type(part) is int and not 0 <= part < 2**63 for part in found):
        raise bad_cursor()
    return found[1:]


def bad_cursor() -> ConfigError:
    return ConfigError(
        "out_of_bounds", field="cursor", value="no cursor of this list", allowed="`next` of a page"
    )
