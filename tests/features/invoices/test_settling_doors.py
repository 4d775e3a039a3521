"""Credit notes and payments through their doors: operators make them, customers read their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.builders import an_organization
from tests.features.invoices.selling import a_sale, an_issued_invoice, credit
from tests.features.organizations.conftest import House

from aurora.db.transaction import PLATFORM, transaction
from aurora.features.organizations.model import Organization
from aurora.integrations.http import Caller

Code = Callable[[httpx.Response], tuple[int, str]]
NOBODY = UUID(int=0)


@dataclass
class Sold:
    """A customer, and an invoice for two lines: 1,000 and 200 without VAT, 1,500 with it."""

    organization: Organization
    invoice_id: UUID

    @property
    def key(self) -> Caller:
        return Caller(
            "key", organization_id=self.organization.id, scopes=frozenset({"billing:read"})
        )

    def payment(self, amount: str = "500.00", **more: Any) -> dict[str, Any]:
        fields = {"received_on": "2026-01-02", "reference": "bank 1", "amount": amount}
        return {"organization_id": str(self.organization.id), **fields, **more}


async def a_sold(house: House) -> Sold:
    async with transaction(house.pool, PLATFORM) as conn:
        buyer = await an_organization(conn)
        lines = (a_sale("A", "1000.00"), a_sale("B", "200.00"))
        return Sold(buyer, await an_issued_invoice(conn, *lines, organization=buyer))


@pytest.fixture
async def sold(house: House) -> Sold:
    return await a_sold(house)


async def test_an_invoice_is_credited_by_line_and_amount_and_never_beyond(
    house: House, sold: Sold, code_of: Code
) -> None:
    url = f"/v1/invoices/{sold.invoice_id}/credit-notes"
    async with house.client() as operator:
        lines = [{"line": 2, "amount": "50.00"}]
        by_line = await operator.post(url, json={"reason": "Outage", "lines": lines})
        by_amount = await operator.post(url, json={"reason": "Goodwill", "amount": "150.00"})
        beyond = await operator.post(url, json={"reason": "More", "amount": "1000.01"})
        both = {"reason": "Both", "amount": "1.00", "lines": [{"line": 1}]}
        neither_nor = await operator.post(url, json=both)
        rest = await operator.post(url, json={"reason": "The rest"})
        nothing = await operator.post(url, json={"reason": "Again"})
        invoice = (await operator.get(f"/v1/invoices/{sold.invoice_id}")).json()
    assert [each.status_code for each in (by_line, by_amount, rest)] == [201, 201, 201]
    totals = [Decimal(each.json()["total"]) for each in (by_line, by_amount, rest)]
    assert totals == [Decimal("62.50"), Decimal("187.50"), Decimal("1250.00")]
    assert by_line.json()["invoice_number"] == invoice["invoice_number"]
    assert code_of(beyond) == code_of(nothing) == (409, "credit_exceeds_invoice")
    assert code_of(neither_nor) == (422, "credit_invalid")
    assert (invoice["status"], invoice["amount_due"]) == ("credited", "0.00")
    assert invoice["amount_credited"] == "1500.00"


async def test_money_pays_in_parts_and_what_is_too_much_waits(
    house: House, sold: Sold, code_of: Code
) -> None:
    invoice = f"/v1/invoices/{sold.invoice_id}"
    of_invoice = {"invoice_id": str(sold.invoice_id)}
    async with house.client() as operator:
        part = await operator.post("/v1/payments", json=sold.payment(**of_invoice))
        again = await operator.post("/v1/payments", json=sold.payment(**of_invoice))
        half = (await operator.get(invoice)).json()
        more = await operator.post(
            "/v1/payments", json=sold.payment("1200.00", reference="bank 2", **of_invoice)
        )
        paid = (await operator.get(invoice)).json()
        settled = (await operator.get(f"{invoice}/allocations")).json()["items"]
        listed = (await operator.get("/v1/payments", params=of_invoice)).json()["items"]
    assert (part.status_code, more.status_code) == (201, 201)
    assert code_of(again) == (409, "payment_taken")
    # It was due two weeks after today: a part leaves it as it was.
    assert (half["status"], half["amount_due"]) == ("issued", "1000.00")
    assert (paid["status"], paid["amount_due"]) == ("paid", "0.00")
    assert [each["amount"] for each in settled] == ["500.00", "1000.00"]
    assert more.json()["amount_open"] == "200.00"
    assert {each["reference"] for each in listed} == {"bank 1", "bank 2"}


async def test_a_bounced_payment_opens_its_invoice_again_once(
    house: House, sold: Sold, code_of: Code
) -> None:
    async with house.client() as operator:
        paid = (await operator.post("/v1/payments", json=sold.payment("1500.00"))).json()
        url = f"/v1/payments/{paid['id']}/reverse"
        back = await operator.post(url, json={"reason": "It bounced"})
        twice = await operator.post(url, json={"reason": "It bounced"})
        missing = await operator.post(f"/v1/payments/{NOBODY}/reverse", json={"reason": "x"})
        invoice = (await operator.get(f"/v1/invoices/{sold.invoice_id}")).json()
    assert back.json()["reversal_reason"] == "It bounced"
    assert code_of(twice) == (422, "payment_invalid")
    assert code_of(missing) == (404, "payment_not_found")
    assert (invoice["status"], invoice["amount_due"], invoice["paid_at"]) == (
        "issued", "1500.00", None,
    )  # fmt: skip


async def test_what_is_open_is_set_off_by_hand_and_not_twice(
    house: House, sold: Sold, code_of: Code
) -> None:
    async with house.client() as operator:
        await operator.post("/v1/payments", json=sold.payment("1500.00"))
        body = {"reason": "Too much", "amount": "400.00"}
        note = await operator.post(f"/v1/invoices/{sold.invoice_id}/credit-notes", json=body)
        assert note.json()["amount_open"] == "500.00"
        await operator.post("/v1/payments", json=sold.payment("75.00", reference="bank 2"))
        async with transaction(house.pool, PLATFORM) as conn:
            # What is to its credit settles the next invoice when it is issued: 500 and 75 of 1,250.
            second = await an_issued_invoice(conn, organization=sold.organization)
        url = f"/v1/invoices/{second}"
        assert (await operator.get(url)).json()["amount_due"] == "675.00"
        told = {"credit_note_id": note.json()["id"], "amount": "1.00"}
        refused = await operator.post(f"{url}/allocations", json=told)
        nothing = await operator.post(f"{url}/allocations", json={})
    assert code_of(refused) == code_of(nothing) == (422, "allocation_invalid")


async def test_a_customer_reads_its_own_and_makes_nothing(
    house: House, sold: Sold, code_of: Code
) -> None:
    other = await a_sold(house)
    async with transaction(house.pool, PLATFORM) as conn:
        note = await credit(conn, sold.invoice_id, amount="10")
    async with house.client() as operator:
        paid = (await operator.post("/v1/payments", json=sold.payment())).json()
    own = (f"/v1/credit-notes/{note}", f"/v1/payments/{paid['id']}",
           f"/v1/invoices/{sold.invoice_id}/allocations")  # fmt: skip
    _, admin = await house.member(str(sold.organization.id), "admin")
    _, viewer = await house.member(str(sold.organization.id), "viewer")
    for caller, status in (
        (sold.key, 200), (admin, 200), (viewer, 404), (other.key, 404),
    ):  # fmt: skip
        async with house.client(caller) as client:
            assert [(await client.get(url)).status_code for url in own] == [status] * 3
    async with house.client(sold.key) as client:
        assert len((await client.get("/v1/credit-notes")).json()["items"]) == 1
        assert len((await client.get("/v1/payments")).json()["items"]) == 1
        body = {"reason": "For free"}
        refused = await client.post(f"/v1/invoices/{sold.invoice_id}/credit-notes", json=body)
        assert code_of(refused) == (403, "operator_only")
        refused = await client.post("/v1/payments", json=sold.payment("1500.00"))
        assert code_of(refused) == (403, "operator_only")
    async with house.client(other.key) as client:
        assert (await client.get("/v1/credit-notes")).json()["items"] == []
        assert (await client.get("/v1/payments")).json()["items"] == []
        foreign = {"invoice_id": str(sold.invoice_id)}
        assert (await client.get("/v1/payments", params=foreign)).status_code == 404


async def test_a_credit_note_is_printed_with_its_number_and_its_invoices(
    house: House, sold: Sold
) -> None:
    async with transaction(house.pool, PLATFORM) as conn:
        note = await credit(conn, sold.invoice_id, amount="10")
    async with house.client() as operator:
        first = await operator.get(f"/v1/credit-notes/{note}/pdf")
        again = await operator.get(f"/v1/credit-notes/{note}/pdf")
    assert first.status_code == 200
    assert first.content[:5] == b"%PDF-"
    assert first.content == again.content
    assert "CN-" in first.headers["content-disposition"]


async def test_an_amount_that_no_row_can_hold_is_refused_before_the_database(
    house: House, sold: Sold
) -> None:
    async with house.client() as operator:
        for amount in ("0", "-1", "1.001", "NaN", "Infinity", "1e30", "1000000000000.00"):
            refused = await operator.post("/v1/payments", json=sold.payment(amount))
            assert refused.status_code == 422, amount


def test_the_command_line_credits_pays_and_lists(sold: Sold, aurora: Any) -> None:
    number = aurora("invoice", "list", "--json")[1][0]["invoice_number"]
    line = ("--line", "2=50.00", "--reason", "Outage")
    code, note = aurora("invoice", "credit", number, *line, "--json")
    assert (code, note["total"], note["invoice_number"]) == (0, "62.50", number)
    part = ("--reference", "bank 1", "--amount", "437.50", "--json")
    code, paid = aurora("invoice", "pay", number, *part)
    assert (code, paid["invoice_status"], paid["invoice_due"]) == (0, "issued", "1000.00")
    code, paid = aurora("invoice", "pay", number, "--reference", "bank 2", "--json")
    assert (paid["amount"], paid["invoice_status"], paid["invoice_due"]) == (
        "1000.00", "paid", "0.00",
    )  # fmt: skip
    listed = aurora("invoice", "payments", "--invoice", number, "--json")[1]
    assert [each["reference"] for each in listed] == ["bank 2", "bank 1"]
    slug = sold.organization.slug
    notes = aurora("invoice", "credit-notes", "--org", slug, "--json")[1]
    assert [each["id"] for each in notes] == [note["id"]]
    bounced = ("--reason", "It bounced", "--json")
    assert (
        aurora("invoice", "reverse-payment", paid["id"], *bounced)[1]["amount_allocated"] == "0.00"
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("credit", "{n}", "--reason", "x", "--amount", "1200.01"), "credit_exceeds_invoice"),
        (("credit", "{n}", "--reason", "x", "--line", "3"), "credit_exceeds_invoice"),
        (("credit", "{n}", "--reason", "x", "--line", "a=1"), "line_unreadable"),
        (("credit", "{n}", "--reason", " "), "credit_invalid"),
        (("credit", "{n}", "--reason", "x", "--amount", "much"), "credit_invalid"),
        (("credit", "INV-1", "--reason", "x"), "invoice_not_found"),
        (("pay", "{n}", "--reference", "x", "--amount", "-5"), "payment_invalid"),
        (("pay", "{n}", "--reference", "x", "--received-on", "2999-01-01"), "payment_invalid"),
        (("pay", "{n}", "--reference", "x", "--received-on", "soon"), "payment_invalid"),
        (("reverse-payment", "x", "--reason", "x"), "payment_not_found"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    arguments: tuple[str, ...], code: str, sold: Sold, aurora: Any
) -> None:
    number = aurora("invoice", "list", "--json")[1][0]["invoice_number"]
    status, said = aurora("invoice", *(each.format(n=number) for each in arguments))
    assert (status, f"({code})" in said) == (1, True), said
