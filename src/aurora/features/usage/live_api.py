"""HTTP doors to usage as it comes, and to where it comes from."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import date
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from aurora.core.errors import Invalid
from aurora.db.pool import Pool
from aurora.db.transaction import transaction
from aurora.features.organizations.service import get_organization
from aurora.features.usage import reading
from aurora.features.usage.live import Live
from aurora.features.usage.model import MAX_ORIGINS, OriginOrder
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(tags=["usage"])

SCOPE = "analytics:read"
MAX_BIGINT = 2**63 - 1
Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]
Organization = Annotated[UUID | None, Query(description="Operators and people name it.")]
# A stream is kept by nobody, and nginx passes it on as it comes.
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class EventIdInvalid(Invalid):
    """Last-Event-ID was not sent out here."""

    code, title = "event_id_invalid", "Last-Event-ID is not one of ours"


class Origin(BaseModel):
    """One origin; null stands for requests that named none, shares are of all that was counted."""

    origin: str | None
    requests: int
    widget_impressions: int
    billable_impressions: int
    failed: int
    requests_pct: float | None
    impressions_pct: float | None


class Origins(BaseModel):
    """The largest origins of UTC days, both included; `origins` counts all that there are."""

    organization_id: UUID
    first_day: date
    last_day: date
    origins: int
    requests: int
    widget_impressions: int
    items: list[Origin]


@router.get("/origins")
async def get_origins(
    who: Who,
    pool: Database,
    organization_id: Organization = None,
    from_: Annotated[date | None, Query(alias="from", description="First UTC day.")] = None,
    to: Annotated[date | None, Query(description="Last UTC day, included.")] = None,
    order_by: OriginOrder = "impressions",
    limit: Annotated[int, Query(ge=1, le=MAX_ORIGINS)] = 20,
) -> Origins:
    """Return the origins that widgets were shown on or requests came from, the largest first."""
    organization = who.organization(organization_id, scope=SCOPE)
    async with transaction(pool, who.actor(organization), read_only=True) as conn:
        await get_organization(conn, organization)
        first, last, rows = await reading.list_origins(
            conn, organization, first_day=from_, last_day=to, order_by=order_by, limit=limit
        )
    all_requests = rows[0].all_requests if rows else 0
    all_impressions = rows[0].all_impressions if rows else 0
    return Origins(
        organization_id=organization,
        first_day=first,
        last_day=last,
        origins=rows[0].origins if rows else 0,
        requests=all_requests,
        widget_impressions=all_impressions,
        items=[
            Origin(
                origin=row.origin,
                requests=row.requests,
                widget_impressions=row.widget_impressions,
                billable_impressions=row.billable_impressions,
                failed=row.failed,
                requests_pct=_share(row.requests, all_requests),
                impressions_pct=_share(row.widget_impressions, all_impressions),
            )
            for row in rows
        ],
    )


@router.get(
    "/live",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `usage` and `skipped`; a comment every 10 seconds.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def get_live(
    request: Request,
    who: Who,
    pool: Database,
    organization_id: Organization = None,
    last_event_id: Annotated[
        str | None, Header(max_length=19, description="The last id seen; an EventSource sends it.")
    ] = None,
) -> StreamingResponse:
    """Send events as they come, for at most a minute; an EventSource then connects again."""
    organization = who.organization(organization_id, scope=SCOPE)
    after_id = None
    if last_event_id is not None:
        if not (last_event_id.isascii() and last_event_id.isdigit()):
            raise EventIdInvalid
        after_id = min(int(last_event_id), MAX_BIGINT)
    async with transaction(pool, who.actor(organization), read_only=True) as conn:
        await get_organization(conn, organization)
    live: Live = request.app.state.live
    stream = live.stream(organization, after_id)
    # The first piece is asked for here, so that a refusal is an answer and not half a stream.
    first = await anext(stream)

    async def pieces() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(stream):
            yield first
            async for piece in stream:
                yield piece

    return StreamingResponse(pieces(), media_type="text/event-stream", headers=HEADERS)


def _share(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None
