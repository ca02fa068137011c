"""K1: whatever is meant for one use, used twice (U1 to U4)."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
import pytest

from isthmus.base.errors import LineError, LocalError
from isthmus.crypto.lattice.ntt import N
from isthmus.crypto.lattice.outer import Drawn, alphas
from isthmus.crypto.lattice.sets import Layout
from isthmus.crypto.onetime import OneTime
from isthmus.protocols.hint import HintLabelSide
from isthmus.wire.channel import Channel
from tests.attacks.actors import Listener, begin_label
from tests.attacks.algebra import Equations
from tests.attacks.parties import SEEDS, bins_of, draw, gradients, layout_of, meet, numbers, small
from tests.attacks.weak.draws import PlacelessMask, SameBlinding
from tests.attacks.weak.sides import PeekingLabelSide
from tests.worlds import metered_pair, run_pair

ROWS = 2000
OWN = bins_of(ROWS, 2, 8)
ROOT = np.zeros(ROWS, dtype=np.int32)


def carried(words: np.ndarray, layout: Layout) -> np.ndarray:
    """The integers under noise that stays below half of Delta."""
    return (words.view(np.int64) + (1 << (layout.gap - 1))) >> layout.gap


def two_trees(side: type[HintLabelSide]) -> tuple[float, float]:
    """Shares of rows of which a feature owner that only listens finds how g, and how h, changed from tree to tree.

    The second tree's gradients are those of the first, shuffled, so that both are packed in the same way.
    """
    g, h = gradients(ROWS)
    order = np.random.default_rng(3).permutation(ROWS)

    async def label_owner(channel: Channel) -> None:
        engine = await begin_label(side, [channel], [OWN])
        for of_tree in (np.arange(ROWS), order):
            await engine.tree(g[of_tree], h[of_tree])
            await engine.level(ROOT, 1)
        await engine.close()

    async def feature_owner(channel: Channel) -> list[np.ndarray]:
        listener = await Listener.begin(channel, OWN)
        for _ in range(2):
            await listener.level()
        return [words for _, words in listener.words]

    failed, heard = run_pair("memory", label_owner, feature_owner)
    assert failed is None, failed
    apart = carried(numbers(heard[0]) - numbers(heard[1]), layout_of(ROWS, len(OWN.counts), OWN.total))
    # g + h * radix: the radix is that which explains most of it.
    about = 7.5 * ROWS
    for _ in range(3):
        steps = np.rint(apart / about)
        about = float((apart * steps).sum() / max(1.0, (steps**2).sum()))
    radix = max(1, round(about))
    h_found = np.rint(apart / radix)
    g_found = apart - h_found * radix
    return float((g_found == g - g[order]).mean()), float((h_found == h - h[order]).mean())


def test_a_secret_for_two_vectors_shows_every_gradient_that_changed() -> None:
    assert two_trees(PeekingLabelSide) == (1.0, 1.0)


def test_of_two_vectors_of_the_product_nothing_is_found() -> None:
    of_g, of_h = two_trees(HintLabelSide)
    assert of_g < 0.1
    assert of_h < 0.2


def test_a_second_take_stops_the_level_before_anything_is_sent() -> None:
    """As if a mistake had put one secret under two indexes."""

    async def label_owner(channel: Channel) -> None:
        engine = await begin_label(HintLabelSide, [channel], [OWN])
        await engine.tree(*gradients(ROWS))
        await engine.level(ROOT, 1)
        one, other, *_ = sorted(engine._pool)
        engine._pool[other] = engine._pool[one]
        await engine.level(ROOT, 1)
        with pytest.raises(LocalError, match="secret_spent"):
            await engine.level(ROOT, 1)
        await engine.close()

    async def feature_owner(channel: Channel) -> None:
        listener = await Listener.begin(channel, OWN)
        for _ in range(2):
            await listener.level()
        with pytest.raises(LineError):
            await listener.level()

    results, meters = metered_pair(label_owner, feature_owner)
    assert results == (None, None)
    sent = {name: count.messages for name, count in meters[0].sent.items()}
    assert sent["Vectors"] == sent["PieceOfWords"] == 2


def taken_in_a_child(secret: OneTime[Any]) -> bytes:
    """The seed as a forked process finds it, or nothing where it finds it spent."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(theirs, secret.take().seed)
            os._exit(0)
        except LocalError as error:
            os._exit(7 if error.code == "secret_spent" else 8)
    os.close(theirs)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    heard = os.read(ours, 32)
    os.close(ours)
    assert code == (0 if heard else 7)
    return heard


@pytest.mark.parametrize("kind", [PeekingLabelSide, HintLabelSide])
def test_secrets_of_a_forked_process(kind: type[HintLabelSide]) -> None:
    """A child that holds the pool of its parent encrypts under the same secrets; in the product it finds them spent."""

    async def label_owner(channel: Channel) -> tuple[bytes, bytes]:
        engine = await begin_label(kind, [channel], [OWN])
        await engine.tree(*gradients(ROWS))
        await engine.level(ROOT, 1)
        index = min(engine._pool)
        heard = taken_in_a_child(engine._pool[index])
        seed = engine._pool[index].take().seed
        await engine.close()
        return heard, seed

    async def feature_owner(channel: Channel) -> None:
        await (await Listener.begin(channel, OWN)).level()

    (heard, seed), _ = run_pair("memory", label_owner, feature_owner)
    if kind is PeekingLabelSide:
        assert heard == seed
    else:
        assert heard == b""


@cache
def equations() -> Equations:
    return Equations(alphas(SEEDS[0], 0, 0, N))


def changed_digits(kind: type[Drawn]) -> float:
    """Share of the digits of s - s' found from the first parts of two messages."""
    one, other = draw(2, kind)
    _, first, _ = small().keys.prepare([one, other])
    found = equations().solve(first[0, 0] - first[1, 0])
    return float((found == one.secret() - other.secret()).mean())


def test_one_blinding_in_two_messages_shows_how_the_secrets_differ() -> None:
    """first - first' = sum_j (s_j - s'_j) alpha_j, with neither v nor noise: linear equations with as many unknowns."""
    assert changed_digits(SameBlinding) == 1.0


def test_two_messages_of_the_product_show_nothing_of_how_the_secrets_differ() -> None:
    assert changed_digits(Drawn) < 0.25


def test_from_the_difference_of_secrets_follows_that_of_the_gradients() -> None:
    """What is lost when a blinding comes twice: A (s - s') is public then, and so are m - m' of all rows."""
    own, drawn = small(), draw(2, SameBlinding)
    _, first, _ = own.keys.prepare(drawn)
    apart = equations().solve(first[0, 0] - first[1, 0])
    g, h = gradients(own.matrix.rows)
    words = [own.words([one], own.payload(g * k, h, 1, own.layout.payload))[0] for k, one in enumerate(drawn)]
    known = own.product(apart)
    found = carried(numbers(words[1]) + known - numbers(words[0]), own.layout)
    assert (found == g).all()


def shared_sums(kind: type[Drawn]) -> float:
    """Two feature owners put together what they have: share of bins in which the difference of their sums comes out."""
    owners = [meet(bins_of(ROWS, 4, 16, seed=place), place) for place in (1, 2)]
    g, h = gradients(ROWS)
    seed = os.urandom(32)
    payload = owners[0].payload(g, h, 1, owners[0].layout.payload)
    words = owners[0].words([kind(seed, 1)], payload)
    seen, true = [], []
    for place, own in enumerate(owners, 1):
        _, first, second = own.keys.prepare([kind(seed, place)])
        seen.append(own.sums(words)[0] - own.key.open(first[0], second[0]))
        true.append(own.plain(g) + own.plain(h) * own.radix)
    found = carried(seen[0] - seen[1], owners[0].layout)
    return float((found == true[0] - true[1]).mean())


def test_one_mask_for_two_feature_owners_shows_them_how_their_sums_differ() -> None:
    assert shared_sums(PlacelessMask) == 1.0


def test_two_feature_owners_of_the_product_that_collude_find_no_sum() -> None:
    assert shared_sums(Drawn) < 0.1
