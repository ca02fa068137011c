"""The sections `limits` and `sign_in` of config.yaml. Both are strict: no unknown field, no text in place of a number or a word
of truth."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Limits(_Section):
    """Requests of one token, and of one person: so many at once, and so many a second in the long run. `body_s`: within so many
    seconds a body must be there. `sign_ins_per_min`: of one name, and of one address."""

    burst: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    per_s: Annotated[float, Field(gt=0, le=100_000)] = 100.0
    body_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    sign_ins_per_min: Annotated[int, Field(ge=1, le=600)] = 10


class SignIn(_Section):
    """`second_factor`: whether everybody needs one. A session ends after `idle_min` without a request, and after `session_h`."""

    second_factor: bool = True
    idle_min: Annotated[int, Field(ge=1, le=720)] = 30
    session_h: Annotated[int, Field(ge=1, le=72)] = 12
