"""What may cross: every message with every field is on record here, so that no field comes in unseen. (T8, T9, T11, M39, M40)

A field is named with its encoding: a code of `struct` or numpy and the fixed sizes of an array; `sealed` is a ciphertext.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

from isthmus.learn.bins import CategoryBins, ColumnBins, NumericBins
from isthmus.learn.tree import FeatureHalf, Inner, LabelHalf, OwnSplit, Tree
from isthmus.wire.message import (
    Array,
    Blob,
    Encoding,
    Flag,
    Message,
    Number,
    Raw,
    RowSets,
    Sealed,
    Text,
    layout,
)

ON_RECORD = {
    "wire.message.Abort": "0x0001 code text 64",
    "protocols.align.SetSize": "0x0101 rows Q",
    "protocols.align.Blinded": "0x0102 points u1[* 32]",
    "protocols.align.Reblinded": "0x0103 points u1[* 32]",
    "protocols.align.Stands": "0x0105 answered Q, met Q",
    "protocols.align.Took": "0x0106 ",
    "protocols.align.Shared": "0x0104 bits u1[*], learns flag",
    "protocols.binning.Parts": "0x0201 part_of_row u1[*]",
    "protocols.binning.Shapes": "0x0202 bin_counts u2[*]",
    "protocols.histogram.Setup": "0x0301 public_key blob 4096, rows Q, hessian_shift B, slot_bits B",
    "protocols.histogram.Encrypted": "0x0302 rows sealed",
    "protocols.histogram.Nodes": "0x0303 slots H, slot_of_row i4[*]",
    "protocols.histogram.Answer": "0x0304 sums sealed",
    "protocols.boost.Next": "0x0401 what B",
    "protocols.boost.Won": "0x0402 features u2[*], last_left u1[*], missing_left u1[*], rows sets of rows",
    "protocols.boost.Sides": "0x0403 bits u1[*]",
    "protocols.boost.Kept": "0x0404 splits u4[*]",
    "protocols.evaluate.Results": "0x0501 rows Q, alone d, alone_ks d, joint d, joint_ks d",
    "protocols.score.Ask": "0x0601 splits u4[*], rows sets of rows",
    "protocols.score.Told": "0x0602 bits u1[*]",
    "protocols.hint_setup.Commit": "0x0701 digest raw 32",
    "protocols.hint_setup.Nonce": "0x0702 nonce raw 32, seen I",
    "protocols.hint_setup.Agreed": "0x0703 nonce raw 32, others u1[* 32], place B, set B, payload B, cut B, first I",
    "protocols.hint_setup.Columns": "0x0704 chunk H, start H, words u8[* *]",
    "protocols.hint.Offline": "0x0705 index I, left H, first u8[* * 4096], second u8[* *]",
    "protocols.hint.Check": "0x0706 indexes u4[*]",
    "protocols.hint.Seeds": "0x0707 seeds u1[* 32]",
    "protocols.hint.Vectors": "0x0708 indexes u4[*]",
    "protocols.hint.PieceOfWords": "0x0709 start I, words u1[* * *]",
    "protocols.hint.Answer": "0x070a start I, sums u1[* * *]",
    "protocols.secure_sum.Report": "0x0b01 id raw 16, task raw 32, round I, device raw 32, expires_ms Q, ticket raw 64, "
    "weight I, sealed u1[2 80], signature raw 64, masked blob 67104768",
    "protocols.secure_sum.Batch": "0x0b02 terms raw 445, id raw 16, place B, entries u1[* 332], signature raw 64",
    "protocols.secure_sum.Looked": "0x0b03 reports u1[* 16], faults u1[*]",
    "protocols.secure_sum.Answer": "0x0b04 batch raw 16, place B, reports raw 32, sum blob 67104768, signature raw 64",
    "protocols.secagg_plus.Keys": "0x0c01 terms raw 32, device raw 32, mask_key raw 32, share_key raw 32, "
    "expires_ms Q, ticket raw 64, signature raw 64",
    "protocols.secagg_plus.Roster": "0x0c02 terms raw 32, rows u1[* 232]",
    "protocols.secagg_plus.Shares": "0x0c03 session raw 32, keepers u2[*], sealed u1[* 82], check raw 32",
    "protocols.secagg_plus.Dealt": "0x0c04 session raw 32, sharers u2[*], senders u2[*], sealed u1[* 82]",
    "protocols.secagg_plus.Masked": "0x0c05 session raw 32, weight I, signature raw 64, masked blob 67104768",
    "protocols.secagg_plus.Survivors": "0x0c06 session raw 32, alive u2[*], signatures u1[* 64]",
    "protocols.secagg_plus.Agreed": "0x0c07 session raw 32, signature raw 64",
    "protocols.secagg_plus.Agreement": "0x0c08 session raw 32, signers u2[*], signatures u1[* 64]",
    "protocols.secagg_plus.Opening": "0x0c09 session raw 32, owners u2[*], shares u1[* 33]",
}
NEVER = re.compile(
    r"gradient|hessian(?!_shift)|label|cover|gain|leaf|residual|prediction|plaintext|secret|class|module"
)
"""What no field may be called: what one row weighs, what a tree node holds, and what could be run."""


def said(encoding: Encoding) -> str:
    match encoding:
        case Number(code):
            return code
        case Flag():
            return "flag"
        case Raw(size):
            return f"raw {size}"
        case Blob(most) | Text(most):
            return f"{type(encoding).__name__.lower()} {most}"
        case Array():
            sizes = " ".join("*" if size is None else str(size) for size in encoding.shape)
            return f"{encoding.dtype.str[1:]}[{sizes}]"
        case RowSets():
            return "sets of rows"
        case Sealed():
            return "sealed"
    raise AssertionError(f"an encoding that this census does not know: {encoding!r}")


def messages() -> Iterator[tuple[str, type[Message]]]:
    for room in ("wire", "protocols", "jobs"):
        package = importlib.import_module(f"isthmus.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"isthmus.{room}."):
            importlib.import_module(module.name)
    todo = [Message]
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        if "KIND" in cls.__dict__ and cls.__module__.startswith("isthmus."):
            yield f"{cls.__module__.removeprefix('isthmus.')}.{cls.__name__}", cls


def test_every_field_that_crosses_between_roles_is_on_record() -> None:
    found = {
        name: f"{cls.KIND:#06x} " + ", ".join(f"{field} {said(encoding)}" for field, encoding in layout(cls))
        for name, cls in messages()
        if not name.startswith(("jobs.", "service."))
    }
    assert found == ON_RECORD


REAL = frozenset({"protocols.evaluate.Results", "service.partner_line.RatesTold"})
"""The agreed metrics, and the seconds that a line takes."""


def test_no_field_holds_what_one_row_or_one_tree_node_weighs() -> None:
    for name, cls in messages():
        for field, encoding in layout(cls):
            assert not NEVER.search(field), (name, field)
            real = said(encoding)[:1] in ("f", "d") and not isinstance(encoding, Flag)
            assert not real or name in REAL, (name, field)


def test_every_kind_of_message_has_a_number_of_its_own() -> None:
    kinds = [cls.KIND for _, cls in messages()]
    assert len(set(kinds)) == len(kinds)


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


def test_a_half_of_a_model_holds_no_count_no_cover_and_no_gain() -> None:
    columns: list[ColumnBins] = [NumericBins("age", (1.5,), 0), CategoryBins("city", (("a",),), 1, 0)]
    splits = [OwnSplit(0, 1, True)]
    trees = [Tree({0: Inner(1, 0)}, {1: 0.5, 2: -0.5})]
    shared = {
        "format",
        "role",
        "note",
        "columns",
        "splits",
        "kind",
        "name",
        "cuts",
        "levels",
        "unseen_bin",
        "missing_bin",
    }
    label_half = LabelHalf("binary", 0.1, columns, ["data-co"], splits, trees).to_json()
    assert keys(label_half) == shared | {"objective", "base", "owners", "trees", "inner", "leaf"}
    assert keys(FeatureHalf(columns, splits).to_json()) == shared
    assert [[len(row) for row in rows] for rows in label_half["trees"][0].values()] == [[3], [2, 2]]
    assert [len(split) for split in label_half["splits"]] == [3]
