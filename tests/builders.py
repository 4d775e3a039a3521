"""Builders: what a test needs to exist, made through the services as a customer would get it."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import msgspec

from aurora.core import clock
from aurora.db.transaction import Connection
from aurora.features.keys.model import NewApiKey
from aurora.features.keys.service import create_api_key
from aurora.features.organizations.model import Organization, User
from aurora.features.organizations.service import create_organization, create_user
from aurora.features.subscriptions.model import Subscription
from aurora.features.subscriptions.service import start_subscription
from aurora.features.usage.model import UsageEvent

_numbers = count(1)


def a_slug(prefix: str = "hotel") -> str:
    """A slug nobody else has."""
    return f"{prefix}-{uuid4().hex[:12]}"


async def an_organization(conn: Connection, **fields: Any) -> Organization:
    """A Norwegian hotel on trial, with the address that an invoice needs."""
    hotel: dict[str, Any] = {
        "name": "Lyngen Fjordhotell AS",
        "slug": a_slug(),
        "email": "post@lyngenfjord.example",
        "org_number": "987654325",
        "address": "Fjordveien 4",
        "postal_code": "9060",
        "city": "Lyngseidet",
    }
    return await create_organization(conn, **(hotel | fields))


async def a_user(conn: Connection, organization: Organization, **fields: Any) -> User:
    """The owner of an organization."""
    person: dict[str, Any] = {
        "email": f"kari.{next(_numbers)}@lyngenfjord.example",
        "name": "Kari Nordmann",
        "role": "owner",
    }
    return await create_user(conn, organization_id=organization.id, **(person | fields))


async def a_key(conn: Connection, organization: Organization, **fields: Any) -> NewApiKey:
    """A production key that may read its own usage and invoices."""
    key: dict[str, Any] = {
        "name": "Production website",
        "scopes": ("aurora:read", "analytics:read", "billing:read"),
    }
    return await create_api_key(conn, organization_id=organization.id, **(key | fields))


async def a_subscription(
    conn: Connection, organization: Organization, **fields: Any
) -> Subscription:
    """A basic plan that began 33 days ago, so that one whole period has ended."""
    today = clock.now().date()
    terms: dict[str, Any] = {"plan_id": "basic", "at": today - timedelta(days=33)}
    return await start_subscription(conn, organization_id=organization.id, **(terms | fields))


def an_event(**fields: Any) -> dict[str, Any]:
    """A successful impression of the forecast widget a minute ago, as its sender writes it."""
    event: dict[str, Any] = {
        "id": uuid4().hex,
        "timestamp": moment(clock.now() - timedelta(minutes=1)),
        "endpoint": "/api/aurora/now",
        "status_code": 200,
        "response_time_ms": 40,
        "widget_type": "forecast",
        "widget_impression": True,
        "country_code": "NO",
    }
    return event | fields


def events(how_many: int, **fields: Any) -> list[dict[str, Any]]:
    """Events with ids of their own that are otherwise the same."""
    return [an_event(**fields) for _ in range(how_many)]


def decoded(batch: list[dict[str, Any]]) -> list[tuple[int, UsageEvent]]:
    """Events as the ingest service takes them: with their places in the batch."""
    return [(place, msgspec.convert(event, UsageEvent)) for place, event in enumerate(batch)]


def moment(at: datetime) -> str:
    """A moment as JSON writes it."""
    return at.isoformat().replace("+00:00", "Z")
