"""HTTP door of the notifications room."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict

from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.notifications import service
from aurora.features.organizations.service import get_organization
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(prefix="/v1/notifications", tags=["notifications"])


class NotificationOut(BaseModel):
    """Something the platform told one person."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    created_at: datetime
    organization_id: UUID
    user_id: UUID
    type: str
    title: str
    message: str
    priority: str
    read: bool
    action_url: str | None
    action_label: str | None


class NotificationPage(BaseModel):
    """A page of notifications, newest first."""

    items: list[NotificationOut]
    next_cursor: str | None


@router.get("")
async def list_notifications(
    who: Annotated[Caller, Depends(caller_of)],
    pool: Annotated[Pool, Depends(pool_of)],
    organization_id: UUID,
    cursor: Annotated[str | None, Query(max_length=600)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = DEFAULT_PAGE_SIZE,
) -> NotificationPage:
    """List what the people of an organization were told (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        await get_organization(conn, organization_id)
        page = await service.list_notifications(conn, organization_id, cursor=cursor, limit=limit)
    return NotificationPage(
        items=[NotificationOut.model_validate(item) for item in page.items],
        next_cursor=page.next_cursor,
    )
