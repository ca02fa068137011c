"""Grants: what the holder of a dataset allows one partner to do with it, signed with the holder's party key.

    ask      user -> holder    what a partner would like to do; binds nobody
    grant    holder -> user    the terms below with the holder's signature
    ending   holder -> user    `refused` or `revoked`, signed too: a grant that was taken back can be shown to be

The terms name no column. They say how many columns there are and by which aliases, and hold a salted digest of the list, which
the holder keeps: so nobody there can change the list behind the signature, and nobody elsewhere can guess it.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import Annotated, Any, Literal, Self

import pydantic
from annotated_types import Interval
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from isthmus.base.canonical import canonical_json
from isthmus.base.errors import ConfigError, PeerError
from isthmus.crypto.seal import PartyKey, verify
from isthmus.jobs.spec import ColumnName, Columns, Day, PartyName
from isthmus.protocols.align import SET_MAX_ROWS

TERMS_MAX_BYTES = 64 * 1024
ALIASES_MAX = 500

Operation = Literal["align", "train", "score"]
OF_JOB: frozenset[Operation] = frozenset({"align", "train"})
"""What a job does with the data of a feature owner."""

GrantId = Annotated[str, StringConstraints(pattern=r"^g-[a-z2-7]{16}$")]
GrantedDataset = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?(@[1-9][0-9]{0,5})?$")
]
Purpose = Annotated[str, StringConstraints(min_length=10, max_length=500)]
Runs = Annotated[int, Interval(ge=1, le=1000)]
_HEX = StringConstraints(pattern=r"^[0-9a-f]{64}$")
_GRANT = b"isthmus/grant/v1\0"
_ENDING = b"isthmus/grant-ending/v1\0"
_COLUMNS = b"isthmus/grant-columns/v1\0"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def to_bytes(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """Raises PeerError `bad_message` for anything but these terms in their one spelling."""
        try:
            terms = cls.model_validate_json(body)
            if terms.to_bytes() == body:
                return terms
        except (pydantic.ValidationError, ValueError):
            pass
        raise PeerError("bad_message", why="the terms of a grant have another form")


class Ask(_Strict):
    """What a partner asks for, and what every grant says. The bounds hold for each job under it."""

    v: Literal[1] = 1
    id: GrantId
    holder: PartyName
    user: PartyName
    dataset: GrantedDataset
    purpose: Purpose
    operations: Annotated[tuple[Operation, ...], Field(min_length=1, max_length=3)] = ("align", "train")
    until: Day
    runs: Runs = 1
    min_rows: Annotated[int, Interval(ge=100, le=SET_MAX_ROWS)] = 1000


class ColumnsTold(_Strict):
    """What the user is told of the columns."""

    count: Annotated[int, Interval(ge=1, le=1_000_000)]
    aliases: Annotated[tuple[ColumnName, ...], Field(max_length=ALIASES_MAX)] = ()
    digest: Annotated[str, _HEX]


class Terms(Ask):
    """A grant. `partner_rows_max` bounds the user's set, `min_change` by how many shared rows a run differs from an earlier
    one if it differs at all; `job` binds the grant to one job file."""

    columns: ColumnsTold
    runs_30d: Runs = 20
    partner_rows_max: Annotated[int, Interval(ge=100, le=SET_MAX_ROWS)] = SET_MAX_ROWS
    min_change: Annotated[int, Interval(ge=0, le=SET_MAX_ROWS)] = 0
    job: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    given_at: Annotated[str, StringConstraints(max_length=40)]


class OwnColumns(_Strict):
    """Names of columns, which stay at the holder. Patterns as in the job file; `aliases` from a name to an alias."""

    include: Columns = ("*",)
    exclude: Columns = ()
    aliases: Annotated[dict[ColumnName, ColumnName], Field(max_length=ALIASES_MAX)] = Field(
        default_factory=dict
    )
    salt: Annotated[str, _HEX] = Field(default_factory=lambda: secrets.token_hex(32))

    def digest(self) -> str:
        return hashlib.sha256(_COLUMNS + self.to_bytes()).hexdigest()


def new_id() -> str:
    return "g-" + "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(16))


def is_id(text: str) -> bool:
    return re.fullmatch(r"g-[a-z2-7]{16}", text) is not None


def made(kind: type[BaseModel], **fields: Any) -> Any:
    """A document of this kind from what a person wrote. Raises ConfigError with the field that does not fit."""
    try:
        return kind.model_validate_json(json.dumps(fields))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise ConfigError("missing_field", where="the grant", field=field) from None
        shown = json.dumps(first["input"], ensure_ascii=False, default=str)[:80]
        raise ConfigError("out_of_bounds", field=field, value=shown, allowed=first["msg"]) from None


def sign_terms(terms: Terms, key: PartyKey) -> bytes:
    """64 bytes."""
    return key.sign(_GRANT + terms.to_bytes())


def verify_terms(terms: Terms, public_key: bytes, signature: bytes) -> None:
    """Raises PeerError `bad_signature` unless the holder has signed these very terms."""
    verify(public_key, signature, _GRANT + terms.to_bytes(), terms.holder)


def sign_ending(grant: str, user: str, state: str, key: PartyKey) -> bytes:
    return key.sign(_ending(grant, user, state))


def verify_ending(
    grant: str, holder: str, user: str, state: str, public_key: bytes, signature: bytes
) -> None:
    """Raises PeerError `bad_signature` unless the holder has said that this grant to `user` ended so."""
    verify(public_key, signature, _ending(grant, user, state), holder)


def _ending(grant: str, user: str, state: str) -> bytes:
    return _ENDING + canonical_json({"grant": grant, "user": user, "state": state})
