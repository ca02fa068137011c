"""Events become weighted likes: rules count once, bounds hold, places are corrected for within bounds."""

from __future__ import annotations

import pytest

from isthmus.learn.behaviour import Event, judge, propensity

RULES = {"dwell_over_4s": 1.0, "zoom": 1.0, "favourite": 3.0, "skip_under_1s": -0.5, "delete": -3.0}


def test_a_rule_counts_once_however_often_it_is_met() -> None:
    found = judge([Event("dwell", 9.0), Event("dwell", 5.0), Event("zoom")], RULES, 1.0, False)
    assert (found.liked, found.points, found.weight) == (True, 2.0, 3.0)


@pytest.mark.parametrize(
    ("event", "points"),
    [
        (Event("dwell", 4.0), 0.0),
        (Event("dwell", 4.1), 1.0),
        (Event("skip", 0.9), -0.5),
        (Event("skip", 1.0), 0.0),
        (Event("skip"), 0.0),
        (Event("dwell_over_4s"), 1.0),
        (Event("favourite"), 3.0),
        (Event("unheard_of", 50.0), 0.0),
        (Event("shown"), 0.0),
    ],
)
def test_events_meet_the_rules_that_name_them(event: Event, points: float) -> None:
    assert judge([event], RULES, 1.0, False).points == points


def test_likes_and_dislikes_add_up_and_the_bound_belongs_to_the_likes() -> None:
    assert not judge([Event("favourite"), Event("delete")], RULES, 1.0, False).liked
    assert judge([Event("zoom")], RULES, 1.0, False).liked
    assert judge([Event("favourite"), Event("zoom"), Event("dwell", 9)], RULES, 1.0, False).weight == 4.0


def test_what_stands_further_down_weighs_more_if_acted_on_and_less_if_not() -> None:
    def weight(name: str, position: int | None) -> float:
        return judge([Event(name, position=position)], RULES, 1.0, True).weight

    assert weight("zoom", 0) == weight("zoom", None) == 2.0
    assert weight("zoom", 3) == pytest.approx(4.0)
    assert weight("zoom", 10_000) == pytest.approx(8.0)
    assert weight("delete", 3) == pytest.approx(8.0)
    assert weight("shown", 3) == pytest.approx(0.5)
    assert weight("shown", 10_000) == pytest.approx(0.25)
    assert judge([Event("zoom", position=99)], RULES, 1.0, False).weight == 2.0


def test_the_best_place_of_an_item_counts() -> None:
    shown_twice = [Event("shown", position=40), Event("zoom", position=3)]
    assert judge(shown_twice, RULES, 1.0, True).weight == pytest.approx(4.0)


def test_chances_fall_with_the_place_and_are_bounded() -> None:
    chances = [propensity(place) for place in (-1, 0, 1, 3, 15, 16, 10**9)]
    assert chances == pytest.approx([1, 1, 2**-0.5, 0.5, 0.25, 0.25, 0.25])
