"""The real table of this scenario, and its two halves: ATTRIBUTION.md says where it comes from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet

from isthmus.base.errors import DataError
from isthmus.scenarios import portfolio
from isthmus.scenarios.portfolio import DemoTables, Portfolio

FILE = Path(__file__).with_name("credit_default.parquet")
SUMS = Path(__file__).with_name("SHA256SUMS")
LABEL = "bad"
PARTNER_COLUMNS = ("pay_0", "pay_2", "pay_3", "pay_4", "pay_5", "pay_6")


def load_portfolio() -> Portfolio:
    """30,000 card holders, 22 % of them bad. The bank holds limit, person, bills and payments (17 columns), the partner six."""
    expected = SUMS.read_text(encoding="utf-8").split()[0]
    if hashlib.sha256(FILE.read_bytes()).hexdigest() != expected:
        raise DataError("bad_array", file=FILE.name, why="its SHA-256 is not the one in SHA256SUMS")
    table = pyarrow.parquet.read_table(FILE)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    bad = columns.pop(LABEL).astype(np.int8, copy=False)
    partner = {name: columns.pop(name) for name in PARTNER_COLUMNS}
    return Portfolio(bad, columns, partner)


def write_tables(folder: Path, seed: int) -> DemoTables:
    """bank.csv, partner.csv and test_ids.csv of the real table; who is known to whom follows from the seed."""
    return portfolio.write_tables(load_portfolio(), folder, seed)
