"""The shapes of what the HTTP interface answers about people, with an example of each."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from isthmus.store.users import UserRole

_AT = "2026-03-02T09:30:00+00:00"
_LATER = "2026-03-02T21:30:00+00:00"
_USER: dict[str, Any] = {
    "name": "ann",
    "roles": ["modeller"],
    "state": "active",
    "second_factor": True,
    "sessions": 1,
    "added_at": _AT,
}
_TOKEN: dict[str, Any] = {
    "id": "5b1c0a92de",
    "user": None,
    "roles": ["service"],
    "made_by": "bank/ann",
    "made_at": _AT,
    "expires_at": "2026-05-31T09:30:00+00:00",
}


def _like(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


class DoneShape(BaseModel):
    model_config = _like({"done": True})

    done: bool


class MeShape(BaseModel):
    """Who the caller is. `enrolling`: the second factor must be set up before anything else."""

    model_config = _like(
        {
            "party": "bank",
            "name": "ann",
            "kind": "session",
            "roles": ["modeller"],
            "expires_at": _LATER,
            "enrolling": False,
        }
    )

    party: str
    name: str
    kind: Literal["local", "session", "token"]
    roles: list[UserRole]
    expires_at: str | None
    enrolling: bool


class SessionShape(BaseModel):
    """A session just opened; `token` is sent as a bearer token and shown this once."""

    model_config = _like(
        {
            "name": "ann",
            "roles": ["modeller"],
            "token": "isthmus-s-...",
            "expires_at": _LATER,
            "enrolling": False,
        }
    )

    name: str
    roles: list[UserRole]
    token: str
    expires_at: str
    enrolling: bool


class SecondFactorShape(BaseModel):
    """For an authenticator app: typed in, or read from the address; shown this once."""

    model_config = _like(
        {
            "secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
            "address": "otpauth://totp/bank%3Aann?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=bank",
        }
    )

    secret: str
    address: str


class UserShape(BaseModel):
    """`invited`: has not set a password yet."""

    model_config = _like(_USER)

    name: str
    roles: list[UserRole]
    state: Literal["invited", "active"]
    second_factor: bool
    sessions: int
    added_at: str


class AddedUserShape(UserShape):
    """`once`: the one-time code with which the user sets a password; shown this once."""

    model_config = _like(
        _USER
        | {
            "state": "invited",
            "second_factor": False,
            "sessions": 0,
            "once": "isthmus-1-...",
            "once_expires_at": _LATER,
        }
    )

    once: str
    once_expires_at: str


class RoleShape(BaseModel):
    model_config = _like({"role": "auditor", "may": "reads everything, changes nothing", "users": ["eve"]})

    role: UserRole
    may: str
    users: list[str]


class TokenShape(BaseModel):
    """`user`: for whom it acts, null for a program of its own; `roles`: null means those of the user that a token may have."""

    model_config = _like(_TOKEN)

    id: str
    user: str | None
    roles: list[UserRole] | None
    made_by: str
    made_at: str
    expires_at: str


class NewTokenShape(TokenShape):
    """`token` is sent as a bearer token and shown this once."""

    model_config = _like(_TOKEN | {"token": "isthmus-t-..."})

    token: str
