"""Invoices that somebody writes: drafted, changed, issued, or put aside, over HTTP and in SQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from tests.builders import an_organization
from tests.features.einvoices.corpus import a_seller, today
from tests.features.invoices.printed import pages_of
from tests.features.invoices.selling import value
from tests.features.organizations.conftest import House

from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.organizations.model import Organization
from aurora.integrations.http import Caller

Code = Callable[[httpx.Response], tuple[int, str]]
NOBODY = UUID(int=0)
ONBOARDING = {"description": "Onboarding, two days", "quantity": "2", "unit_price": "9500.00"}
HOURS = {
    "description": "Support",
    "quantity": "1.5",
    "unit_price": "1333.333",
    "unit": "hour",
    "period_start": "2026-10-01",
    "period_end": "2026-10-31",
}


async def a_buyer(house: House, **fields: Any) -> Organization:
    async with transaction(house.pool, PLATFORM) as conn:
        return await an_organization(
            conn, **{"org_number": "923609016", "address": "Fjordveien 4", **fields}
        )


async def drafted(house: House, *lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    buyer = more.pop("buyer", None) or await a_buyer(house)
    body = {"organization_id": str(buyer.id), "lines": list(lines or (ONBOARDING,)), **more}
    async with house.client() as operator:
        made = await operator.post("/v1/invoices", json=body)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


async def test_a_draft_is_written_changed_issued_and_delivered(house: House) -> None:
    draft = await drafted(house, notes=["Thank you"])
    assert (draft["status"], draft["kind"], draft["invoice_number"], draft["kid"]) == (
        "draft", "manual", None, None,
    )  # fmt: skip
    assert (draft["subtotal"], draft["tax_amount"], draft["total"]) == (
        "19000.00", "4750.00", "23750.00",
    )  # fmt: skip
    url = f"/v1/invoices/{draft['id']}"
    async with house.client() as operator:
        changed = (await operator.patch(url, json={"lines": [ONBOARDING, HOURS]})).json()
        # 1.5 times 1333.333 is 1999.9995, rounded once, half up.
        assert [line["amount"] for line in changed["line_items"]] == ["19000.00", "2000.00"]
        assert (changed["period_start"], changed["total"]) == ("2026-10-01", "26250.00")
        issued = await operator.post(f"{url}/issue")
        listed = (await operator.get("/v1/invoices")).json()["items"]
    assert issued.status_code == 200, issued.text
    assert issued.json()["status"] == "issued"
    assert issued.json()["invoice_number"].endswith("-000001")
    assert [each["id"] for each in listed] == [draft["id"]]
    jobs = await house.rows("select entrypoint, payload from pgqueuer.pgqueuer")
    assert jobs == [("invoice_deliver", draft["id"].encode())]
    assert await house.rows("select notes from invoices") == [(["Thank you"],)]


async def test_what_is_not_named_of_a_change_stays(house: House) -> None:
    await house.rows(
        "insert into exchange_rates (currency, valid_on, nok, source)"
        " values ('EUR', app.now()::date - 2, 11.5, 'Norges Bank')"
    )
    draft = await drafted(house, HOURS, currency="EUR", notes=["A"])
    url = f"/v1/invoices/{draft['id']}"
    day = (today() - timedelta(days=1)).isoformat()
    async with house.client() as operator:
        dated = (await operator.patch(url, json={"invoice_date": day})).json()
        noted = (await operator.patch(url, json={"notes": ["B"]})).json()
        undated = (await operator.patch(url, json={"invoice_date": None})).json()
    assert [dated["invoice_date"], noted["invoice_date"]] == [day, day]
    assert undated["invoice_date"] == today().isoformat()
    assert {each["currency"] for each in (dated, noted, undated)} == {"EUR"}
    assert {each["total"] for each in (dated, noted, undated)} == {draft["total"]}
    assert await house.rows("select notes from invoices") == [(["B"],)]


async def test_only_a_draft_that_somebody_wrote_is_changed_issued_or_put_aside(
    house: House, code_of: Code
) -> None:
    draft, other = await drafted(house), await drafted(house)
    issued, void = (f"/v1/invoices/{each['id']}" for each in (draft, other))
    async with house.client() as operator:
        assert (await operator.post(f"{issued}/issue")).status_code == 200
        aside = await operator.post(f"{void}/void")
        assert (aside.status_code, aside.json()["status"]) == (200, "void")
        for url in (issued, void):
            for method, path, body in (
                ("PATCH", url, {"lines": [HOURS]}),
                ("POST", f"{url}/issue", None),
                ("POST", f"{url}/void", None),
            ):
                refused = await operator.request(method, path, json=body)
                assert code_of(refused) == (409, "invoice_not_draft"), (method, path)
        missing = await operator.post(f"/v1/invoices/{NOBODY}/issue")
    assert code_of(missing) == (404, "invoice_not_found")
    assert await house.rows("select status, total from invoices order by status") == [
        ("issued", Decimal("23750.00")),
        ("void", Decimal("23750.00")),
    ]
    # What was put aside left no gap, and nobody is told of it.
    assert await house.rows("select count(*) from pgqueuer.pgqueuer") == [(1,)]


async def test_a_subscriptions_draft_is_nobodys_to_write(connection: Connection) -> None:
    buyer = await an_organization(connection)
    plain = await value(
        connection,
        "insert into invoices (organization_id, invoice_date, due_date, period_start, period_end,"
        " subtotal, tax_amount, total, line_items) values (%s, '2026-01-01', '2026-01-15',"
        " '2026-01-01', '2026-01-31', 8, 2, 10, '[{\"description\": \"A\"}]') returning id",
        buyer.id,
    )
    with pytest.raises(psycopg.Error, match="invoice_not_entered"):
        await value(connection, 'select app.change_draft(%s, \'{"currency": "EUR"}\')', plain)


WRONG_LINES: dict[str, tuple[dict[str, Any], str]] = {
    "no quantity": ({"quantity": "0"}, "invoice_line_invalid"),
    "a blank description": ({"description": "  "}, "invoice_line_invalid"),
    "nothing to pay": ({"unit_price": "0"}, "invoice_line_invalid"),
    "more than an invoice holds": (
        {"quantity": "999999999", "unit_price": "9999999999"},
        "invoice_line_invalid",
    ),
    "a period that ends first": (
        {"period_start": "2026-02-01", "period_end": "2026-01-31"},
        "invoice_line_invalid",
    ),
    "an export of one's own choosing": ({"tax_code": "export"}, "invoice_line_invalid"),
    "a rate nobody entered": ({"tax_code": "reduced_7"}, "tax_rate_missing"),
    "a price below zero": ({"unit_price": "-1"}, "invalid"),
    "a figure that is none": ({"unit_price": "NaN"}, "invalid"),
    "a field that is none": ({"discount": "1"}, "invalid"),
}


@pytest.mark.parametrize("what", WRONG_LINES)
async def test_a_line_that_no_invoice_can_have_is_refused(
    what: str, house: House, code_of: Code
) -> None:
    wrong, expected = WRONG_LINES[what]
    draft = await drafted(house)
    url = f"/v1/invoices/{draft['id']}"
    async with house.client() as operator:
        refused = await operator.patch(url, json={"lines": [ONBOARDING | wrong]})
        kept = (await operator.get(url)).json()
    assert code_of(refused)[1] == expected, refused.text
    assert refused.status_code in {409, 422}
    assert kept["line_items"] == draft["line_items"]


async def test_a_thousand_lines_are_taken_and_not_one_more(house: House, code_of: Code) -> None:
    draft = await drafted(house, *[{**ONBOARDING, "quantity": "1"}] * 1_000)
    assert draft["subtotal"] == "9500000.00"
    async with house.client() as operator:
        body = {"lines": [ONBOARDING] * 1_001}
        refused = await operator.patch(f"/v1/invoices/{draft['id']}", json=body)
    assert refused.status_code == 422
    with pytest.raises(psycopg.Error, match="invoice_too_long"):
        await house.rows(
            'select app.lines_entered((select jsonb_agg(\'{"description": "A", "quantity": 1,'
            " \"unit_price\": 1}'::jsonb) from generate_series(1, 1001)), 'NOK', '2026-01-01')"
        )


async def test_a_date_to_come_waits_and_one_that_is_far_is_none(
    house: House, code_of: Code
) -> None:
    tomorrow = (today() + timedelta(days=1)).isoformat()
    draft = await drafted(house, invoice_date=tomorrow)
    url = f"/v1/invoices/{draft['id']}"
    async with house.client() as operator:
        early = await operator.post(f"{url}/issue")
        far = await operator.patch(url, json={"invoice_date": "9999-12-31"})
        await operator.patch(url, json={"invoice_date": None})
        issued = await operator.post(f"{url}/issue")
    assert code_of(early) == code_of(far) == (422, "invoice_date_in_future")
    assert issued.json()["invoice_date"] == today().isoformat()


async def test_a_preview_shows_the_vat_and_the_obstacle_and_keeps_nothing(
    house: House, code_of: Code
) -> None:
    async with transaction(house.pool, PLATFORM) as conn:
        await a_seller(conn)
    good, bad = await a_buyer(house), await a_buyer(house, org_number=None, address=None)
    async with house.client() as operator:
        answers = [
            await operator.post(
                "/v1/invoices/preview",
                json={"organization_id": str(buyer.id), "lines": [ONBOARDING]},
            )
            for buyer in (good, bad)
        ]
        nobody = await operator.post(
            "/v1/invoices/preview", json={"organization_id": str(NOBODY), "lines": [ONBOARDING]}
        )
    assert [each.status_code for each in answers] == [200, 200]
    assert [each.json()["total"] for each in answers] == ["23750.00", "23750.00"]
    assert answers[0].json()["obstacle"] is None
    assert answers[1].json()["obstacle"]["code"] == "invoice_incomplete"
    assert code_of(nobody) == (404, "organization_not_found")
    assert await house.rows("select count(*) from invoices") == [(0,)]
    assert await house.rows("select count(*) from invoice_counters") == [(0,)]


async def test_what_kept_a_draft_from_issue_is_mended_and_it_is_issued(
    house: House, code_of: Code
) -> None:
    async with transaction(house.pool, PLATFORM) as conn:
        await a_seller(conn)
    buyer = await a_buyer(house, org_number=None, address=None)
    draft = await drafted(house, buyer=buyer)
    url = f"/v1/invoices/{draft['id']}/issue"
    async with house.client() as operator:
        refused = await operator.post(url)
        # Nothing is half done: no number was taken, and no delivery waits.
        assert await house.rows("select count(*) from invoice_counters") == [(0,)]
        assert await house.rows("select count(*) from pgqueuer.pgqueuer") == [(0,)]
        address = {"address": "Fjordveien 4"}
        await operator.patch(f"/v1/organizations/{buyer.id}", json=address)
        issued = await operator.post(url)
    assert code_of(refused) == (422, "invoice_incomplete")
    assert issued.json()["buyer"]["address"] == "Fjordveien 4"
    assert issued.json()["invoice_number"].endswith("-000001")


async def test_a_key_of_the_organization_neither_writes_nor_sees_drafts(
    house: House, code_of: Code
) -> None:
    draft = await drafted(house)
    key = Caller(
        "key",
        organization_id=UUID(draft["organization_id"]),
        scopes=frozenset({"billing:read"}),
    )
    url = f"/v1/invoices/{draft['id']}"
    async with house.client(key) as customer:
        seen = await customer.get(url)
        tried = [
            await customer.patch(url, json={"lines": [HOURS]}),
            await customer.post(f"{url}/issue"),
            await customer.post(f"{url}/void"),
        ]
    assert code_of(seen) == (404, "invoice_not_found")
    assert {each.status_code for each in tried} == {403}


async def test_a_lost_answer_is_asked_again_and_drafts_once(house: House) -> None:
    buyer = await a_buyer(house)
    body = {"organization_id": str(buyer.id), "lines": [ONBOARDING]}
    async with house.client() as operator:
        headers = {"idempotency-key": "draft-1"}
        first = await operator.post("/v1/invoices", json=body, headers=headers)
        again = await operator.post("/v1/invoices", json=body, headers=headers)
        url, once = f"/v1/invoices/{first.json()['id']}/issue", {"idempotency-key": "issue-1"}
        issued = [await operator.post(url, headers=once) for _ in range(2)]
    assert first.json() == again.json()
    assert issued[0].json() == issued[1].json()
    assert [each.status_code for each in issued] == [200, 200]
    assert await house.rows("select count(*) from invoices") == [(1,)]


@pytest.mark.parametrize(("step", "mark"), [(None, "UTKAST"), ("void", "FORKASTET")])
async def test_a_page_without_a_number_says_what_it_is_and_asks_for_no_money(
    step: str | None, mark: str, house: House
) -> None:
    draft = await drafted(house)
    url = f"/v1/invoices/{draft['id']}"
    async with house.client() as operator:
        if step:
            await operator.post(f"{url}/{step}")
        page = await operator.get(f"{url}/pdf", params={"language": "nb"})
    assert page.headers["content-disposition"] == f'inline; filename="draft-{draft["id"]}.pdf"'
    text = "\n".join(pages_of(page.content))
    assert mark in text
    assert "ikke et gyldig salgsdokument" in text
    assert "Kontonummer" not in text
    assert "INV-" not in text
