"""What the routes share: strict bodies, the idempotency header, the token in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict

from isthmus.service.problems import language_of
from isthmus.service.users import Person


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def example(body: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [body]})


def _key(
    idempotency_key: Annotated[
        str | None,
        Header(description="Sent again under the same key within 24 hours, the request acts once."),
    ] = None,
) -> None:
    """Names the header in the OpenAPI document; `Once` reads it before any route does."""


ONCE = [Depends(_key)]

# For the OpenAPI document; it is the gate that asks.
BEARER = [Security(HTTPBearer(auto_error=False))]


def person_of(request: Request) -> Person:
    """Who sends it: the gate lets nobody else through."""
    person: Person = request.scope["person"]
    return person


def language(request: Request) -> str:
    return language_of(request.headers)
