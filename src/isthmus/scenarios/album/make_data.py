"""Makes digits.bin from the digits that scikit-learn ships, whose SHA-256 is checked first.

    python -m isthmus.scenarios.album.make_data .../sklearn/datasets/data/digits.csv.gz

The file is 1,797 rows of 65 bytes, deflated: 64 pixels of 0 to 16, then the digit. Only the table is read; nothing of
scikit-learn is imported or run.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

SOURCE_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
TARGET = Path(__file__).with_name("digits.bin")
SUMS = Path(__file__).with_name("SHA256SUMS")


def make(source: bytes) -> bytes:
    """The bytes of digits.bin. ValueError for another source."""
    if hashlib.sha256(source).hexdigest() != SOURCE_SHA256:
        raise ValueError("this is not the file that digits.bin was made from")
    table = np.loadtxt(gzip.decompress(source).decode("ascii").splitlines(), delimiter=",")
    return zlib.compress(table.astype(np.uint8).tobytes(), 9)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make digits.bin from scikit-learn's digits.csv.gz.")
    parser.add_argument("source", type=Path)
    body = make(parser.parse_args().source.read_bytes())
    TARGET.write_bytes(body)
    SUMS.write_text(f"{hashlib.sha256(body).hexdigest()}  {TARGET.name}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
