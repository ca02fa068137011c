"""Lattice kernels: exact products, exact sums, and nothing that a mask should hide."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.base.errors import ConfigError, LocalError, PeerError
from isthmus.crypto.lattice import ntt, outer, sets, vectors
from isthmus.crypto.lattice.ntt import LANES, PRIME, N, transform
from isthmus.crypto.lattice.sampling import NOISE_VARIANCE, Stream
from isthmus.crypto.lattice.vectors import Payload

VECTORS = Path(__file__).parents[1] / "vectors" / "lattice.json"


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


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Through the transforms, in the first lane."""
    ntt.ready()
    group = np.empty(N * LANES)
    ntt.gather(group, a[None])
    ahead, ahead_p, *back = ntt.tables()
    ntt.forward(group, ahead, ahead_p)
    ntt.multiply(group, group, transform(b[None])[0])
    ntt.backward(group, *back)
    result: np.ndarray = np.empty((1, N), dtype=np.int64)
    ntt.scatter(result, group)
    return result.reshape(N)


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
    assert product(first, second).tolist() == whole_product(first.tolist(), second.tolist())


@settings(max_examples=12, deadline=None)
@given(
    st.dictionaries(st.integers(0, N - 1), st.integers(0, 2**64 - 1), min_size=1, max_size=40),
    st.dictionaries(st.integers(0, N - 1), st.integers(-1, 1), min_size=1, max_size=40),
)
def test_products_modulo_the_wire_equal_those_of_big_integers(a: dict[int, int], b: dict[int, int]) -> None:
    words = np.zeros((1, N), dtype=np.uint64)
    for at, value in a.items():
        words[0, at] = value
    ternary = sparse(b)
    whole = [value % 2**64 for value in whole_product(words[0].tolist(), ternary.tolist())]
    assert outer.times(words, transform(ternary[None])[0])[0].tolist() == whole
    each = outer._each_times(ternary[None], [outer._limb_transforms(words[0])])
    assert each[0][0].tolist() == whole


def test_the_largest_product_that_is_promised_is_exact() -> None:
    first = np.full(N, 2**35 - 1, dtype=np.int64)
    got = product(first, np.ones(N, dtype=np.int64))
    assert got[N - 1] == N * (2**35 - 1)
    assert got[0] == (2**35 - 1) * (1 - (N - 1))
    assert N * 2**35 < PRIME // 2


@pytest.mark.parametrize("count", [1, LANES - 1, LANES])
def test_a_transform_comes_back(count: int) -> None:
    given_ = np.random.default_rng(count).integers(-(2**40), 2**40, (count, N))
    ntt.ready()
    group, result = np.empty(N * LANES), np.empty_like(given_)
    ntt.gather(group, given_)
    ahead, ahead_p, *back = ntt.tables()
    ntt.forward(group, ahead, ahead_p)
    ntt.backward(group, *back)
    ntt.scatter(result, group)
    assert (result == given_).all()


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

    layout: sets.Layout
    counts: tuple[int, ...]
    bins: np.ndarray
    public: vectors.PublicMatrix
    hint: np.ndarray
    key: outer.OuterKey
    keys: outer.LabelKeys


def set_up(name: str, rows: int, counts: tuple[int, ...], seed: int = 1) -> Both:
    chosen = next(s for s in sets.SETS if s.name == name)
    draw = np.random.default_rng(seed)
    bins = np.stack([draw.integers(0, c, rows) for c in counts]).astype(np.uint8)
    layout = sets.Layout(chosen, sets.width(rows, 5, 4), 0, rows, len(counts), sum(counts))
    cut = max(c for c in range(sets.CUT_MAX + 1) if replace(layout, cut=c).fits)
    layout = replace(layout, cut=cut)
    public = vectors.PublicMatrix(b"shared", rows, chosen)
    key = outer.OuterKey(b"outer", layout.bins)
    keys = outer.LabelKeys(b"outer", layout)
    hints = []
    for chunk in range(key.chunks):
        first, stop = chunk * N, min((chunk + 1) * N, layout.bins)
        hints.append(vectors.hint_rows(public, bins, counts, first, stop))
        for at in range(0, N, 512):
            keys.keep(chunk, at, key.columns(hints[-1], chunk, at, at + 512))
    keys.seal(key.p0())
    return Both(layout, counts, bins, public, np.concatenate(hints), key, keys)


CASES = {
    "A1, several blocks": ("A1", 9000, (7, 6, 8)),
    "W8, more than a group": ("W8", 20_000, (33,) * 4),
    "A1, less than a block": ("A1", 300, (2, 2)),
    "W8, more than a chunk of bins": ("W8", 500, (255,) * 17),
}


@pytest.fixture(scope="module", params=CASES)
def both(request: pytest.FixtureRequest) -> Both:
    return set_up(*CASES[request.param])


def drawn(count: int) -> list[outer.Drawn]:
    return [outer.Drawn(os.urandom(32), 0) for _ in range(count)]


def payload_of(both: Both, g: np.ndarray, h: np.ndarray, vector_of_row: np.ndarray, count: int) -> Payload:
    radix = np.full(count, 15 * both.layout.rows + 1, dtype=np.int64)
    return Payload(g, h, vector_of_row.astype(np.int32), radix, both.layout.payload)


def sums_of(
    both: Both, secrets: list[outer.Drawn], payload: Payload | None, piece: int = 16_384
) -> np.ndarray:
    """The words of all vectors, added into bins piece by piece."""
    factors = transform(np.stack([d.secret() for d in secrets]))
    sums = np.zeros((len(secrets), both.layout.bins), dtype=np.uint64)
    for start, stop in both.public.pieces(piece):
        words = vectors.encrypt(both.public, start, stop, factors, payload, both.layout.cut)
        vectors.add_into_bins(sums, both.bins, both.counts, start, words)
    return sums


def plain(both: Both, weights: np.ndarray) -> np.ndarray:
    sums = [np.bincount(b, weights=weights, minlength=c) for b, c in zip(both.bins, both.counts, strict=True)]
    return np.concatenate(sums).astype(np.int64)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_sums_are_exact_for_every_bin_and_any_number_of_vectors(both: Both, count: int) -> None:
    draw = np.random.default_rng(count)
    rows, layout = both.layout.rows, both.layout
    g, h = draw.integers(-15, 16, rows), draw.integers(0, 16, rows)
    place = draw.integers(-1, count, rows)
    secrets = drawn(count)
    masks, first, second = both.keys.prepare(secrets)
    sums = sums_of(both, secrets, payload_of(both, g, h, place, count))
    for v in range(count):
        opened = both.key.open(first[v], second[v])
        answer = (sums[v] - opened) >> np.uint64(layout.gap)
        below = int(np.maximum(-g[place == v], 0).sum())
        whole = answer - (masks[v] >> np.uint64(layout.gap)) + np.uint64(below)
        h_sum, g_sum = np.divmod(
            (whole & np.uint64((1 << layout.payload) - 1)).astype(np.int64), 15 * rows + 1
        )
        assert (g_sum - below == plain(both, np.where(place == v, g, 0))).all()
        assert (h_sum == plain(both, np.where(place == v, h, 0))).all()


def test_the_hint_is_the_bin_sum_of_the_rows_of_the_matrix() -> None:
    """H s equals the bin sums of A s, computed the other way round: through the products of encryption."""
    both = set_up("A1", 5000, (5, 4))
    both.layout = replace(both.layout, cut=0)
    secrets = drawn(1)
    sums = sums_of(both, secrets, None)[0]
    through_hint = (both.hint * secrets[0].secret().view(np.uint64)[None]).sum(axis=1, dtype=np.uint64)
    assert (through_hint == sums).all()


def test_noise_stays_inside_the_zone_and_masks_clear_of_it(both: Both) -> None:
    """The two halves of exactness: |opened hint - (M A s - u)| and all that the rows add stay below Z."""
    secrets, layout = drawn(8), both.layout
    masks, first, second = both.keys.prepare(secrets)
    zero = np.zeros(layout.rows, dtype=np.int64)
    sums = sums_of(both, secrets, payload_of(both, zero, zero, zero, 8))
    for v in range(8):
        noise = (sums[v] - both.key.open(first[v], second[v]) - masks[v]).view(np.int64)
        assert 0 < np.abs(noise).max() < layout.zone
        low = (masks[v] & np.uint64((1 << layout.gap) - 1)).astype(np.int64)
        assert low.min() >= layout.zone
        assert low.max() < (1 << layout.gap) - layout.zone - layout.dither
        hint_alone = (
            sums_of(both, secrets[v : v + 1], None) - masks[v] - both.key.open(first[v], second[v])
        ).view(np.int64)
        assert layout.cut or np.abs(hint_alone).max() < layout.tolerance


def test_one_seed_makes_one_secret_and_another_mask_for_every_feature_owner(both: Both) -> None:
    seed = os.urandom(32)
    one, other = outer.Drawn(seed, 0), outer.Drawn(seed, 1)
    assert (one.secret() == other.secret()).all()
    assert (one.mask(both.layout) != other.mask(both.layout)).mean() > 0.99
    assert (one.blinding(1)[0] != other.blinding(1)[0]).mean() > 0.5
    assert (one.blinding(1)[1] != other.blinding(1)[1]).mean() > 0.5
    assert (one.mask(both.layout) == outer.Drawn(seed, 0).mask(both.layout)).all()


def test_an_offline_message_of_another_shape_is_refused(both: Both) -> None:
    _, first, second = both.keys.prepare(drawn(1))
    with pytest.raises(PeerError):
        both.key.open(first[0][:, :-1], second[0])
    with pytest.raises(PeerError):
        both.key.open(first[0], second[0][:-1])


def test_columns_that_do_not_fit_in_memory_lie_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outer, "IN_MEMORY_BYTES", 2**20)
    both = set_up("A1", 300, (33, 33))
    assert isinstance(both.keys._columns[0], np.memmap)
    secrets = drawn(2)
    masks, first, second = both.keys.prepare(secrets)
    noise = sums_of(both, secrets, None)[1] - both.key.open(first[1], second[1]) - masks[1]
    assert np.abs(noise.view(np.int64)).max() < both.layout.zone
    with pytest.raises(LocalError, match="disk_error"):
        outer.LabelKeys(b"outer", both.layout, Path("/proc"))


def test_sets_and_payloads_follow_from_rows_features_and_bins() -> None:
    def chosen(rows: int, features: int) -> tuple[str, int, int]:
        layout = sets.choose(rows, [(features, 33 * features)], sets.width(rows, 5, 4))[0]
        assert layout.fits
        return layout.set.name, layout.payload, layout.word_bytes

    assert chosen(1_000, 20) == ("A1", 28, 5)
    assert chosen(100_000, 20) == ("A1", 42, 7)
    assert chosen(1_000_000, 50) == ("W8", 46, 8)
    assert chosen(4_000_000, 100) == ("W8", 45, 8)
    shared = sets.choose(100_000, [(20, 660), (400, 13_200)], 42)
    assert len({(layout.set.name, layout.payload) for layout in shared}) == 1
    for rows, bins in ((sets.ROWS_MAX + 1, 660), (1_000, sets.BINS_MAX + 1)):
        with pytest.raises(ConfigError):
            sets.choose(rows, [(20, bins)], 40)
    with pytest.raises(LocalError):
        outer.LabelKeys(b"outer", sets.Layout(sets.SETS[0], 60, 0, 10**6, 100, 3300))


def test_widths_hold_the_largest_sums_and_no_bit_more() -> None:
    for rows in (20, 1_000, 999_999):
        width = sets.width(rows, 5, 4)
        assert (15 * rows + 1) * (15 * rows + 1) - 1 < 1 << width
        assert (15 * rows + 1) * (15 * rows + 1) - 1 >= 1 << (width - 1)


def test_secrets_have_no_readable_form(both: Both) -> None:
    assert repr(both.key) == "OuterKey(...)"
    assert repr(Stream.fresh()) == "Stream(...)"
    assert repr(drawn(1)[0]) == "Drawn(...)"


def known_answers() -> dict[str, str]:
    """Digests of everything that follows from a seed alone, and of sums without noise."""

    def digest(words: np.ndarray) -> str:
        return hashlib.sha256(
            np.ascontiguousarray(words).astype(words.dtype.newbyteorder("<")).tobytes()
        ).hexdigest()

    found = {}
    for chosen in sets.SETS:
        public = vectors.PublicMatrix(b"known", 5000, chosen)
        bins = (np.arange(15_000).reshape(3, 5000) * 7919 % 5).astype(np.uint8)
        one = outer.Drawn(bytes(range(32)), 1)
        factors = transform(one.secret()[None])
        found[f"{chosen.name} vector without noise"] = digest(
            vectors.encrypt(public, 0, 5000, factors, None, 0)
        )
        found[f"{chosen.name} hint"] = digest(vectors.hint_rows(public, bins, (5, 5, 5), 0, 15))
    found["secret"] = digest(one.secret())
    found["blinding"] = digest(np.concatenate([one.blinding(2)[0].view(np.uint64), one.blinding(2)[1]]))
    found["alpha"] = digest(outer.alphas(b"known", 1, 64, 128))
    found["p1"] = digest(outer.p1(b"known", 2))
    found["keyed"] = digest(outer.times(outer.p1(b"known", 2), factors[0]))
    return found


def test_everything_that_follows_from_a_seed_is_as_on_record() -> None:
    assert known_answers() == json.loads(VECTORS.read_text())


@pytest.mark.slow
def test_a_processor_without_vector_instructions_makes_the_same_bits(tmp_path: Path) -> None:
    code = f"import sys, json; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n" + (
        "from importlib.util import module_from_spec, spec_from_file_location\n"
        f"spec = spec_from_file_location('t', {__file__!r}); t = module_from_spec(spec)\n"
        "sys.modules['t'] = t; spec.loader.exec_module(t); print(json.dumps(t.known_answers()))"
    )
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    made = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(made.stdout) == known_answers()
