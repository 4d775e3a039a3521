"""Every call of the HTTP API as data, so that the two clients differ in nothing but waiting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec

from aurora.client.model import (
    MAX_EVENTS_PER_CALL,
    MAX_QUESTIONS_PER_CALL,
    Invoice,
    Key,
    NewKey,
    Organization,
    Page,
    Question,
    Receipt,
    Subscription,
    UsageEvent,
    UsageSummary,
    Verdict,
)

T = TypeVar("T")
Id = UUID | str

ORGANIZATIONS: Final = "/v1/organizations"
_encoder: Final = msgspec.json.Encoder(decimal_format="string")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request that is ready to be sent, as often as needed.

    Attributes:
        answer: What the body of the answer is decoded as; bytes is taken as it comes.
        idempotency_key: Sent with every attempt of an unsafe call that needs one.
        body: May hold a key, so it is in no repr.
    """

    method: str
    path: str
    answer: Any
    body: bytes | None = field(default=None, repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None


def _path(*parts: object) -> str:
    """Return a path whose parts hold no slash of their own: an id is data, not a way."""
    return "/".join([ORGANIZATIONS, *(quote(str(part), safe="") for part in parts)])


def _query(**values: object) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _given(**values: object) -> bytes:
    return _encoder.encode({name: value for name, value in values.items() if value is not None})


def verify(question: Question) -> Call[Verdict]:
    """Ask whether a request may pass."""
    return Call("POST", "/v1/keys/verify", Verdict, msgspec.json.encode(question))


def verify_many(questions: Sequence[Question]) -> Call[list[Verdict]]:
    """Ask about at most MAX_QUESTIONS_PER_CALL requests at once."""
    if not 1 <= len(questions) <= MAX_QUESTIONS_PER_CALL:
        raise ValueError(f"ask 1 to {MAX_QUESTIONS_PER_CALL} questions at once")
    return Call("POST", "/v1/keys/verify", list[Verdict], msgspec.json.encode(questions))


def record(events: Sequence[UsageEvent]) -> Iterator[tuple[int, Call[Receipt]]]:
    """Yield the calls that record events, each with the place of its first event."""
    for first in range(0, len(events), MAX_EVENTS_PER_CALL):
        part = events[first : first + MAX_EVENTS_PER_CALL]
        yield first, record_encoded(msgspec.json.encode(part))


def record_encoded(body: bytes) -> Call[Receipt]:
    """Record a JSON array of events; their ids are what makes sending it again safe."""
    return Call("POST", "/v1/usage/events", Receipt, body)


def joined(receipts: Sequence[tuple[int, Receipt]]) -> Receipt:
    """Return one receipt of several, with places counted from the first event of all."""
    replace = msgspec.structs.replace
    return Receipt(
        sum(each.accepted for _, each in receipts),
        sum(each.duplicates for _, each in receipts),
        [replace(one, index=at + one.index) for at, each in receipts for one in each.conflicts],
        [replace(one, index=at + one.index) for at, each in receipts for one in each.rejected],
        [replace(one, index=at + one.index) for at, each in receipts for one in each.quarantined],
    )


def usage_summary(
    organization_id: Id | None, first_day: date | None, last_day: date | None, group_by: str
) -> Call[UsageSummary]:
    """Read usage by group."""
    asked = {"from": first_day, "to": last_day}
    query = _query(organization_id=organization_id, group_by=group_by, **asked)
    return Call("GET", "/v1/usage/summary", UsageSummary, query=query)


def create_organization(fields: Mapping[str, Any], once: str) -> Call[Organization]:
    """Make an organization."""
    return Call("POST", _path(), Organization, _given(**fields), idempotency_key=once)


def get_organization(organization_id: Id) -> Call[Organization]:
    """Read an organization."""
    return Call("GET", _path(organization_id), Organization)


def list_organizations(limit: int | None, cursor: str | None) -> Call[Page[Organization]]:
    """Read a page of organizations, newest first."""
    return Call("GET", _path(), Page[Organization], query=_query(limit=limit, cursor=cursor))


def create_key(organization_id: Id, fields: Mapping[str, Any], once: str) -> Call[NewKey]:
    """Make a key."""
    path = _path(organization_id, "keys")
    return Call("POST", path, NewKey, _given(**fields), idempotency_key=once)


class _Keys(msgspec.Struct):
    items: list[Key]


def list_keys(organization_id: Id) -> Call[_Keys]:
    """Read the keys of an organization, newest first."""
    return Call("GET", _path(organization_id, "keys"), _Keys)


def revoke_key(organization_id: Id, key_id: Id, once: str) -> Call[Key]:
    """Revoke a key for good."""
    path = _path(organization_id, "keys", key_id, "revoke")
    return Call("POST", path, Key, idempotency_key=once)


def start_subscription(
    organization_id: Id,
    *,
    plan: str,
    at: date | None,
    billing_period: str,
    price_monthly: Decimal | None,
    included_impressions: int | None,
    once: str,
) -> Call[Subscription]:
    """Subscribe an organization to a plan."""
    body = _given(
        plan=plan,
        at=at,
        billing_period=billing_period,
        price_monthly=price_monthly,
        included_impressions=included_impressions,
    )
    path = _path(organization_id, "subscription")
    return Call("POST", path, Subscription, body, idempotency_key=once)


def get_subscription(organization_id: Id) -> Call[Subscription]:
    """Read an organization's subscription."""
    return Call("GET", _path(organization_id, "subscription"), Subscription)


def cancel_subscription(organization_id: Id, once: str) -> Call[Subscription]:
    """Cancel at the end of the period."""
    path = _path(organization_id, "subscription", "cancel")
    return Call("POST", path, Subscription, idempotency_key=once)


def list_invoices(
    organization_id: Id | None, limit: int | None, cursor: str | None
) -> Call[Page[Invoice]]:
    """Read a page of invoices, newest first."""
    query = _query(organization_id=organization_id, limit=limit, cursor=cursor)
    return Call("GET", "/v1/invoices", Page[Invoice], query=query)


def get_invoice(invoice_id: Id) -> Call[Invoice]:
    """Read an invoice."""
    return Call("GET", f"/v1/invoices/{quote(str(invoice_id), safe='')}", Invoice)


def get_invoice_pdf(invoice_id: Id, language: str) -> Call[bytes]:
    """Read an invoice as PDF."""
    path = f"/v1/invoices/{quote(str(invoice_id), safe='')}/pdf"
    return Call("GET", path, bytes, query={"language": language})
