"""Export and erasure, with a copy of every row of the database searched for what has to be gone."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.conftest import LOGIN_ROLE
from tests.features.organizations.conftest import House

from aurora.core import clock
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.billing_run import run_billing
from aurora.features.privacy.service import strip_usage
from aurora.features.subscriptions.service import start_subscription
from aurora.integrations.http import Caller

CodeOf = Callable[[httpx.Response], tuple[int, str]]
KARI = "kari.unmistakable@lyngen.example"
VISITOR = "203.0.113.77"


async def dump(house: House) -> dict[str, str]:
    """Every row of every table of the database, partitions and queue included, as text."""
    found: dict[str, str] = {}
    async with await psycopg.AsyncConnection.connect(house.owner_dsn) as owner:
        tables = await owner.execute(
            "select c.oid::regclass::text, n.nspname, c.relname from pg_class c"
            " join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r'"
            " and n.nspname not in ('pg_catalog', 'information_schema')"
        )
        for name, schema, table in await tables.fetchall():
            statement = sql.SQL("copy {} to stdout").format(sql.Identifier(schema, table))
            async with owner.cursor() as cursor, cursor.copy(statement) as rows:
                text = b"".join([bytes(piece) async for piece in rows]).decode()
            # Payloads of the queue are bytes, which COPY writes as hex.
            decoded = [
                bytes.fromhex(part[2:].split("\t")[0]).decode("utf-8", "replace")
                for part in text.replace("\\\\x", "\x00\\x").split("\x00")[1:]
                if all(c in "0123456789abcdef" for c in part[2:].split("\t")[0])
            ]
            found[name] = (text + "".join(decoded)).lower()
    return found


async def where(house: House, needle: str) -> set[str]:
    """The tables in which a text stands."""
    return {name for name, text in (await dump(house)).items() if needle.lower() in text}


async def a_life(house: House) -> tuple[dict[str, Any], dict[str, Any], Caller]:
    """A person everywhere she can be: member twice, contact, invited, told, mailed, billed."""
    mine = await house.organization(email=KARI.capitalize(), billing_email=KARI)
    other = await house.organization()
    await house.member(mine["id"], "owner", email="other.owner@lyngen.example")
    _, caller = await house.member(mine["id"], "owner", email=KARI)
    third = await house.organization()
    async with house.client() as operator:
        body = {"email": KARI, "name": "Kari Unmistakable", "role": "member"}
        users = f"/v1/organizations/{other['id']}/users"
        assert (await operator.post(users, json=body)).status_code == 201
        invitations = f"/v1/organizations/{third['id']}/invitations"
        assert (await operator.post(invitations, json=body)).status_code == 201
        keys = f"/v1/organizations/{mine['id']}/keys"
        key = {"name": "Website", "scopes": ["aurora:read"]}
        assert (await operator.post(keys, json=key)).status_code == 201
    await house.rows(
        "select app.notify_members(%s, 'billing', 'Hello', 'for ' || %s)", mine["id"], KARI
    )
    today = clock.now().date()
    async with transaction(house.pool, PLATFORM) as conn:
        await start_subscription(
            conn,
            organization_id=UUID(mine["id"]),
            plan_id="basic",
            at=today - timedelta(days=3),
        )
    assert (await run_billing(house.pool, as_of=today)).issued
    await house.rows(
        "insert into invoices (organization_id, due_date, period_start, period_end, subtotal,"
        " tax_amount, total, line_items, buyer) values (%s, now()::date + 14, now()::date,"
        " now()::date, 1, 0, 1, '[1]', jsonb_build_object('email', %s::text))",
        mine["id"],
        KARI,
    )
    await house.rows(
        "insert into usage_analytics (organization_id, endpoint, status_code, ip_address,"
        " user_agent, origin, metadata, event_id) values (%s, '/x', 200, %s,"
        " 'Visitor/1.0', 'https://lyngen.example', '{\"mail\": \"visitor@b.no\"}', 'ev-visitor')",
        mine["id"],
        VISITOR,
    )
    return mine, other, caller


def opened(content: bytes) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.testzip() is None
    return archive


async def test_an_erased_person_is_in_no_row_but_issued_invoices(
    house: House, code_of: CodeOf
) -> None:
    await a_life(house)
    before = await where(house, KARI)
    assert before >= {
        "users", "organizations", "invitations", "notifications", "invoices", "auth.users",
        "pgqueuer.pgqueuer",
    }  # fmt: skip
    async with house.client() as operator:
        unconfirmed = await operator.post(
            "/v1/people/erase", json={"email": KARI, "confirm": "kari"}
        )
        assert code_of(unconfirmed) == (422, "confirmation_missing")
        assert await where(house, KARI) == before
        # In capitals, since addresses are told apart without regard to case.
        body = {"email": KARI.upper(), "confirm": KARI.upper()}
        done = (await operator.post("/v1/people/erase", json=body)).json()
        again = (await operator.post("/v1/people/erase", json=body)).json()
    assert done == {"people": 2, "invitations": 1, "contacts": 1, "keys_revoked": 0}
    assert again == {"people": 0, "invitations": 0, "contacts": 0, "keys_revoked": 0}
    assert await where(house, KARI) == {"invoices"}
    left = await house.rows(
        "select status, invoice_number from invoices where buyer::text ~* %s", KARI
    )
    assert [status for status, _ in left] == ["issued"]
    assert "kari unmistakable" not in "".join(
        text for name, text in (await dump(house)).items() if name != "invoices"
    )
    assert await house.rows("select count(*) from users where status = 'inactive'") == [(2,)]


async def test_the_last_owner_of_an_organization_is_not_erased_from_under_it(
    house: House, code_of: CodeOf
) -> None:
    made = await house.organization()
    await house.member(made["id"], "owner", email=KARI)
    before = await where(house, KARI)
    async with house.client() as operator:
        refused = await operator.post("/v1/people/erase", json={"email": KARI, "confirm": KARI})
    assert code_of(refused) == (409, "last_owner")
    assert await where(house, KARI) == before, "nothing, not half"


async def test_an_erased_organization_keeps_its_documents_its_audit_and_nothing_personal(
    house: House, code_of: CodeOf
) -> None:
    mine, _, _ = await a_life(house)
    company = {"name": "Unmistakable Hotel AS", "city": "Unmistakable Bay", "address": "Gata 77"}
    async with house.client() as operator:
        changed = await operator.patch(f"/v1/organizations/{mine['id']}", json=company)
        assert changed.status_code == 200, changed.text
    path = f"/v1/organizations/{mine['id']}/erase"
    counts = "select count(*), sum(case when billable then 1 else 0 end) from usage_analytics"
    documents = "select * from invoices where status <> 'draft' order by id"
    usage, issued = await house.rows(counts), await house.rows(documents)
    async with house.client() as operator:
        assert code_of(await operator.post(path, json={"confirm": "x"})) == (
            422,
            "confirmation_missing",
        )
        done = await operator.post(path, json={"confirm": mine["slug"]})
        assert done.json()["keys_revoked"] == 1, done.text
        assert done.json()["people"] == 2
        assert (await operator.post(path, json={"confirm": mine["slug"]})).json()["people"] == 0
        path = f"/v1/organizations/{mine['id']}"
        assert code_of(await operator.get(path)) == (404, "organization_not_found")
        assert code_of(await operator.post(path + "/restore")) == (409, "organization_erased")
        hotel = {"name": "New", "slug": mine["slug"], "email": "a@b.no"}
        assert (await operator.post("/v1/organizations", json=hotel)).status_code == 201, (
            "slug is free"
        )
    assert await strip_usage(house.pool, UUID(mine["id"])) == 1
    assert await strip_usage(house.pool, UUID(mine["id"])) == 0
    for gone in (VISITOR, "Visitor/1.0", "visitor@b.no", "ev-visitor", "other.owner@lyngen"):
        assert await where(house, gone) == set(), gone
    # The chain cannot forget what the company was called; of where people reach it, it never knew.
    assert await where(house, company["name"]) == {"audit_events"}
    assert await where(house, company["city"]) == {"audit_events"}
    assert await where(house, company["address"]) == set()
    assert await house.rows(counts) == usage
    assert await house.rows(documents) == issued
    alive = "select count(*) from api_keys where status <> 'revoked' and organization_id = %s"
    assert await house.rows(alive, mine["id"]) == [(0,)]
    # She still belongs to another organization, so only what was here is gone.
    assert await where(house, KARI) <= {"users", "invoices", "invitations", "auth.users"}


async def test_an_export_of_an_organization_has_every_table_and_no_secret(
    house: House, code_of: CodeOf
) -> None:
    mine, other, owner = await a_life(house)
    await house.rows("update organizations set name = '=cmd()' where id = %s", mine["id"])
    hashes = await house.rows("select key_hash from api_keys")
    hashes += await house.rows("select token_hash from invitations")
    path = f"/v1/organizations/{mine['id']}/export"
    async with house.client(owner) as client:
        answer = await client.get(path)
        foreign = await client.get(f"/v1/organizations/{other['id']}/export")
    assert answer.headers["content-type"] == "application/zip"
    assert code_of(foreign) == (404, "organization_not_found")
    archive = opened(answer.content)
    owning = await house.rows(
        "select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid"
        " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')"
        " and a.attname = 'organization_id'"
    )
    held = {
        name[5:-5] for name in archive.namelist() if name.startswith("data/") and "json" in name
    }
    assert {name for (name,) in owning} - held == {
        "usage_event_ids",
        "usage_deltas",
        "usage_visitor_salts",
        "rate_limit_windows",
    }
    everything = b"".join(archive.read(name) for name in archive.namelist()).decode()
    assert other["id"] not in everything
    for (secret,) in hashes:
        assert secret not in everything
    manifest = json.loads(archive.read("manifest.json"))
    assert manifest["rows"]["invoices"] == len(json.loads(archive.read("data/invoices.json"))) == 2
    (row,) = csv.DictReader(io.StringIO(archive.read("data/organizations.csv").decode()))
    assert row["name"] == "'=cmd()"
    assert json.loads(archive.read("data/organizations.json"))[0]["name"] == "=cmd()"


@pytest.mark.parametrize("role", ["viewer", "member", "admin"])
async def test_below_owner_nobody_exports_and_only_operators_erase(
    house: House, code_of: CodeOf, role: str
) -> None:
    made = await house.organization()
    _, low = await house.member(made["id"], role)
    _, owner = await house.member(made["id"], "owner")
    path = f"/v1/organizations/{made['id']}"
    async with house.client(low) as client:
        assert code_of(await client.get(path + "/export")) == (403, "role_forbidden")
    async with house.client(owner) as client:
        body = {"confirm": made["slug"]}
        assert code_of(await client.post(path + "/erase", json=body)) == (403, "operator_only")
        person = {"email": KARI, "confirm": KARI}
        assert code_of(await client.post("/v1/people/erase", json=person)) == (403, "operator_only")
        asked = await client.post("/v1/people/export", json={"email": KARI})
        assert code_of(asked) == (403, "operator_only")


async def test_an_export_of_a_person_is_about_nobody_else(house: House) -> None:
    await a_life(house)
    async with house.client() as operator:
        answer = await operator.post("/v1/people/export", json={"email": KARI})
        unknown = await operator.post("/v1/people/export", json={"email": "nobody@b.no"})
    archive = opened(answer.content)
    rows = json.loads(archive.read("manifest.json"))["rows"]
    assert (rows["users"], rows["invitations"], rows["notifications"]) == (2, 1, 1)
    assert json.loads(archive.read("data/accounts.json"))[0]["email"] == KARI
    everything = b"".join(archive.read(name) for name in archive.namelist()).decode()
    assert "other.owner@lyngen" not in everything
    assert not any(json.loads(opened(unknown.content).read("manifest.json"))["rows"].values())


async def test_the_command_line_exports_erases_and_asks_first(house: House, tmp_path: Path) -> None:
    mine, _, _ = await a_life(house)
    environment = {
        "AURORA_HOME": str(tmp_path),
        "AURORA_DATABASE_URL": make_conninfo(house.owner_dsn, user=LOGIN_ROLE),
        "PYTHONPATH": ":".join(sys.path),
        "PATH": "/usr/bin:/bin",
    }

    def aurora(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aurora.apps.cli.main", *arguments],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    file = tmp_path / "out.zip"
    done = aurora("export", "org", mine["slug"], "--out", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == file.stat().st_size
    assert file.stat().st_mode & 0o077 == 0
    opened(file.read_bytes())
    again = aurora("export", "user", KARI, "--out", str(file))
    assert (again.returncode, "file_exists" in again.stderr) == (1, True)
    asked = aurora("erase", "user", KARI)
    assert (asked.returncode, "confirmation_missing" in asked.stderr) == (1, True)
    erased = aurora("erase", "user", KARI, "--yes", "--json")
    assert json.loads(erased.stdout)["people"] == 2, erased.stderr
    for expected in (1, 0):
        erased = aurora("erase", "org", mine["id"], "--yes", "--json")
        assert json.loads(erased.stdout)["usage_rows_stripped"] == expected, erased.stderr
    assert await where(house, KARI) == {"invoices"}
