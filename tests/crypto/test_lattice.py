"""Lattice kernels: exact products, exact sums, and nothing that a mask should hide."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.base.errors import LocalError, PeerError
from isthmus.crypto.lattice import hint
from isthmus.crypto.lattice.ntt import LANES, PRIME, N, products, restore, spread, transform
from isthmus.crypto.lattice.sampling import NOISE_VARIANCE, Stream


def whole_product(a: list[int], b: list[int]) -> list[int]:
    """a b modulo X^N + 1 with big integers; b is short or has few places that are not 0."""
    result = [0] * N
    for j, factor in enumerate(b):
        if factor:
            for i, value in enumerate(a):
                at = i + j
                if at < N:
                    result[at] += factor * value
                else:
                    result[at - N] -= factor * value
    return result


def sparse(places: dict[int, int]) -> np.ndarray:
    polynomial = np.zeros(N, dtype=np.int64)
    for at, value in places.items():
        polynomial[at] = value
    return polynomial


@settings(max_examples=12, deadline=None)
@given(
    st.dictionaries(st.integers(0, N - 1), st.integers(-(2**35), 2**35), min_size=1, max_size=40),
    st.dictionaries(st.integers(0, N - 1), st.integers(-1, 1), min_size=1, max_size=40),
)
def test_products_equal_those_of_big_integers(a: dict[int, int], b: dict[int, int]) -> None:
    first, second = sparse(a), sparse(b)
    got = products(transform(first[None]), spread(second), 1)[0]
    assert got.tolist() == whole_product(first.tolist(), second.tolist())


def test_the_largest_product_that_is_promised_is_exact() -> None:
    first = np.full((1, N), 2**35 - 1, dtype=np.int64)
    got = products(transform(first), spread(np.ones(N, dtype=np.int64)), 1)[0]
    assert got[N - 1] == N * (2**35 - 1)
    assert got[0] == (2**35 - 1) * (1 - (N - 1))
    assert N * 2**35 < PRIME // 2


@pytest.mark.parametrize("count", [1, LANES - 1, LANES, LANES + 1, 3 * LANES])
def test_a_transform_comes_back(count: int) -> None:
    given_ = np.random.default_rng(count).integers(-(2**40), 2**40, (count, N))
    assert (restore(transform(given_), count) == given_).all()


def test_public_words_are_those_on_record_and_fresh_ones_never_repeat() -> None:
    words = Stream.public(b"seed", "a").words(4)
    assert words.tolist() == Stream.public(b"seed", "a").words(4).tolist()
    assert words.tolist() != Stream.public(b"seed", "p1").words(4).tolist()
    assert words.tolist() != Stream.public(b"seee", "a").words(4).tolist()
    assert hashlib.sha256(words.tobytes()).hexdigest()[:16] == "d26c01e430173e81"
    assert Stream.fresh().words(4).tolist() != Stream.fresh().words(4).tolist()


def test_noise_and_secrets_have_the_distribution_they_claim() -> None:
    noise = Stream.fresh().noise(200_000)
    assert abs(noise.mean()) < 0.05
    assert abs(noise.var() / NOISE_VARIANCE - 1) < 0.03
    assert np.abs(noise).max() <= 21
    secret = Stream.fresh().ternary(300_000)
    shares = np.bincount(secret + 1, minlength=3) / len(secret)
    assert np.abs(shares - 1 / 3).max() < 0.005


@dataclass
class Both:
    """A whole set-up of one feature owner and one label owner."""

    chosen: hint.Set
    counts: tuple[int, ...]
    bins: np.ndarray
    public: hint.PublicMatrix
    matrix: np.ndarray
    key: hint.OuterKey
    keys: hint.LabelKeys


def set_up(name: str, rows: int, features: int, bins: int, seed: int = 1) -> Both:
    chosen, counts = hint.SETS[name], (bins,) * features
    cells = np.random.default_rng(seed).integers(0, bins, (features, rows)).astype(np.uint8)
    public = hint.PublicMatrix(b"shared", rows, chosen)
    matrix = hint.hint_matrix(public, cells, counts)
    key = hint.OuterKey(b"outer", sum(counts))
    columns = np.concatenate([key.columns(matrix, at, at + 512) for at in range(0, N, 512)])
    return Both(
        chosen, counts, cells, public, matrix, key, hint.LabelKeys(b"outer", columns, key.p0(), chosen, rows)
    )


@pytest.fixture(scope="module", params=[("A1", 9000, 3, 7), ("W8", 20_000, 4, 33), ("A1", 300, 2, 2)])
def both(request: pytest.FixtureRequest) -> Both:
    return set_up(*request.param)


def one_round(
    both: Both, secret: np.ndarray, payload: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums that the label owner reads, the answer, and the opened hint."""
    masks, first, second = both.keys.prepare(secret[None])
    opened = both.key.open(first[0], second[0])
    words = hint.encrypt(both.public, secret, payload)
    sums = hint.add_words(words, hint.cells(both.bins, both.counts), sum(both.counts))
    answer = hint.answer(sums, opened, both.chosen)
    return hint.read_sums(answer, masks[0], both.chosen), answer, opened


def plain(both: Both, payload: np.ndarray) -> np.ndarray:
    sums = [np.bincount(b, weights=payload, minlength=c) for b, c in zip(both.bins, both.counts, strict=True)]
    return np.concatenate(sums).astype(np.int64).view(np.uint64) & np.uint64((1 << both.chosen.payload) - 1)


def test_sums_are_exact_for_every_bin_and_many_vectors(both: Both) -> None:
    draw = np.random.default_rng(3)
    for secret in Stream.fresh().ternary(6, N):
        payload = draw.integers(-15, 16, both.public.rows)
        assert (one_round(both, secret, payload)[0] == plain(both, payload)).all()


def test_the_hint_is_the_bin_sum_of_the_rows_of_the_matrix() -> None:
    """H s equals the bin sums of A s, computed the other way round: through the products of encryption."""
    both = set_up("A1", 5000, 2, 5)
    secret = Stream.fresh().ternary(N)
    rows = both.public.on_wire(*both.public.times(secret))
    sums = hint.add_words(rows, hint.cells(both.bins, both.counts), 10)
    through_hint = (both.matrix * secret.view(np.uint64)[None]).sum(axis=1, dtype=np.uint64)
    assert (through_hint == sums).all()


def test_what_the_feature_owner_sees_depends_on_nothing_but_masks(both: Both) -> None:
    """Vectors and opened hints of an all-zero and of a full payload look alike: uniform in the top bits."""
    for payload in (np.zeros(both.public.rows, dtype=np.int64), np.full(both.public.rows, 15)):
        secret = Stream.fresh().ternary(N)
        words = hint.encrypt(both.public, secret, payload)
        top = np.bincount((words >> np.uint64(60)).astype(np.int64), minlength=16)
        expected = len(words) / 16
        assert ((top - expected) ** 2 / expected).sum() < 60
    opened = np.concatenate([one_round(both, s, payload)[2] for s in Stream.fresh().ternary(4, N)])
    assert len(np.unique(opened)) == len(opened)


def test_two_vectors_under_one_secret_would_give_the_difference_away() -> None:
    """Why a secret encrypts once: the weak way is shown to be weak, so that the rule is no ritual."""
    both = set_up("A1", 300, 2, 2)
    secret = Stream.fresh().ternary(N)
    low = np.zeros(300, dtype=np.int64)
    high = np.arange(300) % 16
    delta = hint.encrypt(both.public, secret, high) - hint.encrypt(both.public, secret, low)
    guess = (delta + np.uint64(1 << (both.chosen.gap - 1))) >> np.uint64(both.chosen.gap)
    assert (guess.astype(np.int64) == high).all()


def test_an_offline_message_of_another_shape_is_refused(both: Both) -> None:
    _, first, second = both.keys.prepare(Stream.fresh().ternary(1, N))
    with pytest.raises(PeerError):
        both.key.open(first[0][:, :-1], second[0])
    with pytest.raises(PeerError):
        both.key.open(first[0], second[0][:-1])


def test_more_rows_than_a_set_can_carry_are_refused() -> None:
    both = set_up("A1", 300, 2, 2)
    tiny = hint.Set("none", 64, 0, 50)
    with pytest.raises(LocalError):
        hint.LabelKeys(b"outer", np.zeros((N, 4), dtype=np.uint64), both.key.p0(), tiny, 10**9)


def test_masks_keep_their_low_bits_away_from_the_edges(both: Both) -> None:
    masks, _, _ = both.keys.prepare(Stream.fresh().ternary(8, N))
    low = (masks & np.uint64((1 << both.chosen.gap) - 1)).astype(np.int64)
    zone = both.chosen.zone(both.public.rows)
    assert low.min() >= zone
    assert low.max() < (1 << both.chosen.gap) - zone


def test_secrets_have_no_readable_form(both: Both) -> None:
    assert repr(both.key) == "OuterKey(...)"
    assert repr(Stream.fresh()) == "Stream(...)"
