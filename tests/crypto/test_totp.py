"""Codes of an authenticator app: the vectors of RFC 4226 (appendix D) and RFC 6238 (appendix B), the window, replays."""

from __future__ import annotations

import pytest

from isthmus.crypto.totp import STEP_S, app_address, app_text, code_at, step_of

SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("step", "code"),
    list(
        enumerate(
            [
                "755224",
                "287082",
                "359152",
                "969429",
                "338314",
                "254676",
                "287922",
                "162583",
                "399871",
                "520489",
            ]
        )
    ),
)
def test_codes_by_counter_are_those_of_rfc_4226(step: int, code: str) -> None:
    assert code_at(SECRET, step) == code


@pytest.mark.parametrize(
    ("time_s", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_codes_by_time_are_those_of_rfc_6238(time_s: int, code: str) -> None:
    assert code_at(SECRET, time_s // STEP_S, digits=8) == code


def test_a_code_is_good_one_step_early_and_one_step_late() -> None:
    now_s = 1_000_000 * STEP_S
    for apart in range(-3, 4):
        found = step_of(SECRET, code_at(SECRET, 1_000_000 + apart), now_s, used=0)
        assert found == (1_000_000 + apart if abs(apart) <= 1 else None)
    assert step_of(SECRET, "", now_s, 0) is None
    assert step_of(SECRET, "\u0664" * 6, now_s, 0) is None


def test_a_code_that_was_used_and_every_older_one_is_refused() -> None:
    now_s = 1_000_000 * STEP_S
    for step in (999_999, 1_000_000):
        assert step_of(SECRET, code_at(SECRET, step), now_s, used=1_000_000) is None
    assert step_of(SECRET, code_at(SECRET, 1_000_001), now_s, used=1_000_000) == 1_000_001


def test_the_secret_is_written_as_apps_read_it() -> None:
    assert app_text(SECRET) == "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert app_address(SECRET, "bank", "ann") == (
        "otpauth://totp/bank%3Aann?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=bank"
    )
