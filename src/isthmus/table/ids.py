"""Match keys: two parties who spell the same person differently must arrive at the same bytes.

Every form starts with Unicode NFKC (full-width digits become plain ones) and loses the blanks around it. Then

    none         as it is; upper and lower case, and leading zeros, count
    phone-cn     blanks, dashes and brackets go, and one of +86, 0086, 86; 11 digits that start with 1 remain
    phone-e164   the same; + or 00 must lead; + and 8 to 15 digits remain
    email        lower case; one @, a dot after it, no blanks
    id-card-cn   18 characters, the last may be X; the check digit of GB 11643 must hold

A key with control or invisible characters, over 256 bytes, or spelt by a spreadsheet as 1.38E+10 is malformed.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

IdForm = Literal["none", "phone-cn", "phone-e164", "email", "id-card-cn"]
MAX_ID_BYTES = 256

_PUNCTUATION = r"[\s()\-\x{2010}-\x{2015}\x{2212}]"
_CARD_WEIGHTS = np.array([pow(2, 17 - i, 11) for i in range(17)], dtype=np.int64)
_CARD_CHECKS = np.frombuffer(b"10X98765432", dtype=np.uint8)


def normalise(raw: Any, form: IdForm) -> tuple[Any, NDArray[np.bool_]]:
    """The keys as an Arrow large_string array, and which of them are malformed. `raw` holds no nulls."""
    keys = pc.utf8_trim_whitespace(pc.utf8_normalize(raw.cast(pa.large_string()), form="NFKC"))
    bad = _matches(keys, r"[\p{Cc}\p{Cf}]") | (_lengths(keys) > MAX_ID_BYTES)
    if form == "none":
        bad |= _matches(keys, r"^[0-9](\.[0-9]+)?[eE]\+[0-9]+$")
        floats = _matches(keys, r"^[0-9]+\.0$")
        bad |= floats if floats.all() else False
    elif form == "phone-cn":
        digits = pc.replace_substring_regex(keys, _PUNCTUATION, "")
        keys = pc.replace_substring_regex(digits, r"^(?:\+|00)?86(1[0-9]{10})$", r"\1")
        bad |= ~_matches(keys, r"^1[0-9]{10}$")
    elif form == "phone-e164":
        digits = pc.replace_substring_regex(keys, _PUNCTUATION, "")
        keys = pc.replace_substring_regex(digits, r"^00", "+")
        bad |= ~_matches(keys, r"^\+[1-9][0-9]{7,14}$")
    elif form == "email":
        keys = pc.utf8_lower(keys)
        bad |= ~_matches(keys, r"^[^@\s]+@[^@\s]+\.[^@\s.]+$")
    else:
        keys = pc.utf8_upper(keys)
        bad |= ~_matches(keys, r"^[1-9][0-9]{16}[0-9X]$")
        bad[~bad] = ~_check_digit_holds(keys.filter(pa.array(~bad)))
    return keys, bad


def match_key(raw: str, form: IdForm) -> bytes | None:
    """One key, as `normalise` makes it; None when it is empty or malformed."""
    keys, bad = normalise(pa.array([raw], pa.large_string()), form)
    key = str(keys[0].as_py()).encode()
    return None if bad[0] or not key else key


def _matches(keys: Any, pattern: str) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.match_substring_regex(keys, pattern).to_numpy(zero_copy_only=False)
    return found.astype(np.bool_, copy=True)


def _lengths(keys: Any) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = pc.binary_length(keys).to_numpy(zero_copy_only=False)
    return lengths


def _check_digit_holds(cards: Any) -> NDArray[np.bool_]:
    """ISO 7064 MOD 11-2 over 18-byte cards."""
    joined = "".join(cards.to_pylist()).encode()
    characters = np.frombuffer(joined, dtype=np.uint8).reshape(-1, 18)
    sums = (characters[:, :17].astype(np.int64) - ord("0")) @ _CARD_WEIGHTS
    holds: NDArray[np.bool_] = _CARD_CHECKS[sums % 11] == characters[:, 17]
    return holds
