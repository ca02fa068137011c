"""The audit log and the heads that are kept of it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from isthmus.service.node import Node
from isthmus.service.shapes import AuditHeadsShape, AuditPageShape, shaped
from isthmus.service.views import kept_head_view


def audit_routes(api: APIRouter, node: Node) -> None:
    @api.get("/audit", responses=shaped(AuditPageShape))
    async def lines(
        cursor: Annotated[int, Query(ge=0, lt=2**53)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 500,
        since: AwareDatetime | None = None,
    ) -> dict[str, Any]:
        found = node.store.audit(cursor, limit, since and since.astimezone(UTC))
        return {
            "lines": [asdict(line) for line in found],
            "next": found[-1].number if len(found) == limit else None,
        }

    @api.get("/audit/heads", responses=shaped(AuditHeadsShape))
    async def heads() -> dict[str, Any]:
        keys = {node.config.party: node.key.public} | {p.name: p.public_key for p in node.store.partners()}
        earlier = [row for row in node.store.known_keys() if row.state != "next"]
        return {
            "party": node.config.party,
            "keys": {name: key.hex() for name, key in keys.items()},
            "earlier_keys": [
                {"party": row.party, "key": row.public_key.hex(), "until": row.until.isoformat()}
                for row in earlier
            ],
            "heads": [kept_head_view(kept) for kept in node.store.heads()],
        }
