"""The plan says who learns what, in both languages."""

import re

import pytest

from isthmus.jobs.plan import Plan, make_plan
from isthmus.jobs.spec import job_digest, parse_job, resolve
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
    made = plan()
    assert made.resolved["crypto"]["engine"] == made.choice.engine == "lattice-hint"
    assert made.digest == job_digest(resolve(parse_job(document())))


def test_with_one_partner_both_learn_the_shared_ids() -> None:
    assert "data-co has too" in learned(plan(), "bank", "align")
    assert "bank has too" in learned(plan(), "data-co", "align")


def test_with_several_partners_each_learns_only_what_all_share() -> None:
    assert "pairwise overlap" in learned(three(), "bank", "align")
    for partner in ("data-co", "shop"):
        assert "all parties share" in learned(three(), partner, "align")


def test_the_paillier_engine_shows_every_tree_node_and_the_plan_says_so() -> None:
    shown = plan(crypto={"engine": "paillier"})
    assert "which rows are in every tree node" in learned(shown, "data-co", "train")
    assert "vectors" not in learned(shown, "data-co", "train")
    hidden = plan(crypto={"engine": "lattice-hint"})
    assert "which rows are in every tree node" not in learned(hidden, "data-co", "train")
    assert "how many encrypted vectors" in learned(hidden, "data-co", "train")


def test_the_lattice_engine_shows_how_many_vectors_and_the_few_messages_it_lets_be_opened() -> None:
    said = learned(plan(crypto={"engine": "lattice-hint", "vectors_max": 1234}), "data-co", "train")
    assert "at most 1,234" in said
    assert "4 of every 64 messages prepared ahead" in said
    assert "4 of every 64" not in learned(plan(crypto={"engine": "paillier"}), "data-co", "train")
    assert "exact sums" in learned(plan(), "bank", "train")


@pytest.mark.parametrize("engine", ["lattice-hint", "paillier"])
@pytest.mark.parametrize(("reveal", "said"), [("ids", True), ("column", False)])
def test_what_a_won_split_shows_follows_split_reveal(reveal: str, said: bool, engine: str) -> None:
    made = plan(crypto={"split_reveal": reveal, "engine": engine})
    assert ("tree nodes that it wins" in learned(made, "data-co", "train")) is said
    assert ("every row take" in learned(made, "bank", "train")) is not said
    hides = engine == "lattice-hint"
    assert ("one bit for every row" in learned(made, "data-co", "train")) is (hides and not said)
    assert ("any tree node" in learned(made, "data-co", "train")) is (hides and not said)


def test_bins_and_levels_of_categories_are_named_with_their_floor() -> None:
    made = plan(features={"binning": {"min_rows": 40}})
    assert "fewer than 40 training rows" in learned(made, "bank", "bin")
    assert "levels" in learned(made, "bank", "bin")
    assert "nothing of the labels" in learned(made, "data-co", "bin")


def test_every_row_has_words_in_both_languages() -> None:
    for made in (plan(), three(), plan(crypto={"engine": "paillier", "split_reveal": "column"})):
        for leak in made.leaks:
            assert re.search("[a-z]{4}", leak.learns.en)
            assert re.search("[\u4e00-\u9fff]{4}", leak.learns.zh)
            assert not re.search("[\u4e00-\u9fff]", leak.learns.en)
        for words in (made.reason, *made.notes):
            assert re.search("[a-z]{4}", words.en)
            assert re.search("[\u4e00-\u9fff]{4}", words.zh)
            assert not re.search("[\u4e00-\u9fff]", words.en)
        assert {leak.stage for leak in made.leaks} <= {stage.name for stage in made.stages}


def test_every_kind_of_message_is_listed_once() -> None:
    listed = plan(crypto={"engine": "lattice-hint"}).messages
    assert len(set(listed)) == len(listed)
    assert {"Columns", "Offline"} <= set(listed)
    assert {"Abort", "Blinded", "Shapes", "Encrypted", "Won", "Results"} <= set(
        plan(crypto={"engine": "paillier"}).messages
    )
