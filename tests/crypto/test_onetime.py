"""One-time secrets: taken once, shown never (U10)."""

from __future__ import annotations

import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from isthmus.base.errors import LocalError
from isthmus.crypto.onetime import OneTime


def test_a_one_time_secret_is_given_out_once() -> None:
    secret = OneTime(b"secret")
    assert secret.take() == b"secret"
    for _ in range(2):
        with pytest.raises(LocalError) as caught:
            secret.take()
        assert caught.value.code == "secret_spent"


def test_threads_that_race_for_a_secret_get_it_once() -> None:
    def attempt(secret: OneTime[int]) -> int:
        try:
            return secret.take()
        except LocalError:
            return 0

    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            shared = OneTime(1)
            assert sum(pool.map(attempt, [shared] * 8)) == 1


def test_a_forked_child_finds_the_secret_spent() -> None:
    secret = OneTime(1)
    child = os.fork()
    if child == 0:
        try:
            secret.take()
        except LocalError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert secret.take() == 1


def test_a_one_time_secret_has_no_readable_form() -> None:
    secret = OneTime(b"very secret")
    assert "secret" not in f"{secret!r} {secret!s}"
    assert not hasattr(secret, "__dict__")


def test_a_one_time_secret_is_neither_compared_nor_hashed() -> None:
    secret = OneTime(1)
    with pytest.raises(TypeError):
        assert secret == secret
    with pytest.raises(TypeError):
        hash(secret)


def test_a_one_time_secret_is_neither_copied_nor_pickled() -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(OneTime(1))
