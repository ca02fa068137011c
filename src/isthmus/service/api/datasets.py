"""Datasets: registered tables."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from isthmus.service.api.common import ONCE, Body, example
from isthmus.service.node import Node
from isthmus.service.paging import Cursor, Limit, page, read_cursor
from isthmus.service.shapes import DatasetShape, PageShape, shaped
from isthmus.service.views import dataset_view
from isthmus.table import IdForm


class NewDataset(Body):
    """How to read a table; as in `table.ReadOptions`."""

    model_config = example(
        {
            "name": "applicants",
            "path": "/data/applicants.csv",
            "key": "phone",
            "form": "phone-cn",
            "label": "bad",
        }
    )

    name: Annotated[str, Field(max_length=64)]
    path: Annotated[str, Field(max_length=4096)]
    key: Annotated[str, Field(max_length=256)]
    form: IdForm = "none"
    label: Annotated[str, Field(max_length=256)] | None = None
    positive: Annotated[str, Field(max_length=256)] | None = None
    objective: Literal["binary", "regression"] = "binary"
    duplicates: Literal["refuse", "first", "last"] = "refuse"
    encoding: Annotated[str, Field(max_length=32)] = "utf-8"
    delimiter: Annotated[str, Field(max_length=4)] | None = None
    missing: Annotated[
        list[Annotated[str, Field(max_length=256)]], Field(default_factory=list, max_length=20)
    ]


def dataset_routes(api: APIRouter, node: Node) -> None:
    @api.get("/datasets", responses=shaped(PageShape[DatasetShape]))
    async def datasets(limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        name, version = read_cursor("datasets", cursor, str, int) or ["", 0]
        found = node.store.datasets((name, version), limit + 1)
        return page("datasets", found, limit, lambda d: [d.name, d.version], dataset_view)

    @api.post("/datasets", responses=shaped(DatasetShape), dependencies=ONCE)
    async def add(body: NewDataset) -> dict[str, Any]:
        given = body.model_dump()
        given["missing"] = tuple(body.missing)
        return dataset_view(
            await node.datasets.add(given.pop("name"), given.pop("path"), **given), whole=True
        )

    @api.get("/datasets/{title}", responses=shaped(DatasetShape))
    async def dataset(title: str) -> dict[str, Any]:
        return dataset_view(node.datasets.find(title), whole=True)
