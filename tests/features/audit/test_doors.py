"""The audit through its doors, and the names that the doors give to what is done through them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from psycopg.conninfo import make_conninfo
from tests.features.audit.stage import a_key, an_organization, last_event, recorded, tamper

from aurora.apps.api.app import build
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.integrations.http import Caller
from aurora.integrations.jobs import Job, enqueue, install, run_worker

TOKEN = "operators-token-of-the-test"
OPERATOR = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def api(database: str) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP application on a fresh database."""
    server = build(dsn=make_conninfo(database, user="aurora_app"), service_token=TOKEN)
    app: Any = server.app
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(server), base_url="http://aurora.test"
        ) as client,
    ):
        yield client


async def aurora(database: str, home: Path, *arguments: str) -> tuple[int, str]:
    """Run the command line; return its exit code and standard output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aurora.apps.cli.main",
        *arguments,
        env={
            **os.environ,
            "AURORA_DATABASE_URL": make_conninfo(database, user="aurora_app"),
            "AURORA_HOME": str(home),
            "LOGNAME": "kari nordmann",
        },
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, output.decode()


async def test_a_request_is_recorded_with_its_id_and_its_caller(
    api: httpx.AsyncClient, pool: Pool
) -> None:
    body = {"name": "Hotel", "slug": "hotel", "email": "post@hotel.example"}
    answer = await api.post(
        "/v1/organizations", json=body, headers={**OPERATOR, "x-request-id": "req-of-the-test"}
    )
    assert answer.status_code == 201
    event = await last_event(pool, UUID(answer.json()["id"]))
    assert (event["actor"], event["request_id"]) == ("operator", "req-of-the-test")
    # What follows in the same task is not the operator any more.
    assert (await last_event(pool, await an_organization(pool)))["actor"] == "database:service_role"


def test_callers_have_names_by_which_they_are_found_again() -> None:
    known = uuid4()
    assert Caller("operator").name == "operator"
    assert Caller("operator", token_id=known).name == f"service:{known}"
    assert Caller("service", token_id=known).name == f"service:{known}"
    assert Caller("key", uuid4(), known).name == f"key:{known}"
    # A person who is an operator is told as the person.
    assert Caller("person", person_id=known, is_operator=True).name == f"user:{known}"


async def test_operators_read_the_audit_page_by_page(api: httpx.AsyncClient, pool: Pool) -> None:
    organization, _other = await an_organization(pool), await an_organization(pool)
    for _ in range(4):
        await a_key(pool, organization)
    query: dict[str, Any] = {"organization_id": str(organization), "limit": 2}
    seen: list[int] = []
    for _ in range(3):
        page = (await api.get("/v1/audit", params=query, headers=OPERATOR)).json()
        seen += [item["sequence"] for item in page["items"]]
        query["cursor"] = page["next_cursor"]
    assert seen == [5, 4, 3, 2, 1]
    assert page["next_cursor"] is None


async def test_the_audit_is_filtered_by_action_and_by_subject(
    api: httpx.AsyncClient, pool: Pool
) -> None:
    organization = await an_organization(pool)
    key = (await a_key(pool, organization)).record.id
    for query in ({"action": "api_key.created"}, {"subject_id": str(key)}):
        page = (await api.get("/v1/audit", params=query, headers=OPERATOR)).json()
        assert [item["subject_id"] for item in page["items"]] == [str(key)]
    assert page["items"][0]["hash"] == (await last_event(pool, organization))["hash"].hex()


async def test_nobody_but_operators_reads_it_over_http(api: httpx.AsyncClient, pool: Pool) -> None:
    made = await a_key(pool, await an_organization(pool))
    refused = await api.get("/v1/audit", headers={"x-api-key": made.key})
    assert (refused.status_code, refused.json()["code"]) == (403, "operator_only")
    assert (await api.get("/v1/audit")).status_code == 401


@pytest.mark.parametrize(
    "query", ["cursor=x", "limit=0", "limit=201", "organization_id=x", "action=%00"]
)
async def test_bad_filters_are_refused(api: httpx.AsyncClient, query: str) -> None:
    answer = await api.get(f"/v1/audit?{query}", headers=OPERATOR)
    assert 400 <= answer.status_code < 500
    assert answer.json()["code"]


async def test_a_command_is_recorded_with_who_typed_it(
    pool: Pool, database: str, tmp_path: Path
) -> None:
    arguments = ("--name", "Hotel", "--slug", "hotel", "--email", "post@hotel.example", "--json")
    code, output = await aurora(database, tmp_path, "org", "create", *arguments)
    assert code == 0
    event = await last_event(pool, UUID(json.loads(output)["id"]))
    assert event["actor"] == "cli:kari_nordmann"
    code, output = await aurora(database, tmp_path, "audit", "list", "--org", "hotel", "--json")
    assert [item["action"] for item in json.loads(output)] == ["organization.created"]


async def test_verify_says_where_a_chain_is_broken_by_its_exit_code(
    pool: Pool, database: str, tmp_path: Path
) -> None:
    organization = await an_organization(pool)
    await a_key(pool, organization)
    code, output = await aurora(database, tmp_path, "audit", "verify")
    assert code == 0
    assert "chains are whole" in output
    await tamper(
        database,
        "update audit_events set actor = 'x' where organization_id = %(id)s and sequence = 2",
        id=organization,
    )
    code, output = await aurora(database, tmp_path, "audit", "verify", "--json")
    assert code == 1
    (broken,) = json.loads(output)["broken"]
    assert (broken["organization_id"], broken["sequence"]) == (str(organization), 2)


async def test_a_head_kept_elsewhere_finds_what_the_database_cannot(
    pool: Pool, database: str, tmp_path: Path
) -> None:
    organization = await an_organization(pool)
    code, output = await aurora(database, tmp_path, "audit", "head", "--json")
    kept = tmp_path / "heads.json"
    kept.write_text(output)
    assert str(organization) in output
    against = ("audit", "verify", "--against", str(kept))
    assert (await aurora(database, tmp_path, *against))[0] == 0
    for table in ("audit_events", "audit_heads"):
        await tamper(database, f"delete from {table} where organization_id = '{organization}'")
    assert (await aurora(database, tmp_path, "audit", "verify"))[0] == 0
    code, output = await aurora(database, tmp_path, *against, "--json")
    assert code == 1
    assert json.loads(output)["broken"][0]["fault"] == "cut_off"
    kept.write_text("{}")
    assert (await aurora(database, tmp_path, *against))[0] == 1


async def test_a_job_is_recorded_by_its_name(pool: Pool, database: str) -> None:
    await install(database)
    organization = await an_organization(pool)
    stop = asyncio.Event()

    async def rename(pool: Pool, payload: bytes) -> None:
        async with transaction(pool, PLATFORM) as conn:
            await conn.execute(
                "update organizations set name = 'New' where id = %s", (payload.decode(),)
            )
        stop.set()

    async with transaction(pool, PLATFORM) as conn:
        await enqueue(conn, "rename", str(organization).encode())
    dsn = make_conninfo(database, user="aurora_app")
    await asyncio.wait_for(run_worker(dsn, pool, (), (Job("rename", rename),), stop), 30)
    created, renamed = await recorded(pool, organization)
    assert (created["actor"], renamed["actor"]) == ("database:service_role", "job:rename")
