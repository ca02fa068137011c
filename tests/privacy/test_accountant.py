"""What participations cost, held to another accountant, and the noise that a budget asks for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from isthmus.base.errors import PolicyError
from isthmus.privacy.accountant import delta_of, epsilon_of, noise_for, rho_for, rho_of
from isthmus.privacy.ledger import Allowance, PrivacyLedger

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/accountant.json").read_text("utf-8"))


@pytest.mark.parametrize(
    "case", VECTORS["cases"], ids=lambda c: f"{c['noise_multiplier']}-{c['times']}-{c['delta']}"
)
def test_epsilon_is_that_of_dp_accounting(case: dict[str, float]) -> None:
    found = epsilon_of(rho_of(case["noise_multiplier"], 1.0, int(case["times"])), case["delta"])
    assert found == pytest.approx(case["epsilon"], rel=1e-3)
    assert found <= case["epsilon"] * (1 + 1e-9)


def test_epsilon_holds_for_the_law_itself_in_one_dimension() -> None:
    """delta of the discrete Gaussian at that epsilon, added up cell by cell, is not above the delta asked for."""
    for std, shift in ((2.0, 1), (5.0, 4), (3.0, 3)):
        epsilon = epsilon_of(rho_of(std, shift), 1e-5)
        cells = np.arange(-400, 401)
        one = np.exp(-(cells**2) / (2 * std**2))
        other = np.exp(-((cells - shift) ** 2) / (2 * std**2))
        real = np.maximum(one / one.sum() - math.exp(epsilon) * other / other.sum(), 0).sum()
        assert real <= 1e-5


def test_epsilon_and_delta_are_inverse_to_each_other() -> None:
    for spent in (0.001, 0.1, 2.0, 50.0):
        assert delta_of(spent, epsilon_of(spent, 1e-6)) == pytest.approx(1e-6, rel=1e-3)


def test_the_noise_for_a_budget_spends_it_and_not_more() -> None:
    for epsilon, times in ((0.1, 1), (4.0, 4), (20.0, 50)):
        std = noise_for(epsilon, 1e-7, 321.5, times)
        spent = epsilon_of(rho_of(std, 321.5, times), 1e-7)
        assert epsilon * (1 - 1e-9) < spent <= epsilon
        assert epsilon_of(rho_of(std * 0.999, 321.5, times), 1e-7) > epsilon


def test_without_noise_nothing_is_promised_and_without_a_part_nothing_is_spent() -> None:
    assert rho_of(0.0, 3.0) == math.inf
    assert epsilon_of(math.inf, 1e-5) == math.inf
    assert epsilon_of(rho_of(0.0, 3.0, times=0), 1e-5) == 0.0
    assert delta_of(math.inf, 1.0) == 1.0


def test_a_budget_of_nothing_or_a_delta_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="epsilon"):
        rho_for(0.0, 1e-5)
    with pytest.raises(ValueError, match="delta"):
        epsilon_of(1.0, 1.0)


def test_a_round_that_would_overspend_is_not_opened() -> None:
    ledger = PrivacyLedger("phones", Allowance(8.0, 1e-6))
    ledger.admit("taste", Allowance(4.0, 1e-7))
    cost = rho_for(4.0, 1e-7) / 3
    for _ in range(3):
        account = ledger.charge("taste", "train", cost, most=10)
    assert account.epsilon == pytest.approx(4.0)
    with pytest.raises(PolicyError) as refused:
        ledger.charge("taste", "train", cost, most=10)
    assert refused.value.code == "privacy_spent"
    with pytest.raises(PolicyError):
        ledger.charge("taste", "evaluate", cost / 1000, most=10)
    assert ledger.tasks[0].charges[0].rounds == 3


def test_rounds_beyond_what_one_device_may_join_cost_it_nothing() -> None:
    ledger = PrivacyLedger("phones", Allowance(4.0, 1e-7))
    ledger.admit("taste", Allowance(4.0, 1e-7))
    for _ in range(40):
        account = ledger.charge("taste", "train", rho_for(4.0, 1e-7) / 4, most=4)
    assert account.epsilon == pytest.approx(4.0)


def test_a_task_that_changes_its_terms_pays_the_dearer_ones_for_all_its_rounds() -> None:
    ledger = PrivacyLedger("phones", Allowance(4.0, 1e-7))
    ledger.admit("taste", Allowance(4.0, 1e-7))
    whole = rho_for(4.0, 1e-7)
    ledger.charge("taste", "train", whole / 10, most=2)
    ledger.charge("taste", "train", whole / 2, most=2)
    assert sum(charge.spent for charge in ledger.tasks[0].charges) == pytest.approx(whole)


def test_epsilons_and_deltas_of_tasks_add_up_and_stay_spent() -> None:
    ledger = PrivacyLedger("phones", Allowance(8.0, 2e-7))
    first = ledger.admit("one", Allowance(4.0, 1e-7))
    assert ledger.admit("one", Allowance(4.0, 1e-7)) == first
    ledger.admit("two", Allowance(3.0, 1e-7))
    again = PrivacyLedger("phones", ledger.allowance, ledger.tasks)
    assert list(again.set_aside) == pytest.approx([7.0, 2e-7])
    for task, allowance in (
        ("three", Allowance(0.5, 1e-9)),
        ("two", Allowance(3.5, 1e-7)),
        ("four", Allowance(2.0, 1e-12)),
    ):
        with pytest.raises(PolicyError):
            again.admit(task, allowance)
    with pytest.raises(PolicyError):
        PrivacyLedger("phones", Allowance(1.0, 1e-7)).admit("one", Allowance(1.1, 1e-8))
