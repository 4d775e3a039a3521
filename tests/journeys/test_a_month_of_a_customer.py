"""A month of a customer, from signing up to a paid-for PDF, with every number counted twice."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from psycopg.conninfo import make_conninfo
from pypdf import PdfReader
from tests.builders import a_slug, moment
from tests.conftest import LOGIN_ROLE
from tests.journeys.conftest import Aurora, problem_of, served

from aurora.core import clock
from aurora.db.pool import open_pool
from aurora.features.limits.jobs import warn_of_quotas
from aurora.features.usage.jobs import fold

OSLO = ZoneInfo("Europe/Oslo")
EVENTS = 100_000
BATCH = 2_000
SENDERS = 4
INCLUDED = 20_000
FEE = Decimal("3500.00")
OVERAGE_PER_THOUSAND = Decimal(50)
ENDPOINTS = ("/api/aurora/now", "/api/aurora/tonight", "/api/cameras", "/api/chat")
COUNTRIES = ("NO", "SE", "DE", "GB", None)
GROUPS: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "day": lambda event: event["timestamp"][:10],
    "month": lambda event: event["timestamp"][:7],
    "endpoint": lambda event: event["endpoint"],
    "api_key": lambda event: event["api_key_id"],
    "widget_type": lambda event: event["widget_type"],
    "country": lambda event: event["country_code"],
}


@dataclass
class Month:
    """What the customer is, when its periods are, and an independent book of what it used."""

    server: Aurora
    first_day: date
    organization_id: str = ""
    key: str = ""
    key_id: str = ""
    test_key_id: str = ""
    counted: list[dict[str, Any]] = field(default_factory=list)

    @property
    def began(self) -> datetime:
        """Midnight in Oslo of the first day: PostgreSQL and we must agree on when that is."""
        return datetime.combine(self.first_day, time(), OSLO).astimezone(UTC)

    @property
    def turned(self) -> datetime:
        """Midnight in Oslo a calendar month later; a month that lacks the day ends at its last."""
        year, month = divmod(self.first_day.year * 12 + self.first_day.month, 12)
        day = self.first_day.day
        while True:
            try:
                there = date(year, month + 1, day)
            except ValueError:
                day -= 1
            else:
                return datetime.combine(there, time(), OSLO).astimezone(UTC)

    def billable(self, start: datetime, end: datetime) -> int:
        """Impressions on the production key, answered well, within the half-open period."""
        return sum(
            event["api_key_id"] == self.key_id
            and event["widget_impression"]
            and 200 <= event["status_code"] < 400
            and start <= datetime.fromisoformat(event["timestamp"]) < end
            for event in self.counted
        )


@pytest.fixture
async def month(aurora: Aurora) -> AsyncIterator[Month]:
    """The server and the worker; the customer comes with the first step."""
    today = clock.now().astimezone(OSLO).date()
    with served(aurora, with_worker=True) as server:
        yield Month(server, today - timedelta(days=33))


async def sign_up_as_people_do(month: Month) -> None:
    """The organization over HTTP, its people and keys over both doors, its plan at the terminal."""
    server, slug = month.server, a_slug()
    async with server.client() as operator:
        hotel = {
            "name": "Lyngen Fjordhotell AS",
            "slug": slug,
            "email": "post@lyngenfjord.example",
            "org_number": "987654325",
            "address": "Fjordveien 4",
            "postal_code": "9060",
            "city": "Lyngseidet",
        }
        made = await operator.post("/v1/organizations", json=hotel)
        assert made.status_code == 201
        assert made.json()["status"] == "trial"
        month.organization_id = made.json()["id"]
        path = f"/v1/organizations/{month.organization_id}"
        owner = {"email": "kari@lyngenfjord.example", "name": "Kari Nordmann", "role": "owner"}
        assert (await operator.post(f"{path}/users", json=owner)).status_code == 201
        scopes = ["aurora:read", "analytics:read", "billing:read"]
        key = await operator.post(f"{path}/keys", json={"name": "Website", "scopes": scopes})
        month.key, month.key_id = key.json()["key"], key.json()["id"]
    ola = ("--email", "ola@lyngenfjord.example", "--name", "Ola Nordmann", "--role", "viewer")
    assert server.json("user", "create", "--org", slug, *ola)["role"] == "viewer"
    test_key = server.json("key", "create", "--org", slug, "--name", "Laptop", "--env", "test")
    month.test_key_id = test_key["id"]
    terms = ("--plan", "basic", "--at", str(month.first_day), "--included", str(INCLUDED))
    subscription = server.json("subscription", "start", "--org", slug, *terms)
    assert datetime.fromisoformat(subscription["current_period_start"]) == month.began
    assert datetime.fromisoformat(subscription["current_period_end"]) == month.turned


def traffic(month: Month) -> Iterator[dict[str, Any]]:
    """What the website sees: three fifths of it in the month that ended, the rest since."""
    dice = random.Random(2026)
    now = clock.now() - timedelta(minutes=5)
    edges = [
        *(month.began + timedelta(microseconds=us) for us in (-1, 0, 1)),
        *(month.turned + timedelta(microseconds=us) for us in (-1, 0, 1)),
    ]
    for number in range(EVENTS):
        if number < len(edges) * 50:
            at = edges[number % len(edges)]
        elif number % 5 < 3:
            at = month.began + (month.turned - month.began) * dice.random()
        else:
            at = month.turned + (now - month.turned) * dice.random()
        yield {
            "id": f"visit-{number}",
            "timestamp": moment(at),
            "api_key_id": month.test_key_id if number % 20 == 7 else month.key_id,
            "endpoint": dice.choice(ENDPOINTS),
            "method": "GET",
            "status_code": dice.choice((200, 200, 200, 200, 200, 200, 201, 304, 404, 500)),
            "response_time_ms": dice.choice((None, 12, 40, 250)),
            "cached": dice.random() < 0.3,
            "widget_type": dice.choice(("forecast", "map", "chat", None)),
            "widget_impression": dice.random() < 0.9,
            "country_code": dice.choice(COUNTRIES),
        }


async def send(month: Month, events: list[dict[str, Any]]) -> Counter[str]:
    """Send batches by concurrent senders, each batch twice and spoiled, and add up the receipts."""
    dice = random.Random(7)
    now = clock.now()
    batches = []
    for start in range(0, len(events), BATCH):
        batch = events[start : start + BATCH]
        inside = dice.sample(batch, 10)
        before = dice.sample(events[: start + 1], min(start, 10))
        other = [{**event, "endpoint": "/other"} for event in inside[:5]]
        late = {**batch[0], "id": f"late-{start}", "timestamp": moment(now - timedelta(days=36))}
        early = {**batch[0], "id": f"early-{start}", "timestamp": moment(now + timedelta(hours=2))}
        batches.append([*batch, *inside, *before, *other, late, early])
    queue = [*batches, *batches[:5]]
    total: Counter[str] = Counter()

    async def sender(client: httpx.AsyncClient) -> None:
        while queue:
            body = json.dumps(queue.pop(0))
            answer = await client.post("/v1/usage/events", content=body, timeout=60)
            assert answer.status_code == 200, answer.text
            receipt = answer.json()
            total["accepted"] += receipt["accepted"]
            total["duplicates"] += receipt["duplicates"]
            total["conflicts"] += len(receipt["conflicts"])
            aside = [*receipt["rejected"], *receipt["quarantined"]]
            total.update(rejection["code"] for rejection in aside)
            total["sent"] += len(json.loads(body))

    async with month.server.client(month.key) as client:
        await asyncio.gather(*(sender(client) for _ in range(SENDERS)))
    month.counted += events
    return total


async def warnings_of(month: Month) -> list[tuple[str, str]]:
    """Run the folding and the warning beside the worker; return who was told what, in order."""
    dsn = make_conninfo(month.server.owner_dsn, user=LOGIN_ROLE)
    pool = await open_pool(dsn, name="tests")
    try:
        await fold(pool)
        await asyncio.gather(*(warn_of_quotas(pool) for _ in range(3)))
    finally:
        await pool.close()
    async with month.server.client() as operator:
        page = await operator.get(
            "/v1/notifications", params={"organization_id": month.organization_id}
        )
    told = [item for item in page.json()["items"] if item["type"] == "usage_limit"]
    return sorted((item["title"][:3].strip(" %"), item["user_id"]) for item in told)


async def usage_is_counted_once_and_each_quota_warned_of_once(month: Month) -> None:
    stream = list(traffic(month))
    running = [each for each in stream if datetime.fromisoformat(each["timestamp"]) >= month.turned]
    ended = [each for each in stream if datetime.fromisoformat(each["timestamp"]) < month.turned]
    assert await warnings_of(month) == []
    # To a little under 80 %, a little over, and over 100 % of what the running month includes.
    month.counted = running
    share = INCLUDED / month.billable(month.turned, clock.now())
    month.counted = []
    cuts = [int(len(running) * share * part) for part in (0.78, 0.83, 0.98)]
    totals: Counter[str] = Counter()
    expected: tuple[list[str], ...] = ([], ["80", "80"], ["80", "80"], ["100", "100", "80", "80"])
    stages = zip([0, *cuts], [*cuts, len(running)], expected, strict=True)
    for start, end, warned in stages:
        totals += await send(month, running[start:end])
        assert [threshold for threshold, _ in await warnings_of(month)] == warned
    totals += await send(month, ended)
    assert len(set(await warnings_of(month))) == 4, "each of the two people is told twice"
    assert totals["accepted"] == EVENTS
    assert totals["sent"] == sum(
        totals[what] for what in ("accepted", "duplicates", "conflicts", "timestamp_out_of_range")
    )
    assert totals["duplicates"] > EVENTS / BATCH * 15
    assert totals["conflicts"] > EVENTS / BATCH * 4
    async with month.server.client(month.key) as client:
        quota = (await client.get("/v1/quota")).json()
    assert quota["used"] == month.billable(month.turned, clock.now())
    assert quota["included"] == INCLUDED


async def a_summary_equals_an_independent_count(month: Month, group_by: str) -> None:
    days = {"from": str(month.first_day - timedelta(days=2)), "to": str(clock.now().date())}
    async with month.server.client(month.key) as client:
        answer = await client.get("/v1/usage/summary", params={"group_by": group_by, **days})
    summary = answer.json()
    name_of = GROUPS[group_by]
    book: dict[str | None, Counter[str]] = {}
    for event in month.counted:
        row = book.setdefault(name_of(event), Counter())
        well = 200 <= event["status_code"] < 400
        row["requests"] += 1
        row["widget_impressions"] += event["widget_impression"]
        row["billable_impressions"] += (
            event["widget_impression"] and well and event["api_key_id"] == month.key_id
        )
        row["successful"] += well
        row["failed"] += event["status_code"] >= 400
        row["cached"] += event["cached"]
    figures: tuple[str, ...] = ("requests", "widget_impressions", "billable_impressions")
    figures += ("successful", "failed", "cached")
    found = {item["group"]: {name: item[name] for name in figures} for item in summary["items"]}
    assert found == {group: {name: row[name] for name in figures} for group, row in book.items()}
    assert summary["totals"]["requests"] == EVENTS
    times = [e["response_time_ms"] for e in month.counted if e["response_time_ms"] is not None]
    mean = Decimal(sum(times)) / len(times)
    assert abs(Decimal(str(summary["totals"]["avg_response_time_ms"])) - mean) < Decimal("0.001")


async def the_period_ends_in_invoices_that_add_up(month: Month) -> None:
    today = str(clock.now().astimezone(OSLO).date())
    run = ("billing", "run", "--as-of", today, "--json")
    both = await asyncio.gather(*(asyncio.to_thread(month.server.cli, *run) for _ in range(2)))
    said = [done.json for done in both]
    assert all(done["failed"] == [] for done in said)
    issued = [invoice for done in said for invoice in done["issued"]]
    assert len(issued) == 2, "the fee of the first month; its overage and the fee of the second"
    again = month.server.cli(*run).json
    assert (again["issued"], again["failed"]) == ([], [])

    over = max(0, month.billable(month.began, month.turned) - INCLUDED)
    assert over > 0
    blocks = -(-over // 1000)
    overage = (blocks * OVERAGE_PER_THOUSAND).quantize(Decimal("0.01"))
    by_number = sorted(issued, key=lambda invoice: str(invoice["invoice_number"]))
    year = today[:4]
    assert [each["invoice_number"] for each in by_number] == [
        f"INV-{year}-000001",
        f"INV-{year}-000002",
    ]
    for invoice, subtotal in zip(by_number, (FEE, FEE + overage), strict=True):
        tax = (subtotal * 25 / 100).quantize(Decimal("0.01"), ROUND_HALF_UP)
        assert Decimal(invoice["subtotal"]) == subtotal
        assert Decimal(invoice["tax_amount"]) == tax
        assert Decimal(invoice["total"]) == subtotal + tax
    async with month.server.client(month.key) as client:
        second = (await client.get(f"/v1/invoices/{by_number[1]['id']}")).json()
    lines = {line["kind"]: line for line in second["line_items"]}
    assert Decimal(lines["overage"]["quantity"]) == blocks
    assert lines["overage"]["impressions"] == month.billable(month.began, month.turned)
    assert lines["overage"]["included"] == INCLUDED
    assert lines["overage"]["period_start"] == str(month.first_day)
    last = month.turned.astimezone(OSLO).date() - timedelta(days=1)
    assert lines["overage"]["period_end"] == str(last)
    assert lines["fee"]["period_start"] == str(last + timedelta(days=1))


def luhn(digits: str) -> int:
    """The check digit of a KID by MOD10, reckoned from the right as banks do."""
    doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(digits))]
    return -sum(figure // 10 + figure % 10 for figure in doubled) % 10


def in_norwegian(amount: Decimal) -> str:
    """An amount as a Norwegian reads it: 3 500,00."""
    return f"{amount:,.2f}".replace(",", "\N{NO-BREAK SPACE}").replace(".", ",")


async def the_pdf_says_what_the_invoice_says(month: Month) -> None:
    async with month.server.client(month.key) as client:
        listed = (await client.get("/v1/invoices")).json()["items"]
        for invoice in listed:
            pdf = await client.get(f"/v1/invoices/{invoice['id']}/pdf")
            assert pdf.headers["content-type"] == "application/pdf"
            again = await client.get(f"/v1/invoices/{invoice['id']}/pdf")
            assert pdf.content == again.content, "the same invoice, other bytes"
            pages = PdfReader(io.BytesIO(pdf.content)).pages
            text = "\n".join(page.extract_text() for page in pages)
            plain = " ".join(text.split())
            assert invoice["invoice_number"] in plain
            assert invoice["kid"] in plain
            assert luhn(invoice["kid"][:-1]) == int(invoice["kid"][-1])
            for amount in ("subtotal", "tax_amount", "total"):
                shown = " ".join(in_norwegian(Decimal(invoice[amount])).split())
                assert shown in plain, (shown, plain)
            assert "Lyngen Fjordhotell AS" in plain
            assert "EKSEMPEL" in plain, "nobody has entered the real seller"
            ehf = await client.get(f"/v1/invoices/{invoice['id']}/ehf")
            assert ehf.headers["content-type"] == "application/xml"
            inside = PdfReader(io.BytesIO(pdf.content)).attachments
            assert inside == {f"{invoice['invoice_number']}.xml": [ehf.content]}
    assert len(listed) == 2


async def another_organization_sees_none_of_it(month: Month) -> None:
    async with month.server.client() as operator:
        body = {"name": "Rival", "slug": a_slug("rival"), "email": "post@rival.example"}
        rival = (await operator.post("/v1/organizations", json=body)).json()["id"]
        scopes = ["analytics:read", "billing:read"]
        made = await operator.post(
            f"/v1/organizations/{rival}/keys", json={"name": "k", "scopes": scopes}
        )
        every = (await operator.get("/v1/invoices")).json()["items"]
    assert len(every) == 2
    async with month.server.client(made.json()["key"]) as stranger:
        assert (await stranger.get("/v1/invoices")).json() == {"items": [], "next_cursor": None}
        assert (await stranger.get("/v1/usage/summary")).json()["totals"]["requests"] == 0
        for invoice in every:
            for path in ("", "/pdf", "/ehf"):
                refused = await stranger.get(f"/v1/invoices/{invoice['id']}{path}")
                assert problem_of(refused)["code"] == "invoice_not_found"


async def test_a_month_of_a_customer(month: Month) -> None:
    await sign_up_as_people_do(month)
    await usage_is_counted_once_and_each_quota_warned_of_once(month)
    for group_by in GROUPS:
        await a_summary_equals_an_independent_count(month, group_by)
    await the_period_ends_in_invoices_that_add_up(month)
    await the_pdf_says_what_the_invoice_says(month)
    await another_organization_sees_none_of_it(month)
