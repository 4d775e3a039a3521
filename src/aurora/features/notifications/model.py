"""A notification as its reader sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """Something the platform told one person."""

    id: UUID
    created_at: datetime
    organization_id: UUID
    user_id: UUID
    type: str
    title: str
    message: str
    priority: Literal["info", "warning", "critical"]
    read: bool
    action_url: str | None
    action_label: str | None
