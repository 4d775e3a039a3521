"""Input that makes no sense is refused with a clear code, at each door; nothing is half done."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from tests.builders import a_subscription, a_user, an_organization
from tests.features.invoices.selling import an_issued_invoice
from tests.features.invoices.test_billing_run import today
from tests.features.organizations.conftest import House

from aurora.db.transaction import PLATFORM, transaction

Code = Callable[[httpx.Response], tuple[int, str]]
BOTH_RUNS = 2


async def sell(house: House, count: int = 1) -> None:
    async with transaction(house.pool, PLATFORM) as conn:
        for _ in range(count):
            organization = await an_organization(conn)
            await a_user(conn, organization)
            await a_subscription(conn, organization)


async def what_is_there(house: House) -> list[tuple[Any, ...]]:
    """Everything that a bill, a plan, or a change of one would have touched."""
    return await house.rows(
        "select (select count(*) from invoices), (select count(*) from plans),"
        " (select count(*) from plan_versions), (select coalesce(sum(months_billed), 0) from"
        " subscriptions), (select count(*) from pgqueuer.pgqueuer),"
        " (select coalesce(sum(last_number), 0) from invoice_counters)"
    )


@pytest.mark.parametrize(
    ("method", "url", "body", "refusal"),
    [
        ("POST", "/v1/plans", {"price_monthly": "-0.01"}, 422),
        ("PATCH", "/v1/plans/basic", {"price_monthly": "-0.01"}, 422),
        ("POST", "/v1/plans", {"currency": "XXZ"}, (422, "currency_unknown")),
        ("POST", "/v1/plans", {"price_model": {"model": "graduated", "tiers": [
            {"up_to": 10, "unit": 1}, {"up_to": 5, "unit": 1}, {"unit": 1}]}},
         (422, "tiers_overlap")),
        ("DELETE", "/v1/plans/basic", None, (409, "plan_in_use")),
        ("POST", "/v1/billing/runs", {"as_of": "2999-01-01"}, (422, "as_of_in_future")),
        ("GET", "/v1/usage/summary?from=2026-02-02&to=2026-02-01&organization_id={org}", None,
         (422, "date_range_invalid")),
    ],
)  # fmt: skip
async def test_http_refuses_it_and_nothing_is_half_done(
    method: str,
    url: str,
    body: dict[str, Any] | None,
    refusal: int | tuple[int, str],
    house: House,
    code_of: Code,
) -> None:
    await sell(house)
    before = await what_is_there(house)
    [[organization]] = await house.rows("select organization_id from subscriptions")
    if method == "POST" and url == "/v1/plans" and body is not None:
        body = {"id": "summer", "name": "Summer", "price_monthly": "10.00"} | body
    async with house.client() as operator:
        refused = await operator.request(method, url.format(org=organization), json=body)
    assert (refused.status_code if isinstance(refusal, int) else code_of(refused)) == refusal
    assert await what_is_there(house) == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("plan create x --name X --monthly -1", "price_invalid"),
        ("plan change basic --monthly -1", "price_invalid"),
        ("plan create x --name X --currency XXZ", "currency_unknown"),
        ("plan delete basic", "plan_in_use"),
        ("billing run --as-of 2999-01-01", "as_of_in_future"),
        ("billing journal --from 2026-02-02 --to 2026-02-01", "books_period_invalid"),
        ("billing saft --from 2026-02-02 --to 2026-02-01 -o /nowhere/x", "books_period_invalid"),
        ("billing prorate --price 10 --period-start 2026-02-01 --period-end 2026-01-01",
         "proration_invalid"),
        ("billing prorate --price 10 --of-days 31 --from 2026-01-20 --to 2026-01-10",
         "proration_invalid"),
        ("billing prorate --price -10 --days 1 --of-days 30", "proration_invalid"),
        ("billing prorate --price 10 --days 1 --of-days 30 --currency XXZ", "currency_unknown"),
    ],
)  # fmt: skip
async def test_the_command_line_refuses_it_and_nothing_is_half_done(
    arguments: str, code: str, house: House, aurora: Any
) -> None:
    await sell(house)
    before = await what_is_there(house)
    status, said = await asyncio.to_thread(aurora, *arguments.split())
    assert (status, f"({code})" in said) == (1, True), said
    assert await what_is_there(house) == before


async def test_a_model_with_overlapping_tiers_is_rated_by_nobody(aurora: Any) -> None:
    model = (
        '{"model": "graduated", "units": 7, "ranges": [{"from": 0, "to": 10, "unit": 1},'
        ' {"from": 5, "to": null, "unit": 2}]}'
    )
    status, said = await asyncio.to_thread(lambda: aurora("billing", "rate", stdin=model))
    assert (status, "(tiers_overlap)" in said) == (1, True), said


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("update subscriptions set current_period_end = current_period_start - interval '1 day'",
         "subscriptions_current_period_check"),
        ("update subscriptions set price_monthly = -1", "subscriptions_price_monthly_check"),
        ("update plans set price_monthly = -1", "plans_price_monthly_check"),
        ("update plans set currency = 'XXZ'", "plans_currency_check"),
    ],
)  # fmt: skip
async def test_sql_refuses_it_whoever_writes(statement: str, constraint: str, house: House) -> None:
    await sell(house)
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        await house.rows(statement)
    assert refused.value.diag.constraint_name == constraint


async def test_two_runs_at_once_over_http_bill_everything_once(house: House) -> None:
    await sell(house, 6)
    async with house.client() as operator:
        done = await asyncio.gather(
            *(
                operator.post("/v1/billing/runs", json={"as_of": str(today())})
                for _ in range(BOTH_RUNS)
            )
        )
    assert [each.status_code for each in done] == [200] * BOTH_RUNS
    numbers = sorted(made["invoice_number"] for each in done for made in each.json()["issued"])
    assert numbers == [f"INV-{today().year}-{n + 1:06}" for n in range(12)]
    assert [each.json()["failed"] for each in done] == [[]] * BOTH_RUNS


@contextmanager
def a_disk_with_room_for(size: int) -> Iterator[None]:
    """Let this process write files of so many bytes and no more, as a quota does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_is_full_keeps_the_old_page_and_leaves_no_part_of_the_new(
    house: House, aurora: Any, tmp_path: Path
) -> None:
    async with transaction(house.pool, PLATFORM) as conn:
        await an_issued_invoice(conn)
    number = f"INV-{today().year}-000001"
    page = tmp_path / "invoice.pdf"
    page.write_bytes(b"the page of yesterday")

    def render() -> tuple[int, Any]:
        said: tuple[int, Any] = aurora("invoice", "pdf", number, "-o", str(page))
        return said

    with a_disk_with_room_for(10_000):
        status, said = await asyncio.to_thread(render)
    assert (status, "(file_not_written)" in said) == (1, True), said
    assert await asyncio.to_thread(lambda: [each.name for each in tmp_path.iterdir()]) == [
        page.name
    ]
    assert page.read_bytes() == b"the page of yesterday"
    assert (await asyncio.to_thread(render))[0] == 0
    assert page.read_bytes().startswith(b"%PDF")


async def test_a_bill_whose_disk_is_full_stops_the_run_and_loses_nothing(house: House) -> None:
    await sell(house, 2)
    # What PostgreSQL says where its disk is full, at the moment at which the row is written.
    await house.rows(
        "create function public.full_disk() returns trigger language plpgsql as $$ begin"
        " raise exception using errcode = 'disk_full', message = 'No space left on device';"
        " end $$"
    )
    await house.rows(
        "create trigger full_disk before insert on invoices for each row"
        " execute function public.full_disk()"
    )
    before = await what_is_there(house)
    day = {"as_of": str(today() - timedelta(days=1))}
    async with house.client() as operator:
        refused = await operator.post("/v1/billing/runs", json=day)
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert await what_is_there(house) == before
        await house.rows("drop trigger full_disk on invoices")
        done = (await operator.post("/v1/billing/runs", json=day)).json()
    assert (len(done["issued"]), done["failed"]) == (4, [])
