"""People: signing in and out, users, roles, tokens."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from isthmus.service.api.common import ONCE, Body, example, language, person_of
from isthmus.service.node import Node
from isthmus.service.paging import Cursor, Limit, page, read_cursor
from isthmus.service.shapes import PageShape, shaped
from isthmus.service.user_shapes import (
    AddedUserShape,
    DoneShape,
    MeShape,
    NewTokenShape,
    RoleShape,
    SecondFactorShape,
    SessionShape,
    TokenShape,
    UserShape,
)
from isthmus.service.user_views import ROLE_WORDS, session_view, token_view, user_view
from isthmus.service.users import TOKEN_DAYS_MAX, Opened
from isthmus.store.users import USER_ROLES, UserRole

Name = Annotated[str, Field(max_length=64)]
Secret = Annotated[str, Field(max_length=256)]
Roles = Annotated[list[UserRole], Field(max_length=len(USER_ROLES))]


class SigningIn(Body):
    """Name, password and the code of the authenticator app. With a one-time code (`once`), `password` is the one to be set."""

    model_config = example({"name": "ann", "password": "four unrelated words here", "code": "287082"})

    name: Name
    password: Secret
    code: Annotated[str, Field(max_length=16)] | None = None
    once: Annotated[str, Field(max_length=128)] | None = None


class NewPassword(Body):
    model_config = example({"old": "four unrelated words here", "new": "and here are four others"})

    old: Secret
    new: Secret


class FactorCode(Body):
    model_config = example({"code": "287082"})

    code: Annotated[str, Field(max_length=16)]


class NewUser(Body):
    model_config = example({"name": "ann", "roles": ["modeller"]})

    name: Name
    roles: Roles


class NewRoles(Body):
    """`was`: the roles that were seen; if they are others by now, nothing is done."""

    model_config = example({"roles": ["modeller", "auditor"], "was": ["modeller"]})

    roles: Roles
    was: Roles | None = None


class NewToken(Body):
    """For a user, with all of its roles that a token may have, or with those named; without a user, for a program."""

    model_config = example({"user": None, "roles": ["service"], "days": 90})

    user: Name | None = None
    roles: Roles | None = None
    days: Annotated[int, Field(ge=1, le=TOKEN_DAYS_MAX)] = 90


def user_routes(api: APIRouter, node: Node) -> None:
    users = node.users

    def session(opened: Opened) -> dict[str, Any]:
        person = users.by_digest(opened.made.digest)
        assert person is not None
        return session_view(opened, person)

    @api.post("/sign-in", responses=shaped(SessionShape), openapi_extra={"security": []})
    async def sign_in(body: SigningIn) -> dict[str, Any]:
        """Opens a session. Whatever is wrong, the answer is the same."""
        _, opened = await users.sign_in(body.name, body.password, body.code, body.once)
        return session(opened)

    @api.post("/sign-out", responses=shaped(DoneShape))
    async def sign_out(request: Request) -> dict[str, bool]:
        users.sign_out(person_of(request))
        return {"done": True}

    @api.get("/me", responses=shaped(MeShape))
    async def me(request: Request) -> dict[str, Any]:
        person = person_of(request)
        return {
            "party": node.config.party,
            "name": person.name,
            "kind": person.kind,
            "roles": [role for role in USER_ROLES if role in person.roles],
            "expires_at": person.expires_at.isoformat() if person.expires_at else None,
            "enrolling": person.enrolling,
        }

    @api.post("/me/password", responses=shaped(SessionShape))
    async def password(request: Request, body: NewPassword) -> dict[str, Any]:
        """Ends every session of the caller and opens a new one."""
        return session(await users.change_password(person_of(request), body.old, body.new))

    @api.post("/me/second-factor", responses=shaped(SecondFactorShape))
    async def second_factor(request: Request) -> dict[str, str]:
        """A new secret for an authenticator app; it counts once a code of it was confirmed."""
        secret, address = users.begin_second_factor(person_of(request))
        return {"secret": secret, "address": address}

    @api.post("/me/second-factor/confirm", responses=shaped(SessionShape))
    async def confirm(request: Request, body: FactorCode) -> dict[str, Any]:
        """Ends every session of the caller and opens a new one."""
        return session(users.confirm_second_factor(person_of(request), body.code))

    @api.get("/users", responses=shaped(PageShape[UserShape]))
    async def list_users(limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        (after,) = read_cursor("users", cursor, str) or [""]
        found = users.all(after, limit + 1)
        return page(
            "users", found, limit, lambda u: [u.name], lambda u: user_view(u, users.sessions_of(u.name))
        )

    @api.post("/users", responses=shaped(AddedUserShape), dependencies=ONCE)
    async def add(body: NewUser) -> dict[str, Any]:
        user, once = users.add(body.name, body.roles)
        return user_view(user, 0) | {"once": once.secret, "once_expires_at": once.made.expires_at.isoformat()}

    @api.get("/users/{name}", responses=shaped(UserShape))
    async def show(name: str) -> dict[str, Any]:
        return user_view(users.find(name), users.sessions_of(name))

    @api.delete("/users/{name}", responses=shaped(UserShape))
    async def remove(name: str) -> dict[str, Any]:
        return user_view(users.remove(name), 0)

    @api.post("/users/{name}/reset", responses=shaped(AddedUserShape), dependencies=ONCE)
    async def reset(name: str) -> dict[str, Any]:
        user, once = users.reset(name)
        return user_view(user, 0) | {"once": once.secret, "once_expires_at": once.made.expires_at.isoformat()}

    @api.post("/users/{name}/roles", responses=shaped(UserShape), dependencies=ONCE)
    async def roles(name: str, body: NewRoles) -> dict[str, Any]:
        return user_view(users.set_roles(name, body.roles, body.was), 0)

    @api.get("/roles", responses=shaped(list[RoleShape]))
    async def list_roles(request: Request) -> list[dict[str, Any]]:
        everybody, chinese = users.all(), language(request) == "zh"
        return [
            {
                "role": role,
                "may": ROLE_WORDS[role][1 if chinese else 0],
                "users": [user.name for user in everybody if role in user.roles],
            }
            for role in USER_ROLES
        ]

    @api.get("/tokens", responses=shaped(PageShape[TokenShape]))
    async def tokens(request: Request, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
        (after,) = read_cursor("tokens", cursor, str) or [""]
        found = users.tokens(person_of(request), after, limit + 1)
        return page("tokens", found, limit, lambda t: [t.id], token_view)

    @api.post("/tokens", responses=shaped(NewTokenShape), dependencies=ONCE)
    async def new_token(request: Request, body: NewToken) -> dict[str, Any]:
        made, secret = users.new_token(person_of(request), body.user, body.roles, body.days)
        return token_view(made) | {"token": secret}

    @api.delete("/tokens/{token_id}", responses=shaped(TokenShape))
    async def revoke(request: Request, token_id: str) -> dict[str, Any]:
        return token_view(users.revoke_token(person_of(request), token_id))
