"""Changes of a subscription over HTTP: admins change the plan, owners end and pause it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from tests.builders import a_subscription
from tests.features.organizations.conftest import House

from aurora.core import clock
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.billing_run import run_billing
from aurora.features.organizations.service import get_organization
from aurora.integrations.http import Caller

Code = Callable[[httpx.Response], tuple[int, str]]


@dataclass
class Customer:
    """A customer on basic who began twenty days ago and was billed, and its people."""

    house: House
    url: str
    people: dict[str, Caller]

    async def post(self, who: str, what: str, body: Any = None) -> httpx.Response:
        caller = None if who == "operator" else self.people[who]
        async with self.house.client(caller) as client:
            return await client.post(f"{self.url}/{what}", json=body)

    async def get(self) -> dict[str, Any]:
        async with self.house.client() as operator:
            found: dict[str, Any] = (await operator.get(self.url)).json()
        return found


@pytest.fixture
async def customer(house: House) -> Customer:
    made = await house.organization(
        address="Gata 1", postal_code="9008", city="Tromsø", org_number="987654325"
    )
    people = {}
    for role in ("viewer", "member", "admin", "owner"):
        _, people[role] = await house.member(made["id"], role)
    today = clock.now().date()
    async with transaction(house.pool, PLATFORM) as conn:
        organization = await get_organization(conn, made["slug"])
        await a_subscription(conn, organization, at=today - timedelta(days=20))
    await run_billing(house.pool, as_of=today)
    people["key"] = Caller(
        "key", organization_id=organization.id, scopes=frozenset({"billing:read"})
    )
    _, people["stranger"] = await house.member((await house.organization())["id"], "owner")
    return Customer(house, f"/v1/organizations/{made['id']}/subscription", people)


async def test_an_admin_previews_and_upgrades_and_hears_the_same_figures(
    customer: Customer,
) -> None:
    preview = await customer.post("admin", "preview", {"plan": "premium"})
    assert preview.status_code == 200, preview.text
    assert (await customer.get())["plan_id"] == "basic"
    changed = await customer.post("admin", "change", {"plan": "premium"})
    assert changed.status_code == 200, changed.text
    assert changed.json()["subscription"]["plan_id"] == "premium"
    async with customer.house.client() as operator:
        notes = (await operator.get("/v1/credit-notes")).json()["items"]
    assert [each["subtotal"] for each in notes] == [preview.json()["credit"]]
    assert [each["total"] for each in notes] == [preview.json()["credited_total"]]


async def test_a_downgrade_is_scheduled_seen_and_taken_back(
    customer: Customer, code_of: Code
) -> None:
    changed = (await customer.post("admin", "change", {"plan": "demo"})).json()
    assert changed["scheduled"]["plan_id"] == "demo"
    assert changed["effective_at"] == changed["subscription"]["current_period_end"]
    assert (await customer.post("admin", "withdraw")).status_code == 200
    refused = await customer.post("admin", "withdraw")
    assert code_of(refused) == (409, "no_change_scheduled")


async def test_an_owner_pauses_resumes_cancels_and_reactivates(customer: Customer) -> None:
    assert (await customer.post("owner", "pause")).json()["subscription"]["status"] == "paused"
    assert (await customer.post("owner", "resume")).json()["subscription"]["status"] == "active"
    assert (await customer.post("owner", "cancel")).json()["cancel_at_period_end"] is True
    assert (await customer.post("owner", "reactivate")).json()["cancel_at_period_end"] is False


async def test_a_coupon_is_redeemed_once(customer: Customer, code_of: Code) -> None:
    async with customer.house.client() as operator:
        await operator.post("/v1/coupons", json={"code": "SUMMER", "percent": "20"})
    assert (await customer.post("admin", "redeem", {"code": "SUMMER"})).status_code == 200
    again = await customer.post("admin", "redeem", {"code": "SUMMER"})
    assert code_of(again) == (409, "coupon_redeemed")


@pytest.mark.parametrize(
    ("who", "status"),
    [
        ("viewer", (403, 403)), ("member", (403, 403)), ("admin", (200, 403)),
        ("key", (403, 403)), ("stranger", (404, 404)), ("operator", (200, 200)),
    ],
)  # fmt: skip
async def test_everybody_may_do_what_the_role_says(
    who: str, status: tuple[int, int], customer: Customer
) -> None:
    of_admins, of_owners = status
    change = {"plan": "premium"}
    assert (await customer.post(who, "preview", change)).status_code == of_admins
    assert (await customer.post(who, "cancel")).status_code == of_owners
    assert (await customer.post(who, "reactivate")).status_code == of_owners
    assert (await customer.post(who, "change", change)).status_code == of_admins
    assert (await customer.post(who, "pause")).status_code == of_owners
    assert (await customer.post(who, "resume")).status_code == of_owners
    if status == (200, 403):
        assert (await customer.get())["status"] == "active"


@pytest.mark.parametrize(
    "body",
    [
        {"plan": "premium", "agreed": {"price_monthly": "1.00"}},
        {"plan": "premium", "on": "2026-01-01"},
        {"plan": "demo", "when": "now"},
    ],
)
async def test_only_an_operator_agrees_to_other_terms(
    body: dict[str, Any], customer: Customer, code_of: Code
) -> None:
    for what in ("change", "preview"):
        assert code_of(await customer.post("owner", what, body)) == (403, "operator_only")
    assert (await customer.get())["price_monthly"] == "3500.00"


async def test_an_operator_agrees_to_a_price(customer: Customer) -> None:
    body = {"plan": "enterprise", "agreed": {"price_monthly": "9000.00"}}
    changed = await customer.post("operator", "change", body)
    assert changed.json()["subscription"]["price_monthly"] == "9000.00"


@pytest.mark.parametrize(
    ("what", "body", "code"),
    [
        ("change", {"plan": "basic"}, (409, "change_empty")),
        ("change", {"plan": "nothing"}, (404, "plan_not_found")),
        ("change", {"plan": "enterprise"}, (422, "price_by_agreement")),
        ("change", {"plan": "premium", "on": "2999-01-01"}, (422, "change_in_future")),
        ("change", {"plan": "premium", "on": "2020-01-01"}, (422, "change_out_of_range")),
        ("resume", None, (409, "subscription_state")),
        ("redeem", {"code": "NOTHING"}, (404, "coupon_not_found")),
    ],
)
async def test_a_change_that_makes_no_sense_is_refused(
    what: str, body: Any, code: tuple[int, str], customer: Customer, code_of: Code
) -> None:
    before = await customer.get()
    assert code_of(await customer.post("operator", what, body)) == code
    assert await customer.get() == before
