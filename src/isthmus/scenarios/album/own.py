"""Albums from a table of one's own: a CSV with `person`, `rating`, and an embedding in all other columns, one row a photo."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from isthmus.base.errors import ConfigError, DataError
from isthmus.scenarios.album.data import Seen

PHOTOS_LEAST: Final = 20


def read_albums(path: Path, people: int) -> list[list[Seen]]:
    """Of the people with the most photos, so many; a photo is liked that is rated above the middle of all ratings.

    Raises ConfigError `bad_path`; DataError `missing_column`, `not_a_number`, `too_small`.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            names, *rows = csv.reader(stream)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("bad_path", path=str(path), why=str(error)[:120]) from None
    except ValueError:
        names, rows = [], []
    for column in ("person", "rating"):
        if column not in names:
            raise DataError("missing_column", file=path.name, column=column, known=", ".join(names[:20]))
    person, rating = names.index("person"), names.index("rating")
    values = [i for i in range(len(names)) if i not in (person, rating)]
    owned: dict[str, list[tuple[NDArray[np.float32], float]]] = {}
    for number, row in enumerate(rows, 2):
        try:
            features, rated = np.array([float(row[i]) for i in values]), float(row[rating])
            if not np.isfinite([*features, rated]).all():
                raise ValueError(number)
        except (ValueError, IndexError):
            raise DataError(
                "not_a_number", file=path.name, column="rating, embedding", count=1, rows=number
            ) from None
        owned.setdefault(row[person], []).append((features.astype(np.float32), rated))
    chosen = sorted(owned.values(), key=len, reverse=True)[:people]
    enough = sum(len(photos) >= PHOTOS_LEAST for photos in chosen)
    if enough < people or not values:
        raise DataError(
            "too_small", what=f"{path.name}: people with {PHOTOS_LEAST} photos,", count=enough, needed=people
        )
    middle = float(np.median([rated for photos in owned.values() for _, rated in photos]))
    return [
        [
            Seen(f"photo-{i}", features, "favourite" if rated > middle else "shown", None, 0)
            for i, (features, rated) in enumerate(photos)
        ]
        for photos in chosen
    ]
