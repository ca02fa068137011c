"""Which engine `auto` means: a cost model with no clock in it, the same everywhere."""

from dataclasses import replace
from typing import Any, Literal, get_args

import pytest

from isthmus.crypto.lattice import sets
from isthmus.jobs.engine import (
    WORTH,
    Choice,
    Facts,
    Pace,
    Share,
    Why,
    choose,
    count_vectors,
)
from isthmus.jobs.plan import make_plan
from isthmus.jobs.reason import reason_of
from isthmus.jobs.spec import parse_job
from isthmus.learn.parameters import VECTORS_MOST, BoostedTrees, Crypto
from tests.jobs.examples import document

SLOW = Pace(1.25e5, 1.25e5, 0.2, measured=True)
AUTO = Crypto()


def facts(rows: int, *features: int, pace: Pace = Pace()) -> Facts:  # noqa: B008
    shares = tuple(Share(f"partner-{place}", count, "assumed") for place, count in enumerate(features))
    return Facts(rows, shares, pace)


def chosen(known: Facts, max_bins: int = 32, crypto: Crypto = AUTO, **model: Any) -> Choice:
    return choose(BoostedTrees(**model), max_bins, crypto, known)


@pytest.mark.parametrize(
    ("known", "bins", "model", "engine", "why"),
    [
        (facts(24_000, 23), 32, {}, "lattice-hint", "cheaper"),
        (facts(1_000_000, 100), 32, {"depth": 5}, "lattice-hint", "cheaper"),
        (facts(1_000, 1_000, pace=SLOW), 32, {"trees": 2}, "paillier", "dear"),
        (facts(1_000, 1_000), 32, {"trees": 2}, "lattice-hint", "cheaper"),
        (facts(200, 2), 4, {"trees": 2, "depth": 2}, "paillier", "dear"),
        (facts(400, 2), 4, {"trees": 3, "depth": 2}, "lattice-hint", "near"),
        (facts(1_000, 50, pace=SLOW), 32, {"trees": 100}, "lattice-hint", "cheaper"),
        (facts(4_000_000, 50), 32, {}, "lattice-hint", "cheaper"),
        (facts(4_000_001, 50), 32, {}, "paillier", "rows"),
        (facts(10_000, 512), 255, {}, "lattice-hint", "cheaper"),
        (facts(10_000, 513), 255, {}, "paillier", "bins"),
        (facts(10_000, 300, 213), 255, {}, "paillier", "bins"),
    ],
)
def test_auto_is_the_lattice_unless_it_cannot_or_takes_more_than_twice_as_long(
    known: Facts, bins: int, model: dict[str, Any], engine: str, why: Why
) -> None:
    made = chosen(known, bins, **model)
    assert (made.engine, made.auto, made.why) == (engine, engine, why)
    lattice, paillier = made.cost("lattice-hint"), made.cost("paillier")
    if why == "cheaper":
        assert lattice.wall_s <= paillier.wall_s
    if why == "near":
        assert paillier.wall_s < lattice.wall_s <= WORTH * paillier.wall_s
    if why == "dear":
        assert lattice.wall_s > WORTH * paillier.wall_s


def test_an_engine_that_is_named_is_taken_and_auto_is_still_worked_out() -> None:
    made = chosen(facts(200, 2), 4, replace(AUTO, engine="lattice-hint"), trees=2, depth=2)
    assert (made.engine, made.auto, made.why) == ("lattice-hint", "paillier", "named")
    beyond = chosen(facts(sets.ROWS_MAX + 1, 2), crypto=replace(AUTO, engine="lattice-hint"))
    assert (beyond.engine, beyond.cost("lattice-hint").beyond) == ("lattice-hint", "rows")


def test_without_figures_nothing_is_estimated() -> None:
    made = choose(BoostedTrees(), 32, AUTO, None)
    assert (made.engine, made.auto, made.why, made.costs) == ("lattice-hint", None, "unknown", ())
    named = choose(BoostedTrees(), 32, replace(AUTO, engine="paillier"), None)
    assert (named.engine, named.why) == ("paillier", "named")


def test_bytes_follow_the_messages() -> None:
    """Two trees of depth 3 that take part, and no pass for weights: eight vectors, two rounds of ciphertexts."""
    made = chosen(facts(10_000, 10), 31, trees=3, depth=3, objective="regression")
    lattice, paillier = made.cost("lattice-hint"), made.cost("paillier")
    assert paillier.up_bytes == 10_000 * 2 * 768
    assert lattice.up_bytes == 10_000 * 8 * 6 + 64 * (32_768 + 320 * 8)
    assert lattice.down_bytes == 321 * 32_768 + 8 * 320 * 5
    two = chosen(facts(10_000, 10, 10), 31, trees=3, depth=3, objective="regression")
    assert two.cost("lattice-hint").up_bytes == 2 * lattice.up_bytes
    assert two.cost("paillier").up_bytes == 2 * paillier.up_bytes


def test_a_slower_line_costs_what_it_carries() -> None:
    fast, slow = (chosen(facts(10_000, 20, pace=pace)) for pace in (Pace(), SLOW))
    for engine in ("lattice-hint", "paillier"):
        quick, long = fast.cost(engine), slow.cost(engine)
        assert (quick.cpu_s, quick.up_bytes) == (long.cpu_s, long.up_bytes)
        assert long.wall_s - long.cpu_s == pytest.approx(
            (long.up_bytes + long.down_bytes) / 1.25e5 + (2 * 4 * 99 + 4) * 0.2
        )


def test_a_shorter_key_and_more_of_everything_move_the_cost_the_right_way() -> None:
    base = chosen(facts(10_000, 20)).cost("paillier").cpu_s
    assert (
        chosen(facts(10_000, 20), crypto=replace(AUTO, paillier_bits=2048)).cost("paillier").cpu_s < base / 2
    )
    for engine in ("lattice-hint", "paillier"):
        first = chosen(facts(10_000, 20)).cost(engine)
        for more in (
            chosen(facts(20_000, 20)),
            chosen(facts(10_000, 40)),
            chosen(facts(10_000, 20), 64),
            chosen(facts(10_000, 20), depth=6),
            chosen(facts(10_000, 20), trees=300),
        ):
            assert more.cost(engine).cpu_s > first.cpu_s


@pytest.mark.parametrize(
    ("trees", "depth", "rows", "counted"),
    [(100, 4, 0, 3_204), (1, 1, 1_000, 8), (10, 5, 500_000, 161 * 7), (10, 3, 1_000_000, 41 * 32)],
)
def test_vectors_are_counted_with_room_for_wide_sums(trees: int, depth: int, rows: int, counted: int) -> None:
    assert count_vectors(BoostedTrees(trees=trees, depth=depth), rows) == counted


def test_a_vector_within_the_limits_carries_what_the_count_takes() -> None:
    for rows in (50_000, 1_000_000, sets.ROWS_MAX):
        for features in (1, 50, 512, 10_000):
            shape = (features, sets.BINS_MAX)
            (layout,) = sets.choose(rows, [shape], sets.width(rows, AUTO.gradient_bits, AUTO.hessian_bits))
            assert sets.width(32_768, AUTO.gradient_bits, AUTO.hessian_bits) <= layout.payload


@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize("rows", [70_000, 1_000_000, 4_000_000])
def test_the_vectors_counted_suffice_for_the_widest_gradients(depth: int, rows: int) -> None:
    """Every level as bad as can be: half of the rows in smaller siblings, each cut in halves until 38 bits hold it."""

    def vectors(of: float) -> int:
        parts = 1
        while (15 * of / parts) ** 2 >= 2**38:
            parts *= 2
        return parts

    of_tree = vectors(rows) + sum((1 << level - 1) * vectors(rows / 2**level) for level in range(1, depth))
    assert (
        5 * of_tree + vectors(rows) <= count_vectors(BoostedTrees(trees=5, depth=depth), rows) <= VECTORS_MOST
    )


def test_every_reason_names_both_figures_or_the_limit_in_both_languages() -> None:
    model: dict[str, Any] = {"trees": 2, "depth": 2}
    made = [
        chosen(facts(24_000, 23)),
        chosen(facts(400, 2), 4, trees=3, depth=2),
        chosen(facts(200, 2), 4, **model),
        chosen(facts(5_000_000, 2)),
        chosen(facts(10_000, 600), 255),
        chosen(facts(200, 2), 4, replace(AUTO, engine="lattice-hint"), **model),
        choose(BoostedTrees(), 32, AUTO, None),
    ]
    assert {choice.why for choice in made} == set(get_args(Why))
    for choice in made:
        said = reason_of(choice)
        if choice.why in ("cheaper", "near", "dear"):
            assert said.en.count("with") >= 2
            assert "lattice-hint" in said.zh
            assert "paillier" in said.zh
    assert "4,000,000" in reason_of(made[3]).en
    assert "131,072" in reason_of(made[4]).zh
    assert "would mean paillier" in reason_of(made[5]).en


def plan_notes(language: Literal["en", "zh"], known: Facts | None, **crypto: Any) -> str:
    made = make_plan(parse_job(document(crypto=crypto)), known)
    return " ".join(note.of(language) for note in made.notes)


def test_the_plan_says_what_it_took_for_known_and_how_to_choose_otherwise() -> None:
    known = Facts(24_000, (Share("data-co", 50, "assumed"),), replace(SLOW, down_bytes_per_s=1e6))
    said = plan_notes("en", known)
    for words in (
        "24,000 rows",
        "50 columns of data-co (assumed)",
        "33 bins",
        "1 Mbit/s up, 8 Mbit/s down",
        "(measured)",
    ):
        assert words in said
    assert "24,000 行" in plan_notes("zh", known)
    for engine in ("auto", "lattice-hint", "paillier"):
        assert "not been reviewed by outside cryptographers" in plan_notes("en", None, engine=engine)
        assert "--set engine=paillier" in plan_notes("zh", known, engine=engine)
    assert "rows" not in plan_notes("en", None, engine="paillier")


def test_a_vector_budget_that_differs_from_the_count_is_seen_beside_it() -> None:
    said = plan_notes("en", None, engine="lattice-hint", vectors_max=999_999)
    assert "vectors_max 999,999" in said
    assert "counts 3,204" in said
