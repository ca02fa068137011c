"""One table of people, divided between a bank and a partner, each of which knows 90 % of them by phone number.

The phone numbers are invented: a seeded permutation of eight digits behind 154, a prefix without subscribers at the
time of writing. They have the form of a mainland mobile number and point at nobody. Some are written untidily, as in
real files: with +86, blanks, dashes or full-width digits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from isthmus.base.randomness import Rng

KNOWN_SHARE = 0.9
TEST_SHARE = 0.2
UNTIDY_SHARE = 0.04
PHONE_PREFIX = 154
FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
UNTIDY_FORMS: tuple[Callable[[str], str], ...] = (
    lambda phone: f"{phone[:3]} {phone[3:7]} {phone[7:]}",
    lambda phone: f"{phone[:3]}-{phone[3:7]}-{phone[7:]}",
    lambda phone: f"+86{phone}",
    lambda phone: f"+86 {phone[:3]}-{phone[3:7]}-{phone[7:]}",
    lambda phone: f" {phone} ",
    lambda phone: phone.translate(FULL_WIDTH),
)


@dataclass(frozen=True, slots=True)
class Portfolio:
    """One row a person, in the same order everywhere. Columns are Arrow arrays or numpy arrays; NaN stands for missing."""

    bad: NDArray[np.int8]
    bank: dict[str, Any]
    partner: dict[str, Any]

    @property
    def rows(self) -> int:
        return len(self.bad)


@dataclass(frozen=True, slots=True)
class DemoTables:
    """Files of the two parties; `test_ids_csv` lists shared people kept out of training, `true_overlap` counts the shared."""

    label_csv: Path
    feature_csv: Path
    test_ids_csv: Path
    true_overlap: int


def seeded(seed: int) -> Rng:
    """The randomness of a made or divided portfolio."""
    return Rng(hashlib.sha256(f"isthmus/scenario/{seed}".encode()).digest())


def phones(count: int, rng: Rng) -> NDArray[np.int64]:
    """`count` different invented numbers of eleven digits."""
    modulus = 10**8
    if count > modulus:
        raise ValueError("eight digits number at most 10^8 people")
    words = rng.words("phones", 3)
    # Odd and no multiple of five: coprime to 10^8, so that every step is a permutation.
    factor = int(words[0]) % (modulus // 10) * 10 + (1, 3, 7, 9)[int(words[1]) % 4]
    digits = (np.arange(count, dtype=np.int64) * factor + int(words[2] % modulus)) % modulus
    return PHONE_PREFIX * modulus + digits


def written(numbers: NDArray[np.int64], rng: Rng) -> list[str]:
    """The numbers as somebody typed them: a few with blanks, dashes, +86 or full-width digits."""
    texts = [str(number) for number in numbers.tolist()]
    untidy = np.flatnonzero(rng.uniform("untidy", len(texts)) < UNTIDY_SHARE)
    forms = rng.words("forms", len(untidy)) % len(UNTIDY_FORMS)
    for row, form in zip(untidy.tolist(), forms.tolist(), strict=True):
        texts[row] = UNTIDY_FORMS[form](texts[row])
    return texts


def write_tables(portfolio: Portfolio, folder: Path, seed: int) -> DemoTables:
    """bank.csv (phone, bad, own columns), partner.csv (phone, own columns), test_ids.csv (phone). Same seed, same files."""
    rng = seeded(seed).under("divide")
    rows = portfolio.rows
    known = round(rows * KNOWN_SHARE)
    numbers = phones(rows, rng)
    at_bank = rng.permutation("bank", rows)[:known]
    at_partner = rng.permutation("partner", rows)[:known]
    shared = np.intersect1d(at_bank, at_partner)

    folder.mkdir(parents=True, exist_ok=True)
    tables = DemoTables(folder / "bank.csv", folder / "partner.csv", folder / "test_ids.csv", len(shared))
    bank = {"phone": written(numbers[at_bank], rng.under("bank")), "bad": portfolio.bad[at_bank]}
    partner = {"phone": written(numbers[at_partner], rng.under("partner"))}
    _write(tables.label_csv, bank | _take(portfolio.bank, at_bank))
    _write(tables.feature_csv, partner | _take(portfolio.partner, at_partner))
    _write(
        tables.test_ids_csv, {"phone": [str(number) for number in numbers[_held_out(portfolio, shared, rng)]]}
    )
    return tables


def _held_out(portfolio: Portfolio, shared: NDArray[np.int64], rng: Rng) -> NDArray[np.int64]:
    """The same share of good and of bad people, in the order of their rows."""
    chosen = []
    for label in (0, 1):
        people = shared[portfolio.bad[shared] == label]
        count = round(len(people) * TEST_SHARE)
        chosen.append(people[rng.permutation(f"test/{label}", len(people))[:count]])
    return np.sort(np.concatenate(chosen))


def _take(columns: dict[str, Any], rows: NDArray[np.int64]) -> dict[str, Any]:
    return {name: values.take(rows) for name, values in columns.items()}


def _write(path: Path, columns: dict[str, Any]) -> None:
    table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none", batch_size=65_536)
    with path.open("wb") as file:
        file.write((",".join(columns) + "\n").encode())
        pyarrow.csv.write_csv(table, file, options)
