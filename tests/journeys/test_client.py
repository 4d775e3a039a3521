"""The Python client against a running Aurora: every call, also where answers are lost."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import httpx
import pytest
from tests.builders import a_slug
from tests.journeys.conftest import Aurora as Running
from tests.journeys.conftest import Customer, sign_up

from aurora.client import (
    AsyncAurora,
    Aurora,
    NotAllowed,
    NotAuthenticated,
    NotThere,
    RequestInvalid,
    Retrying,
    Unreachable,
    UsageEvent,
)
from aurora.client.model import MAX_EVENTS_PER_CALL
from aurora.core import clock
from aurora.core.secrets import generate_api_key

QUICK = Retrying(first_wait_s=0.01)


def an_event(**fields: object) -> UsageEvent:
    """A request that was served a moment ago."""
    made = UsageEvent(
        id=uuid.uuid4().hex,
        timestamp=clock.now() - timedelta(seconds=5),
        endpoint="/api/aurora/now",
        status_code=200,
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.fixture
async def customer(server: Running) -> Customer:
    """An organization with a key."""
    return await sign_up(server)


@pytest.fixture
async def operator(server: Running) -> AsyncIterator[AsyncAurora]:
    """The operators' client."""
    async with AsyncAurora(server.address, server.token) as aurora:
        yield aurora


class Wire(httpx.AsyncHTTPTransport):
    """A network that loses answers after they were given, as often as it is told."""

    def __init__(self, losses: int, at: Callable[[httpx.Request], bool] = lambda _: True) -> None:
        super().__init__()
        self.losses, self.at = losses, at
        self.seen: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        answer = await super().handle_async_request(request)
        if self.losses and self.at(request):
            self.losses -= 1
            await answer.aread()
            raise httpx.ReadError("the answer is lost", request=request)
        return answer


async def test_a_customer_from_sign_up_to_usage(operator: AsyncAurora, server: Running) -> None:
    slug = a_slug()
    hotel = await operator.organizations.create(
        name="Lyngen Fjordhotell AS", slug=slug, email="post@lyngenfjord.example"
    )
    assert (await operator.organizations.get(hotel.id)).slug == slug
    assert hotel.id in {each.id for each in (await operator.organizations.list()).items}
    made = await operator.keys.create(
        hotel.id, name="Website", scopes=["aurora:read", "analytics:read", "billing:read"]
    )
    assert [key.id for key in await operator.keys.list(hotel.id)] == [made.id]
    verdict = await operator.keys.verify(made.key, scope="aurora:read")
    assert (verdict.valid, verdict.code, verdict.organization_id) == (True, "VALID", hotel.id)

    bought = await operator.subscriptions.start(hotel.id, plan="basic")
    assert (await operator.subscriptions.get(hotel.id)).id == bought.id
    assert (await operator.subscriptions.cancel(hotel.id)).cancel_at_period_end

    async with AsyncAurora(server.address, made.key) as own:
        receipt = await own.usage.record([an_event(), an_event()])
        assert (receipt.accepted, receipt.duplicates) == (2, 0)
        assert (await own.usage.summary(group_by="endpoint")).totals.requests == 2
        assert (await own.invoices.list()).items == []

    assert (await operator.keys.revoke(hotel.id, made.id)).status == "revoked"
    assert (await operator.keys.verify(made.key)).code in {"REVOKED", "NOT_FOUND"}


async def test_invoices_are_read_whole_and_as_pdf(
    server: Running, operator: AsyncAurora, customer: Customer
) -> None:
    today = clock.now().date()
    await operator.subscriptions.start(customer.id, plan="basic", at=today - timedelta(days=1))
    async with server.client() as raw:
        asked = {"as_of": str(today), "organization_id": customer.id}
        assert (await raw.post("/v1/billing/runs", json=asked)).status_code == 200
    async with AsyncAurora(server.address, customer.key) as own:
        (invoice,) = (await own.invoices.list()).items
        assert (await own.invoices.get(invoice.id)).line_items == invoice.line_items
        assert invoice.subtotal + invoice.tax_amount == invoice.total
        assert (await own.invoices.pdf(invoice.id, language="en")).startswith(b"%PDF-")


def test_the_waiting_client_does_the_same(server: Running) -> None:
    with Aurora(server.address, server.token) as operator:
        hotel = operator.organizations.create(
            name="Hotell", slug=a_slug(), email="post@hotell.example"
        )
        made = operator.keys.create(hotel.id, name="Job", scopes=["analytics:read"])
        assert operator.keys.verify(made.key).valid
        with Aurora(server.address, made.key) as own:
            assert own.usage.record([an_event()]).accepted == 1
            assert own.usage.summary().totals.requests == 1


async def test_more_events_than_a_call_takes_are_split_and_places_stay_right(
    server: Running, customer: Customer
) -> None:
    many = [an_event() for _ in range(MAX_EVENTS_PER_CALL + 2)]
    many[-1].status_code = 99
    wire = Wire(0)
    async with AsyncAurora(server.address, customer.key, transport=wire) as own:
        receipt = await own.usage.record(many)
    assert [request.url.path for request in wire.seen] == ["/v1/usage/events"] * 2
    assert receipt.accepted == len(many) - 1
    assert [each.index for each in receipt.rejected] == [len(many) - 1]


@pytest.mark.parametrize("losses", [1, 3])
async def test_an_answer_that_is_lost_is_asked_for_again_and_counts_once(
    server: Running, customer: Customer, losses: int
) -> None:
    wire = Wire(losses)
    async with AsyncAurora(server.address, customer.key, transport=wire, retrying=QUICK) as own:
        receipt = await own.usage.record([an_event()])
        assert (receipt.accepted, receipt.duplicates) == (0, 1)
        assert (await own.usage.summary()).totals.requests == 1
    assert len(wire.seen) == losses + 2


async def test_the_test_finds_a_client_that_makes_fresh_ids_at_each_attempt(
    server: Running, customer: Customer
) -> None:
    event = an_event()
    async with AsyncAurora(server.address, customer.key) as own:
        for _ in range(2):
            event.id = uuid.uuid4().hex
            await own.usage.record([event])
        assert (await own.usage.summary()).totals.requests == 2


async def test_attempts_are_bounded(server: Running, customer: Customer) -> None:
    wire = Wire(100)
    async with AsyncAurora(server.address, customer.key, transport=wire, retrying=QUICK) as own:
        with pytest.raises(Unreachable):
            await own.usage.record([an_event()])
    assert len(wire.seen) == QUICK.max_attempts


async def test_all_attempts_of_an_unsafe_call_bear_one_idempotency_key(
    server: Running,
) -> None:
    wire = Wire(2)
    async with AsyncAurora(
        server.address, server.token, transport=wire, retrying=QUICK
    ) as operator:
        hotel = {"name": "Once AS", "slug": a_slug(), "email": "post@once.example"}
        made = await operator.organizations.create(**hotel)
        assert made.slug == hotel["slug"]
        sent = [request.headers["idempotency-key"] for request in wire.seen]
        assert len(sent) == 3
        assert len(set(sent)) == 1
        # The next call is another one.
        with pytest.raises(Exception, match="slug"):
            await operator.organizations.create(**hotel)
        assert wire.seen[-1].headers["idempotency-key"] != sent[0]


async def test_a_refusal_is_a_class_with_the_problems_code(
    server: Running, operator: AsyncAurora, customer: Customer
) -> None:
    with pytest.raises(NotThere) as missing:
        await operator.organizations.get(uuid.uuid4())
    assert missing.value.status == 404
    assert missing.value.request_id
    with pytest.raises(RequestInvalid, match="slug"):
        await operator.organizations.create(name="x", slug="NO SLUG", email="a@b.example")
    async with AsyncAurora(server.address, generate_api_key("test").key) as nobody:
        with pytest.raises(NotAuthenticated) as refused:
            await nobody.usage.summary()
        assert refused.value.code == "key_refused"
        assert refused.value.facts["reason"] == "NOT_FOUND"
    async with AsyncAurora(server.address, customer.key) as own:
        with pytest.raises(NotAllowed):
            await own.organizations.list()


async def test_an_id_is_data_and_not_a_way_to_another_path(operator: AsyncAurora) -> None:
    with pytest.raises((NotThere, RequestInvalid)):
        await operator.organizations.get("../plans")
