"""Real ratings of real photos, one person one phone: federated rounds reach the pooled model, and a personal head adds to it.

Nothing of an update is left out but the masks: clipped, rotated, rounded to ten bits, added up in the ring, opened, averaged.
Photos of the test are new to everybody: no rating of them is trained on.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.shared_data import shared_data

from isthmus.crypto.words import ring_for
from isthmus.fleet.strategies import FedAvg
from isthmus.learn.head import Head, Settings
from isthmus.learn.personal import alone, ranking, with_personal
from isthmus.learn.quantise import Encoding
from isthmus.privacy.clip import clip

SEED = bytes(range(32))
CLIP = 2.0


@dataclass
class Album:
    """One person's ratings: of photos that may be trained on, and of new ones."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    new_x: NDArray[np.float64]
    new_y: NDArray[np.float64]


def read_ids(name: str, *columns: str) -> set[tuple[str, ...]]:
    with shared_data("photo_likes", name).open(newline="", encoding="utf-8") as stream:
        return {tuple(row[c] for c in columns) for row in csv.DictReader(stream)}


def albums(few: bool) -> list[Album]:
    """`few`: thirty ratings a phone are all there is."""
    with np.load(shared_data("photo_likes", "embeddings.npz"), allow_pickle=False) as arrays:
        embedding = dict(zip(arrays["photo"].astype(str), arrays["pca_64"].astype(np.float64), strict=True))
    unseen = {photo for (photo,) in read_ids("test_photos.csv", "photo")}
    thirty = read_ids("thirty_per_user.csv", "user", "photo")
    rows: dict[str, tuple[list[Any], list[Any]]] = {}
    with shared_data("photo_likes", "ratings.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            old, new = rows.setdefault(row["user"], ([], []))
            example = (embedding[row["photo"]], float(int(row["rating"]) >= 5))
            if row["photo"] in unseen:
                new.append(example)
            elif not few or (row["user"], row["photo"]) in thirty:
                old.append(example)
    return [Album(*_arrays(old), *_arrays(new)) for old, new in rows.values()]


def _arrays(examples: list[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([x for x, _ in examples]), np.array([y for _, y in examples])


def federated(head: Head, people: list[Album], settings: Settings, rounds: int) -> NDArray[np.float32]:
    """FedAvg over all phones, through the very integers that a leader would open."""
    most = max(len(person.y) for person in people)
    x, y, weight = (
        np.zeros((len(people), most, head.inputs)),
        np.zeros((len(people), most)),
        np.zeros((len(people), most)),
    )
    for i, person in enumerate(people):
        x[i, : len(person.y)], y[i, : len(person.y)], weight[i, : len(person.y)] = person.x, person.y, 1
    encoding = Encoding.fitted(head.size, 10, CLIP, SEED)
    ring = ring_for(10, len(people), 1, 0.0)
    strategy = FedAvg()
    model = head.init(SEED).astype(np.float64)
    state = strategy.start(model)
    for number in range(rounds):
        trained = head.train_many(model, x, y, weight, settings, _orders(settings, weight, number))
        values = encoding.encode(clip(trained - model, CLIP)[0]).values
        words = ring.zeros(head.size)
        for each in values:
            ring.add(words, ring.unpack(ring.pack(ring.lift(each))))
        opened = ring.lower(words)
        np.testing.assert_array_equal(opened, values.sum(axis=0))
        state, model = strategy.step(state, encoding.decode(opened), float(len(people)))
    return model.astype(np.float32)


def _orders(settings: Settings, weight: NDArray[np.float64], number: int) -> NDArray[np.int64]:
    """Own rows in a new order every epoch, padding last."""
    chance = np.random.default_rng(number).random((settings.epochs, *weight.shape))
    return np.argsort(chance + 2 * (weight == 0), axis=-1)


def mean_figures(people: list[Album], scores: Any) -> tuple[float, float]:
    """Accuracy, and AUC of each person whose new photos are liked some and some not."""
    figures = [ranking(("accuracy", "auc_per_device"), scores(person), person.new_y) for person in people]
    both = [0 < person.new_y.mean() < 1 for person in people]
    counts = np.array([len(person.new_y) for person in people])
    accuracy = float(np.average([f[0] for f in figures], weights=counts))
    return accuracy, float(np.mean([f[1] for f, ok in zip(figures, both, strict=True) if ok]))


@pytest.mark.slow
@pytest.mark.parametrize("few", [False, True])
def test_federated_heads_reach_the_pooled_one_and_personal_heads_beat_what_a_phone_learns_alone(
    few: bool,
) -> None:
    people = albums(few)
    assert len(people) == 607
    head = Head.from_layers([{"dense": 1}, "sigmoid"], 64)
    shared = federated(head, people, Settings(2, 16, 0.2), 40 if few else 12)
    x, y = np.concatenate([p.x for p in people]), np.concatenate([p.y for p in people])
    pooled = head.train(head.init(SEED), x, y, np.ones(len(y)), Settings(4, 64, 0.05), SEED).model
    models: dict[str, Any] = {
        "pooled": lambda p: head.forward(pooled, p.new_x),
        "shared": lambda p: head.forward(shared, p.new_x),
        "shared + personal": lambda p: head.forward(
            with_personal(head, shared, p.x, p.y, np.ones(len(p.y))), p.new_x
        ),
        "local only": lambda p: _alone(p),
    }
    found = {name: mean_figures(people, scores) for name, scores in models.items()}
    for name, (accuracy, auc) in found.items():
        print(
            f"{'30 ratings' if few else 'all ratings'}: {name:20} accuracy {accuracy:.4f}  AUC per person {auc:.4f}"
        )
    assert abs(found["shared"][1] - found["pooled"][1]) < 0.01
    assert found["shared + personal"][1] > found["local only"][1] + (0.1 if few else 0.03)
    assert found["shared + personal"][1] > found["shared"][1]
    assert found["shared + personal"][0] > found["local only"][0]


def _alone(person: Album) -> Any:
    head, model = alone(64, 1, "bce", person.x, person.y, np.ones(len(person.y)))
    return head.forward(model, person.new_x)
