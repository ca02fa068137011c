"""Paillier: exact sums, keys and ciphertexts refused (T2, P7), and fresh randomness on everything that leaves (T1)."""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
import secrets
import typing
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.base.errors import ConfigError, LocalError, PeerError
from isthmus.crypto import paillier
from isthmus.crypto.paillier import (
    Ciphertexts,
    PrivateKey,
    PublicKey,
    add,
    open_sealed,
    pack,
    seal_for_wire,
    slots_per_ciphertext,
    sum_into_bins,
)
from isthmus.crypto.sealed import SealedCiphertexts
from isthmus.wire.message import Sealed

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "paillier.json").read_text())
P, Q = int(VECTORS["p"], 16), int(VECTORS["q"], 16)
N = P * Q
WIDTH = 512
ARITHMETIC = ["plain", "gmpy2"] if find_spec("gmpy2") else ["plain"]


@pytest.fixture(scope="module", params=ARITHMETIC)
def key(request: pytest.FixtureRequest) -> Iterator[PrivateKey]:
    """The key of the vectors, on plain integers and, where gmpy2 is installed, on its integers too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            paillier, "_gmpy2", importlib.import_module("gmpy2") if request.param == "gmpy2" else None
        )
        yield PrivateKey(P, Q)


def sealed(*numbers: int) -> SealedCiphertexts:
    data = b"".join(number.to_bytes(WIDTH, "little") for number in numbers)
    rows = np.frombuffer(data, dtype=np.uint8).reshape(len(numbers), WIDTH)
    return SealedCiphertexts(rows, freshly_randomised=True)


def numbers_of(wire: SealedCiphertexts) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in wire.rows]


def opened(key: PrivateKey, values: list[int]) -> Ciphertexts:
    return open_sealed(key.public, key.encrypt_for_wire(values))


def decrypted(key: PrivateKey, ciphertexts: Ciphertexts) -> list[int]:
    return key.decrypt(seal_for_wire(key.public, ciphertexts))


# Known answers.


@pytest.mark.parametrize("case", VECTORS["cases"])
def test_a_ciphertext_made_by_the_formula_decrypts_to_its_plaintext(
    key: PrivateKey, case: dict[str, str]
) -> None:
    assert key.decrypt(sealed(int(case["ciphertext"], 16))) == [int(case["plaintext"])]


def test_the_base_follows_from_the_modulus(key: PrivateKey) -> None:
    assert key.public.hs == int(VECTORS["hs"], 16)
    assert PublicKey(N + 4).hs != key.public.hs


@pytest.mark.parametrize("modulus", [N, P], ids=["n", "p"])
@pytest.mark.parametrize("shape", [(1, 1, 8), (3, 2, 4), (4, 5, 1), (5, 1, 3)])
def test_the_comb_raises_the_base_to_the_exponent_of_its_digits(
    key: PrivateKey, modulus: int, shape: tuple[int, int, int]
) -> None:
    teeth, blocks, steps = shape
    powers = paillier._Powers(modulus, key.public.hs, paillier._Shape(teeth, blocks, steps))
    digits = powers.shape.digits()
    exponent = sum(
        (digits[step][block] >> tooth & 1) << (tooth * blocks * steps + block * steps + step)
        for step in range(steps)
        for block in range(blocks)
        for tooth in range(teeth)
    )
    low, high = powers.raise_to(digits)
    assert low + modulus * high == pow(key.public.hs, exponent, modulus * modulus)


@pytest.mark.parametrize(("bits", "expected"), [(256, 1), (256, 10**6), (2112, 50), (4160, 10**4)])
def test_an_exponent_is_never_shorter_than_asked_and_its_table_stays_small(bits: int, expected: int) -> None:
    shape = paillier._best_shape(bits, expected, 10_000)
    assert shape.teeth * shape.blocks * shape.steps >= bits
    assert shape.blocks << shape.teeth <= 10_000


def test_the_digits_of_an_exponent_fill_their_range() -> None:
    shape = paillier._Shape(teeth=4, blocks=16, steps=16)
    seen = {digit for row in shape.digits() for digit in row}
    assert seen == set(range(16))


# Exactness.


def test_signed_plaintexts_come_back_exactly(key: PrivateKey) -> None:
    values = [0, 1, -1, 2**31, -(2**63), N // 2 - 1, 1 - N // 2]
    assert key.decrypt(key.encrypt_for_wire(values)) == values


@pytest.mark.parametrize("value", [N // 2, -(N // 2), N], ids=["half", "minus half", "n"])
def test_a_plaintext_beyond_half_of_the_modulus_is_not_encrypted(key: PrivateKey, value: int) -> None:
    with pytest.raises(ValueError):
        key.encrypt_for_wire([0, value])


def test_nothing_encrypts_seals_opens_and_packs_to_nothing(key: PrivateKey) -> None:
    wire = key.encrypt_for_wire([])
    assert wire.rows.shape == (0, WIDTH)
    empty = open_sealed(key.public, wire)
    assert len(empty) == 0
    assert len(pack(key.public, empty, 64)) == 0
    assert len(seal_for_wire(key.public, empty)) == 0
    assert key.decrypt(wire) == []
    assert key.decrypt_packed(wire, 0, 64) == []


def test_sums_place_by_place_are_exact(key: PrivateKey) -> None:
    first, second = opened(key, [1, -5, 2**80]), opened(key, [-3, -7, 2**80])
    assert decrypted(key, add(key.public, first, second)) == [-2, -12, 2**81]


def test_taken_and_joined_ciphertexts_keep_their_plaintexts(key: PrivateKey) -> None:
    ciphertexts = opened(key, [10, 20, 30])
    total = add(key.public, ciphertexts, ciphertexts)
    joined = Ciphertexts.join([ciphertexts.take(np.array([2, 0])), total.take(np.array([1]))])
    assert decrypted(key, joined) == [30, 10, 40]


def plain_sums(
    values: list[int], bins: NDArray[Any], rows: NDArray[np.int64], counts: list[int]
) -> list[list[int]]:
    return [
        [sum(values[row] for row in rows if bins[row, feature] == place) for place in range(count)]
        for feature, count in enumerate(counts)
    ]


@pytest.mark.parametrize("counts", [[5, 2, 3, 2], [40, 40], [1], [2, 2, 2, 2, 2]])
def test_bin_sums_equal_plain_sums_whatever_features_are_summed_together(
    key: PrivateKey, counts: list[int]
) -> None:
    random = np.random.default_rng(5)
    bins = np.stack([random.integers(0, count, 60) for count in counts], axis=1).astype(np.uint8)
    values = [int(value) for value in random.integers(-(2**40), 2**40, 60)]
    rows = np.flatnonzero(random.random(60) < 0.7)
    sums = sum_into_bins(key.public, opened(key, values), bins, rows, counts)
    expected = plain_sums(values, bins, rows, counts)
    assert [len(part) for part in sums] == counts
    flat = pack(key.public, Ciphertexts.join(sums), 60)
    count = sum(counts)
    assert key.decrypt_packed(seal_for_wire(key.public, flat), count, 60) == [
        v for part in expected for v in part
    ]


def test_sums_of_sums_are_exact_too(key: PrivateKey) -> None:
    bins = np.array([[0], [1], [1], [0]], dtype=np.int32)
    ciphertexts = opened(key, [1, 2, 3, 4])
    [once] = sum_into_bins(key.public, ciphertexts, bins, np.arange(4), [2])
    [twice] = sum_into_bins(key.public, once, np.array([[0], [0]]), np.arange(2), [1])
    assert decrypted(key, twice) == [10]


def test_features_are_summed_together_where_that_saves_work() -> None:
    assert paillier._groups([32, 32], 10_000) == [[0, 1]]
    assert paillier._groups([32, 32], 100) == [[0], [1]]
    assert sorted(place for group in paillier._groups([9, 2, 4, 2, 7], 500) for place in group) == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_no_rows_give_a_zero_in_every_bin(key: PrivateKey) -> None:
    ciphertexts = opened(key, [7])
    [sums] = sum_into_bins(key.public, ciphertexts, np.array([[0]]), np.array([], dtype=np.int64), [3])
    assert decrypted(key, sums) == [0, 0, 0]


@pytest.mark.parametrize("place", [-1, 2])
def test_a_bin_outside_its_count_is_not_summed(key: PrivateKey, place: int) -> None:
    with pytest.raises(ValueError):
        sum_into_bins(key.public, opened(key, [7]), np.array([[place]]), np.arange(1), [2])


@pytest.mark.parametrize("slot_bits", [2, 61, 700, 2046])
def test_packed_sums_come_back_exactly_at_the_ends_of_their_range(key: PrivateKey, slot_bits: int) -> None:
    top = 1 << (slot_bits - 1)
    count = min(slots_per_ciphertext(2048, slot_bits) + 3, 40)
    values = [[-top, top - 1, 0, -1, 1 - top][place % 5] for place in range(count)]
    packed = pack(key.public, opened(key, values), slot_bits)
    assert len(packed) == -(-count // slots_per_ciphertext(2048, slot_bits))
    assert key.decrypt_packed(seal_for_wire(key.public, packed), count, slot_bits) == values


def test_a_full_ciphertext_of_lowest_or_highest_sums_comes_back_exactly(key: PrivateKey) -> None:
    slots = slots_per_ciphertext(2048, 341)
    assert slots == 6
    for value in (-(1 << 340), (1 << 340) - 1):
        packed = pack(key.public, opened(key, [value] * slots), 341)
        assert key.decrypt_packed(seal_for_wire(key.public, packed), slots, 341) == [value] * slots


@pytest.mark.parametrize("slot_bits", [1, 2047])
def test_a_slot_that_cannot_hold_a_sign_or_does_not_fit_is_refused(slot_bits: int) -> None:
    with pytest.raises(ValueError):
        slots_per_ciphertext(2048, slot_bits)


def test_packed_answers_of_another_number_or_length_are_refused(key: PrivateKey) -> None:
    wire = key.encrypt_for_wire([1 << 128])
    for count, slot_bits in ((2, 64), (100, 64), (0, 64)):
        with pytest.raises(PeerError) as caught:
            key.decrypt_packed(wire, count, slot_bits)
        assert caught.value.code == "bad_ciphertext"


# T1: fresh randomness on everything that leaves.


def root(number: int) -> int:
    """The randomness x of a ciphertext (1 + m n) x^n, with the secret key."""
    return pow(number % N, pow(N, -1, (P - 1) * (Q - 1)), N)


def test_the_same_sum_sealed_twice_has_different_bytes_and_the_same_plaintext(key: PrivateKey) -> None:
    bins = np.zeros((3, 1), dtype=np.uint8)
    [total] = sum_into_bins(key.public, opened(key, [1, 2, 3]), bins, np.arange(3), [1])
    first, second = seal_for_wire(key.public, total), seal_for_wire(key.public, total)
    assert first.rows.tobytes() != second.rows.tobytes()
    assert key.decrypt(first) == key.decrypt(second) == [6]


def test_the_randomness_of_a_sealed_sum_is_not_the_product_of_what_came_in(key: PrivateKey) -> None:
    wire = key.encrypt_for_wire([1, 2, 3])
    [total] = sum_into_bins(
        key.public, open_sealed(key.public, wire), np.zeros((3, 1), dtype=np.uint8), np.arange(3), [1]
    )
    incoming = 1
    for number in numbers_of(wire):
        incoming = incoming * root(number) % N
    raw = int(total._low[0]) + N * int(total._high[0])
    assert root(raw) == incoming  # unsealed, the guess of a partner who knows the inputs is right
    outgoing = [root(number) for _ in range(4) for number in numbers_of(seal_for_wire(key.public, total))]
    assert len({*outgoing, incoming}) == 5


def test_an_empty_bin_leaves_as_something_that_does_not_look_empty(key: PrivateKey) -> None:
    ciphertexts = opened(key, [7])
    [sums] = sum_into_bins(key.public, ciphertexts, np.array([[0]]), np.array([], dtype=np.int64), [3])
    numbers = numbers_of(seal_for_wire(key.public, sums))
    assert len(set(numbers)) == 3
    assert all(number % N != 1 for number in numbers)


def test_the_same_value_encrypted_twice_has_different_randomness(key: PrivateKey) -> None:
    numbers = numbers_of(key.encrypt_for_wire([5] * 6))
    assert len({number % N for number in numbers}) == 6


def test_sealing_draws_more_bits_than_any_order_has(key: PrivateKey) -> None:
    seal_for_wire(key.public, opened(key, [1]))
    assert key.public._powers is not None
    shape = key.public._powers.shape
    assert shape.teeth * shape.blocks * shape.steps >= 2048 + 64


def test_encryption_draws_no_fewer_bits_than_documented(key: PrivateKey) -> None:
    key.encrypt_for_wire([1])
    assert key._powers is not None
    shape = key._powers[0].shape
    assert shape.teeth * shape.blocks * shape.steps >= 256
    assert paillier.encryption_bits(2048) == paillier.encryption_bits(3072) == 256
    assert paillier.encryption_bits(4096) == 320


def test_no_public_call_turns_ciphertexts_into_anything_but_ciphertexts_save_sealing() -> None:
    public = [value for name, value in vars(paillier).items() if not name.startswith("_") and callable(value)]
    ours = [value for value in public if getattr(value, "__module__", "") == paillier.__name__]
    calls: list[Any] = [value for value in ours if inspect.isfunction(value)]
    for cls in (value for value in ours if inspect.isclass(value)):
        calls += [
            call for name, call in inspect.getmembers(cls, inspect.isroutine) if not name.startswith("_")
        ]
    hints_of = {call.__qualname__: typing.get_type_hints(call) for call in calls}
    taking = [
        (name, hints)
        for name, hints in hints_of.items()
        if name.startswith("Ciphertexts.")
        or any(Ciphertexts in (hint, *typing.get_args(hint)) for hint in hints.values())
    ]
    names = {name for name, _ in taking}
    assert {"seal_for_wire", "pack", "add", "sum_into_bins", "Ciphertexts.take", "Ciphertexts.join"} <= names
    leaving = {name for name, hints in taking if hints["return"] not in (Ciphertexts, list[Ciphertexts])}
    assert leaving == {"seal_for_wire"}


def test_unsealed_ciphertexts_have_no_bytes_no_pickle_no_repr_and_no_message_field(key: PrivateKey) -> None:
    ciphertexts = opened(key, [1, 2])
    with pytest.raises(TypeError):
        bytes(ciphertexts)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        pickle.dumps(ciphertexts)
    with pytest.raises(TypeError):
        Sealed(WIDTH).write(ciphertexts)
    assert repr(ciphertexts) == "Ciphertexts(2)"
    assert [name for name in dir(ciphertexts) if not name.startswith("_")] == ["join", "take"]


def test_prepared_blinding_is_used_once_and_then_gone(key: PrivateKey) -> None:
    key.prepare(3)
    key.public.prepare(2)
    waiting = [*key._pool, *key.public._pool]
    ciphertexts = opened(key, [1, 2, 3, 4])
    assert decrypted(key, ciphertexts) == [1, 2, 3, 4]
    assert not key._pool
    assert not key.public._pool
    assert len(waiting) == 5
    for secret in waiting:
        with pytest.raises(LocalError):
            secret.take()


def test_keys_and_prepared_secrets_are_neither_shown_nor_pickled(key: PrivateKey) -> None:
    shown = f"{key!r} {key.public!r}"
    assert all(str(number) not in shown for number in (P, Q, N))
    for secret in (key, key.public):
        with pytest.raises(TypeError):
            pickle.dumps(secret)


# T2, P7: bad keys.


def test_a_good_key_passes_and_comes_back_from_its_bytes(key: PrivateKey) -> None:
    data = key.public.encode()
    again = PublicKey.decode(data)
    assert len(data) == 256
    assert again == key.public
    assert again.hs == key.public.hs
    assert again.fingerprint() == key.public.fingerprint()
    assert len(again.fingerprint()) == 64


PRIME = int(VECTORS["prime_of_2048_bits"], 16)
CUBE_ROOT = int(VECTORS["prime_whose_cube_has_2048_bits"], 16)
BAD_KEYS = {
    "a short modulus": ((N >> 1024 | 1).to_bytes(128, "little"), "length"),
    "a modulus of 2047 bits": ((N >> 1 | 1).to_bytes(256, "little"), "length"),
    "no bytes": (b"", "length"),
    "bytes of a length between": (N.to_bytes(257, "little"), "length"),
    "zero": (bytes(256), "length"),
    "an even modulus": ((N + 1).to_bytes(256, "little"), "1 mod 4"),
    "a modulus that is 3 mod 4": ((N + 2).to_bytes(256, "little"), "1 mod 4"),
    "a prime": (PRIME.to_bytes(256, "little"), "prime"),
    "a square": ((P * P).to_bytes(256, "little"), "power"),
    "a cube": ((CUBE_ROOT**3).to_bytes(256, "little"), "power"),
    "a product with a small factor": (
        (65521 * ((1 << 2047) // 65521 // 4 * 4 + 5)).to_bytes(256, "little"),
        "factor",
    ),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_bad_key_is_refused(name: str) -> None:
    data, why = BAD_KEYS[name]
    with pytest.raises(PeerError) as caught:
        PublicKey.decode(data)
    assert caught.value.code == "bad_key"
    assert why in caught.value.fields["why"]


def test_a_smooth_key_is_refused() -> None:
    smooth = 1
    for prime in reversed(paillier._small_primes(1 << 16)):
        if smooth.bit_length() < 2000:
            smooth *= prime
    last = (3 << 2046) // smooth
    smooth *= next(factor for factor in range(last, last + 4) if smooth * factor % 4 == 1)
    with pytest.raises(PeerError, match="small factor"):
        PublicKey(smooth).check()


@pytest.mark.parametrize(
    "hs", [0, 1, N - 1, N * N - 1, N + 1, P, 3 * Q], ids=["0", "1", "n-1", "n^2-1", "n+1", "p", "3q"]
)
def test_a_key_whose_base_is_trivial_or_no_unit_is_refused(key: PrivateKey, hs: int) -> None:
    public = PublicKey(N)
    public._hs = hs
    with pytest.raises(PeerError, match="base"):
        public.check()


# T2, P7: bad ciphertexts.

BAD_CIPHERTEXTS = {
    "zero": 0,
    "one": 1,
    "the modulus": N,
    "minus one": N * N - 1,
    "minus one modulo n": N - 1,
    "a plaintext without randomness": 1 + 5 * N,
    "the square of the modulus": N * N,
    "the largest of its width": (1 << 4096) - 1,
    "a multiple of p": 5 * P,
    "a multiple of q": Q * (P + 2),
}


@pytest.mark.parametrize("name", BAD_CIPHERTEXTS)
def test_a_bad_ciphertext_among_good_ones_is_refused_by_both_sides(key: PrivateKey, name: str) -> None:
    good = numbers_of(key.encrypt_for_wire([1, 2]))
    wire = sealed(good[0], BAD_CIPHERTEXTS[name], good[1])
    for read in (lambda: open_sealed(key.public, wire), lambda: key.decrypt(wire)):
        with pytest.raises(PeerError) as caught:
            read()
        assert caught.value.code == "bad_ciphertext"


@pytest.mark.parametrize("width", [511, 513, 768])
def test_ciphertexts_of_another_width_are_refused(key: PrivateKey, width: int) -> None:
    wire = SealedCiphertexts(np.ones((1, width), dtype=np.uint8), freshly_randomised=True)
    with pytest.raises(PeerError, match="bytes"):
        open_sealed(key.public, wire)


def test_ciphertexts_of_two_keys_do_not_mix(key: PrivateKey) -> None:
    ciphertexts = opened(key, [1])
    other = PublicKey(N + 4)
    foreign = Ciphertexts(N + 4, ciphertexts._low, ciphertexts._high)
    for mix in (
        lambda: Ciphertexts.join([ciphertexts, foreign]),
        lambda: add(key.public, ciphertexts, foreign),
        lambda: seal_for_wire(other, ciphertexts),
        lambda: pack(other, ciphertexts, 64),
    ):
        with pytest.raises(ValueError):
            mix()


# The floor.


@pytest.mark.parametrize("bits", [0, 512, 1024, 2047, 2049, 4097, 8192])
def test_a_key_below_the_floor_or_of_an_odd_length_is_not_made(bits: int) -> None:
    with pytest.raises(ConfigError) as caught:
        PrivateKey.generate(bits)
    assert caught.value.code == "out_of_bounds"
    assert caught.value.fields["field"] == "crypto.paillier_bits"


def test_a_short_key_cannot_be_put_together_from_primes() -> None:
    with pytest.raises(ConfigError):
        PrivateKey(7, 11)


@pytest.mark.parametrize(("p", "q"), [(P, P), (P, Q + 2)], ids=["equal", "1 mod 4"])
def test_a_key_of_equal_factors_or_of_a_factor_that_is_1_mod_4_is_not_made(p: int, q: int) -> None:
    with pytest.raises(ValueError):
        PrivateKey(p, q)


def test_a_generated_key_has_its_exact_length_and_passes_the_check_of_a_partner() -> None:
    key = PrivateKey.generate(2048)
    assert key.public.n.bit_length() == 2048
    assert PublicKey.decode(key.public.encode()) == key.public
    value = secrets.randbits(64)
    assert key.decrypt(key.encrypt_for_wire([value])) == [value]
