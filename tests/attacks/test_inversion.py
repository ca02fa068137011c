"""K10: pictures out of a model update. One device's bare update shows them; what a leader gets does not."""

from __future__ import annotations

import os

import numpy as np
import pytest

from isthmus.crypto.words import ring_for
from isthmus.fleet.simulated_sum import SplitTrustSum
from isthmus.learn.head import Head, Settings
from isthmus.learn.quantise import Encoding
from isthmus.privacy.clip import clip
from isthmus.privacy.noise import discrete_gaussian

PIXELS, LABELS = 64, 10
HEAD = Head.from_layers([{"dense": LABELS}, "softmax"], PIXELS, "ce")
START = np.zeros(HEAD.size)


def pictures(count: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Black and white patterns: half grey is the best guess about one, at 6 dB."""
    draw = np.random.default_rng(count)
    return draw.integers(0, 2, (count, rows, PIXELS)).astype(float), draw.integers(
        0, LABELS, (count, rows)
    ).astype(float)


def psnr(guesses: np.ndarray, real: np.ndarray) -> float:
    """Of the guess that comes nearest to any of the pictures, in dB."""
    guesses = np.clip(np.nan_to_num(guesses), 0, 1).reshape(-1, 1, PIXELS)
    errors = np.square(guesses - real.reshape(1, -1, PIXELS)).mean(axis=2)
    return float(10 * np.log10(1 / max(errors.min(), 1e-9)))


def inverted(update: np.ndarray) -> np.ndarray:
    """A dense layer's weights move along picture times error, its biases along the error: the quotient is the picture.

    Of a sum over devices whose labels differ, the errors of all others are taken off first, as far as the biases tell them.
    """
    weights, bias = update[:-LABELS].reshape(PIXELS, LABELS), update[-LABELS:]
    plain = (weights / np.where(np.abs(bias) > 1e-12, bias, np.nan)).T
    apart = weights - weights[:, [int(np.argmin(bias))]]
    beyond = bias - bias.min()
    return np.concatenate([plain, (apart / np.where(beyond > 1e-12, beyond, np.nan)).T])


def trained(x: np.ndarray, y: np.ndarray, settings: Settings) -> np.ndarray:
    models = HEAD.train_many(START, x, y, np.ones_like(y), settings, dtype=np.float64)
    return np.asarray(models - START)


@pytest.mark.trust("K10", "T19")
def test_a_bare_update_of_one_device_shows_its_picture() -> None:
    x, y = pictures(1, 1)
    update = trained(x, y, Settings(epochs=1, batch=4, learning_rate=0.1))[0]
    assert psnr(inverted(update), x) > 20


@pytest.mark.trust("K10", "T19")
def test_neither_a_report_nor_what_is_left_with_one_helper_shows_a_picture() -> None:
    x, y = pictures(1, 1)
    encoding = Encoding.fitted(HEAD.size, 8, 1.0)
    ring = ring_for(8, 20, 1, 0.0)
    update = trained(x, y, Settings(epochs=1, batch=4, learning_rate=0.1))[0]
    values = encoding.encode(clip(update, 1.0)[0]).values
    masks = [ring.unpack(os.urandom(ring.width_bytes * HEAD.size)) for _ in range(2)]
    left = ring.lift(values)
    ring.add(left, masks[0])
    assert psnr(inverted(encoding.decode(ring.lower(left))), x) < 10
    ring.add(left, masks[1])
    assert psnr(inverted(encoding.decode(ring.lower(left))), x) < 10


@pytest.mark.trust("K10", "T19")
@pytest.mark.parametrize("noise", [0.0, 200.0])
def test_the_smallest_sum_that_opens_shows_no_picture(noise: float) -> None:
    x, y = pictures(20, 20)
    encoding = Encoding.fitted(HEAD.size, 8, 1.0)
    updates = trained(x, y, Settings(epochs=3, batch=16, learning_rate=0.05))
    values = encoding.encode(clip(updates, 1.0)[0]).values
    ring = ring_for(8, 20, 1, noise)
    devices, weights = np.arange(20), np.ones(20, dtype=np.int64)
    opened = SplitTrustSum(4, 1, 1)(0, bytes(32), ring, noise, iter([(devices, values, weights)]))
    if noise == 0:
        assert np.array_equal(opened, values.sum(axis=0))
    assert psnr(inverted(encoding.decode(opened)), x) < 10


def test_noise_hides_a_lone_label_that_a_small_sum_would_show() -> None:
    """A limit of sums alone: of 20 devices with a picture each, the only one with its label stands out; the noise is for that."""
    x, y = pictures(20, 1)
    y = np.concatenate([np.array([3.0]), np.full(19, 5.0)])[:, None]
    updates = trained(x, y, Settings(epochs=1, batch=4, learning_rate=0.1))
    encoding = Encoding.fitted(HEAD.size, 8, 1.0)
    values = encoding.encode(clip(updates, 1.0)[0]).values
    total = values.sum(axis=0)
    assert psnr(inverted(encoding.decode(total)), x[0]) > 10
    noised = total + discrete_gaussian(2 * encoding.sensitivity, len(total))
    assert psnr(inverted(encoding.decode(noised)), x[0]) < 10
