"""No key and no token is in a log or an answer: the canaries are looked for where they could be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from tests.builders import an_event
from tests.journeys.conftest import Aurora, Customer, served, sign_up, slug_of

from aurora.core.secrets import generate_api_key, hash_key
from aurora.db.cluster import LOG_NAME

CANARY = "S3cr3tOfTheCanary"
# Aurora's own server writes down none of this; a customer's PostgreSQL may write down all of it.
LOUDEST = (
    "log_statement = 'all'",
    "log_error_verbosity = 'default'",
    "log_parameter_max_length = -1",
    "log_parameter_max_length_on_error = -1",
    "log_min_error_statement = 'error'",
)


async def log_every_statement(aurora: Aurora) -> None:
    """Make PostgreSQL write down whatever this database is sent, with all parameters."""
    name = str(conninfo_to_dict(aurora.owner_dsn)["dbname"])
    async with await psycopg.AsyncConnection.connect(aurora.owner_dsn, autocommit=True) as owner:
        for setting in LOUDEST:
            await owner.execute(
                sql.SQL("alter database {} set " + setting).format(sql.Identifier(name))
            )


async def misuse(server: Aurora, key: str, secrets: list[str]) -> list[httpx.Response]:
    """Use each secret in every way in which it could end up in a message."""
    answers = []
    async with server.client("") as client:
        for secret in secrets:
            bearer = {"authorization": f"Bearer {secret}"}
            answers += [
                await client.get("/v1/plans", headers=bearer),
                await client.post(
                    "/v1/organizations", json={"name": secret, "x": 1}, headers=bearer
                ),
                await client.post("/v1/keys/verify", json={"key": secret, "scope": 7}),
                await client.post("/v1/keys/verify", json={"key": secret, "other": secret}),
                await client.post("/v1/keys/verify", json={"key": secret}),
                await client.post("/v1/usage/events", json=[an_event()], headers=bearer),
                await client.get("/v1/plans", headers={"x-api-key": secret, "origin": "null"}),
                await client.get("/v1/plans", headers={"authorization": f"Basic {secret}"}),
                await client.get("/v1/forward-auth", headers=bearer),
                await client.get("/v1/forward-auth?scope=nothing", headers={"x-api-key": secret}),
                await client.post(
                    "/v1/forward-auth",
                    content=secret,
                    headers={"x-api-key": secret, "origin": "https://www.hotel.example"},
                ),
                await client.get(
                    "/v1/usage/summary", params={"group_by": "planet"}, headers=bearer
                ),
            ]
        own = {"authorization": f"Bearer {key}"}
        answers.append(await client.post("/v1/usage/events", content=b"[{]", headers=own))
    return answers


async def rotate(server: Aurora, aurora: Aurora, customer: Customer) -> list[str]:
    """Rotate the key over HTTP and at the command line; return the new ones, each shown once."""
    path = f"/v1/organizations/{customer.id}/keys"
    async with server.client() as operator:
        made = await operator.post(f"{path}/{customer.key_id}/rotate", json={"overlap_s": 3600})
        assert made.status_code == 201, made.text
        again = await operator.post(f"{path}/{customer.key_id}/rotate", json={"overlap_s": -1})
        refused = await operator.post(f"{path}/{made.json()['id']}/rotate", json={"key": CANARY})
        assert {again.status_code, refused.status_code} == {422}
    slug = await slug_of(server, customer)
    last = await asyncio.to_thread(aurora.json, "key", "rotate", made.json()["id"], "--org", slug)
    return [made.json()["key"], last["key"]]


async def test_no_secret_is_written_anywhere(aurora: Aurora, session_folder: Path) -> None:
    postgres_log = session_folder / "home" / LOG_NAME
    before = postgres_log.stat().st_size if postgres_log.exists() else 0
    await log_every_statement(aurora)
    log = aurora.folder / "serve.log"
    with served(aurora) as server:
        customer = await sign_up(server)
        wrong = [generate_api_key("production").key, f"tro_live_{CANARY}", f"aur_svc_{CANARY}"]
        secrets = [customer.key, server.token, *await rotate(server, aurora, customer), *wrong]
        answers = await misuse(server, customer.key, secrets)
        assert {answer.status_code for answer in answers} >= {200, 400, 401, 403, 422}
        for answer in answers:
            for secret in secrets:
                assert secret not in answer.text
                assert secret not in str(answer.headers)
        listed = await asyncio.to_thread(aurora.cli, "key", "list", "--org", "nobody")
    for secret in [*secrets, CANARY]:
        assert secret not in log.read_text()
        assert secret not in listed.err + listed.out
    if not postgres_log.exists():
        pytest.skip("the server of this session keeps its log elsewhere")
    with postgres_log.open("rb") as file:
        file.seek(before)
        said = file.read().decode("utf-8", "replace")
    assert hash_key(customer.key) in said, "the statements were not logged, so nothing is proved"
    assert [secret for secret in [*secrets, CANARY] if secret in said] == []
