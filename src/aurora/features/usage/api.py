"""HTTP door of the usage room: taking events (hot) and reading summaries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import date
from typing import Annotated, Any
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from aurora.core.errors import Unauthorized
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.organizations.service import get_organization
from aurora.features.usage import keeping, live_api, reading_api, service
from aurora.features.usage.decoding import Batch, strict_events
from aurora.features.usage.group_commit import GroupCommit, group_commit
from aurora.features.usage.groups import ACCEPTED
from aurora.features.usage.live import live
from aurora.features.usage.model import (
    MAX_BODY_BYTES,
    MAX_EVENTS_PER_CALL,
    MAX_REASON,
    MAX_SUMMARY_GROUPS,
    GroupBy,
    ReasonMissing,
    Receipt,
    SummaryRow,
    UsageEvent,
)
from aurora.features.usage.receiving import CLOUDEVENT, CLOUDEVENTS, SPEC_VERSION, decode_body
from aurora.features.usage.staging import Sender
from aurora.integrations.hot import HotRequest, HotRoute, Later, PlainRequest
from aurora.integrations.http import Caller, OrganizationMissing, caller_of, pool_of

BACKFILL_TIMEOUT_MS = 60_000
MAX_SENDERS = 1_000
_senders: dict[int, tuple[Caller, Sender]] = {}
_JSON = frozenset({None, b"application/json", b"application/json; charset=utf-8"})
_encoder = msgspec.json.Encoder()
_ACCEPTED = _encoder.encode(ACCEPTED)

router = APIRouter(prefix="/v1/usage", tags=["usage"])


@asynccontextmanager
async def lifespan(state: Any) -> AsyncIterator[None]:
    """Keep the group commit of this process; at its end what was taken is stored first."""
    async with (
        group_commit(state.pool, state.dsn) as ingest,
        live(state.pool, state.stopping) as follows,
    ):
        state.ingest, state.live = ingest, follows
        yield


def events_at_once(request: PlainRequest) -> Later | None:
    """Take a key's single event in which nothing is wrong; None for anything else."""
    who, ingest = request.caller, request.state["ingest"]
    if who is None or who.kind != "key" or not _is_json(request.headers):
        return None
    events = strict_events(request.body.strip())
    if not events or len(events) > 1:
        return None
    stored = ingest.begin(events[0], _sender_of(who))
    committed = request.state["usage_committed"]

    def render(receipt: Receipt) -> bytes:
        committed([who.organization_id])
        return _ACCEPTED if receipt is ACCEPTED else _encoder.encode(receipt)

    return None if stored is None else Later(stored, render)


def _sender_of(who: Caller) -> Sender:
    """Return the sender that a caller is, the same one while he is the same."""
    known = _senders.get(id(who))
    if known is not None and known[0] is who:
        return known[1]
    if len(_senders) >= MAX_SENDERS:
        _senders.clear()
    made = Sender(organization_id=who.organization_id, key_id=who.key_id)
    _senders[id(who)] = who, made
    return made


def _is_json(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-type") in _JSON and SPEC_VERSION not in headers


async def post_events(request: HotRequest) -> bytes:
    """Take a batch of events; the answer follows the commit."""
    who = request.caller
    if who is None:
        raise Unauthorized
    if who.kind != "key":
        who.must_be_operator("usage:write")
    batch = decode_body(request.body, request.headers)
    ingest: GroupCommit = request.state.ingest
    sender = Sender(organization_id=who.organization_id, key_id=who.key_id)
    named = {event.organization_id for _, event in batch.events} | {who.organization_id}
    receipt = await ingest.record(batch.events, sender)
    # Quotas are looked at as soon as what counts to them is committed.
    request.state.usage_committed(named - {None})
    return _encoder.encode(_with_rejected(receipt, batch))


async def post_backfill(request: HotRequest) -> bytes:
    """Take events of any age of one organization, and write it into the audit."""
    who = request.caller
    if who is None:
        raise Unauthorized
    who.must_be_operator("usage:write")
    asked = dict(parse_qsl(request.scope.get("query_string", b"").decode("latin-1")))
    reason = asked.get("reason", "").strip()
    if not reason or len(reason) > MAX_REASON or "\0" in reason:
        raise ReasonMissing(f"Say why in 1 to {MAX_REASON} characters: ?reason=…")
    try:
        organization_id = UUID(asked.get("organization_id", ""))
    except ValueError:
        raise OrganizationMissing from None
    batch = decode_body(request.body, request.headers)
    async with transaction(
        request.pool, PLATFORM, statement_timeout_ms=BACKFILL_TIMEOUT_MS
    ) as conn:
        await get_organization(conn, organization_id)
        receipt = await keeping.backfill_usage(conn, organization_id, batch.events, reason=reason)
    return _encoder.encode(_with_rejected(receipt, batch))


def _with_rejected(receipt: Receipt, batch: Batch) -> Receipt:
    """Return the receipt with those that could not be read in their places."""
    if not batch.rejected:
        return receipt
    rejected = sorted([*batch.rejected, *receipt.rejected], key=lambda each: each.index)
    return msgspec.structs.replace(receipt, rejected=rejected)


EVENT_EXAMPLE: dict[str, Any] = {
    "id": "0192f1c6-6e2a-7c3e-9d7e-3f5b8a1c2d4e",
    "timestamp": "2026-11-24T18:30:00Z",
    "endpoint": "/api/aurora/now",
    "method": "GET",
    "status_code": 200,
    "response_time_ms": 41,
    "widget_type": "forecast",
    "widget_impression": True,
    "origin": "https://www.hotel.example",
    "country_code": "NO",
}

HOT_ROUTES = (
    HotRoute(
        path="/v1/usage/events",
        handler=post_events,
        at_once=events_at_once,
        max_body_bytes=MAX_BODY_BYTES,
        takes_compressed=True,
        models=(UsageEvent, Receipt),
        operation={
            "tags": ["usage"],
            "operationId": "post_usage_events",
            "summary": "Record usage events, each once",
            "description": (
                "Takes 1 to 10,000 events: a JSON array, an object with the array in `events`, one "
                "event alone, NDJSON (application/x-ndjson), or CloudEvents 1.0 (structured, "
                "batch, or binary). Content-Encoding may be gzip or zstd. "
                "The answer follows the commit: what is accepted is stored and "
                "counted. An id counts once per organization, whatever its timestamp; the same "
                "id with other content is a conflict and the first one stands. Send the same "
                "batch again after a lost answer."
            ),
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "oneOf": [
                                {
                                    "type": "array",
                                    "maxItems": MAX_EVENTS_PER_CALL,
                                    "items": {"$ref": "#/components/schemas/UsageEvent"},
                                },
                                {"$ref": "#/components/schemas/UsageEvent"},
                            ]
                        },
                        "example": [EVENT_EXAMPLE],
                    },
                    "application/x-ndjson": {"schema": {"type": "string"}},
                    CLOUDEVENT: {"schema": {"type": "object"}},
                    CLOUDEVENTS: {"schema": {"type": "array", "items": {"type": "object"}}},
                },
            },
            "responses": {
                "200": {
                    "description": "What became of each event.",
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/Receipt"},
                            "example": {
                                "accepted": 1,
                                "duplicates": 0,
                                "conflicts": [],
                                "rejected": [],
                            },
                        }
                    },
                }
            },
        },
    ),
    HotRoute(
        path="/v1/usage/backfill",
        handler=post_backfill,
        max_body_bytes=MAX_BODY_BYTES,
        takes_compressed=True,
        models=(UsageEvent, Receipt),
        operation={
            "tags": ["usage"],
            "operationId": "post_usage_backfill",
            "summary": "Record events of any age (operators)",
            "description": (
                "Takes what /v1/usage/events takes, of one organization and however old, since "
                "2000. Each id counts once, for at least 100 days from when it was taken. "
                "It is written into the audit, with the reason."
            ),
            "parameters": [
                {
                    "name": "organization_id",
                    "in": "query",
                    "required": True,
                    "schema": {"type": "string", "format": "uuid"},
                },
                {
                    "name": "reason",
                    "in": "query",
                    "required": True,
                    "schema": {"type": "string", "maxLength": MAX_REASON},
                },
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "array",
                            "maxItems": MAX_EVENTS_PER_CALL,
                            "items": {"$ref": "#/components/schemas/UsageEvent"},
                        },
                        "example": [EVENT_EXAMPLE],
                    },
                },
            },
            "responses": {
                "200": {
                    "description": "What became of each event.",
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Receipt"}}
                    },
                }
            },
        },
    ),
)


class UsageGroup(BaseModel):
    """Usage of one day, month, endpoint, key, widget type, or country; null means none given."""

    group: str | None
    requests: int
    widget_impressions: int
    billable_impressions: int
    successful: int
    failed: int
    cached: int
    avg_response_time_ms: float | None


class UsageSummary(BaseModel):
    """Usage of an organization over UTC days, both included."""

    organization_id: UUID
    first_day: date
    last_day: date
    group_by: GroupBy
    items: list[UsageGroup]
    totals: UsageGroup
    is_truncated: bool


@router.get("/summary")
async def get_summary(
    who: Annotated[Caller, Depends(caller_of)],
    pool: Annotated[Pool, Depends(pool_of)],
    organization_id: Annotated[UUID | None, Query()] = None,
    from_: Annotated[date | None, Query(alias="from", description="First UTC day.")] = None,
    to: Annotated[date | None, Query(description="Last UTC day, included.")] = None,
    group_by: GroupBy = "day",
) -> UsageSummary:
    """Summarise usage, always fresh: an operator names the organization, a key reads its own."""
    organization = who.organization(organization_id, scope="analytics:read")
    async with transaction(pool, who.actor(organization), read_only=True) as conn:
        await get_organization(conn, organization)
        first, last, rows = await service.summarise(
            conn, organization, group_by=group_by, first_day=from_, last_day=to
        )
    return UsageSummary(
        organization_id=organization,
        first_day=first,
        last_day=last,
        group_by=group_by,
        items=[_group(row.group, [row]) for row in rows],
        totals=_group("total", rows),
        is_truncated=len(rows) >= MAX_SUMMARY_GROUPS,
    )


def _group(name: str | None, rows: list[SummaryRow]) -> UsageGroup:
    timed = sum(row.response_time_count for row in rows)
    return UsageGroup(
        group=name,
        requests=sum(row.requests for row in rows),
        widget_impressions=sum(row.widget_impressions for row in rows),
        billable_impressions=sum(row.billable_impressions for row in rows),
        successful=sum(row.successful for row in rows),
        failed=sum(row.failed for row in rows),
        cached=sum(row.cached for row in rows),
        # The mean of all requests, not the mean of the groups' means.
        avg_response_time_ms=(
            round(sum(row.response_time_ms_sum for row in rows) / timed, 3) if timed else None
        ),
    )


router.include_router(reading_api.router)
router.include_router(live_api.router)
