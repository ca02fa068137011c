"""From what a person did with an item to an example: a label, and how much it says.

Points: every rule of the task that an item's events meet counts once, however often it was met. A rule is the name of an
event, or that name with a bound: `dwell_over_4s` is met by an event `dwell` of more than 4 seconds, `skip_under_1s` by an event
`skip` of less than 1. An item is liked with `like` points or more.

Weight: 1 + the size of the points, at most 4. What stands further down is looked at less often, with a chance of about
1 / sqrt(1 + place) against the first place. With the correction for position, an item on which somebody acted was looked at,
so it weighs more by the inverse of that chance (at most 4 times; inverse propensity, bounded: Joachims, Swaminathan, Schnabel,
WSDM 2017); an item that nobody acted on may just not have been seen, so it weighs less by the chance (at least a quarter).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Final

STRENGTH_MOST: Final = 4.0
PROPENSITY_LEAST: Final = 0.25

_BOUNDED = re.compile(r"([a-z0-9_]+)_(over|under)_([0-9]{1,6})s")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a person did: `shown` for an item that was merely there. `seconds` for what lasts; `position` from 0."""

    name: str
    seconds: float | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the events of one item say."""

    liked: bool
    points: float
    weight: float


def judge(
    events: Iterable[Event], rules: Mapping[str, float], like: float, position_correction: bool
) -> Judgement:
    """`rules`: points of each event, as in a task's `events`."""
    events = list(events)
    met = {rule for rule in rules for event in events if _meets(event, rule)}
    points = sum(rules[rule] for rule in sorted(met))
    weight = min(1 + abs(points), STRENGTH_MOST)
    if position_correction:
        places = [event.position for event in events if event.position is not None]
        chance = propensity(min(places)) if places else 1.0
        weight *= 1 / chance if met else chance
    return Judgement(points >= like, points, weight)


def propensity(position: int) -> float:
    """How likely an item at this place (0 is the first) is looked at, against the first; bounded below."""
    return max(1 / sqrt(1 + max(0, position)), PROPENSITY_LEAST)


def _meets(event: Event, rule: str) -> bool:
    if event.name == rule:
        return True
    bounded = _BOUNDED.fullmatch(rule)
    if bounded is None or event.seconds is None or event.name != bounded[1]:
        return False
    bound = int(bounded[3])
    return event.seconds > bound if bounded[2] == "over" else event.seconds < bound
