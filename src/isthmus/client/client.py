"""Speaks to one node over its HTTP interface. Errors of the node are raised here as the same errors."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, BinaryIO, Self, TypedDict
from urllib.parse import quote

import httpx

from isthmus.base.errors import IsthmusError, LocalError, rebuild
from isthmus.client.agreements import AgreementCalls
from isthmus.client.fleets import FleetCalls
from isthmus.client.users import UserCalls
from isthmus.store.audit import AuditCheck, AuditLine, Head, KeptHead, line_of
from isthmus.store.folder import NodeFolder
from isthmus.store.records import ENDED

_PAGE = 200
_SILENCE_S = 10.0
_PROBE_S = 5.0


class PartnerView(TypedDict):
    """One partner as the node shows it."""

    name: str
    key: str
    fingerprint: str
    next_fingerprint: str | None
    address: str | None
    words: list[str]
    confirmed: bool
    joined_at: str
    connected: bool
    since: str | None
    problem: dict[str, Any] | None


class AcceptedView(PartnerView):
    """A partner just joined; `reply` is a line to carry back where the inviter does not listen."""

    reply: str | None


class RotationView(TypedDict):
    """The change of this node's key; `next_*` are None once it is over."""

    fingerprint: str
    next_fingerprint: str | None
    until: str | None
    waits_for: list[str]


class DatasetView(TypedDict, total=False):
    """One version of a dataset; `profile` only where one dataset is shown."""

    dataset: str
    path: str
    sha256: str
    rows: int
    columns: int
    key: str
    label: str | None
    encoding: str
    added_at: str
    profile: list[dict[str, Any]]


class JobView(TypedDict):
    """One job as this node knows it."""

    id: str
    name: str
    state: str
    role: str
    label_owner: str
    number: int
    digest: str
    created_at: str
    changed_at: str
    parties: list[dict[str, Any]]
    progress: dict[str, Any] | None
    waiting: dict[str, Any] | None
    error: dict[str, Any] | None
    result: dict[str, Any] | None
    folder: str


class CostView(TypedDict):
    """What one engine would cost: bytes from and to the label owner, seconds."""

    engine: str
    up_bytes: int
    down_bytes: int
    cpu_s: float
    wall_s: float
    beyond: str | None


class EngineView(TypedDict):
    """The engine of a job, why, and what to know beside it."""

    chosen: str
    why: str
    reason: str
    costs: list[CostView]
    notes: list[str]


class PlanView(TypedDict):
    """What a job will do."""

    digest: str
    resolved: dict[str, Any]
    stages: list[dict[str, str]]
    engine: EngineView
    leaks: list[dict[str, str]]
    messages: list[str]
    own_columns: list[str] | None
    rooms: list[dict[str, Any]]
    grants: list[dict[str, Any]]


class AuditHeads(TypedDict):
    """Public keys by party, and the heads of audit logs that crossed between this node and its partners."""

    party: str
    keys: dict[str, str]
    earlier_keys: list[dict[str, str]]
    heads: list[dict[str, Any]]


class Client(UserCalls, AgreementCalls, FleetCalls):
    """One node, found through its folder. Close it, or use it in a `with`."""

    def __init__(self, folder: NodeFolder, language: str = "en") -> None:
        control = folder.control()
        self._connect(f"http://127.0.0.1:{control.port}", str(folder.home), control.token, language)

    @classmethod
    def at(cls, url: str, token: str = "", language: str = "en") -> Self:
        """The node whose interface is at `url`, for the holder of a session or a token; without one, to sign in."""
        client = cls.__new__(cls)
        client._connect(url.rstrip("/"), url, token, language)
        return client

    def _connect(self, url: str, home: str, token: str, language: str) -> None:
        self._home, self._root = home, url
        self._http = httpx.Client(
            base_url=f"{url}/api/v1",
            headers={"Accept-Language": language} | ({"Authorization": f"Bearer {token}"} if token else {}),
            timeout=httpx.Timeout(600, connect=5),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def healthy(self, *, ready: bool = False) -> bool:
        """Whether the node answers within five seconds; with `ready`, also whether it would take work."""
        path = "/ready" if ready else "/health"
        try:
            return self._http.get(self._root + path, timeout=_PROBE_S).is_success
        except httpx.TransportError:
            raise LocalError("not_running", path=self._home) from None

    def node(self) -> dict[str, Any]:
        return dict(self._call("GET", "/node"))

    def doctor(self, partner: str | None = None, idle_s: float = 0) -> list[dict[str, str]]:
        """`idle_s`: how long a silence on the line to the partner is tried."""
        query = {"partner": partner, "idle_s": str(idle_s)} if partner else {}
        return list(self._call("GET", "/node/doctor", query=query))

    def partners(self) -> list[PartnerView]:
        return list(self._all("/partners"))

    def invite(self) -> str:
        return str(self._call("POST", "/partners/invite")["line"])

    def accept_partner(self, line: str) -> AcceptedView:
        accepted: AcceptedView = self._call("POST", "/partners/accept", {"line": line})
        return accepted

    def confirm_partner(self, name: str, words: list[str]) -> PartnerView:
        confirmed: PartnerView = self._call("POST", f"/partners/{quote(name, '')}/confirm", {"words": words})
        return confirmed

    def revoke_partner(self, name: str) -> PartnerView:
        revoked: PartnerView = self._call("POST", f"/partners/{quote(name, '')}/revoke")
        return revoked

    def rotate(self, overlap_days: int = 7) -> RotationView:
        rotation: RotationView = self._call("POST", "/partners/rotate", {"overlap_days": overlap_days})
        return rotation

    def datasets(self) -> list[DatasetView]:
        return list(self._all("/datasets"))

    def dataset(self, title: str) -> DatasetView:
        dataset: DatasetView = self._call("GET", f"/datasets/{quote(title, '')}")
        return dataset

    def add_dataset(self, name: str, path: str, key: str, **options: Any) -> DatasetView:
        body = {"name": name, "path": path, "key": key, **options}
        dataset: DatasetView = self._call("POST", "/datasets", body)
        return dataset

    def jobs(self, limit: int = 50) -> list[JobView]:
        return list(islice(self._all("/jobs", {"limit": str(min(limit, _PAGE))}), limit))

    def job(self, job_id: str) -> JobView:
        job: JobView = self._call("GET", f"/jobs/{quote(job_id, '')}")
        return job

    def events(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        return list(self._all(f"/jobs/{quote(job_id, '')}/events", {"after": str(after)}))

    def plan(self, document: str, assume: int | None = None) -> PlanView:
        """`assume`: how many columns a partner has whose columns nobody named."""
        plan: PlanView = self._call("POST", "/jobs/plan", {"document": document, "assume": assume})
        return plan

    def plan_of(self, job_id: str) -> PlanView:
        plan: PlanView = self._call("GET", f"/jobs/{quote(job_id, '')}/plan")
        return plan

    def propose(self, document: str, test_ids_path: str | None = None, assume: int | None = None) -> JobView:
        body = {"document": document, "test_ids_path": test_ids_path, "assume": assume}
        job: JobView = self._call("POST", "/jobs", body)
        return job

    def accept_job(self, job_id: str, grant: bool = False) -> JobView:
        """`grant`: where no grant covers the job, give one of one run for it."""
        job: JobView = self._call("POST", f"/jobs/{quote(job_id, '')}/accept", {"grant": grant})
        return job

    def refuse_job(self, job_id: str) -> JobView:
        return self._job_act(job_id, "refuse")

    def pause_job(self, job_id: str) -> JobView:
        return self._job_act(job_id, "pause")

    def stop_job(self, job_id: str) -> JobView:
        return self._job_act(job_id, "stop")

    def clone_job(self, job_id: str) -> JobView:
        """Propose the same file as its next run."""
        return self._job_act(job_id, "clone")

    def resume_job(self, job_id: str, stage: str | None = None) -> JobView:
        """Go on at the last barrier, or do all from `stage` (bin, train, evaluate) on again."""
        return self._job_act(job_id, "resume", {"stage": stage})

    def _job_act(self, job_id: str, act: str, body: dict[str, Any] | None = None) -> JobView:
        job: JobView = self._call("POST", f"/jobs/{quote(job_id, '')}/{act}", body)
        return job

    def audit(self, since: str | None = None) -> Iterator[AuditLine]:
        """Every line of the audit log, oldest first, from the time `since` (ISO 8601) on."""
        cursor: int | None = 0
        while cursor is not None:
            query = {"cursor": str(cursor)} | ({"since": since} if since else {})
            page = self._call("GET", "/audit", query=query)
            yield from map(line_of, page["lines"])
            cursor = page["next"]

    def audit_heads(self) -> AuditHeads:
        heads: AuditHeads = self._call("GET", "/audit/heads")
        return heads

    def check_audit(self) -> AuditCheck:
        """Recomputes the whole audit log and compares it with the heads that partners hold."""
        told = self.audit_heads()
        rows = [(row["party"], row["key"]) for row in told["earlier_keys"]] + list(told["keys"].items())
        keys: dict[str, tuple[bytes, ...]] = {}
        for name, key in rows:
            keys[name] = (*keys.get(name, ()), bytes.fromhex(key))
        check = AuditCheck(told["party"], keys[told["party"]])
        for line in self.audit():
            check.take(line)
        check.compare(map(_kept_head, told["heads"]), keys)
        return check

    def backup(self, out: BinaryIO) -> None:
        """Writes a backup of the node to `out`."""
        try:
            with self._http.stream("GET", "/backup") as answer:
                if not answer.is_success:
                    answer.read()
                    raise problem_of(answer)
                for piece in answer.iter_bytes():
                    out.write(piece)
        except httpx.TransportError:
            raise LocalError("not_running", path=self._home) from None

    def follow(
        self,
        job_id: str,
        wait: Callable[[], None],
        on_change: Callable[[JobView], None],
        check: Callable[[], None] = lambda: None,
    ) -> JobView:
        """Follows a job to its end; `on_change` sees each view of it that is new.

        Reads the events as they come and calls `check` at least every second. Where no stream comes through, asks again
        after every `wait`.
        """
        seen: JobView | None = None
        with closing(self._signals(job_id)) as signals:
            while True:
                job = self.job(job_id)
                if job != seen:
                    on_change(job)
                    seen = job
                if job["state"] in ENDED:
                    return job
                for told in signals:
                    check()
                    if told:
                        break
                else:
                    wait()

    def _signals(self, job_id: str) -> Generator[bool, None, None]:
        """True after every event of the stream, False after a sign of life; ends where no stream comes through."""
        headers = {"Accept": "text/event-stream"}
        path = f"/jobs/{quote(job_id, '')}/events"
        try:
            with self._http.stream(
                "GET", path, params={"heartbeat_s": "1"}, headers=headers, timeout=_SILENCE_S
            ) as answer:
                if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                    return
                for line in answer.iter_lines():
                    if line.startswith((":", "data:")):
                        yield not line.startswith(":")
        except httpx.TransportError:
            return

    def _all(self, path: str, query: dict[str, str] | None = None) -> Iterator[Any]:
        """The items of every page; the next page is asked for once the one before is used up."""
        asked = {"limit": str(_PAGE), **(query or {})}
        while True:
            page = self._call("GET", path, query=asked)
            yield from page["items"]
            if page["next"] is None:
                return
            asked["cursor"] = page["next"]

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, str] | None = None
    ) -> Any:
        headers = {"Idempotency-Key": secrets.token_hex(16)} if method == "POST" else {}
        request = self._http.build_request(method, path, json=body, params=query, headers=headers)
        try:
            try:
                answer = self._http.send(request)
            except (httpx.RemoteProtocolError, httpx.ReadError):
                # The line broke under way: the key makes it safe to ask once more.
                answer = self._http.send(request)
        except httpx.TransportError:
            raise LocalError("not_running", path=self._home) from None
        if answer.is_success:
            return answer.json()
        raise problem_of(answer)


def _kept_head(told: dict[str, Any]) -> KeptHead:
    head = Head(told["number"], bytes.fromhex(told["digest"]), bytes.fromhex(told["signature"]))
    return KeptHead(told["partner"], told["whose"], head, datetime.fromisoformat(told["at"]))


def problem_of(answer: httpx.Response) -> IsthmusError:
    """The error that a problem document tells of."""
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        body = answer.json()
        return rebuild(body["class"], body["code"], body["fields"])
    return LocalError("bug", why=f"HTTP {answer.status_code}")
