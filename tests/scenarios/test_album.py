"""The album: pictures that are what their digest says, behaviour that a task can judge, and heads that learn from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.base.errors import ConfigError, DataError
from isthmus.device.examples import Examples, make_examples, shape_of
from isthmus.device.store import ItemRow
from isthmus.fleet.manifest import head_of, make_manifest
from isthmus.fleet.task import FleetTask, load_task
from isthmus.learn.head import Settings
from isthmus.learn.personal import alone, ranking, with_personal
from isthmus.protocols.secure_sum import HelperKey
from isthmus.scenarios.album import data
from isthmus.scenarios.album.own import read_albums

SEED = bytes(range(32))


@dataclass(frozen=True)
class Fleet:
    task: FleetTask
    people: list[Examples]


def judged(task: FleetTask, people: int, seed: int) -> list[Examples]:
    """Examples as a device would make them, a fifth held out."""
    helpers = [HelperKey(f"h{i}", bytes([i]) * 32, bytes([9 + i]) * 32) for i in (1, 2)]
    example = make_manifest(task, bytes(32), bytes([7]) * 32, helpers).example
    made = []
    for album in data.albums(people, seed):
        items: dict[str, ItemRow] = {}
        for seen in album:
            id = bytes([hash_of(seen.photo)]) + seen.photo.encode()
            shape = shape_of({"embedding": data.EMBEDDING})
            row = items.setdefault(seen.photo, ItemRow(id, shape, seen.features.astype("<f4").tobytes(), []))
            row.events.append((seen.event, seen.seconds, seen.position))
        made.append(make_examples(items.values(), example))
    return made


def hash_of(photo: str) -> int:
    return int(photo.removeprefix("photo-")) * 97 % 256


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    task = load_task(data.TASK.read_bytes())
    return Fleet(task, judged(task, 30, 5))


def test_the_pictures_are_the_ones_that_are_named(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, digits = data.load_photos()
    assert pixels.shape == (1797, 64)
    assert (pixels.min(), pixels.max()) == (0, 1)
    assert np.bincount(digits).min() >= 174
    spoiled = tmp_path / "digits.bin"
    spoiled.write_bytes(data.FILE.read_bytes() + b"x")
    monkeypatch.setattr(data, "FILE", spoiled)
    with pytest.raises(DataError, match="bad_array"):
        data.load_photos()


def test_photos_have_one_owner_and_all_follows_from_the_seed() -> None:
    one, again, other = data.albums(30, 5), data.albums(30, 5), data.albums(30, 6)
    owned = [{seen.photo for seen in album} for album in one]
    assert sum(map(len, owned)) == len(set().union(*owned)) == 1797
    assert [[(s.photo, s.event, s.seconds) for s in album] for album in one] == [
        [(s.photo, s.event, s.seconds) for s in album] for album in again
    ]
    assert [[s.event for s in album] for album in one] != [[s.event for s in album] for album in other]


def test_every_album_gives_enough_examples_of_both_kinds(fleet: Fleet) -> None:
    for person in fleet.people:
        assert len(person) >= fleet.task.example.min_per_device
        assert 0.05 < person.y.mean() < 0.95
        assert 3 <= person.held.sum() < 0.4 * len(person)


def test_a_shared_head_beats_the_phone_alone_and_a_personal_one_beats_both(fleet: Fleet) -> None:
    head, task = head_of(fleet.task), fleet.task
    settings = Settings(task.local.epochs, task.local.batch, task.local.learning_rate)
    model = head.init(SEED).astype(np.float64)
    for number in range(15):
        changes = [
            head.train(model, *person.part(held=False), settings, bytes([number, i]) * 8).flat - model
            for i, person in enumerate(fleet.people)
        ]
        model += np.mean(changes, axis=0)
    scores: dict[str, list[float]] = {"alone": [], "shared": [], "personal": []}
    for person in fleet.people:
        own, (x, y, _) = person.part(held=False), person.part(held=True)
        lone, lone_model = alone(data.EMBEDDING, 1, "bce", *own)
        for name, found in (
            ("alone", lone.forward(lone_model, x)),
            ("shared", head.forward(model, x)),
            ("personal", head.forward(with_personal(head, model, *own), x)),
        ):
            scores[name].append(ranking(("auc_per_device",), found, y)[0])
    means = {name: float(np.mean(each)) for name, each in scores.items()}
    print(means)
    assert means["shared"] > means["alone"] + 0.05
    assert means["personal"] > means["shared"]


def table(tmp_path: Path, header: str, rows: list[str]) -> Path:
    path = tmp_path / "own.csv"
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return path


def test_a_table_of_ones_own_becomes_albums(tmp_path: Path) -> None:
    rows = [f"p{i % 3},{i % 7},{i}.5,-1" for i in range(80)] + ["few,1,1,1"]
    albums = read_albums(table(tmp_path, "person,rating,a,b", rows), 3)
    assert [len(album) for album in albums] == [27, 27, 26]
    assert {seen.features.size for album in albums for seen in album} == {2}
    liked = [seen.event == "favourite" for album in albums for seen in album]
    assert 0.3 < np.mean(liked) < 0.5


@pytest.mark.parametrize(
    ("header", "row", "code"),
    [
        ("person,stars,a", "p,1,1", "missing_column"),
        ("who,rating,a", "p,1,1", "missing_column"),
        ("person,rating,a", "p,1,x", "not_a_number"),
        ("person,rating,a", "p,nan,1", "not_a_number"),
        ("person,rating,a", "p,1", "not_a_number"),
        ("person,rating,a", "p,1,1", "too_small"),
        ("person,rating", "p,1", "too_small"),
    ],
)
def test_a_table_that_cannot_be_albums_is_refused(tmp_path: Path, header: str, row: str, code: str) -> None:
    with pytest.raises(DataError, match=code):
        read_albums(table(tmp_path, header, [row]), 2)


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bad_path"):
        read_albums(tmp_path / "none.csv", 2)
