"""People at the command line: the first admin, users, tokens, profiles, at a real node."""

from __future__ import annotations

import base64
import json
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.base.errors import ConfigError
from isthmus.client.profiles import Profile, Profiles, check_url
from isthmus.client.users import UserCalls
from isthmus.crypto.totp import STEP_S, code_at
from tests.cli.test_cli import call, node

__all__ = ["call"]
WORDS = "four unrelated words here"


class Typist:
    """Answers what is asked at the terminal, and reads the secret of the app from what the program says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hidden: list[str] = []
        self.codes: list[str] = []
        monkeypatch.setattr("click.termui.hidden_prompt_func", lambda text: self.hidden.pop(0))
        monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: self.codes.pop(0))


def code(secret: str, apart: int = 0) -> str:
    return code_at(base64.b32decode(secret), int(time.time()) // STEP_S + apart)


@pytest.fixture
def typist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Typist:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Typist(monkeypatch)


def test_the_first_admin_signs_in_and_brings_in_the_others(
    call: Callable[..., tuple[int, Any, str]], typist: Typist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ("--home", tmp_path / "bank")
    _, made, err = call(*home, "init", "--party", "bank", "--data", tmp_path, "--admin", "ann")
    assert (made["admin"], made["once"][:10]) == ("ann", "isthmus-1-")
    assert "isthmus sign-in --user ann --once CODE" in err
    assert made["once"] not in err
    secrets: list[str] = []
    begin = UserCalls.begin_second_factor

    def watched(self: Any) -> dict[str, str]:
        told = begin(self)
        secrets.append(told["secret"])
        typist.codes[:] = ["000000", code(told["secret"])]
        return told

    monkeypatch.setattr(UserCalls, "begin_second_factor", watched)
    with node(tmp_path / "bank"):
        typist.hidden = [WORDS, WORDS]
        status, session, err = call(*home, "sign-in", "--user", "ann", "--once", made["once"])
        assert (status, session["profile"], session["roles"]) == (0, "ann", ["admin"]), err
        assert secrets[0] in err
        kept = tmp_path / "config" / "isthmus" / "profiles" / "ann.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert "token" not in session

        ann = ("--profile", "ann")
        status, added, err = call(*ann, "user", "add", "bob", "--role", "modeller", "--role", "operator")
        assert (status, added["roles"]) == (0, ["modeller", "operator"])
        status, _, err = call(*ann, "job", "ls")
        assert (status, "[role]" in err, "ann" in err) == (2, True, True)
        typist.hidden = [WORDS, WORDS]
        assert call(*home, "sign-in", "--user", "bob", "--once", added["once"], "--profile", "bobs")[0] == 0
        assert call("--profile", "bobs", "job", "ls")[:2] == (0, [])
        shown = call(*ann, "user", "ls", "-o", "table", "--lang", "zh")[1]
        assert "用户" in shown
        assert "bob" in shown

        status, token, _ = call("--profile", "bobs", "token", "new", "--expires", "3")
        assert (status, token["user"], token["roles"]) == (0, "bob", None)
        assert [t["id"] for t in call(*ann, "token", "ls")[1]] == [token["id"]]
        status, machine, _ = call(*ann, "token", "new", "--role", "service")
        assert (status, machine["user"]) == (0, None)
        assert call("--profile", "bobs", "token", "revoke", machine["id"])[0] == 4
        assert call(*ann, "token", "revoke", machine["id"])[0] == 0

        status, roles, _ = call(*ann, "user", "roles", "bob", "--add", "auditor", "--remove", "operator")
        assert (status, roles["roles"]) == (0, ["modeller", "auditor"])
        status, _, err = call("--profile", "bobs", "job", "ls")
        assert (status, "[sign_in]" in err) == (2, True)
        status, _, err = call(*ann, "user", "rm", "ann", "--yes")
        assert (status, "[last_admin]" in err) == (6, True)

        typist.hidden = [WORDS, "and here are four others", "and here are four others"]
        assert call(*ann, "user", "password")[0] == 0
        assert call(*ann, "user", "reset", "bob")[0] == 0
        assert call(*ann, "user", "rm", "bob", "--yes")[0] == 0
        actors = {(line["kind"], line["actor"]) for line in call(*ann, "audit", "ls")[1]}
        assert ("user.added", "bank/local") in actors
        assert ("user.removed", "bank/ann") in actors

        assert call(*ann, "sign-out")[0] == 0
        assert not kept.exists()
        status, _, err = call(*ann, "job", "ls")
        assert (status, "[no_profile]" in err) == (4, True)
        typist.hidden, typist.codes = ["and here are four others"], [code(secrets[0], 1)]
        assert call(*home, "sign-in", "--user", "ann")[0] == 0
        typist.hidden, typist.codes = [WORDS], [""]
        status, _, err = call(*home, "--lang", "zh", "sign-in", "--user", "ann")
        assert (status, "用户名、密码或验证码错误" in err) == (2, True)


def test_the_owner_of_the_folder_may_be_left_out(
    call: Callable[..., tuple[int, Any, str]], typist: Typist, tmp_path: Path
) -> None:
    home = tmp_path / "bank"
    call("--home", home, "init", "--party", "bank", "--data", tmp_path)
    config = yaml.safe_load((home / "config.yaml").read_text())
    assert (config["local_token"], config["sign_in"]["second_factor"]) == (True, True)
    (home / "config.yaml").write_text(yaml.safe_dump(config | {"local_token": False}))
    with node(home):
        status, _, err = call("--home", home, "job", "ls")
        assert (status, "[sign_in]" in err, "isthmus sign-in" in err) == (2, True, True)


@pytest.mark.parametrize(
    "change",
    [
        {"local_token": "false"},
        {"local_token": "no"},
        {"local_token": 0},
        {"local_token": None},
        {"sign_in": {"second_factor": "True"}},
        {"sign_in": {"second_factor": 1}},
        {"limits": {"burst": "100"}},
        {"limits": {"burst": True}},
        {"limits": {"body_s": "nan"}},
        {"limits": {"body_s": float("nan")}},
        {"limits": {"per_s": float("inf")}},
        {"limits": {"busrt": 5}},
        {"limits": []},
    ],
)
def test_a_config_with_text_for_truth_or_numbers_is_read_by_nothing(
    call: Callable[..., tuple[int, Any, str]], tmp_path: Path, change: dict[str, Any]
) -> None:
    home = tmp_path / "bank"
    call("--home", home, "init", "--party", "bank", "--data", tmp_path)
    config = yaml.safe_load((home / "config.yaml").read_text())
    (home / "config.yaml").write_text(yaml.safe_dump(config | change))
    status, _, err = call("--home", home, "job", "ls")
    assert status == 4, err
    assert "[out_of_bounds]" in err or "[unknown_field]" in err
    assert str(next(iter(change))) in err


def test_a_profile_is_for_its_owner_alone_and_its_session_stays_on_the_machine_or_goes_over_tls(
    tmp_path: Path,
) -> None:
    profiles = Profiles(tmp_path / "profiles")
    profile = Profile("ann", "https://node.example:8443", "ann", "isthmus-s-canary")
    assert "canary" not in repr(profile)
    profiles.write(profile)
    assert profiles.read("ann") == profile
    (tmp_path / "profiles" / "ann.json").chmod(0o640)
    with pytest.raises(ConfigError, match="file_mode"):
        profiles.read("ann")
    for name in ("../ann", "", "Ann", "a/b"):
        with pytest.raises(ConfigError, match="out_of_bounds"):
            profiles.read(name)
    (tmp_path / "profiles" / "bad.json").write_text(json.dumps({"name": "bad"}))
    (tmp_path / "profiles" / "bad.json").chmod(0o600)
    with pytest.raises(ConfigError, match="no_profile"):
        profiles.read("bad")
    for url in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://node.example"):
        check_url(url)
    for url in (
        "http://node.example:1",
        "ftp://127.0.0.1",
        "node.example",
        "https://",
        "https://a/b",
        "http://127.0.0.1.example",
    ):
        with pytest.raises(ConfigError, match="out_of_bounds"):
            check_url(url)
