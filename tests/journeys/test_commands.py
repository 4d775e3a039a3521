"""Every command of the terminal: what it says to a program, and its one line when it refuses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pypdf import PdfReader
from tests.builders import a_slug, an_event
from tests.journeys.conftest import PROGRAM, Aurora, bare_environment, free_port, run_aurora

from aurora import __version__
from aurora.core import clock
from aurora.core.secrets import is_well_formed

PASSWORD = "HunterTwoOfTheFjord"
ORGANIZATION = {
    *("id", "created_at", "updated_at", "name", "slug", "domain", "email", "phone", "address"),
    *("city", "postal_code", "country", "org_number", "vat_number", "billing_email"),
    *("invoice_reference", "status", "trial_ends_at", "settings", "logo_sha256", "deleted_at"),
    *("org_number_unverified", "vat_number_unverified"),
}
USER = {
    *("id", "created_at", "updated_at", "organization_id", "email", "name", "avatar_url", "role"),
    *("status", "last_login_at"),
}
KEY = {
    *("id", "created_at", "updated_at", "organization_id", "key_prefix", "name", "description"),
    *("kind", "environment", "scopes", "rate_limit_tier", "rate_limit_per_hour", "status"),
    *("last_used_at", "expires_at", "revoked_at", "allowed_origins", "ip_whitelist"),
    *("burst_per_second", "not_before", "rotated_from", "metadata"),
}
SUBSCRIPTION = {
    *("id", "created_at", "organization_id", "plan_id", "plan_name", "price_monthly"),
    *("price_yearly", "currency", "billing_period", "current_period_start", "current_period_end"),
    *("next_billing_at", "time_zone", "status", "cancel_at_period_end", "included_impressions"),
    *("overage_rate", "overage_model", "quota_mode", "plan_version", "trial_ends_at"),
    "price_model",
}
INVOICE = {
    *("id", "created_at", "organization_id", "subscription_id", "kind", "invoice_number"),
    *("invoice_date", "due_date", "issued_at", "kid", "period_start", "period_end", "subtotal"),
    *("tax_amount", "total", "currency", "line_items", "tax_lines", "seller", "buyer", "status"),
    *("paid_at", "sent_at", "amount_credited", "amount_settled", "amount_due"),
}
SUMMARY_ROW = {
    *("group", "requests", "widget_impressions", "billable_impressions", "successful", "failed"),
    *("cached", "response_time_ms_sum", "response_time_count"),
}
PLAN = {
    *("id", "name", "price_monthly", "price_yearly", "currency", "included_impressions"),
    *("overage_rate", "overage_model", "quota_mode", "rate_limit_tier", "rate_limit_per_hour"),
    *("features", "version", "is_active", "price_model"),
}


def an_org(aurora: Aurora) -> str:
    slug = a_slug()
    who = ("--name", "Fjordhotell", "--slug", slug, "--email", "post@hotel.example")
    made = aurora.json("org", "create", *who, "--org-number", "987654325", "--city", "Tromsø")
    assert set(made) == ORGANIZATION
    assert (made["slug"], made["status"], made["city"]) == (slug, "trial", "Tromsø")
    return slug


def test_the_version_is_the_packages(aurora: Aurora) -> None:
    assert aurora.cli("--version").out == f"aurora {__version__}\n"


def test_every_command_teaches_how_it_is_used(aurora: Aurora) -> None:
    commands = [
        *("up", "serve", "worker", "migrate", "doctor", "demo", "org", "user", "key", "plan"),
        *("subscription", "usage", "billing", "invoice", "supabase"),
    ]
    said = aurora.cli("--help")
    assert said.code == 0
    for command in commands:
        assert f" {command} " in said.out
    for command in ("up", "usage", "invoice"):
        assert "Usage: aurora" in aurora.cli(command, "--help").out


def test_organizations_and_users_are_made_and_listed(aurora: Aurora) -> None:
    slug = an_org(aurora)
    assert aurora.json("org", "show", slug)["slug"] == slug
    assert slug in {each["slug"] for each in aurora.json("org", "list")}
    who = ("--email", "kari@hotel.example", "--name", "Kari Nordmann", "--role", "owner")
    user = aurora.json("user", "create", "--org", slug, *who)
    assert set(user) == USER
    assert aurora.json("user", "list", "--org", slug) == [user]


def test_a_key_is_shown_once_and_revoked_for_good(aurora: Aurora) -> None:
    slug = an_org(aurora)
    made = aurora.json("key", "create", "--org", slug, "--name", "Laptop", "--env", "test")
    assert set(made) == KEY | {"key"}
    assert is_well_formed(made["key"])
    assert made["key"].startswith("tro_test_")
    assert made["key_prefix"] == made["key"][:15]
    (listed,) = aurora.json("key", "list", "--org", slug)
    assert set(listed) == KEY
    revoked = aurora.json("key", "revoke", made["id"], "--org", slug)
    assert revoked["status"] == "revoked"
    widget = ("--kind", "publishable", "--origin", "https://www.hotel.example")
    public = aurora.json("key", "create", "--org", slug, "--name", "Widget", *widget)
    assert public["scopes"] == ["widgets:embed"]


def test_plans_are_listed_and_subscribed_to(aurora: Aurora) -> None:
    plans = aurora.json("plan", "list")
    assert [plan["id"] for plan in plans][:2] == ["demo", "basic"]
    assert set(plans[0]) == PLAN
    assert aurora.json("plan", "show", "basic")["price_monthly"] == "3500.00"
    slug = an_org(aurora)
    day = str(clock.now().date())
    terms = ("--plan", "enterprise", "--at", day, "--price", "20000.00", "--included", "1000")
    started = aurora.json("subscription", "start", "--org", slug, *terms)
    assert set(started) == SUBSCRIPTION
    assert (started["price_monthly"], started["included_impressions"]) == ("20000.00", 1000)
    assert aurora.json("subscription", "show", "--org", slug) == started
    assert aurora.json("subscription", "cancel", "--org", slug)["cancel_at_period_end"] is True


def test_usage_is_imported_once_and_summarised(aurora: Aurora, tmp_path: Path) -> None:
    slug = an_org(aurora)
    key = aurora.json("key", "create", "--org", slug, "--name", "Website")
    file = tmp_path / "events.ndjson"
    lines = [json.dumps(an_event(timestamp="2026-01-31T23:30:00Z")) for _ in range(5)]
    file.write_text("\n".join([*lines, "{not json"]))
    command = ("usage", "import", str(file), "--org", slug, "--key", key["key_prefix"])
    first = aurora.json(*command)
    assert first["counts"]["accepted"] == 5
    assert [each["line_number"] for each in first["rejections"]] == [6]
    assert aurora.json(*command)["counts"]["duplicates"] == 5
    assert set(aurora.json("usage", "fold")) == {"folded", "days_counted"}
    days = ("--from", "2026-01-01", "--to", "2026-02-28", "--group-by", "month")
    (row,) = aurora.json("usage", "summary", "--org", slug, *days)
    assert set(row) == SUMMARY_ROW
    assert (row["group"], row["requests"], row["billable_impressions"]) == ("2026-01", 5, 5)


def test_billing_makes_invoices_that_are_listed_shown_and_printed(
    aurora: Aurora, tmp_path: Path
) -> None:
    slug = an_org(aurora)
    today = clock.now().date()
    day = str(today - timedelta(days=2))
    aurora.json("subscription", "start", "--org", slug, "--plan", "basic", "--at", day)
    (line,) = aurora.json("billing", "preview", "--org", slug)
    assert (line["kind"], line["amount"]) == ("fee", "3500.00")
    run = ("billing", "run", "--as-of", str(today - timedelta(days=1)), "--org", slug)
    rehearsed = aurora.json(*run, "--dry-run")
    assert set(rehearsed) == {"as_of", "dry_run", "issued", "nothing_owed", "failed", "waiting"}
    assert (rehearsed["dry_run"], len(rehearsed["issued"])) == (True, 1)
    assert aurora.json("invoice", "list", "--org", slug) == []
    (issued,) = aurora.json(*run)["issued"]
    assert issued["total"] == "4375.00"
    assert aurora.json(*run)["issued"] == []
    (listed,) = aurora.json("invoice", "list", "--org", slug)
    assert set(listed) == INVOICE
    assert aurora.json("invoice", "show", issued["invoice_number"]) == listed
    pdf = tmp_path / "invoice.pdf"
    assert aurora.cli("invoice", "pdf", issued["invoice_number"], "-o", str(pdf)).code == 0
    assert issued["invoice_number"] in PdfReader(pdf).pages[0].extract_text()
    ehf = tmp_path / "invoice.xml"
    assert aurora.cli("invoice", "ehf", issued["invoice_number"], "-o", str(ehf)).code == 0
    assert PdfReader(pdf).attachments == {f"{issued['invoice_number']}.xml": [ehf.read_bytes()]}
    explained = aurora.json("invoice", "explain", issued["invoice_number"])
    assert [each["amount"] for each in explained] == [
        line["amount"] for line in listed["line_items"]
    ]
    days = ("--from", listed["invoice_date"], "--to", listed["invoice_date"])
    journal = aurora.cli("billing", "journal", *days)
    assert issued["invoice_number"] in journal.out
    saft = tmp_path / "saft.xml"
    assert aurora.cli("billing", "saft", *days, "-o", str(saft)).code == 0
    assert f"<TransactionID>{issued['invoice_number']}<".encode() in saft.read_bytes()
    every = aurora.json("invoice", "replay", "--all")
    assert (every["differing"], every["documents"]) == (0, [])
    one = aurora.json("invoice", "replay", issued["invoice_number"])
    assert one["documents"][0]["matches"]


def test_the_seller_is_a_specimen_until_it_is_entered(aurora: Aurora) -> None:
    before = aurora.json("invoice", "seller")
    assert before["is_specimen"] is True
    real = {
        "name": "Nordlys AS",
        "org_number": "923609016",
        "address": "Sjøgata 8",
        "postal_code": "9008",
        "city": "Tromsø",
        "email": "post@nordlys.example",
        "iban": "NO9386011117947",
    }
    options = [f"--{name.replace('_', '-')}={value}" for name, value in real.items()]
    for left_out in range(len(options)):
        some = [each for number, each in enumerate(options) if number != left_out]
        assert "(seller_incomplete)" in aurora.cli("invoice", "seller", *some).refusal
        assert aurora.json("invoice", "seller") == before
    after = aurora.json("invoice", "seller", *options)
    # Nobody is paid into the specimen's account, and its pages are nobody's.
    assert (before["bank_account"], before["website"]) != (None, None)
    assert after == before | real | {"is_specimen": False, "bank_account": None, "website": None}
    aurora.json("invoice", "seller", "--website", "nordlys.example")
    assert aurora.json("invoice", "seller", "--phone", "+47 77")["website"] == "nordlys.example"
    wrong = aurora.cli("invoice", "seller", "--org-number", "923609017").refusal
    assert "(org_number_invalid)" in wrong


def test_the_doctor_finds_nothing_wrong_with_a_fresh_database(aurora: Aurora) -> None:
    findings = aurora.json("doctor")
    assert {each["check"] for each in findings} >= {
        *("postgresql", "schema", "login", "row level security", "partitions", "clock", "disk"),
    }
    assert [each for each in findings if each["status"] == "failed"] == []
    assert aurora.json("migrate") == {"applied": []}


def test_the_doctor_changes_nothing_until_it_is_told_to_mend(aurora: Aurora) -> None:
    drop = "drop table usage_partitions.usage_analytics_"
    with psycopg.connect(aurora.owner_dsn) as owner:
        month = owner.execute("select to_char(now(), 'YYYY_MM')").fetchone()
        assert month
        owner.execute((drop + month[0]).encode())
    for _ in range(2):
        assert aurora.cli("doctor").code == 1
    mended = aurora.cli("doctor", "--mend", "--json")
    assert mended.code == 0
    assert "made 1 months" in mended.err
    assert [each for each in mended.json if each["status"] == "failed"] == []


def test_a_supabase_project_is_written(aurora: Aurora, tmp_path: Path) -> None:
    assert aurora.cli("supabase", "export", str(tmp_path / "project")).code == 0
    assert (tmp_path / "project" / "supabase" / "config.toml").is_file()
    assert list((tmp_path / "project" / "supabase" / "migrations").glob("*.sql"))


def test_a_small_demo_is_made_once(aurora: Aurora) -> None:
    assert "2,000 events added" in aurora.cli("demo", "--events", "2000").out
    assert "0 events added" in aurora.cli("demo", "--events", "2000").out
    assert len(aurora.json("usage", "summary", "--org", "demo", "--group-by", "month")) >= 12


START = ("subscription", "start", "--org", "x", "--plan", "basic")
REFUSED: dict[str, tuple[str, ...]] = {
    "organization_not_found": ("org", "show", "nobody"),
    "organization_not_found ": ("usage", "summary", "--org", "nobody"),
    "organization_not_found  ": ("key", "list", "--org", "nobody"),
    "organization_not_found   ": ("invoice", "list", "--org", "nobody"),
    "organization_not_found    ": ("billing", "run", "--as-of", "2026-01-01", "--org", "nobody"),
    "invoice_not_found": ("invoice", "show", "INV-1999-000001"),
    "replay_unclear": ("invoice", "replay"),
    "books_period_invalid": ("billing", "journal", "--from", "2026-02-30", "--to", "2026-03-01"),
    "books_period_invalid ": ("billing", "journal", "--from", "2026-02-02", "--to", "2026-02-01"),
    "replay_unclear ": ("invoice", "replay", "INV-1999-000001", "--all"),
    "invoice_not_found ": ("invoice", "ehf", "INV-1999-000001", "-o", "/dev/null"),
    "plan_not_found": ("plan", "show", "gold"),
    "as_of_invalid": ("billing", "run", "--as-of", "tomorrow"),
    "as_of_in_future": ("billing", "run", "--as-of", "2999-01-01"),
    "date_invalid": (
        "subscription",
        "start",
        "--org",
        "x",
        "--plan",
        "basic",
        "--at",
        "2026-02-30",
    ),
    "price_invalid": ("subscription", "start", "--org", "x", "--plan", "basic", "--price", "NaN"),
    "date_range_invalid": ("usage", "summary", "--org", "x", "--from", "31.01.2026"),
    "slug_invalid": ("org", "create", "--name", "A", "--slug", "a b", "--email", "a@b.example"),
    "email_invalid": ("org", "create", "--name", "A", "--slug", "a", "--email", "nobody"),
}


@pytest.mark.parametrize("code", REFUSED)
def test_a_refusal_is_one_line_with_its_code(code: str, aurora: Aurora) -> None:
    assert aurora.cli(*REFUSED[code]).refusal.endswith(f"({code.strip()})")


def test_an_unknown_key_or_file_is_one_line(aurora: Aurora, tmp_path: Path) -> None:
    slug = an_org(aurora)
    revoked = aurora.cli("key", "revoke", str(uuid4()), "--org", slug).refusal
    assert "(api_key_not_found)" in revoked
    missing = aurora.cli("usage", "import", str(tmp_path / "none"), "--org", slug).refusal
    assert str(tmp_path / "none") in missing
    other = ("--plan", "basic", "--at", "2020-01-01")
    assert (
        "(start_out_of_range)" in aurora.cli("subscription", "start", "--org", slug, *other).refusal
    )


def test_wrong_database_addresses_are_one_line_without_the_password(aurora: Aurora) -> None:
    owner = aurora.owner_dsn
    no_answer = f"postgresql://aurora_app:{PASSWORD}@127.0.0.1:1/aurora"
    tries = [
        (no_answer, ("serve", "--port", str(free_port()))),
        (no_answer, ("migrate",)),
        (no_answer, ("doctor",)),
        (f"postgresql://aurora_app:{PASSWORD}@no-such-host.invalid/aurora", ("org", "list")),
        (make_conninfo(owner, password=PASSWORD, dbname="no_such_database"), ("org", "list")),
        (make_conninfo(owner, user="no_such_user", password=PASSWORD), ("org", "list")),
        (f"postgresql://aurora_app:{PASSWORD}@127.0.0.1:notaport/aurora", ("org", "list")),
        (f"nonsense {PASSWORD}", ("org", "list")),
    ]
    for address, command in tries:
        ran = aurora.cli(*command, AURORA_DATABASE_URL=address)
        assert PASSWORD not in ran.err + ran.out
        assert "(database_unreachable)" in ran.refusal


@contextmanager
def a_taken_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield str(taken.getsockname()[1])


def test_a_taken_port_is_one_line_before_anything_is_started(aurora: Aurora) -> None:
    with a_taken_port() as port:
        for command in ("serve", "up"):
            refusal = aurora.cli(command, "--port", port).refusal
            assert port in refusal
            assert "(port_taken)" in refusal


def test_settings_that_cannot_be_used_name_the_variable_and_not_the_value(aurora: Aurora) -> None:
    for name, value in (("AURORA_PORT", "99999"), ("AURORA_SERVICE_TOKEN", PASSWORD)):
        ran = aurora.cli("org", "list", **{name: value})
        assert name in ran.refusal
        assert value not in ran.err


def test_a_file_in_the_place_of_the_home_is_one_line(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file")
    for command in (("up", "--port", "65535"), ("org", "list")):
        refusal = run_aurora(*command, environment=bare_environment(home)).refusal
        assert str(home) in refusal


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_home_that_somebody_else_owns_is_one_line(tmp_path: Path) -> None:
    home = tmp_path / "private" / "home"
    home.parent.mkdir(mode=0o700)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    ran = subprocess.run(
        [*nobody, PROGRAM, "up", "--port", "65535"],
        env=bare_environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "Permission denied" in ran.stderr and "aurora:" not in ran.stderr:
        pytest.skip("nobody may not run the program of this checkout")
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1, ran.stderr
    assert str(home) in ran.stderr


def test_what_is_printed_for_people_is_a_table(aurora: Aurora) -> None:
    slug = an_org(aurora)
    said: Any = aurora.cli("org", "list").out
    assert said.splitlines()[0].split()[:3] == ["slug", "name", "email"]
    assert slug in said
    assert UUID(aurora.json("org", "show", slug)["id"])
