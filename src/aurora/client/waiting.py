"""Aurora over HTTP for code that waits: scripts, jobs, Django and Flask."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Self, TypeVar
from uuid import uuid4

import httpx

from aurora.client import calls
from aurora.client.calls import Call, Id
from aurora.client.errors import CallFailed
from aurora.client.exchange import TIMEOUT_S, answer_of, options, request_of, unreachable
from aurora.client.model import (
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
from aurora.client.retrying import Retrying

T = TypeVar("T")


def _once(given: str | None) -> str:
    """Return the key under which all attempts of one unsafe call are one."""
    return given or uuid4().hex


class Aurora:
    """Aurora over HTTP; `with Aurora(url, token) as aurora`; threads may share it.

    Every call is tried again where that may help (`Retrying`), under one Idempotency-Key, so that
    it takes effect once. Calls raise what `aurora.client.errors` lists.

    Args:
        url: Where Aurora is: https://aurora.example.
        token: A service token or an API key; it is in no repr and no log.
        timeout_s: How long one attempt waits for Aurora, in seconds.
        retrying: How often a call is tried.
        transport: Of httpx, for tests and special networks.

    Raises:
        ValueError: The address is not usable.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = TIMEOUT_S,
        retrying: Retrying | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url
        self._http = httpx.Client(transport=transport, **options(url, token, timeout_s))
        self._retrying = retrying or Retrying()
        self.keys = Keys(self)
        self.usage = Usage(self)
        self.organizations = Organizations(self)
        self.subscriptions = Subscriptions(self)
        self.invoices = Invoices(self)

    def __repr__(self) -> str:
        """Show where Aurora is, and nothing secret."""
        return f"Aurora({str(self._http.base_url)!r})"

    def __enter__(self) -> Self:
        """Return the client; the block's end closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Send a call, as often as `retrying` allows, and return its answer."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._send_once(call)
            except CallFailed as error:
                wait_s = self._retrying.wait_s(error, attempt)
                if wait_s is None:
                    raise
            time.sleep(wait_s)

    def _send_once(self, call: Call[T]) -> T:
        try:
            got = self._http.request(**request_of(call, self._url))
        except httpx.HTTPError as error:
            raise unreachable(call, error) from None
        return answer_of(call, got.status_code, got.headers, got.content)


class Keys:
    """Keys, and whether requests with them may pass."""

    def __init__(self, aurora: Aurora) -> None:
        self._aurora = aurora

    def verify(
        self,
        key: str,
        *,
        origin: str | None = None,
        ip: str | None = None,
        scope: str | None = None,
        endpoint: str | None = None,
    ) -> Verdict:
        """Return whether a request with this key may pass; it takes one of the key's limit."""
        asked = Question(key=key, origin=origin, ip=ip, scope=scope, endpoint=endpoint)
        return self._aurora.send(calls.verify(asked))

    def verify_many(self, questions: Sequence[Question]) -> list[Verdict]:
        """Return the verdicts on several requests, in their order, 100 a call."""
        found: list[Verdict] = []
        for first in range(0, len(questions), MAX_QUESTIONS_PER_CALL):
            part = questions[first : first + MAX_QUESTIONS_PER_CALL]
            verdicts = self._aurora.send(calls.verify_many(part))
            found.extend(verdicts)
        return found

    def create(
        self,
        organization_id: Id,
        *,
        name: str,
        environment: str = "production",
        kind: str = "secret",
        scopes: Sequence[str] | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> NewKey:
        """Make a key. Where the answer is lost the key is too: Aurora stores it nowhere.

        Args:
            organization_id: Whose key.
            name: What people call it.
            environment: production or test.
            kind: secret or publishable.
            scopes: What it may do; Aurora's defaults where None.
            idempotency_key: Of your own, to survive a restart between two attempts.
            fields: Further ones of `POST /v1/organizations/{organization_id}/keys`.
        """
        given = dict(name=name, environment=environment, kind=kind, scopes=scopes, **fields)
        call = calls.create_key(organization_id, given, _once(idempotency_key))
        return self._aurora.send(call)

    def list(self, organization_id: Id) -> list[Key]:
        """Return the keys of an organization, newest first."""
        return (self._aurora.send(calls.list_keys(organization_id))).items

    def revoke(self, organization_id: Id, key_id: Id) -> Key:
        """Revoke a key for good; twice is as once."""
        call = calls.revoke_key(organization_id, key_id, _once(None))
        return self._aurora.send(call)


class Usage:
    """Recording and reading usage."""

    def __init__(self, aurora: Aurora) -> None:
        self._aurora = aurora

    def record(self, events: Sequence[UsageEvent]) -> Receipt:
        """Record events, each once, 10,000 a call; the answer follows the commit.

        Where a call fails, those before it have taken effect: send everything again, with the
        same ids.
        """
        receipts: list[tuple[int, Receipt]] = []
        for first, call in calls.record(events):
            receipts.append((first, self._aurora.send(call)))
        return calls.joined(receipts)

    def summary(
        self,
        organization_id: Id | None = None,
        *,
        first_day: date | None = None,
        last_day: date | None = None,
        group_by: str = "day",
    ) -> UsageSummary:
        """Return usage by day, month, endpoint, api_key, widget_type, or country (UTC days)."""
        call = calls.usage_summary(organization_id, first_day, last_day, group_by)
        return self._aurora.send(call)


class Organizations:
    """Customers."""

    def __init__(self, aurora: Aurora) -> None:
        self._aurora = aurora

    def create(
        self,
        *,
        name: str,
        slug: str,
        email: str,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Organization:
        """Make an organization; further `fields` are those of `POST /v1/organizations`."""
        given = dict(name=name, slug=slug, email=email, **fields)
        return self._aurora.send(calls.create_organization(given, _once(idempotency_key)))

    def get(self, organization_id: Id) -> Organization:
        """Return an organization."""
        return self._aurora.send(calls.get_organization(organization_id))

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Page[Organization]:
        """Return a page of organizations, newest first."""
        return self._aurora.send(calls.list_organizations(limit, cursor))


class Subscriptions:
    """What organizations bought."""

    def __init__(self, aurora: Aurora) -> None:
        self._aurora = aurora

    def start(
        self,
        organization_id: Id,
        *,
        plan: str,
        at: date | None = None,
        billing_period: str = "monthly",
        price_monthly: Decimal | None = None,
        included_impressions: int | None = None,
        idempotency_key: str | None = None,
    ) -> Subscription:
        """Subscribe an organization to a plan, from a day in Europe/Oslo, today where None."""
        call = calls.start_subscription(
            organization_id,
            plan=plan,
            at=at,
            billing_period=billing_period,
            price_monthly=price_monthly,
            included_impressions=included_impressions,
            once=_once(idempotency_key),
        )
        return self._aurora.send(call)

    def get(self, organization_id: Id) -> Subscription:
        """Return an organization's subscription."""
        return self._aurora.send(calls.get_subscription(organization_id))

    def cancel(self, organization_id: Id) -> Subscription:
        """Cancel a subscription at the end of its period."""
        return self._aurora.send(calls.cancel_subscription(organization_id, _once(None)))


class Invoices:
    """Issued invoices."""

    def __init__(self, aurora: Aurora) -> None:
        self._aurora = aurora

    def list(
        self,
        organization_id: Id | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Invoice]:
        """Return a page of invoices, newest first."""
        return self._aurora.send(calls.list_invoices(organization_id, limit, cursor))

    def get(self, invoice_id: Id) -> Invoice:
        """Return an invoice with its lines."""
        return self._aurora.send(calls.get_invoice(invoice_id))

    def pdf(self, invoice_id: Id, *, language: str = "nb") -> bytes:
        """Return an invoice as PDF/A-3b, in nb or en."""
        return self._aurora.send(calls.get_invoice_pdf(invoice_id, language))
