"""What documents stand on is entered on the command line, and stands on the next ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from tests.features.commands import Said
from tests.features.commands import aurora as aurora  # noqa: PLC0414 - a fixture
from tests.features.invoices.selling import a_sale

Aurora = Callable[..., Said]
BANK = ("--source", "Norges Bank")
SELLER = (
    *("invoice", "seller", "--name", "Nordlys AS", "--org-number", "923609016"),
    *("--address", "Sjøgata 8", "--postal-code", "9008", "--city", "Tromsø"),
    *("--email", "post@nordlys.example"),
)
HOTEL = ("org", "create", "--name", "Lyngen", "--slug", "lyngen", "--email", "a@lyngen.example")


def rows(database: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as owner:
        return owner.execute(statement.encode()).fetchall()


def issue(database: str, currency: str = "NOK") -> dict[str, Any]:
    """Issue an invoice of 10.00 to the only organization."""
    with psycopg.connect(database) as owner:
        lines = json.dumps([a_sale(price="10.00")])
        query = "select app.draft_manual_invoice(id, %s::jsonb, %s) from organizations limit 1"
        found = owner.execute(query, (lines, currency)).fetchone()
        assert found is not None
        owner.execute("select app.issue_invoice(%s)", found)
        row = owner.execute("select to_jsonb(i) from invoices i where id = %s", found).fetchone()
        assert row is not None
        invoice: dict[str, Any] = row[0]
        return invoice


def today(database: str) -> str:
    return str(rows(database, "select (app.now() at time zone 'Europe/Oslo')::date")[0][0])


def test_a_rate_that_was_missing_is_entered_as_the_refusal_says(
    aurora: Aurora, database: str
) -> None:
    aurora(*HOTEL, "--address", "Fjordveien 4")
    with pytest.raises(psycopg.Error, match="exchange_rate_missing") as refused:
        issue(database, "EUR")
    command = str(refused.value.diag.message_detail).partition("use aurora ")[2].rstrip(".").split()
    _, entered = aurora(*command, "eur", "11.6543", "--on", today(database), *BANK, "--json")
    assert (entered["what"], Decimal(entered["rate"])) == ("EUR", Decimal("11.6543"))
    invoice = issue(database, "EUR")
    assert (invoice["tax_amount"], invoice["tax_amount_nok"]) == (2.5, 29.14)
    # Corrected for the next ones; the document keeps what it states.
    aurora(*command, "EUR", "12", "--on", today(database), *BANK)
    assert issue(database, "EUR")["tax_amount_nok"] == 30
    assert rows(database, "select tax_amount_nok from invoices order by tax_amount_nok") == [
        (Decimal("29.14"),),
        (Decimal("30.00"),),
    ]


def test_late_interest_is_reckoned_by_what_was_entered(aurora: Aurora, database: str) -> None:
    aurora(*HOTEL, "--address", "Fjordveien 4")
    invoice = issue(database)
    command = ("billing", "late-interest", "12.5", "--from", "2020-01-01")
    _, entered = aurora(*command, "--source", "Finansdepartementet", "--json")
    assert Decimal(entered["rate"]) == Decimal("12.5")
    statement = f"select app.late_interest('{invoice['id']}', '{invoice['due_date']}'::date + 365)"
    # 12.50 with VAT for a year.
    assert rows(database, statement) == [(Decimal("1.56"),)]


def test_a_profile_changes_the_next_invoice_and_only_what_is_named(
    aurora: Aurora, database: str
) -> None:
    aurora(*HOTEL, "--address", "Vei 1")
    profile = ("billing", "profile", "--org", "lyngen", "--json")
    _, usual = aurora(*profile)
    assert (usual["vat_treatment"], usual["einvoice"], usual["vat_area"]) == (
        "standard", "when_possible", None,
    )  # fmt: skip
    aurora(*profile, "--vat-area", "svalbard", "--payment-days", "30")
    invoice = issue(database)
    assert (invoice["tax_amount"], invoice["buyer"]["vat_area"]) == (0, "svalbard")
    aurora(*profile, "--vat-treatment", "exempt", "--exemption-reason", "mval. § 3-1")
    _, changed = aurora(*profile, "--vat-treatment", "standard", "--vat-area", "")
    assert changed == {**usual, "payment_days": 30}


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("exchange-rate", "EUR", "0", "--on", "2026-01-01", *BANK), "exchange_rate_invalid"),
        (("exchange-rate", "NOK", "1", "--on", "2026-01-01", *BANK), "exchange_rate_invalid"),
        (("exchange-rate", "EUR", "nan", "--on", "2026-01-01", *BANK), "entered_invalid"),
        (("exchange-rate", "EUR", "1", "--on", "yesterday", *BANK), "entered_invalid"),
        (("late-interest", "101", "--from", "2026-01-01", *BANK), "late_interest_rate_invalid"),
        (
            ("late-interest", "1", "--from", "2026-01-01", "--source", " "),
            "late_interest_rate_invalid",
        ),
        (("profile", "--org", "lyngen", "--vat-area", "moon"), "billing_profile_invalid"),
        (("profile", "--org", "lyngen", "--vat-treatment", "exempt"), "billing_profile_invalid"),
        (("profile", "--org", "nobody"), "organization_not_found"),
    ],
)
def test_what_makes_no_sense_is_refused_and_not_kept(
    command: tuple[str, ...], code: str, aurora: Aurora, database: str
) -> None:
    aurora(*HOTEL)
    status, said = aurora("billing", *command)
    assert (status, code in said) == (1, True)
    for table in ("exchange_rates", "late_interest_rates", "billing_profiles"):
        assert rows(database, f"select count(*) from {table}") == [(0,)]


def test_the_seller_says_where_buyers_abroad_pay(aurora: Aurora, database: str) -> None:
    aurora(*SELLER, "--iban", "NO9386011117947", "--bic", "DNBANOKK")
    assert rows(database, "select iban, bic from legal_entities") == [
        ("NO9386011117947", "DNBANOKK")
    ]


def test_a_document_is_shown_by_its_number_whichever_it_is(aurora: Aurora, database: str) -> None:
    aurora(*HOTEL, "--address", "Fjordveien 4")
    number = issue(database)["invoice_number"]
    _, note = aurora("invoice", "credit", number, "--reason", "A mistake", "--json")
    _, invoice = aurora("invoice", "show", number, "--json")
    _, shown = aurora("invoice", "show", note["credit_note_number"], "--json")
    assert (invoice["invoice_number"], invoice["status"]) == (number, "credited")
    assert (shown["credit_note_number"], shown["reason"]) == (
        note["credit_note_number"],
        "A mistake",
    )
    status, said = aurora("invoice", "show", "INV-1999-000001")
    assert (status, "invoice_not_found" in said) == (1, True)
