"""What the HTTP interface shows of people, sessions and tokens. Hashes and sealed secrets are never among it."""

from __future__ import annotations

from typing import Any

from isthmus.service.users import Opened, Person
from isthmus.store.users import USER_ROLES, StoredPass, StoredUser, UserRole

ROLE_WORDS: dict[UserRole, tuple[str, str]] = {
    "admin": ("manages users, roles and tokens; sees no data", "管理用户、角色与令牌；不接触数据"),
    "modeller": ("registers tables, plans and proposes jobs", "登记数据表，规划并提交作业"),
    "approver": (
        "accepts or refuses what a partner asks for, confirms partners",
        "同意或拒绝合作方的请求，确认合作方",
    ),
    "auditor": ("reads everything, changes nothing", "可读取全部内容，不能修改"),
    "operator": ("runs the node, invites partners", "运行节点，邀请合作方"),
    "service": ("scores, for programs", "供程序打分使用"),
}


def user_view(user: StoredUser, sessions: int) -> dict[str, Any]:
    return {
        "name": user.name,
        "roles": list(user.roles),
        "state": "invited" if user.password is None else "active",
        "second_factor": user.second_on,
        "sessions": sessions,
        "added_at": user.added_at.isoformat(),
    }


def session_view(opened: Opened, person: Person) -> dict[str, Any]:
    return {
        "name": person.name,
        "roles": [role for role in USER_ROLES if role in person.roles],
        "token": opened.secret,
        "expires_at": opened.made.expires_at.isoformat(),
        "enrolling": person.enrolling,
    }


def token_view(made: StoredPass) -> dict[str, Any]:
    return {
        "id": made.id,
        "user": made.user,
        "roles": None if made.roles is None else list(made.roles),
        "made_by": made.made_by,
        "made_at": made.made_at.isoformat(),
        "expires_at": made.expires_at.isoformat(),
    }
