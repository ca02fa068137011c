"""Documents with one spelling: canonical JSON (RFC 8785 for the values we allow) and its SHA-256."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Bytes of a document of null, booleans, text, integers within 2^53, finite numbers, lists and maps with text keys.

    Keys are sorted by UTF-16 code units and numbers written as ECMAScript does, as RFC 8785 asks. Raises ValueError for
    anything else.
    """
    return _write(value).encode("utf-8")


def digest(value: Any) -> bytes:
    """SHA-256 of the canonical JSON, 32 bytes."""
    return hashlib.sha256(canonical_json(value)).digest()


def _write(value: Any) -> str:
    if value is None or isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        if abs(value) > 2**53:
            raise ValueError("integers in a canonical document stay within 2^53")
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_write(v) for v in value) + "]"
    if isinstance(value, dict):
        if not all(isinstance(k, str) for k in value):
            raise ValueError("keys of a canonical document are text")
        keys = sorted(value, key=lambda k: k.encode("utf-16-be"))
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{_write(value[k])}" for k in keys) + "}"
    raise ValueError(f"a canonical document cannot hold {type(value).__name__}")


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError("numbers in a canonical document are finite")
    if value == 0:
        return "0"
    digits = repr(abs(value))
    mantissa, _, exponent = digits.partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = fraction.rstrip("0") if fraction != "0" else ""
    figures = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0)
    if whole == "0":
        point = int(exponent or 0) - (len(fraction) - len(fraction.lstrip("0")))
    figures = figures.rstrip("0") or "0"
    size = len(figures)
    if size <= point <= 21:
        text = figures + "0" * (point - size)
    elif 0 < point <= 21:
        text = figures[:point] + "." + figures[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + figures
    else:
        power = point - 1
        text = (
            figures[0] + ("." + figures[1:] if size > 1 else "") + f"e{'+' if power > 0 else '-'}{abs(power)}"
        )
    return ("-" if value < 0 else "") + text
