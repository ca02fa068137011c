"""Updates as integers: exact under sums, unbiased, never longer than was promised."""

from __future__ import annotations

import os

import numpy as np
import pytest

from isthmus.learn.quantise import Encoding, _by_chance

SEED = bytes(range(32))


def unit(draw: np.random.Generator, *shape: int) -> np.ndarray:
    values = draw.normal(size=shape)
    values /= np.linalg.norm(values, axis=-1, keepdims=True)
    return values


@pytest.mark.parametrize("rotation", [None, SEED])
@pytest.mark.parametrize("length", [1, 2, 3, 64, 100, 1000])
def test_a_sum_decodes_to_the_sum_of_what_each_device_sent(length: int, rotation: bytes | None) -> None:
    encoding = Encoding.fitted(length, 10, 2.0, rotation)
    sent = encoding.encode(2.0 * unit(np.random.default_rng(1), 30, length)).values
    assert abs(sent).max() <= encoding.top == 511
    together = encoding.decode(sent.sum(axis=0))
    assert together == pytest.approx(encoding.decode(sent).sum(axis=0), abs=1e-9)


@pytest.mark.parametrize("rotation", [None, SEED])
def test_rounding_is_unbiased_and_the_error_falls_with_the_number_of_devices(rotation: bytes | None) -> None:
    draw = np.random.default_rng(2)
    encoding = Encoding.fitted(48, 8, 1.0, rotation)
    update = unit(draw, 48)
    many = np.broadcast_to(update, (20_000, 48))
    mean = encoding.decode(encoding.encode(many, draw.bytes).values.sum(axis=0)) / 20_000
    assert np.linalg.norm(mean - update) < 6 * encoding.step * np.sqrt(48 / 4 / 20_000)


@pytest.mark.parametrize("length", [2, 3, 37, 128, 1000])
def test_a_rotation_keeps_lengths_and_is_undone(length: int) -> None:
    encoding = Encoding.fitted(length, 16, 1.0, SEED)
    updates = unit(np.random.default_rng(3), 5, length)
    back = encoding.decode(encoding.encode(updates).values)
    assert back == pytest.approx(updates, abs=encoding.step * 2 * np.sqrt(length))


def test_a_rotation_makes_the_same_bits_many_times_finer() -> None:
    draw = np.random.default_rng(4)
    spiky = np.zeros(20_000)
    spiky[draw.integers(0, 20_000, 10)] = 1.0
    for update in (unit(draw, 20_000), spiky / np.linalg.norm(spiky)):
        errors = []
        for rotation in (None, SEED):
            encoding = Encoding.fitted(20_000, 8, 1.0, rotation)
            encoded = encoding.encode(update)
            assert encoded.cut == 0
            errors.append(float(np.linalg.norm(encoding.decode(encoded.values) - update)))
        assert errors[1] < 0.05
    assert Encoding.fitted(20_000, 8, 1.0).step > 15 * Encoding.fitted(20_000, 8, 1.0, SEED).step


def test_another_seed_is_another_rotation() -> None:
    update = unit(np.random.default_rng(5), 64)
    sent = Encoding.fitted(64, 16, 1.0, SEED).encode(update).values
    assert np.linalg.norm(Encoding.fitted(64, 16, 1.0, bytes(32)).decode(sent) - update) > 0.5


def test_no_update_is_longer_than_the_sensitivity_however_the_rounding_falls() -> None:
    def up(count: int) -> bytes:
        return b"\xff" * count

    encoding = Encoding.fitted(4000, 8, 1.0)
    flat = np.full(4000, 1 / np.sqrt(4000))
    longest = np.linalg.norm(_by_chance(flat / encoding.step, up))
    assert longest > encoding.sensitivity
    outcomes = iter([up(16_000), up(16_000)])

    def first_up(count: int) -> bytes:
        return next(outcomes, None) or os.urandom(count)

    assert np.linalg.norm(encoding.encode(flat, first_up).values) <= encoding.sensitivity
    assert next(outcomes, None) is None
    for rotation in (None, SEED):
        encoding = Encoding.fitted(257, 8, 3.0, rotation)
        values = encoding.encode(3.0 * unit(np.random.default_rng(6), 2000, 257)).values
        assert (np.linalg.norm(values, axis=1) <= encoding.sensitivity).all()


def test_the_sensitivity_covers_a_worst_case_of_two_numbers() -> None:
    encoding = Encoding(2, 8, clip=1.0, reach=1.0)
    for angle in np.linspace(0, 2 * np.pi, 97):
        values = encoding.encode(np.array([np.cos(angle), np.sin(angle)]) * (1 - 1e-12)).values
        assert np.linalg.norm(values) <= encoding.sensitivity <= np.hypot(127, 127)


def test_coordinates_beyond_the_reach_are_cut_and_counted() -> None:
    encoding = Encoding(3, 8, clip=1.0, reach=0.5)
    encoded = encoding.encode(np.array([[0.75, -0.6, 0.1], [0.1, 0.2, 0.3]]))
    assert encoded.cut.tolist() == [2, 0]
    assert encoded.values[0, :2].tolist() == [127, -127]


def test_kept_coordinates_are_the_same_for_all_and_carry_their_share() -> None:
    encoding = Encoding.fitted(1000, 10, 1.0, SEED, kept=250)
    updates = unit(np.random.default_rng(7), 20, 1000)
    sent = encoding.encode(updates).values
    assert sent.shape == (20, 250)
    back = encoding.decode(sent)
    shares = (back * updates).sum(axis=1)
    assert shares.mean() == pytest.approx(0.25, abs=0.05)


def test_an_update_that_was_not_clipped_is_refused() -> None:
    encoding = Encoding.fitted(4, 8, 1.0)
    for bad in (np.ones(4), np.full(4, np.nan)):
        with pytest.raises(ValueError, match="longer"):
            encoding.encode(bad)


def test_encodings_out_of_bounds_are_refused() -> None:
    for bits in (7, 17):
        with pytest.raises(ValueError, match="bits"):
            Encoding.fitted(4, bits, 1.0)
    with pytest.raises(ValueError, match="clip"):
        Encoding.fitted(4, 8, 0.0)
    with pytest.raises(ValueError, match="kept"):
        Encoding.fitted(4, 8, 1.0, kept=2)
