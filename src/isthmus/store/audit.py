"""The audit log: numbered lines, each bound to the one before it and signed by the party.

    line n    body = party, number, time, who, kind, object, digest, code, digest of line n-1
              digest of line n = SHA-256(label, canonical body)        signature over (label, party, n, digest of line n)

Every line is signed, not only every hundredth: a signature takes far less than the commit that it rides on, no tail of the
log is ever unsigned, and the signature of a line is at the same time the signed *head* of all lines up to it. A head (number,
digest, signature) says nothing of what the lines hold; partners keep each other's. Whoever has the key can write a whole new
log; that it differs from the old one shows by the heads that partners hold, and by these only.

When the party changes its key, the line `key.rotated` names the old key and the new one and is the last that the old key signs;
every later line is signed with the new one.

A line has fields of fixed form and no room for anything else: names, ids of jobs, digests, codes of the catalogue of errors.
So no id of a row, no value, no column and no secret can get into it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from isthmus.base.canonical import canonical_json
from isthmus.base.errors import CLASSES, ConfigError, PeerError
from isthmus.crypto.seal import PartyKey, Publics, verify

FIRST = "0" * 64
"""What stands for the digest of the line before the first one."""

_LINE = b"isthmus/audit-line/v1\0"
_HEAD = b"isthmus/audit-head/v1\0"
_NAME = re.compile(r"[a-z0-9._@/-]{0,140}")
_HEX = re.compile(r"([0-9a-f]{64})?")
_CODES = frozenset(code for cls in CLASSES for code in cls.entries)


class AuditKind(StrEnum):
    """Everything that is ever written down."""

    NODE_STARTED = "node.started"
    NODE_RESTORED = "node.restored"
    BACKUP_MADE = "backup.made"
    PARTNER_INVITED = "partner.invited"
    PARTNER_JOINED = "partner.joined"
    PARTNER_CONFIRMED = "partner.confirmed"
    PARTNER_REFUSED = "partner.refused"
    PARTNER_REVOKED = "partner.revoked"
    PARTNER_KEY_OFFERED = "partner.key_offered"
    PARTNER_KEY_CHANGED = "partner.key_changed"
    KEY_OFFERED = "key.offered"
    KEY_ROTATED = "key.rotated"
    KEY_TAKEN = "key.taken"
    DATASET_ADDED = "dataset.added"
    DATASET_REFUSED = "dataset.refused"
    JOB_PROPOSED = "job.proposed"
    JOB_ACCEPTED = "job.accepted"
    JOB_REFUSED = "job.refused"
    JOB_STARTED = "job.started"
    JOB_RESUMED = "job.resumed"
    JOB_PAUSED = "job.paused"
    JOB_STOPPED = "job.stopped"
    JOB_DONE = "job.done"
    JOB_FAILED = "job.failed"
    JOB_REMOVED = "job.removed"
    CONSENT_SIGNED = "consent.signed"
    RULE_BROKEN = "rule.broken"
    HEAD_DIFFERS = "head.differs"
    USER_ADDED = "user.added"
    USER_REMOVED = "user.removed"
    USER_RESET = "user.reset"
    USER_ROLES = "user.roles"
    USER_PASSWORD = "user.password"
    USER_SECOND_FACTOR = "user.second_factor"
    SIGNED_IN = "user.signed_in"
    SIGN_IN_FAILED = "user.sign_in_failed"
    SIGNED_OUT = "user.signed_out"
    TOKEN_MADE = "token.made"
    TOKEN_REVOKED = "token.revoked"
    ACCESS_REFUSED = "access.refused"
    GRANT_ASKED = "grant.asked"
    GRANT_GIVEN = "grant.given"
    GRANT_REFUSED = "grant.refused"
    GRANT_REVOKED = "grant.revoked"
    GRANT_USED = "grant.used"
    PROJECT_MADE = "project.made"
    PROJECT_INVITED = "project.invited"
    PROJECT_ARCHIVED = "project.archived"
    APPROVAL_GIVEN = "approval.given"
    APPROVAL_REFUSED = "approval.refused"
    FLEET_MADE = "fleet.made"
    FLEET_KILLED = "fleet.killed"
    FLEET_RESUMED = "fleet.resumed"
    FLEET_DEVICE_BLOCKED = "fleet.device_blocked"
    FLEET_TASK_STARTED = "fleet.task_started"
    FLEET_TASK_STOPPED = "fleet.task_stopped"
    FLEET_ROLLED_OUT = "fleet.rolled_out"
    FLEET_ROLLED_BACK = "fleet.rolled_back"
    HELPER_ADDED = "helper.added"


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line as it is stored; `before` and `signature` are hexadecimal."""

    party: str
    number: int
    at: str
    actor: str
    kind: str
    object: str
    digest: str
    code: str
    before: str
    signature: str

    def own_digest(self) -> bytes:
        """32 bytes of everything but the signature. Raises ValueError where a number is out of all bounds."""
        body = asdict(self)
        del body["signature"]
        return hashlib.sha256(_LINE + canonical_json(body)).digest()

    def head(self) -> Head:
        return Head(self.number, self.own_digest(), bytes.fromhex(self.signature))

    def to_json(self) -> str:
        return canonical_json(asdict(self)).decode()


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a log at some time: 32 bytes of digest, 64 of signature."""

    number: int
    digest: bytes
    signature: bytes

    def check(self, party: str, public_key: Publics) -> None:
        """Raises PeerError `bad_signature` unless `party` has signed it."""
        verify(public_key, self.signature, _head_text(party, self.number, self.digest), party)


@dataclass(frozen=True, slots=True)
class KeptHead:
    """A head that crossed to a partner or came from it. `whose` log: that of this node (the partner sent its head back, so it
    holds it), or that of the partner."""

    partner: str
    whose: Literal["own", "partner"]
    head: Head
    at: datetime


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be written; the store puts it at the end of the log, together with the change it tells of.

    `actor` is a party, `party/name` for a person, `party/local` for whoever owns the folder of the node. Raises ValueError for
    text of any other form than a name.
    """

    party: str
    key: PartyKey = field(repr=False)
    at: datetime
    actor: str
    kind: AuditKind
    object: str = ""
    digest: str = ""
    code: str = ""

    def __post_init__(self) -> None:
        names = _NAME.fullmatch(self.actor) and _NAME.fullmatch(self.object)
        if not names or not _HEX.fullmatch(self.digest) or self.code not in _CODES | {""}:
            raise ValueError("a line of the audit log has fields of fixed form")

    def after(self, last: AuditLine | None) -> AuditLine:
        """The signed line that follows `last`."""
        line = AuditLine(
            party=self.party,
            number=last.number + 1 if last else 1,
            at=self.at.isoformat(),
            actor=self.actor,
            kind=self.kind.value,
            object=self.object,
            digest=self.digest,
            code=self.code,
            before=last.own_digest().hex() if last else FIRST,
            signature="",
        )
        signature = self.key.sign(_head_text(self.party, line.number, line.own_digest())).hex()
        return AuditLine(**{**asdict(line), "signature": signature})


Trouble = Literal["missing", "changed", "unlinked", "rewritten", "cut", "bad_receipt", "forked", "rewound"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with lines `first` to `last`; `partner` holds the head that shows it, or is the one whose log it is.

    missing      no such line
    changed      its signature does not hold: it was changed, or belongs to another place
    unlinked     signed, but not the line that the next one was written after
    rewritten    signed and linked, but a partner holds a head with another digest
    cut          a partner holds a head beyond the end
    bad_receipt  a stored head of this log that this party did not sign
    forked       the partner has signed two heads with this number
    rewound      the partner sent this head after a higher one
    """

    trouble: Trouble
    first: int
    last: int
    partner: str = ""


def lineage_of(lines: Iterable[AuditLine], public_key: bytes) -> tuple[bytes, ...]:
    """The keys of a log, oldest first, as far as its lines lead to `public_key` or on from it; none of it is verified.

    A last line `key.rotated` leads nowhere backwards: no line of the new key stands behind it.
    """
    newer: dict[bytes, bytes] = {}
    older: dict[bytes, bytes] = {}
    change: tuple[bytes, bytes] | None = None
    for line in lines:
        if change is not None:
            older[change[1]] = change[0]
        change = _change(line)
        if change is not None:
            newer[change[0]] = change[1]
    keys = [public_key]
    while (before := older.get(keys[0])) is not None and before not in keys:
        keys.insert(0, before)
    while (after := newer.get(keys[-1])) is not None and after not in keys:
        keys.append(after)
    return tuple(keys)


def _change(line: AuditLine) -> tuple[bytes, bytes] | None:
    """(old key, new key) that a line names."""
    if line.kind != AuditKind.KEY_ROTATED:
        return None
    try:
        return bytes.fromhex(line.object), bytes.fromhex(line.digest)
    except ValueError:
        return None


class AuditCheck:
    """Takes the lines of a log one by one, in rising order, and finds what was done to them.

    A part of a log that begins at a later line is taken as it is with `start`; what came before is not judged then. Of
    several keys, oldest first, a line may be signed with the one of the line before it, or with a later one where a line
    `key.rotated` has named it.
    """

    def __init__(self, party: str, public_key: Publics, start: int = 1) -> None:
        self.lines = 0
        self.findings: list[Finding] = []
        self._party = party
        self._keys = (public_key,) if isinstance(public_key, bytes) else public_key
        self._at: int | None = None
        """Which key signed the line before; None where that is not known."""
        self._named: bytes | None = None
        """The key that the line before named as the next one."""
        self._start = start
        self._next = start
        self._last_digest: str | None = FIRST if start == 1 else None
        self._digests: dict[int, str] = {}

    def take(self, line: AuditLine) -> None:
        number = line.number
        if number < self._next:
            self._find("changed", number, number)
            return
        if number > self._next:
            self._find("missing", self._next, number - 1)
            self._last_digest = None
        self.lines += 1
        self._next = number + 1
        try:
            head = line.head()
            self._signed(head)
            if line.party != self._party:
                raise ValueError("a line of another party")
        except (ValueError, PeerError):
            self._find("changed", number, number)
            self._last_digest = self._named = None
            return
        change = _change(line)
        self._named = change[1] if change else None
        if self._last_digest is not None and line.before != self._last_digest:
            at = max(number - 1, self._start)
            self._find("unlinked", at, at)
        self._last_digest = self._digests[number] = head.digest.hex()

    def _signed(self, head: Head) -> None:
        """Raises PeerError unless the key whose turn it is has signed this line. After a gap that may be a later key."""
        first = self._at or 0
        known = self._at is not None and self._last_digest is not None
        for at in range(first, len(self._keys)):
            if known and at > first and self._keys[at] != self._named:
                continue
            try:
                head.check(self._party, self._keys[at])
            except PeerError:
                continue
            self._at = at
            return
        raise PeerError("bad_signature", partner=self._party)

    def compare(self, kept: Iterable[KeptHead], keys: Mapping[str, Publics]) -> None:
        """After the last line: compares with the heads that partners hold, and the partners' own heads with each other.

        `kept` in the order in which they came; `keys` are the public keys of the partners, given-up ones included: a head was
        checked when it came, and no clock is asked again.
        """
        cut: dict[str, int] = {}
        newest: dict[str, int] = {}
        theirs: dict[tuple[str, int], bytes] = {}
        for found in kept:
            head, partner = found.head, found.partner
            key = self._keys if found.whose == "own" else keys.get(partner, b"")
            try:
                head.check(self._party if found.whose == "own" else partner, key)
            except PeerError:
                self._find("bad_receipt", head.number, head.number, partner)
                continue
            if found.whose == "partner":
                if theirs.setdefault((partner, head.number), head.digest) != head.digest:
                    self._find("forked", head.number, head.number, partner)
                elif head.number < newest.get(partner, 0):
                    self._find("rewound", head.number, head.number, partner)
                newest[partner] = max(head.number, newest.get(partner, 0))
            elif head.number >= self._next:
                cut[partner] = max(head.number, cut.get(partner, 0))
            elif self._digests.get(head.number, head.digest.hex()) != head.digest.hex():
                self._find("rewritten", head.number, head.number, partner)
        for partner, number in sorted(cut.items()):
            self._find("cut", self._next, number, partner)

    def _find(self, trouble: Trouble, first: int, last: int, partner: str = "") -> None:
        self.findings.append(Finding(trouble, first, last, partner))


def known_code(code: str) -> str:
    """The code if it is one of ours, else `bad_message`: what a partner calls a code may be any text."""
    return code if code in _CODES else "bad_message"


def line_of(document: Any) -> AuditLine:
    """The line that `to_json` wrote. Raises ConfigError `bad_document` for anything that has other fields."""
    try:
        fields = json.loads(document) if isinstance(document, str) else document
        line = AuditLine(**fields)
        if not isinstance(line.number, int) or isinstance(line.number, bool):
            raise TypeError("number")
        if not all(isinstance(value, str) for name, value in fields.items() if name != "number"):
            raise TypeError("text")
    except (ValueError, TypeError, RecursionError):
        raise ConfigError("bad_document", where="the audit log", why="a line has other fields") from None
    return line


def _head_text(party: str, number: int, digest: bytes) -> bytes:
    if not 0 < number < 2**53:
        raise PeerError("bad_message", why="the number of a head is out of bounds")
    return _HEAD + number.to_bytes(8, "big") + digest + party.encode()
