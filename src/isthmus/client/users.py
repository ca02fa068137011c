"""The calls of a client that are about people: signing in and out, users, roles, tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict
from urllib.parse import quote


class SessionView(TypedDict):
    """A session just opened. `enrolling`: the second factor must be set up before anything else."""

    name: str
    roles: list[str]
    token: str
    expires_at: str
    enrolling: bool


class UserView(TypedDict, total=False):
    """A user; `once` and `once_expires_at` only where it was just added or reset."""

    name: str
    roles: list[str]
    state: str
    second_factor: bool
    sessions: int
    added_at: str
    once: str
    once_expires_at: str


class TokenView(TypedDict, total=False):
    """A token; `token` only where it was just made."""

    id: str
    user: str | None
    roles: list[str] | None
    made_by: str
    made_at: str
    expires_at: str
    token: str


class UserCalls:
    """What `Client` adds to its calls."""

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, str] | None = None
    ) -> Any:
        raise NotImplementedError

    def _all(self, path: str, query: dict[str, str] | None = None) -> Iterator[Any]:
        raise NotImplementedError

    def sign_in(
        self, name: str, password: str, code: str | None = None, once: str | None = None
    ) -> SessionView:
        """With `once`, a one-time code, `password` is the one to be set."""
        body = {"name": name, "password": password, "code": code, "once": once}
        session: SessionView = self._call("POST", "/sign-in", body)
        return session

    def sign_out(self) -> None:
        self._call("POST", "/sign-out")

    def me(self) -> dict[str, Any]:
        return dict(self._call("GET", "/me"))

    def change_password(self, old: str, new: str) -> SessionView:
        session: SessionView = self._call("POST", "/me/password", {"old": old, "new": new})
        return session

    def begin_second_factor(self) -> dict[str, str]:
        return dict(self._call("POST", "/me/second-factor"))

    def confirm_second_factor(self, code: str) -> SessionView:
        session: SessionView = self._call("POST", "/me/second-factor/confirm", {"code": code})
        return session

    def users(self) -> list[UserView]:
        return list(self._all("/users"))

    def user(self, name: str) -> UserView:
        user: UserView = self._call("GET", f"/users/{quote(name, '')}")
        return user

    def add_user(self, name: str, roles: Sequence[str]) -> UserView:
        user: UserView = self._call("POST", "/users", {"name": name, "roles": list(roles)})
        return user

    def remove_user(self, name: str) -> UserView:
        user: UserView = self._call("DELETE", f"/users/{quote(name, '')}")
        return user

    def reset_user(self, name: str) -> UserView:
        user: UserView = self._call("POST", f"/users/{quote(name, '')}/reset")
        return user

    def set_roles(self, name: str, roles: Sequence[str], was: Sequence[str]) -> UserView:
        """Nothing is done where the roles are no longer `was`."""
        body = {"roles": list(roles), "was": list(was)}
        user: UserView = self._call("POST", f"/users/{quote(name, '')}/roles", body)
        return user

    def roles(self) -> list[dict[str, Any]]:
        return list(self._call("GET", "/roles"))

    def tokens(self) -> list[TokenView]:
        return list(self._all("/tokens"))

    def new_token(self, user: str | None, roles: Sequence[str] | None, days: int) -> TokenView:
        body = {"user": user, "roles": None if roles is None else list(roles), "days": days}
        token: TokenView = self._call("POST", "/tokens", body)
        return token

    def revoke_token(self, token_id: str) -> TokenView:
        token: TokenView = self._call("DELETE", f"/tokens/{quote(token_id, '')}")
        return token
