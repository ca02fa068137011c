"""People and what stands for them: users, passwords, second factors, sessions, tokens, lock-outs.

Whatever opens the interface is 256 random bits, shown once, and kept as its SHA-256. A sign-in takes one password hash, whether
the name is known or not, and says one thing only when it fails. Tries are counted before they are made, and the count is in the
store, so neither haste nor a restart gains a try.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import secrets
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, NoReturn

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import ConfigError, PolicyError
from isthmus.base.workers import in_thread
from isthmus.crypto.password import Passwords
from isthmus.crypto.totp import SECRET_BYTES, app_address, app_text, step_of
from isthmus.service.audit import LOCAL, Audit
from isthmus.service.vault import Vault
from isthmus.store.audit import AuditKind
from isthmus.store.folder import NodeFolder
from isthmus.store.records import Store
from isthmus.store.settings import SignIn
from isthmus.store.sql import SqlStore
from isthmus.store.users import USER_ROLES, PassKind, StoredPass, StoredTries, StoredUser, UserRole

NAME = r"^(?!local$|stranger$|token-)[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?$"
PASSWORD_MIN, PASSWORD_MAX = 12, 256
ONCE = timedelta(hours=24)
TOKEN_DAYS_MAX = 365
SESSIONS_MAX = 10
"""Sessions of one person; the oldest gives way."""
TRIES = 5
PAUSE_S, PAUSE_MAX_S = 30, 3600
TRIES_KEPT = timedelta(days=1)
TOUCH = timedelta(seconds=60)
"""So often at most the store is told that a session was used."""
HASHES_AT_ONCE = 2
TOKEN_ROLES: frozenset[UserRole] = frozenset({"modeller", "operator", "auditor", "service"})
"""What a token may be: people are managed and approvals given by people alone."""
_SESSIONS: tuple[PassKind, ...] = ("session",)
_PREFIX: dict[PassKind, str] = {"session": "isthmus-s-", "token": "isthmus-t-", "once": "isthmus-1-"}


@dataclass(frozen=True, slots=True)
class Person:
    """Who sends a request. `digest` is that of what it was opened with; `enrolling`: the second factor is still to be set up."""

    name: str
    kind: Literal["local", "session", "token"]
    roles: frozenset[UserRole]
    pass_id: str
    digest: bytes = field(default=b"", repr=False)
    expires_at: datetime | None = None
    enrolling: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A pass that was just made: what to show of it, once."""

    made: StoredPass
    secret: str = field(repr=False)


class Users:
    """The people of one node."""

    def __init__(
        self,
        own: str,
        store: Store,
        vault: Vault,
        audit: Audit,
        clock: Clock,
        rules: SignIn,
        passwords: Passwords | None = None,
    ) -> None:
        self._own = own
        self._store = store
        self._vault = vault
        self._audit = audit
        self._clock = clock
        self._rules = rules
        self._passwords = passwords or Passwords()
        self._hashing = asyncio.Semaphore(HASHES_AT_ONCE)

    # --- who is it ---

    def who(self, secret: bytes) -> Person | None:
        """The person that a session or a token stands for now; None if it stands for nobody."""
        return self.by_digest(hashlib.sha256(secret).digest())

    def by_digest(self, digest: bytes) -> Person | None:
        found, now = self._store.pass_of(digest), self._clock.now()
        if found is None or found.kind == "once" or now >= found.expires_at:
            return None
        if found.kind == "session":
            if now - found.used_at >= timedelta(minutes=self._rules.idle_min):
                return None
            if now - found.used_at >= TOUCH:
                self._store.touch_pass(found.id, now)
        if found.user is None:
            roles = frozenset(found.roles or ())
            return Person(f"token-{found.id}", "token", roles, found.id, digest, found.expires_at)
        user = self._store.user(found.user)
        if user is None:
            return None
        roles = frozenset(user.roles)
        if found.kind == "token":
            roles &= TOKEN_ROLES if found.roles is None else frozenset(found.roles)
            return Person(user.name, "token", roles, found.id, digest, found.expires_at)
        enrolling = self._rules.second_factor and not user.second_on
        return Person(user.name, "session", roles, found.id, digest, found.expires_at, enrolling)

    def still(self, person: Person) -> bool:
        """Whether what the person came with is still good for the same."""
        if person.kind == "local":
            return True
        now = self.by_digest(person.digest)
        return now is not None and now.roles == person.roles

    # --- signing in and out ---

    async def sign_in(
        self, name: str, password: str, code: str | None = None, once: str | None = None
    ) -> tuple[StoredUser, Opened]:
        """A new session. With `once`, a one-time code, `password` is the one to be set. Raises PolicyError `locked_out`, or
        `wrong_sign_in` for whatever does not fit."""
        if once is not None:
            check_password(password, name)
        self._count_try(name)
        user = self._store.user(name)
        if once is None:
            changed = await self._by_password(user, password, code)
        else:
            changed = await self._by_code(user, password, once)
        if changed is None:
            self._refuse(name, PolicyError("wrong_sign_in"))
        drop: tuple[PassKind, ...] = () if once is None else ("session", "once")
        opened = self._open("session", changed.name, None, timedelta(hours=self._rules.session_h))
        note = self._audit.note(AuditKind.SIGNED_IN, name, by=self._audit.actor(name))
        if not self._store.put_user(changed, drop=drop, passes=[opened.made], notes=[note]):
            self._refuse(
                name, PolicyError("wrong_sign_in")
            )  # somebody used the same code, or changed the user, at the same time
        self._store.clear_tries(name_digest(name))
        self._store.forget_passes(self._clock.now())
        self._bound_sessions(name)
        return changed, opened

    async def _by_password(
        self, user: StoredUser | None, password: str, code: str | None
    ) -> StoredUser | None:
        async with self._hashing:
            fits = await in_thread(self._passwords.verify, password, user.password if user else None)
        if user is None or not fits:
            return None
        step = user.second_step
        if user.second_on:
            found = self._step(user, code or "")
            if found is None:
                return None
            step = found
        return replace(user, second_step=step, version=user.version + 1)

    async def _by_code(self, user: StoredUser | None, password: str, once: str) -> StoredUser | None:
        async with self._hashing:
            hashed = await in_thread(self._passwords.hash, password)
        found = self._store.pass_of(hashlib.sha256(once.encode()).digest())
        if user is None or found is None or (found.kind, found.user) != ("once", user.name):
            return None
        if self._clock.now() >= found.expires_at:
            return None
        return replace(user, password=hashed, version=user.version + 1)

    def _refuse(self, name: str, error: PolicyError) -> NoReturn:
        """Known names get a line in the log, but not each time; all others a write that takes as long."""
        by, known = self._audit.actor(name), self._store.user(name) is not None
        if not known or not self._audit.write_refusal(AuditKind.SIGN_IN_FAILED, name, by, error.code):
            tries = self._store.tries(name_digest(name)) or StoredTries(
                name_digest(name), 0, self._clock.now()
            )
            self._store.put_tries(tries, tries.at - TRIES_KEPT)
        raise error

    def _count_try(self, name: str) -> None:
        """Raises PolicyError `locked_out` while the name must wait; else counts a try. For names of nobody too: the answers
        do not tell who exists."""
        now, digest = self._clock.now(), name_digest(name)
        kept = self._store.tries(digest)
        if kept is not None and kept.at > now:  # the clock was set back
            kept = replace(kept, at=now)
            self._store.put_tries(kept, now - TRIES_KEPT)
        left_s = 0 if kept is None else math.ceil((kept.at - now).total_seconds() + pause_s(kept.count))
        if left_s > 0:
            self._refuse(name, PolicyError("locked_out", wait_s=min(left_s, PAUSE_MAX_S)))
        self._store.put_tries(StoredTries(digest, kept.count + 1 if kept else 1, now), now - TRIES_KEPT)

    def sign_out(self, person: Person) -> None:
        """Ends the session. A token stays until it is revoked."""
        if person.kind == "session":
            note = self._audit.note(AuditKind.SIGNED_OUT, person.name, by=self._audit.person)
            self._store.drop_pass(person.pass_id, [note])

    # --- what a person does for itself ---

    async def change_password(self, person: Person, old: str, new: str) -> Opened:
        """Ends all sessions of the person and opens another one."""
        user = self._self(person)
        check_password(new, user.name)
        self._count_try(user.name)
        async with self._hashing:
            fits = await in_thread(self._passwords.verify, old, user.password)
        if not fits:
            self._refuse(user.name, PolicyError("wrong_sign_in"))
        async with self._hashing:
            hashed = await in_thread(self._passwords.hash, new)
        opened = self._reopen(replace(user, password=hashed), AuditKind.USER_PASSWORD)
        self._store.clear_tries(name_digest(user.name))
        return opened

    def begin_second_factor(self, person: Person) -> tuple[str, str]:
        """A new secret for an authenticator app, and its address; it counts once a code of it was given."""
        user = self._self(person)
        if user.second_on:
            raise ConfigError(
                "conflict", what="the second factor", state="set up", needed="not set up",
                show_command=f"isthmus user reset {user.name}",
            )  # fmt: skip
        secret = secrets.token_bytes(SECRET_BYTES)
        sealed = self._vault.seal(secret, _place(user.name))
        self._put(replace(user, second=sealed, second_step=0))
        return app_text(secret), app_address(secret, self._own, user.name)

    def confirm_second_factor(self, person: Person, code: str) -> Opened:
        """From now on the person signs in with it. Ends all sessions of the person and opens another one."""
        user = self._self(person)
        self._count_try(user.name)
        step = None if user.second is None or user.second_on else self._step(user, code)
        if step is None:
            self._refuse(user.name, PolicyError("wrong_sign_in"))
        changed = replace(user, second_on=True, second_step=step)
        opened = self._reopen(changed, AuditKind.USER_SECOND_FACTOR)
        self._store.clear_tries(name_digest(user.name))
        return opened

    def _self(self, person: Person) -> StoredUser:
        if person.kind != "session":
            raise PolicyError("second_factor")
        return self.find(person.name)

    def _step(self, user: StoredUser, code: str) -> int | None:
        secret = self._vault.open(user.second or b"", _place(user.name))
        return step_of(secret, code, self._clock.now().timestamp(), user.second_step)

    def _reopen(self, user: StoredUser, kind: AuditKind) -> Opened:
        opened = self._open("session", user.name, None, timedelta(hours=self._rules.session_h))
        self._put(user, drop=_SESSIONS, passes=[opened.made], kind=kind)
        return opened

    # --- what an admin does ---

    def add(self, name: str, roles: Collection[UserRole]) -> tuple[StoredUser, Opened]:
        """A user without a password, and the one-time code with which it sets one. Raises ConfigError `already_there`."""
        check_name(name)
        user = StoredUser(name, _sorted(roles), self._clock.now())
        opened = self._open("once", name, None, ONCE)
        note = self._audit.note(AuditKind.USER_ADDED, name, by=self._audit.person)
        if not self._store.add_user(user, [opened.made], [note]):
            raise ConfigError("already_there", what=f"the user {name}")
        return user, opened

    def find(self, name: str) -> StoredUser:
        user = self._store.user(name)
        if user is None:
            raise ConfigError("not_found", what=f"user {name[:64]}", list_command="isthmus user ls")
        return user

    def remove(self, name: str) -> StoredUser:
        """Whatever stood for the user stands for nobody from now on."""
        user = self.find(name)
        self._check_an_admin_stays(user, ())
        note = self._audit.note(AuditKind.USER_REMOVED, name, by=self._audit.person)
        if not self._store.remove_user(name, [note]):
            raise _changed(name)
        self._store.clear_tries(name_digest(name))
        return user

    def reset(self, name: str) -> tuple[StoredUser, Opened]:
        """Password, second factor, sessions, tokens and lock-out are gone; a new one-time code opens."""
        user = replace(self.find(name), password=None, second=None, second_on=False, second_step=0)
        opened = self._open("once", name, None, ONCE)
        self._put(user, drop=("session", "token", "once"), passes=[opened.made], kind=AuditKind.USER_RESET)
        self._store.clear_tries(name_digest(name))
        return user, opened

    def set_roles(
        self, name: str, roles: Collection[UserRole], was: Collection[UserRole] | None = None
    ) -> StoredUser:
        """Ends the sessions of the user. Raises ConfigError `conflict` where the roles are no longer what they were."""
        user = self.find(name)
        if was is not None and _sorted(was) != user.roles:
            raise _changed(name)
        self._check_an_admin_stays(user, roles)
        changed = replace(user, roles=_sorted(roles))
        self._put(changed, drop=_SESSIONS, kind=AuditKind.USER_ROLES)
        return changed

    def all(self, after: str = "", limit: int = -1) -> list[StoredUser]:
        return self._store.users(after, limit)

    def admins(self) -> list[str]:
        return [user.name for user in self._store.users() if "admin" in user.roles]

    def sessions_of(self, name: str) -> int:
        now = self._clock.now()
        return sum(found.expires_at > now for found in self._store.passes("session", name))

    def _check_an_admin_stays(self, user: StoredUser, roles: Collection[UserRole]) -> None:
        if "admin" in user.roles and "admin" not in roles and self.admins() == [user.name]:
            raise PolicyError("last_admin", name=user.name)

    # --- tokens ---

    def new_token(
        self, person: Person, user: str | None, roles: Collection[UserRole] | None, days: int
    ) -> tuple[StoredPass, str]:
        """A token of oneself, or, made by an admin, of another user or of nobody but itself; never with more roles than the
        user has, and never one that administers or approves. Raises PolicyError `role`, `second_factor`."""
        if person.kind == "token":
            raise PolicyError("second_factor")
        if user != person.name and "admin" not in person.roles:
            raise PolicyError("role", needed="admin", admins=self.admins() or [LOCAL])
        allowed = set(TOKEN_ROLES if user is None else TOKEN_ROLES & set(self.find(user).roles))
        wanted = allowed if roles is None and user is not None else set(roles or ())
        if not wanted or not wanted <= allowed:
            named = ", ".join(role for role in USER_ROLES if role in allowed) or "nothing"
            raise ConfigError("out_of_bounds", field="roles", value=", ".join(sorted(wanted)), allowed=named)
        opened = self._open("token", user, None if roles is None else _sorted(wanted), timedelta(days=days))
        note = self._audit.note(AuditKind.TOKEN_MADE, opened.made.id, by=self._audit.person)
        self._store.add_pass(opened.made, [note])
        return opened.made, opened.secret

    def tokens(self, person: Person, after: str = "", limit: int = -1) -> list[StoredPass]:
        """All of them for an admin or an auditor, else one's own."""
        whose = None if person.roles & {"admin", "auditor"} else person.name
        return self._store.passes("token", whose, after, limit)

    def revoke_token(self, person: Person, token_id: str) -> StoredPass:
        """Another's token looks like none."""
        found = next((t for t in self._store.passes("token") if t.id == token_id), None)
        mine = found is not None and ("admin" in person.roles or found.user == person.name)
        note = self._audit.note(AuditKind.TOKEN_REVOKED, found.id if found else "", by=self._audit.person)
        if found is None or not mine or not self._store.drop_pass(token_id, [note]):
            raise ConfigError("not_found", what=f"token {token_id[:64]}", list_command="isthmus token ls")
        return found

    # --- within ---

    def _open(
        self, kind: PassKind, user: str | None, roles: tuple[UserRole, ...] | None, lasts: timedelta
    ) -> Opened:
        secret, now = _PREFIX[kind] + secrets.token_urlsafe(32), self._clock.now()
        digest = hashlib.sha256(secret.encode()).digest()
        pass_id = secrets.token_hex(5)
        by = self._audit.actor(user) if kind == "session" and user else self._audit.person
        made = StoredPass(pass_id, kind, digest, user, roles, by, now, now + lasts, now)
        return Opened(made, secret)

    def _put(
        self,
        user: StoredUser,
        *,
        drop: Collection[PassKind] = (),
        passes: Sequence[StoredPass] = (),
        kind: AuditKind | None = None,
    ) -> None:
        notes = [self._audit.note(kind, user.name, by=self._audit.person)] if kind else []
        if not self._store.put_user(
            replace(user, version=user.version + 1), drop=drop, passes=passes, notes=notes
        ):
            raise _changed(user.name)

    def _bound_sessions(self, name: str) -> None:
        found = sorted(self._store.passes("session", name), key=lambda session: session.made_at)
        for oldest in found[:-SESSIONS_MAX]:
            self._store.drop_pass(oldest.id)


def pause_s(failures: int) -> int:
    """How long a name waits after so many failures in a row: 30 s after the fifth, twice as long each time, up to an hour."""
    return 0 if failures < TRIES else min(PAUSE_S << min(failures - TRIES, 20), PAUSE_MAX_S)


def first_admin(folder: NodeFolder, name: str) -> str:
    """Adds the first user to a new folder that no node runs on: its one-time code. Nobody has a password of the program's."""
    config, clock = folder.config(), SystemClock()
    with closing(SqlStore(folder.place())) as store:
        audit = Audit(config.party, folder.party_key(), store, clock)
        users = Users(config.party, store, Vault(folder.users_key()), audit, clock, config.sign_in)
        return users.add(name, ["admin"])[1].secret


def check_name(name: str) -> None:
    """Raises ConfigError `out_of_bounds` for what cannot be the name of a user."""
    if not re.fullmatch(NAME, name):
        allowed = "1 to 32 of a-z 0-9 . _ -, not local, stranger, token-..."
        raise ConfigError("out_of_bounds", field="name", value=name[:64], allowed=allowed)


def check_password(password: str, name: str) -> None:
    """Raises ConfigError `weak_password`."""
    why = None
    if len(password) < PASSWORD_MIN:
        why = f"it has fewer than {PASSWORD_MIN} characters"
    elif len(password) > PASSWORD_MAX:
        why = f"it has more than {PASSWORD_MAX} characters"
    elif len(set(password)) < 5:
        why = "it repeats itself"
    elif len(name) > 3 and name in password.lower():
        why = "it holds the name"
    if why:
        raise ConfigError("weak_password", why=why)


def _sorted(roles: Collection[UserRole]) -> tuple[UserRole, ...]:
    return tuple(role for role in USER_ROLES if role in roles)


def name_digest(name: str) -> bytes:
    """Under which failed sign-ins of a name are counted."""
    return hashlib.sha256(b"isthmus/sign-in/v1\0" + name.encode()).digest()


def _place(name: str) -> str:
    return f"second factor of {name}"


def _changed(name: str) -> ConfigError:
    return ConfigError(
        "conflict", what=f"the user {name}", state="changed by somebody else", needed="as you saw it",
        show_command="isthmus user ls",
    )  # fmt: skip
