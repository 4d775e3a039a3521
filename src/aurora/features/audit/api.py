"""HTTP door of the audit room."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.audit import service
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(prefix="/v1/audit", tags=["audit"])


class AuditEventOut(BaseModel):
    """One change: who, what, when, and the fields that changed."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    organization_id: UUID | None = Field(description="Null: the platform's own.")
    sequence: int = Field(description="Place in the organization's chain, without gaps.")
    occurred_at: datetime
    actor: str = Field(description="operator, key:…, user:…, service:…, job:…, cli:…, database:…")
    database_role: str
    request_id: str | None
    action: str
    subject_type: str
    subject_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    hash: str = Field(description="SHA-256 over the event and the hash before it, in hex.")


class AuditPage(BaseModel):
    """A page of events, newest first."""

    items: list[AuditEventOut]
    next_cursor: str | None


Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]


@router.get("")
async def list_audit_events(
    who: Who,
    pool: Database,
    organization_id: Annotated[UUID | None, Query(description="Only this one's.")] = None,
    action: Annotated[
        str | None, Query(max_length=100, examples=["api_key.revoked"], description="Only this.")
    ] = None,
    subject_id: Annotated[
        str | None, Query(max_length=200, description="Only what was done to this row.")
    ] = None,
    cursor: Annotated[str | None, Query(max_length=600)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = DEFAULT_PAGE_SIZE,
) -> AuditPage:
    """List what was changed, by whom, and in which request, newest first (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        page = await service.list_events(
            conn,
            organization_id=organization_id,
            action=action,
            subject_id=subject_id,
            cursor=cursor,
            limit=limit,
        )
    return AuditPage(
        items=[AuditEventOut.model_validate(event) for event in page.items],
        next_cursor=page.next_cursor,
    )
