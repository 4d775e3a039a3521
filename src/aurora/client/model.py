"""What the client sends and gets: structs that ignore members which a later Aurora may add."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec

MAX_EVENTS_PER_CALL: Final = 10_000
MAX_QUESTIONS_PER_CALL: Final = 100

T = TypeVar("T")


class Question(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A request that carries a key, as much of it as the gate needs; its repr hides the key."""

    key: str
    origin: str | None = None
    ip: str | None = None
    scope: str | None = None
    endpoint: str | None = None

    def __repr__(self) -> str:
        """Show everything but the key."""
        return f"Question(key=…, origin={self.origin!r}, ip={self.ip!r}, scope={self.scope!r})"


class Limits(msgspec.Struct, kw_only=True, frozen=True):
    """What is left after this request.

    Attributes:
        limit: Requests in any rolling hour.
        per_second: Requests in any rolling second, where the key has such a limit.
        remaining: How many of them are left, at least.
        reset_s: Seconds until more are left.
        retry_after_s: Seconds after which asking again may succeed, where it was refused.
        quota_used: Billable impressions of the running month, where a quota counts.
        quota_included: How many of them are included.
    """

    limit: int | None = None
    per_second: int | None = None
    remaining: int | None = None
    reset_s: int | None = None
    retry_after_s: int | None = None
    quota_used: int | None = None
    quota_included: int | None = None


class Verdict(msgspec.Struct, kw_only=True, frozen=True):
    """Whether a request may pass, and why not, such as `REVOKED` or `RATE_LIMITED`."""

    valid: bool
    code: str
    organization_id: UUID | None = None
    key_id: UUID | None = None
    environment: str | None = None
    kind: str | None = None
    scopes: tuple[str, ...] = ()
    plan_id: str | None = None
    rate_limit_tier: str | None = None
    rate_limit_per_hour: int | None = None
    limits: Limits | None = None


class UsageEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request or impression. `response_time_ms` is in milliseconds.

    `id` counts once per organization, so a batch may be sent again after a lost answer: make it
    from the fact, not at each attempt.
    """

    id: str
    timestamp: datetime
    endpoint: str
    status_code: int
    api_key_id: UUID | None = None
    organization_id: UUID | None = None
    source: str | None = None
    method: str = "GET"
    response_time_ms: int | None = None
    cached: bool = False
    widget_type: str | None = None
    widget_impression: bool = False
    origin: str | None = None
    user_agent: str | None = None
    ip_address: str | None = None
    country_code: str | None = None
    metadata: Mapping[str, Any] | None = None


class Rejection(msgspec.Struct, frozen=True):
    """An event that was not taken: its place in what was sent, a stable code, and why."""

    index: int
    code: str
    detail: str


class IdConflict(msgspec.Struct, frozen=True):
    """An event whose id was seen before with other content; the first one stands."""

    index: int
    id: str


class Receipt(msgspec.Struct, frozen=True):
    """What became of events; accepted means stored and counted.

    `quarantined` are stored too, and wait for an operator to say what their date means.
    """

    accepted: int
    duplicates: int
    conflicts: list[IdConflict] = []
    rejected: list[Rejection] = []
    quarantined: list[Rejection] = []

    @property
    def total(self) -> int:
        """How many events it speaks of."""
        named = len(self.conflicts) + len(self.rejected) + len(self.quarantined)
        return self.accepted + self.duplicates + named


class UsageGroup(msgspec.Struct, kw_only=True, frozen=True):
    """Usage of one day, month, endpoint, key, widget type, or country."""

    group: str | None
    requests: int
    widget_impressions: int
    billable_impressions: int
    successful: int
    failed: int
    cached: int
    avg_response_time_ms: float | None = None


class UsageSummary(msgspec.Struct, kw_only=True, frozen=True):
    """Usage of an organization over UTC days, both included."""

    organization_id: UUID
    first_day: date
    last_day: date
    group_by: str
    items: list[UsageGroup]
    totals: UsageGroup
    is_truncated: bool


class Organization(msgspec.Struct, kw_only=True, frozen=True):
    """A customer of the platform."""

    id: UUID
    created_at: datetime
    name: str
    slug: str
    email: str
    country: str
    status: str
    org_number: str | None = None
    vat_number: str | None = None
    billing_email: str | None = None
    metadata: dict[str, Any] = {}


class Key(msgspec.Struct, kw_only=True, frozen=True):
    """A key, without its secret."""

    id: UUID
    created_at: datetime
    organization_id: UUID
    key_prefix: str
    name: str
    kind: str
    environment: str
    scopes: list[str]
    rate_limit_tier: str
    rate_limit_per_hour: int
    status: str
    allowed_origins: list[str]
    ip_whitelist: list[str] | None = None
    last_used_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class NewKey(Key, kw_only=True, frozen=True):
    """A key just made: `key` is told this once and stored nowhere, so its repr hides it."""

    key: str

    def __repr__(self) -> str:
        """Show which key it is, not the key."""
        return f"NewKey(id={self.id!r}, key_prefix={self.key_prefix!r}, key=…)"


class Subscription(msgspec.Struct, kw_only=True, frozen=True):
    """What an organization bought; prices in major units of `currency`."""

    id: UUID
    organization_id: UUID
    plan_id: str
    price_monthly: Decimal
    currency: str
    billing_period: str
    current_period_start: datetime
    current_period_end: datetime
    status: str
    cancel_at_period_end: bool
    included_impressions: int | None = None


class InvoiceLine(msgspec.Struct, kw_only=True, frozen=True):
    """One line; amounts in major units, both days of the period included."""

    description: str
    kind: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    amount: Decimal
    tax_category: str
    tax_rate: Decimal
    period_start: date
    period_end: date


class Invoice(msgspec.Struct, kw_only=True, frozen=True):
    """An invoice; amounts in major units of `currency`."""

    id: UUID
    organization_id: UUID
    kind: str
    invoice_number: str | None
    invoice_date: date
    due_date: date
    period_start: date
    period_end: date
    subtotal: Decimal
    tax_amount: Decimal
    total: Decimal
    currency: str
    status: str
    line_items: list[InvoiceLine]
    kid: str | None = None
    paid_at: datetime | None = None


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list; give `next_cursor` back for the next one until it is None."""

    items: list[T]
    next_cursor: str | None = None
