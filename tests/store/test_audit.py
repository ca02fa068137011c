"""The audit log: whatever is done to a line, the check names it. (T25, C7)"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from isthmus.base.errors import ConfigError
from isthmus.crypto.seal import PartyKey
from isthmus.store.audit import (
    AuditCheck,
    AuditKind,
    AuditLine,
    Finding,
    Head,
    KeptHead,
    Note,
    known_code,
    line_of,
)
from isthmus.store.sql import SqlStore

KEY, OTHER = PartyKey.generate(), PartyKey.generate()
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LINES = 6
EACH = range(1, LINES + 1)


def chain(lines: int = LINES, first_object: str = "j-0", key: PartyKey = KEY) -> list[AuditLine]:
    made: list[AuditLine] = []
    for at in range(lines):
        name = first_object if at == 0 else f"j-{at}"
        note = Note("bank", key, NOW, "bank/local", AuditKind.JOB_DONE, name, "ab" * 32)
        made.append(note.after(made[-1] if made else None))
    return made


def own(line: AuditLine) -> KeptHead:
    return KeptHead("data-co", "own", line.head(), NOW)


def check(lines: list[AuditLine], kept: list[KeptHead] | None = None, start: int = 1) -> list[Finding]:
    judge = AuditCheck("bank", KEY.public, start)
    for line in lines:
        judge.take(line)
    judge.compare(kept or [], {"data-co": OTHER.public})
    return judge.findings


def test_a_log_as_written_has_no_findings() -> None:
    lines = chain()
    assert check(lines, [own(line) for line in lines]) == []
    assert check(lines[3:], start=4) == []


@pytest.mark.parametrize("number", EACH)
def test_a_deleted_line_is_named(number: int) -> None:
    lines = chain()
    last = lines[-1]
    del lines[number - 1]
    expected = (
        Finding("missing", number, number) if number < LINES else Finding("cut", LINES, LINES, "data-co")
    )
    assert check(lines, [own(last)]) == [expected]


@pytest.mark.parametrize("number", EACH)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("party", "data-co"), ("at", "2026-01-02T03:04:06+00:00"), ("actor", "bank"), ("kind", "job.failed"),
        ("object", "j-9"), ("digest", "cd" * 32), ("code", "vectors"), ("before", "ef" * 32),
        ("signature", "00" * 64), ("signature", "not hexadecimal"), ("signature", ""),
    ],
)  # fmt: skip
def test_a_changed_line_is_named(number: int, field: str, value: str) -> None:
    lines = chain()
    lines[number - 1] = replace(lines[number - 1], **{field: value})  # type: ignore[arg-type]
    assert check(lines) == [Finding("changed", number, number)]


@pytest.mark.parametrize(("first", "second"), [(a, b) for a in EACH for b in EACH if a < b])
def test_swapped_lines_are_both_named(first: int, second: int) -> None:
    lines = chain()
    one, two = lines[first - 1], lines[second - 1]
    lines[first - 1] = replace(two, number=first)
    lines[second - 1] = replace(one, number=second)
    assert check(lines) == [Finding("changed", first, first), Finding("changed", second, second)]


@pytest.mark.parametrize("left", range(LINES))
def test_a_cut_end_is_named_through_the_head_that_a_partner_holds(left: int) -> None:
    lines = chain()
    assert check(lines[:left]) == []
    assert check(lines[:left], [own(lines[1]), own(lines[-1])]) == [
        Finding("cut", left + 1, LINES, "data-co")
    ]


@pytest.mark.parametrize("number", EACH)
def test_a_line_signed_anew_is_named_by_the_next_one_or_by_the_partner(number: int) -> None:
    lines = chain()
    last = own(lines[-1])
    before = lines[number - 2] if number > 1 else None
    lines[number - 1] = Note("bank", KEY, NOW, "bank", AuditKind.JOB_FAILED, "j-9").after(before)
    trouble = (
        Finding("unlinked", number, number)
        if number < LINES
        else Finding("rewritten", LINES, LINES, "data-co")
    )
    assert check(lines, [last]) == [trouble]


def test_a_whole_log_written_anew_differs_from_what_the_partner_holds() -> None:
    told = [own(line) for line in chain()[1::2]]
    anew = chain(LINES + 3, "j-9")
    assert check(anew) == []
    assert check(anew, told) == [Finding("rewritten", number, number, "data-co") for number in (2, 4, 6)]


def test_a_line_put_in_after_the_end_by_somebody_else_is_named() -> None:
    forged = Note("bank", OTHER, NOW, "bank", AuditKind.JOB_DONE).after(chain()[-1])
    assert check([*chain(), forged]) == [Finding("changed", LINES + 1, LINES + 1)]
    far = replace(forged, number=2**62)
    assert check([*chain(), far])[-1] == Finding("changed", 2**62, 2**62)


def test_a_receipt_that_was_not_signed_is_not_believed() -> None:
    lines = chain()
    for head in (
        replace(lines[1].head(), number=9),
        replace(lines[1].head(), signature=bytes(64)),
        replace(lines[1].head(), number=0),
    ):
        receipt = KeptHead("data-co", "own", head, NOW)
        assert check(lines, [receipt]) == [Finding("bad_receipt", head.number, head.number, "data-co")]


def theirs(number: int, content: str = "j-0") -> KeptHead:
    line: AuditLine | None = None
    for _ in range(number):
        line = Note("data-co", OTHER, NOW, "data-co", AuditKind.JOB_DONE, content).after(line)
    assert line is not None
    return KeptHead("data-co", "partner", line.head(), NOW)


def test_a_partner_that_signed_two_ends_or_went_back_is_named() -> None:
    assert check(chain(), [theirs(2), theirs(4), theirs(5)]) == []
    assert check(chain(), [theirs(2), theirs(2, "j-1")]) == [Finding("forked", 2, 2, "data-co")]
    assert check(chain(), [theirs(4), theirs(3)]) == [Finding("rewound", 3, 3, "data-co")]
    stranger = KeptHead("shop", "partner", theirs(2).head, NOW)
    assert check(chain(), [stranger]) == [Finding("bad_receipt", 2, 2, "shop")]


@pytest.mark.parametrize(
    ("tamper", "finding"),
    [
        ("DELETE FROM audit WHERE number = 3", ("missing", 3, 3)),
        ("DELETE FROM audit WHERE number IN (2, 3)", ("missing", 2, 3)),
        ("UPDATE audit SET code = 'bug' WHERE number = 4", ("changed", 4, 4)),
        ("UPDATE audit SET object = CAST(x'ff00fe' AS TEXT) WHERE number = 4", ("changed", 4, 4)),
        ("DELETE FROM audit WHERE number > 2", ("cut", 3, 6)),
    ],
)
def test_what_is_done_to_the_file_of_a_node_is_found(
    tmp_path: Path, tamper: str, finding: tuple[str, int, int]
) -> None:
    path = tmp_path / "node.db"
    store = SqlStore(path)
    store.add_lines([Note("bank", KEY, NOW, "bank", AuditKind.JOB_DONE, f"j-{at}") for at in EACH])
    last = store.last_line()
    assert last is not None
    store.put_head(own(last))
    store.close()
    with sqlite3.connect(path) as insider:
        insider.execute("DROP TRIGGER audit_stays")
        insider.execute("DROP TRIGGER audit_remains")
        insider.execute(tamper)
    insider.close()
    store = SqlStore(path)
    (found,) = check(store.audit(), store.heads())
    store.close()
    assert (found.trouble, found.first, found.last) == finding


@pytest.mark.parametrize(
    "make",
    [
        lambda note, canary: replace(note, object=canary),
        lambda note, canary: replace(note, actor=canary),
        lambda note, canary: replace(note, digest=canary),
        lambda note, canary: replace(note, code=canary),
    ],
)
@pytest.mark.parametrize(
    "canary", ["138 0000 1234", "Monthly Income", "身份证", "x" * 141, "a\nb", "income=3"]
)
def test_a_line_has_no_room_for_values_or_columns(make: Callable[[Note, str], Note], canary: str) -> None:
    note = Note("bank", KEY, NOW, "bank", AuditKind.JOB_DONE, "j-1")
    with pytest.raises(ValueError, match="fixed form"):
        make(note, canary)


def test_a_line_is_read_back_from_its_json_and_nothing_else_is() -> None:
    line = chain(1)[0]
    assert line_of(line.to_json()) == line_of(asdict(line)) == line
    told = json.loads(line.to_json())
    bad: object
    for bad in (
        {**told, "note": "x"},
        {**told, "number": "1"},
        {**told, "number": True},
        {**told, "at": 7},
        "[",
        [],
    ):
        with pytest.raises(ConfigError) as caught:
            line_of(bad)
        assert caught.value.code == "bad_document"


def test_a_head_shows_nothing_but_number_digest_and_signature() -> None:
    head = chain()[2].head()
    assert head == Head(3, chain()[2].own_digest(), head.signature)
    assert known_code("vectors") == "vectors"
    assert known_code("the income of Mr. Li") == "bad_message"
