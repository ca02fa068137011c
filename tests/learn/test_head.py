"""The head that devices train: gradients against finite differences, stops and goes on, many devices at once, vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.base.errors import ConfigError, LocalError
from isthmus.learn.head import Course, Head, Settings, Written, control_after, epoch_order

VECTORS = Path(__file__).parents[1] / "vectors" / "head.json"
SEED = bytes(range(32))

HEADS: dict[str, tuple[list[Written], int, str]] = {
    "logistic": ([{"dense": 1}, "sigmoid"], 4, "bce"),
    "album": ([{"layer_norm": 6}, {"dense": 5}, "relu", {"dense": 1}, "sigmoid"], 6, "bce"),
    "softmax": ([{"dense": 7}, "tanh", {"dense": 3}, "softmax"], 4, "ce"),
    "tables": (
        [{"embedding": [5, 3]}, {"embedding": [4, 2]}, {"layer_norm": 7}, {"dense": 4}, "tanh", {"dense": 1}],
        4,
        "pairwise",
    ),
    "pairs under a sigmoid": (
        [{"dense": 3}, "relu", {"layer_norm": 3}, {"dense": 1}, "sigmoid"],
        4,
        "pairwise",
    ),
}


def examples(head: Head, name: str, rows: int, seed: int = 5) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, head.inputs))
    if name == "tables":
        x[:, 0], x[:, 1] = rng.integers(0, 5, rows), rng.integers(0, 4, rows)
    y = rng.integers(0, max(2, head.outputs), rows).astype(float)
    return x, y, rng.uniform(0.5, 3.0, rows)


def busy(head: Head, seed: int = 1) -> Any:
    """Parameters of which none is 0 and relu's corners are far."""
    return np.random.default_rng(seed).normal(size=head.size) * 0.7


@pytest.mark.parametrize("name", HEADS)
def test_every_gradient_is_that_of_finite_differences(name: str) -> None:
    head = Head.from_layers(*HEADS[name])
    x, y, weight = examples(head, name, 9)
    flat = busy(head)
    loss, gradient = head.gradient(flat, x, y, weight)
    step = 1e-6
    for i in range(head.size):
        up, down = flat.copy(), flat.copy()
        up[i] += step
        down[i] -= step
        slope = (head.gradient(up, x, y, weight)[0] - head.gradient(down, x, y, weight)[0]) / (2 * step)
        assert gradient[i] == pytest.approx(slope, abs=1e-7), i
    assert loss > 0


def test_weights_count_like_repeated_examples() -> None:
    for name in ("logistic", "softmax"):
        head = Head.from_layers(*HEADS[name])
        x, y, _ = examples(head, name, 6)
        weight = np.array([1.0, 2, 1, 3, 1, 1])
        again = np.repeat(np.arange(6), weight.astype(int))
        one = head.gradient(busy(head), x, y, weight)
        other = head.gradient(busy(head), x[again], y[again], np.ones(len(again)))
        assert one[0] == pytest.approx(other[0])
        np.testing.assert_allclose(one[1], other[1], atol=1e-12)


def test_pairs_without_a_difference_teach_nothing() -> None:
    head = Head.from_layers(*HEADS["tables"])
    x, y, weight = examples(head, "tables", 5)
    loss, gradient = head.gradient(busy(head), x, np.ones_like(y), weight)
    assert loss == 0
    assert not gradient.any()


def test_training_lowers_the_loss_and_ranks_what_it_learned() -> None:
    for name, rate in (("album", 0.5), ("softmax", 0.5), ("tables", 0.5)):
        head = Head.from_layers(*HEADS[name])
        x, y, weight = examples(head, name, 40)
        first = head.init(SEED)
        model = head.train(first, x, y, weight, Settings(20, 8, rate), SEED).model
        before, after = (head.gradient(each.astype(float), x, y, weight)[0] for each in (first, model))
        assert after < 0.8 * before, name


@pytest.mark.parametrize("optimiser", ["sgd", "adagrad"])
def test_a_training_that_is_stopped_anywhere_goes_on_to_the_same_bits(optimiser: Any) -> None:
    head = Head.from_layers(*HEADS["album"])
    x, y, weight = examples(head, "album", 21)
    settings = Settings(3, 8, 0.1, optimiser, 0.01)
    first = head.init(SEED)
    whole = head.train(first, x, y, weight, settings, SEED)
    assert whole.finished
    assert whole.steps == 9
    course: Course | None = None
    for _ in range(9):
        course = head.train(first, x, y, weight, settings, SEED, course=course, stop=lambda _: True)
        course = Course.from_bytes(course.to_bytes())
    assert course is not None
    assert course.finished
    assert course.flat.tobytes() == whole.flat.tobytes()


def test_a_course_of_another_training_is_refused() -> None:
    head = Head.from_layers(*HEADS["album"])
    x, y, weight = examples(head, "album", 21)
    other = Course(np.zeros(head.size + 1), None, 0, 9)
    with pytest.raises(LocalError, match="training"):
        head.train(head.init(SEED), x, y, weight, Settings(3, 8), SEED, course=other)
    for body in (b"", bytes(16), other.to_bytes()[:-1], bytes(16) + b"\x03" + bytes(24)):
        with pytest.raises(LocalError):
            Course.from_bytes(body)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("optimiser", ["sgd", "adagrad"])
def test_many_devices_at_once_learn_what_each_learns_alone(name: str, optimiser: Any) -> None:
    head = Head.from_layers(*HEADS[name])
    settings = Settings(3, 4, 0.1, optimiser, 0.05)
    counts = [11, 4, 7]
    flat = head.init(SEED)
    correction = np.random.default_rng(3).normal(size=(3, head.size)) * 0.05
    x, y, weight = np.zeros((3, 11, head.inputs)), np.zeros((3, 11)), np.zeros((3, 11))
    orders = np.tile(np.arange(11), (3, 3, 1))
    alone = []
    for d, count in enumerate(counts):
        own = examples(head, name, count, d)
        x[d, :count], y[d, :count], weight[d, :count] = own
        for epoch in range(3):
            orders[epoch, d, :count] = epoch_order(bytes([d]) * 16, epoch, count)
        alone.append(head.train(flat, *own, settings, bytes([d]) * 16, correction[d]).model)
    exact = head.train_many(flat, x, y, weight, settings, orders, correction, np.float64)
    np.testing.assert_allclose(exact, alone, atol=1e-6)
    quick = head.train_many(flat, x, y, weight, settings, orders, correction)
    assert quick.dtype == np.float32
    np.testing.assert_allclose(quick, alone, atol=1e-5)
    own_start = head.train_many(np.stack([flat] * 3), x, y, weight, settings, orders, correction)
    np.testing.assert_array_equal(own_start, quick)


def test_a_strong_pull_keeps_the_model_where_it_began() -> None:
    head = Head.from_layers(*HEADS["logistic"])
    x, y, weight = examples(head, "logistic", 30)
    first = head.init(SEED)
    moved = [
        np.linalg.norm(head.train(first, x, y, weight, Settings(5, 8, 0.1, "sgd", pull), SEED).model - first)
        for pull in (0.0, 1.0, 9.0)
    ]
    assert moved[0] > 2 * moved[1] > 3 * moved[2] > 0


def test_a_control_variate_is_the_mean_gradient_that_a_device_saw() -> None:
    head = Head.from_layers(*HEADS["logistic"])
    x, y, weight = examples(head, "logistic", 8)
    settings = Settings(1, 8, 0.1)
    flat = head.init(SEED).astype(np.float64)
    after = head.train(flat, x, y, weight, settings, SEED).flat
    nothing = np.zeros(head.size)
    np.testing.assert_allclose(
        control_after(nothing, nothing, flat, after, 1, settings),
        head.gradient(flat, x, y, weight)[1],
        atol=1e-12,
    )


def test_extreme_values_stay_finite() -> None:
    for name in HEADS:
        head = Head.from_layers(*HEADS[name])
        x, y, weight = examples(head, name, 6)
        loss, gradient = head.gradient(busy(head) * 1e4, x * 1e3, y, weight)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()


def test_numbers_outside_a_table_count_as_its_ends() -> None:
    head = Head.from_layers([{"embedding": [3, 2]}, {"dense": 1}, "sigmoid"], 2)
    flat = busy(head)
    wild = head.forward(flat, np.array([[-7.0, 1], [99, 1], [1.9, 1]]))
    near = head.forward(flat, np.array([[0.0, 1], [2, 1], [1, 1]]))
    np.testing.assert_array_equal(wild, near)


@pytest.mark.trust("T19")
@pytest.mark.parametrize(
    ("layers", "inputs", "loss", "where"),
    [
        ([{"conv": 8}, {"dense": 1}, "sigmoid"], 4, "bce", "layers[0]"),
        ([{"dense": 8}, "gelu", {"dense": 1}, "sigmoid"], 4, "bce", "layers[1]"),
        ([{"dense": 1}, "sigmoid", {"dense": 1}], 4, "bce", "layers[2]"),
        ([{"dense": 2}, "sigmoid"], 4, "bce", "layers[1]"),
        ([{"dense": 1}, "softmax"], 4, "ce", "layers[1]"),
        ([{"layer_norm": 5}, {"dense": 1}, "sigmoid"], 4, "bce", "layers[0]"),
        ([{"dense": 0}, {"dense": 1}, "sigmoid"], 4, "bce", "layers[0]"),
        ([{"dense": True}, {"dense": 1}, "sigmoid"], 4, "bce", "layers[0]"),
        ([{"dense": [1, 2]}, {"dense": 1}, "sigmoid"], 4, "bce", "layers[0]"),
        (["relu", {"embedding": [3, 2]}, {"dense": 1}, "sigmoid"], 4, "bce", "layers[1]"),
        ([{"dense": 1_000_000}, {"dense": 1}, "sigmoid"], 4, "bce", "layers[0]"),
        ([{"dense": 1000}, {"dense": 999}, {"dense": 1}, "sigmoid"], 4, "bce", "layers[1]"),
        ([{"dense": 1, "relu": 1}, "sigmoid"], 4, "bce", "layers[0]"),
        (["sigmoid"], 1, "bce", "layers"),
        ([], 4, "bce", "layers"),
        ([{"dense": 1}, "sigmoid"], 4, "ce", "loss"),
        ([{"dense": 1}, "sigmoid"], 4, "hinge", "loss"),
        ([{"dense": 2}, "softmax"], 4, "pairwise", "loss"),
        ([{"dense": 1}, "sigmoid"], 0, "bce", "features"),
    ],
)
def test_what_is_not_on_the_list_is_refused_by_its_place(
    layers: list[Written], inputs: int, loss: str, where: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Head.from_layers(layers, inputs, loss)
    assert str(caught.value.fields["field"]).endswith(where)


def vectors() -> list[dict[str, Any]]:
    """Trainings that other languages replay."""
    made = []
    for name, (layers, inputs, loss) in HEADS.items():
        for optimiser, corrected in (("sgd", True), ("adagrad", False)):
            head = Head.from_layers(layers, inputs, loss)
            x, y, weight = (each.round(3) for each in examples(head, name, 10))
            settings = Settings(2, 4, 0.1, optimiser, 0.01 if corrected else 0.0)  # type: ignore[arg-type]
            correction = (0.01 * np.arange(head.size) / head.size).round(5) if corrected else None
            first = head.init(SEED)
            model = head.train(first, x, y, weight, settings, SEED, correction).model
            made.append(
                {
                    "name": f"{name}, {optimiser}",
                    "layers": layers,
                    "inputs": inputs,
                    "loss": loss,
                    "seed": SEED.hex(),
                    "epochs": 2,
                    "batch": 4,
                    "learning_rate": 0.1,
                    "optimiser": optimiser,
                    "proximal": settings.proximal,
                    "correction": None if correction is None else correction.tolist(),
                    "x": x.tolist(),
                    "y": y.tolist(),
                    "weight": weight.tolist(),
                    "orders": [epoch_order(SEED, epoch, 10).tolist() for epoch in range(2)],
                    "first": [float(f"{v:.9g}") for v in first],
                    "model": [float(f"{v:.9g}") for v in model],
                    "scores": [
                        [float(f"{v:.9g}") for v in row] for row in head.forward(model.astype(float), x)
                    ],
                }
            )
    return made


def test_the_vectors_that_other_languages_replay_hold() -> None:
    for had, now in zip(json.loads(VECTORS.read_text()), vectors(), strict=True):
        assert {k for k in had if had[k] != now[k]} <= {"first", "model", "scores"}, had["name"]
        for what in ("first", "model", "scores"):
            np.testing.assert_allclose(now[what], had[what], atol=1e-5, err_msg=f"{had['name']}: {what}")


if __name__ == "__main__":
    VECTORS.write_text("[\n" + ",\n".join(json.dumps(each) for each in vectors()) + "\n]\n")
