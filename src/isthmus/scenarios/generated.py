"""A made-up portfolio of any size with a known truth: bank and partner columns both matter, some together.

About 15 % are bad. Numbers have gaps, two columns are categories, and two say nothing at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.base.randomness import Rng
from isthmus.scenarios import portfolio
from isthmus.scenarios.portfolio import DemoTables, Portfolio, seeded

Floats = NDArray[np.float64]

OCCUPATIONS = ("clerk", "driver", "engineer", "farmer", "seller", "student", "teacher", "worker")
OCCUPATION_RISK = np.array([-0.2, 0.2, -0.4, 0.3, 0.15, 0.4, -0.5, 0.1])
DEVICE_MAKES = ("alder", "birch", "cedar", "elm", "fir", "maple")
DEVICE_RISK = np.array([-0.3, 0.0, 0.25, 0.1, 0.45, -0.2])
"""Invented makes: the scenario says nothing about real ones."""


def make_portfolio(rows: int, seed: int) -> Portfolio:
    """`rows` people; the same seed gives the same people, and 100 rows or a million take the same path."""
    rng = seeded(seed).under("generated")

    # What neither party sees, and both have traces of.
    strain = _normal(rng, "strain", rows)
    order = _normal(rng, "order", rows)

    age = np.clip(38 + 11 * _normal(rng, "age", rows), 18, 80).round()
    income = np.exp(8.9 + 0.35 * _normal(rng, "income", rows) + 0.012 * (age - 38) - 0.18 * strain)
    use = _logistic(-0.4 + 0.9 * strain + 0.7 * _normal(rng, "use", rows))
    months_on_book = np.clip(60 * rng.uniform("book", rows) ** 1.5 * 4, 1, 240).round()
    enquiries = _counts(rng, "enquiries", np.exp(-0.4 + 0.5 * strain))
    occupation = _choice(rng, "occupation", rows, len(OCCUPATIONS))

    stable_months = np.clip(30 * np.exp(0.5 * order + 0.5 * _normal(rng, "stable", rows)), 0, 240).round()
    lenders_30d = _counts(rng, "lenders", np.exp(-0.5 + 0.7 * strain - 0.2 * order))
    late_share = _logistic(-2.2 + 0.5 * strain - 0.8 * order + 0.6 * _normal(rng, "late", rows))
    device_make = _choice(rng, "make", rows, len(DEVICE_MAKES))

    risk = (
        -3.05
        + 0.3 * strain
        - 0.2 * order
        + 1.1 * use
        - 0.45 * (np.log(income) - 8.9)
        + 0.18 * np.minimum(enquiries, 5)
        - 0.15 * np.log1p(months_on_book / 12)
        + OCCUPATION_RISK[occupation]
        + 0.22 * np.minimum(lenders_30d, 6)
        + 2.6 * late_share
        - 0.25 * np.log1p(stable_months / 12)
        + DEVICE_RISK[device_make]
        + 0.9 * ((use > 0.6) & (lenders_30d >= 2))
    )
    bad = (rng.uniform("label", rows) < _logistic(risk)).astype(np.int8)

    bank: dict[str, Any] = {
        "age": age,
        "income": _with_gaps(rng, "income", income.round(-2), 0.08),
        "credit_limit": (income * (2 + 3 * rng.uniform("limit", rows))).round(-3),
        "limit_use": use.round(4),
        "months_on_book": months_on_book,
        "bureau_enquiries": _with_gaps(rng, "enquiries", enquiries, 0.05),
        "branch_visits": _counts(rng, "visits", np.full(rows, 1.5)),
        "occupation": np.array(OCCUPATIONS, dtype=object)[occupation],
    }
    partner: dict[str, Any] = {
        "number_age_months": _with_gaps(rng, "stable", stable_months, 0.12),
        "lenders_asked_30d": lenders_30d,
        "lenders_asked_90d": lenders_30d + _counts(rng, "lenders90", np.exp(0.3 + 0.5 * strain)),
        "late_bill_share": _with_gaps(rng, "late", late_share.round(4), 0.15),
        "night_activity": rng.uniform("night", rows).round(4),
        "device_make": np.array(DEVICE_MAKES, dtype=object)[device_make],
    }
    return Portfolio(bad, bank, partner)


def write_tables(folder: Path, rows: int, seed: int) -> DemoTables:
    """bank.csv, partner.csv and test_ids.csv of a made-up portfolio."""
    return portfolio.write_tables(make_portfolio(rows, seed), folder, seed)


def _logistic(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-values)), dtype=np.float64)


def _normal(rng: Rng, label: str, rows: int) -> Floats:
    """Standard normal values (Box-Muller)."""
    radius = np.sqrt(-2 * np.log1p(-rng.uniform(f"{label}/radius", rows)))
    normal: Floats = radius * np.cos(2 * np.pi * rng.uniform(f"{label}/angle", rows))
    return normal


def _counts(rng: Rng, label: str, rate: Floats) -> Floats:
    """Geometric counts with the given mean."""
    floor_log = np.log1p(-rng.uniform(f"{label}/count", len(rate)))
    return np.floor(floor_log / np.log(rate / (1 + rate)))


def _choice(rng: Rng, label: str, rows: int, levels: int) -> NDArray[np.intp]:
    """Levels of which the later ones are rarer."""
    return np.minimum(np.floor(levels * rng.uniform(f"{label}/level", rows) ** 1.3), levels - 1).astype(
        np.intp
    )


def _with_gaps(rng: Rng, label: str, values: Floats, share: float) -> Floats:
    return np.where(rng.uniform(f"{label}/gap", len(values)) < share, np.nan, values)
