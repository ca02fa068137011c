"""The plan says who learns what, in both languages."""

import re

import pytest

from isthmus.jobs.plan import Plan, make_plan
from isthmus.jobs.spec import parse_job
from tests.jobs.examples import document


def plan(**sections: object) -> Plan:
    return make_plan(parse_job(document(**sections)))


def learned(made: Plan, party: str, stage: str) -> str:
    return " ".join(leak.learns.en for leak in made.leaks if (leak.party, leak.stage) == (party, stage))


def three() -> Plan:
    names = ["data-co", "shop"]
    inputs = {name: {"dataset": "t@1", "keys": [[{"column": "id"}]]} for name in ("bank", *names)}
    return plan(parties={"label_owner": "bank", "feature_owners": names}, inputs=inputs)


def test_the_hash_of_the_plan_is_that_of_the_resolved_job() -> None:
    assert plan().resolved["crypto"]["engine"] == "paillier"
    assert len(plan().digest) == 32


def test_with_one_partner_both_learn_the_shared_ids() -> None:
    assert "data-co has too" in learned(plan(), "bank", "align")
    assert "bank has too" in learned(plan(), "data-co", "align")


def test_with_several_partners_each_learns_only_what_all_share() -> None:
    assert "pairwise overlap" in learned(three(), "bank", "align")
    for partner in ("data-co", "shop"):
        assert "all parties share" in learned(three(), partner, "align")


def test_the_paillier_engine_shows_every_tree_node_and_the_plan_says_so() -> None:
    assert "which rows are in every tree node" in learned(plan(), "data-co", "train")
    hidden = plan(crypto={"engine": "lattice-hint"})
    assert "which rows are in every tree node" not in learned(hidden, "data-co", "train")
    assert "how many encrypted vectors" in learned(hidden, "data-co", "train")


@pytest.mark.parametrize(("reveal", "said"), [("ids", True), ("column", False)])
def test_what_a_won_split_shows_follows_split_reveal(reveal: str, said: bool) -> None:
    made = plan(crypto={"split_reveal": reveal})
    assert ("tree nodes that it wins" in learned(made, "data-co", "train")) is said
    assert ("every row take" in learned(made, "bank", "train")) is not said


def test_bins_and_levels_of_categories_are_named_with_their_floor() -> None:
    made = plan(features={"binning": {"min_rows": 40}})
    assert "fewer than 40 training rows" in learned(made, "bank", "bin")
    assert "levels" in learned(made, "bank", "bin")
    assert "nothing of the labels" in learned(made, "data-co", "bin")


def test_every_row_has_words_in_both_languages() -> None:
    for made in (plan(), three()):
        for leak in made.leaks:
            assert re.search("[a-z]{4}", leak.learns.en)
            assert re.search("[\u4e00-\u9fff]{4}", leak.learns.zh)
            assert not re.search("[\u4e00-\u9fff]", leak.learns.en)
        assert {leak.stage for leak in made.leaks} <= {stage.name for stage in made.stages}


def test_every_kind_of_message_is_listed_once() -> None:
    listed = plan(crypto={"engine": "lattice-hint"}).messages
    assert len(set(listed)) == len(listed)
    assert {"Vector", "Offline"} <= set(listed)
    assert {"Abort", "Blinded", "Shapes", "Encrypted", "Won", "Results"} <= set(
        plan(crypto={"engine": "paillier"}).messages
    )
