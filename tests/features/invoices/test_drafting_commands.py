"""Invoices are written on the command line: lines as options or JSON, looked at, issued, or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.features.commands import Said
from tests.features.invoices.printed import pages_of

from aurora.integrations import jobs

Aurora = Callable[..., Said]
HOTEL = ("org", "create", "--name", "Lyngen", "--slug", "lyngen", "--email", "a@lyngen.example")
DRAFT = ("invoice", "draft", "--org", "lyngen")


def rows(database: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as owner:
        return owner.execute(statement.encode()).fetchall()


@pytest.fixture
def hotel(aurora: Aurora, database: str) -> Aurora:
    asyncio.run(jobs.install(database))
    assert aurora(*HOTEL, "--address", "Fjordveien 4")[0] == 0
    return aurora


def test_a_draft_is_looked_at_changed_issued_and_printed(
    hotel: Aurora, database: str, tmp_path: Path
) -> None:
    lines = ("--line", "Onboarding=2x9500.00", "--line", "Travel = Tromsø = 1200", "--note", "Hi")
    code, seen = hotel(*DRAFT, *lines, "--dry-run", "--json")
    assert (code, seen["invoice"]["total"], seen["obstacle"]) == (0, "25250.00", None)
    assert rows(database, "select count(*) from invoices") == [(0,)]
    _, draft = hotel(*DRAFT, *lines, "--json")
    said = [(each["description"], each["amount"]) for each in draft["line_items"]]
    assert said == [("Onboarding", "19000.00"), ("Travel = Tromsø", "1200.00")]
    _, changed = hotel("invoice", "edit", draft["id"], "--line", "Onboarding=100.00", "--json")
    assert (changed["total"], changed["status"]) == ("125.00", "draft")
    page = tmp_path / "draft.pdf"
    assert hotel("invoice", "pdf", draft["id"], "-o", str(page), "--language", "en")[0] == 0
    assert "DRAFT" in pages_of(page.read_bytes())[0]
    assert hotel("invoice", "issue", draft["id"], "--dry-run")[0] == 0
    assert rows(database, "select status from invoices") == [("draft",)]
    _, issued = hotel("invoice", "issue", draft["id"], "--json")
    assert (issued["status"], issued["total"]) == ("issued", "125.00")
    _, explained = hotel("invoice", "explain", issued["invoice_number"])
    assert "entered by hand" in explained
    code, replayed = hotel("invoice", "replay", issued["invoice_number"], "--json")
    assert (code, replayed["differing"]) == (0, 0)
    code, refused = hotel("invoice", "void", draft["id"])
    assert code == 1
    assert "invoice_not_draft" in refused


def test_lines_come_from_a_file_or_a_pipe_with_all_that_a_line_can_say(
    hotel: Aurora, tmp_path: Path
) -> None:
    line = {
        "description": "Impressions, campaign",
        "quantity": 12500,
        "unit_price": 50,
        "base_quantity": 1000,
        "unit": "impressions",
        "period_start": "2026-10-01",
        "period_end": "2026-10-31",
    }
    file = tmp_path / "lines.json"
    file.write_text(json.dumps([line]))
    _, of_file = hotel(*DRAFT, "--lines", str(file), "--json")
    _, piped = hotel(*DRAFT, "--lines", "-", "--json", stdin=json.dumps([line]))
    for draft in (of_file, piped):
        assert (draft["subtotal"], draft["period_end"]) == ("625.00", "2026-10-31")


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        (("--line", "Onboarding"), None, "entered_line_unreadable"),
        (("--line", "Onboarding=2y5"), None, "entered_line_unreadable"),
        (("--line", "Onboarding=NaN"), None, "invoice_line_invalid"),
        (("--line", "=5"), None, "invoice_line_invalid"),
        ((), None, "invoice_incomplete"),
        (("--line", "A=1", "--date", "tomorrow"), None, "entered_line_unreadable"),
        (("--line", "A=1", "--currency", "XXX"), None, "currency_unknown"),
        (("--line", "A=1", "--lines", "-"), "[]", "entered_line_unreadable"),
        (("--lines", "-"), '[{"description": "A", "price": 1}]', "entered_line_unreadable"),
        (("--lines", "-"), "{", "entered_line_unreadable"),
        (("--lines", "-"), " " * 1_000_001, "lines_too_long"),
        (("--lines", "/no/such/file"), None, "file_unreadable"),
    ],
)
def test_what_is_no_line_is_told_so_and_nothing_is_kept(
    arguments: tuple[str, ...], stdin: str | None, code: str, hotel: Aurora, database: str
) -> None:
    exit_code, said = hotel(*DRAFT, *arguments, stdin=stdin)
    assert (exit_code, code in said) == (1, True), said
    assert rows(database, "select count(*) from invoices") == [(0,)]


def test_a_draft_that_cannot_be_issued_says_why_beforehand(hotel: Aurora, database: str) -> None:
    with psycopg.connect(database) as owner:
        owner.execute("update legal_entities set is_specimen = false, org_number = '923609016'")
        owner.execute("update organizations set address = null, org_number = null")
    _, draft = hotel(*DRAFT, "--line", "A=1", "--json")
    code, said = hotel("invoice", "issue", draft["id"], "--dry-run")
    assert (code, "invoice_incomplete" in said) == (1, True)
    code, said = hotel("invoice", "issue", "INV-2026-000001")
    assert (code, "a draft" in said or "draft's id" in said) == (1, True)
    code, aside = hotel("invoice", "void", draft["id"], "--json")
    assert (code, aside["status"]) == (0, "void")
