"""Signing in as a browser does it: cookies, CSRF, and who may do what, over a socket."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
import structlog
from tests.features.sign_in.conftest import (
    EMAIL,
    FIREFOX,
    PASSWORD,
    SERVICE_TOKEN,
    Browser,
    World,
)

from aurora.core.secrets import hash_key
from aurora.db.embedded import EmbeddedServer
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.sign_in import service_tokens
from aurora.integrations.access_tokens import AccessTokens

SECRET = "a-shared-secret-of-at-least-32-bytes"


async def sign_in(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post(
        "/v1/sign-in/password", json={"email": EMAIL, "password": PASSWORD, **body}
    )


def token_header(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_a_person_signs_in_sees_ones_own_and_signs_out(
    world: World, browser: Browser
) -> None:
    mine = await world.organization("mine")
    theirs = await world.organization("theirs")
    await world.member(mine)
    async with browser() as client:
        client.headers["user-agent"] = FIREFOX
        assert (await client.get("/v1/me")).status_code == 401
        asked = await client.post("/v1/sign-in/links", json={"email": EMAIL})
        assert asked.status_code == 202
        stranger = await client.post("/v1/sign-in/links", json={"email": "no@one.example"})
        assert (stranger.status_code, stranger.text) == (asked.status_code, asked.text)
        [mail] = await world.send_links()
        link = mail["text"].splitlines()[0]
        assert link.startswith(str(client.base_url).rstrip("/"))
        opened = await client.post(
            "/v1/sign-in/links/open", json={"token": link.partition("#token=")[2]}
        )
        assert opened.status_code == 200
        assert opened.headers["cache-control"] == "no-store"
        csrf = {"x-csrf-token": opened.json()["csrf_token"]}

        me = (await client.get("/v1/me")).json()
        assert (me["kind"], me["email"], me["is_operator"]) == ("person", EMAIL, False)
        assert me["csrf_token"] == csrf["x-csrf-token"]
        assert [each["slug"] for each in me["organizations"]] == ["mine"]
        listed = (await client.get("/v1/organizations")).json()["items"]
        assert [each["slug"] for each in listed] == ["mine"]
        assert (await client.get(f"/v1/organizations/{mine}")).status_code == 200
        for path in (
            f"/v1/organizations/{theirs}",
            f"/v1/organizations/{theirs}/subscription",
            f"/v1/organizations/{theirs}/users",
            f"/v1/usage/summary?organization_id={theirs}",
            f"/v1/quota?organization_id={theirs}",
        ):
            assert (await client.get(path)).status_code == 404, path
        people = (await client.get(f"/v1/organizations/{mine}/users")).json()["items"]
        assert [each["email"] for each in people] == [EMAIL]
        moved = await client.patch(
            f"/v1/organizations/{mine}", json={"city": "Tromsø"}, headers=csrf
        )
        assert moved.status_code == 200
        told = await world.last_event(mine)
        assert told == ("organization.updated", f"user:{me['auth_id']}")
        assert (await client.get("/v1/invoices")).json()["items"] == []
        usage = await client.get(f"/v1/usage/summary?organization_id={mine}")
        assert usage.status_code == 200, usage.text

        password = {"new_password": PASSWORD}
        assert (await client.put("/v1/me/password", json=password)).status_code == 403
        changed = await client.put("/v1/me/password", json=password, headers=csrf)
        assert changed.status_code == 204
        [session] = (await client.get("/v1/sessions")).json()["items"]
        assert (session["user_agent_family"], session["is_current"]) == ("Firefox", True)
        left = await client.post("/v1/sign-out", headers=csrf)
        assert left.status_code == 204
        assert not client.cookies
        client.cookies.set("aurora_session", opened.cookies["aurora_session"])
        assert (await client.get("/v1/me")).status_code == 401
        assert (await sign_in(client)).status_code == 200


async def test_unsafe_calls_need_the_sessions_own_csrf_token_and_origin(
    world: World, browser: Browser
) -> None:
    await world.person()
    async with browser() as client:
        other = (await sign_in(client)).json()["csrf_token"]
        mine = (await sign_in(client)).json()["csrf_token"]
        assert mine != other
        origin = str(client.base_url).rstrip("/")
        port = client.base_url.port
        for headers, status in (
            ({}, 403),
            ({"x-csrf-token": other}, 403),
            ({"x-csrf-token": mine[:-1]}, 403),
            ({"x-csrf-token": mine, "origin": "https://evil.example"}, 403),
            ({"x-csrf-token": mine, "origin": "null"}, 403),
            ({"x-csrf-token": mine, "origin": f"http://localhost.evil.example:{port}"}, 403),
            ({"x-csrf-token": mine, "origin": origin}, 404),
            ({"x-csrf-token": mine, "origin": f"http://localhost:{port}"}, 404),
            ({"x-csrf-token": mine}, 404),
        ):
            answer = await client.delete(f"/v1/sessions/{uuid4()}", headers=headers)
            assert answer.status_code == status, headers
            if status == 403:
                assert answer.json()["code"] == "csrf_refused"
        usage = await client.post("/v1/usage/events", json=[])
        assert usage.json()["code"] == "csrf_refused"
        evil = await client.post(
            "/v1/sign-in/password",
            json={"email": EMAIL, "password": PASSWORD},
            headers={"origin": "https://evil.example"},
        )
        assert evil.json()["code"] == "csrf_refused"


async def test_signing_in_gives_a_new_session_and_ends_the_one_before(
    world: World, browser: Browser
) -> None:
    await world.person()
    async with browser() as client:
        client.cookies.set("aurora_session", "planted-by-somebody")
        first = (await sign_in(client)).cookies["aurora_session"]
        assert first != "planted-by-somebody"
        client.cookies.clear()
        client.cookies.set("aurora_session", first)
        second = (await sign_in(client)).cookies["aurora_session"]
        assert second != first
    [(alive,)] = await world.admin("select count(*) from sessions where revoked_at is null")
    assert alive == 1


async def test_signing_out_everywhere_ends_every_session_at_once(
    world: World, browser: Browser
) -> None:
    await world.person()
    async with browser() as client:
        here = await sign_in(client)
        client.cookies.clear()
        there = await sign_in(client)
        csrf = {"x-csrf-token": there.json()["csrf_token"]}
        assert (await client.post("/v1/sign-out/everywhere", headers=csrf)).status_code == 204
        for token in (here.cookies["aurora_session"], there.cookies["aurora_session"]):
            client.cookies.clear()
            client.cookies.set("aurora_session", token)
            assert (await client.get("/v1/me")).status_code == 401


async def test_cookies_carry_every_flag(world: World, browser: Browser) -> None:
    await world.person()

    async def flags(public_url: str | None) -> dict[str, set[str]]:
        async with browser(public_url) as client:
            answer = await sign_in(client)
        sent = [each.split("; ") for each in answer.headers.get_list("set-cookie")]
        return {each[0].partition("=")[0]: set(each[1:]) for each in sent}

    common = {"Path=/", "SameSite=lax", "Max-Age=2592000"}
    assert await flags("https://aurora.example") == {
        "__Host-aurora_session": common | {"HttpOnly", "Secure"},
        "__Host-aurora_csrf": common | {"Secure"},
    }
    assert await flags(None) == {
        "aurora_session": common | {"HttpOnly"},
        "aurora_csrf": common,
    }


async def test_wrong_password_and_unknown_address_get_the_same_answer(
    world: World, browser: Browser
) -> None:
    await world.person()
    async with browser() as client:
        wrong = await sign_in(client, password="not the password")
        unknown = await sign_in(client, email="no@one.example")
        assert wrong.status_code == unknown.status_code == 401
        assert {**wrong.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
        assert not client.cookies
        for _ in range(9):
            await sign_in(client, email="no@one.example", password="x")
        limited = await sign_in(client, email="no@one.example")
        assert (limited.status_code, limited.json()["code"]) == (429, "too_many_attempts")
        assert 1 <= int(limited.headers["retry-after"]) <= 90


def access_token(auth_id: UUID, **changes: Any) -> str:
    claims = {
        "sub": str(auth_id),
        "aud": "authenticated",
        "role": "authenticated",
        "email": EMAIL,
        "exp": datetime.now(UTC) + timedelta(hours=1),
        **changes,
    }
    return jwt.encode(claims, SECRET, algorithm="HS256")


async def test_a_supabase_token_is_the_person_it_names(world: World, browser: Browser) -> None:
    auth_id = await world.person()
    organization = await world.organization()
    await world.member(organization)
    await world.organization("other")
    await world.admin("update users set auth_id = %s", auth_id)
    async with browser(access_tokens=AccessTokens(secret=SECRET)) as client:
        client.headers.update(token_header(access_token(auth_id)))
        listed = (await client.get("/v1/organizations")).json()["items"]
        assert [each["id"] for each in listed] == [str(organization)]
        assert (await client.post("/v1/sign-out")).json()["code"] == "session_needed"
        client.headers.update(token_header(access_token(auth_id, aud="anon")))
        assert (await client.get("/v1/me")).json()["code"] == "access_token_refused"
    async with browser() as client:
        client.headers.update(token_header(access_token(auth_id)))
        assert (await client.get("/v1/me")).json()["code"] == "unauthorized"


@pytest.mark.parametrize("by_token", [True, False])
async def test_a_person_who_is_operator_manages_everything(
    world: World, browser: Browser, by_token: bool
) -> None:
    auth_id = await world.person()
    organization = await world.organization()
    body = {"name": "New", "slug": "new", "email": "post@new.example"}
    async with browser(access_tokens=AccessTokens(secret=SECRET)) as client:
        if by_token:
            client.headers.update(token_header(access_token(auth_id)))
        else:
            client.headers["x-csrf-token"] = (await sign_in(client)).json()["csrf_token"]
        refused = await client.post("/v1/organizations", json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "operator_only")
        await world.admin(
            "insert into users (email, name, auth_id, role) values (%s, 'Kari', %s, 'admin')",
            EMAIL,
            auth_id,
        )
        assert (await client.post("/v1/organizations", json=body)).status_code == 201
        assert (await client.get("/v1/me")).json()["is_operator"] is True
        assert len((await client.get("/v1/organizations")).json()["items"]) == 2
        path = f"/v1/organizations/{organization}"
        assert (await client.get(f"{path}/users")).json()["items"] == []
        renamed = await client.patch(path, json={"slug": "renamed"})
        assert renamed.json()["slug"] == "renamed"
        told = await world.last_event(organization)
        assert told == ("organization.updated", f"user:{auth_id}")


async def made_token(world: World, *scopes: str, **more: Any) -> tuple[str, UUID]:
    async with transaction(world.pool, PLATFORM) as conn:
        made = await service_tokens.create_service_token(
            conn, name="Nightly", scopes=scopes, **more
        )
    assert made.token not in repr(made)
    return made.token, made.record.id


BILLING = {"as_of": "2026-11-24", "dry_run": True}


@pytest.mark.parametrize(
    ("scope", "reads", "writes", "bills", "meters"),
    [
        ("operator", 200, 201, 200, 200),
        ("read", 200, 403, 403, 403),
        ("billing:run", 403, 403, 200, 403),
        ("usage:write", 403, 403, 403, 200),
    ],
)
async def test_a_service_token_does_what_its_scopes_say(
    world: World, browser: Browser, scope: str, reads: int, writes: int, bills: int, meters: int
) -> None:
    token, _ = await made_token(world, scope)
    organization = await world.organization()
    body = {"name": "New", "slug": "new", "email": "post@new.example"}
    async with browser() as client:
        client.headers.update(token_header(token))
        listed = await client.get("/v1/organizations")
        made = await client.post("/v1/organizations", json=body)
        billed = await client.post("/v1/billing/runs", json=BILLING)
        metered = await client.post("/v1/usage/events", json=[])
        found = [each.status_code for each in (listed, made, billed, metered)]
        assert found == [reads, writes, bills, meters], metered.text
        path = f"/v1/organizations/{organization}"
        # Doors that people have keys to as well.
        changed = await client.patch(path, json={"city": "Bodø"})
        people = await client.get(f"{path}/users")
        assert (changed.status_code == 200) == (writes == 201)
        assert people.status_code == reads
        if writes == 403:
            assert made.json()["code"] == changed.json()["code"] == "scope_missing"


async def test_a_revoked_or_expired_service_token_is_dead_at_once(
    world: World, browser: Browser
) -> None:
    token, token_id = await made_token(world, "operator")
    short, _ = await made_token(
        world, "operator", expires_at=datetime.now(UTC) + timedelta(hours=1)
    )
    [(hashed, used)] = await world.admin(
        "select token_hash, last_used_at from service_tokens where id = %s", token_id
    )
    assert (hashed, used) == (hash_key(token), None)
    async with browser() as client:
        for each in (token, short, SERVICE_TOKEN):
            answer = await client.get("/v1/organizations", headers=token_header(each))
            assert answer.status_code == 200
        async with transaction(world.pool, PLATFORM) as conn:
            revoked = await service_tokens.revoke_service_token(conn, token_id)
        assert revoked.last_used_at is not None
        await world.later("1 hour")
        for each in (token, short, token[:-1] + "x", "aur_svc_"):
            answer = await client.get("/v1/organizations", headers=token_header(each))
            assert answer.status_code == 401


def servers_log(folder: Path) -> str:
    """Return what PostgreSQL logged, where the session's server is the embedded one."""
    running = EmbeddedServer.find_running(folder / "home") if (folder / "home").exists() else None
    return running.logfile.read_text("utf-8", "replace") if running else ""


async def test_no_secret_is_in_any_log(
    world: World,
    browser: Browser,
    session_folder: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: Any,
) -> None:
    await world.person()
    canary = "canary-8d1f6 horse battery"
    caplog.set_level(logging.DEBUG)
    # The browser's own log is not ours.
    caplog.handler.addFilter(lambda record: not record.name.startswith(("httpcore", "httpx")))
    token, _ = await made_token(world, "read")
    secrets = [canary, PASSWORD, token, access_token(uuid4()), await world.link()]
    with structlog.testing.capture_logs() as logged:
        async with browser(access_tokens=AccessTokens(secret=SECRET)) as client:
            opened = await sign_in(client)
            secrets += [opened.cookies["aurora_session"], opened.json()["csrf_token"]]
            answers = [
                await sign_in(client, password=canary),
                await sign_in(client, password={"nested": canary}),
                await sign_in(client, password=canary, unknown=canary),
                await client.post("/v1/sign-in/links/open", json={"token": secrets[4]}),
                await client.post("/v1/sign-in/links/open", json={"token": secrets[4]}),
                await client.get("/v1/me", headers=token_header(secrets[2])),
                await client.get("/v1/me", headers=token_header(secrets[3] + "x")),
                await client.get("/v1/me", headers=token_header(secrets[3])),
            ]
    printed = capfd.readouterr()
    everything = f"{logged}{caplog.text}{printed.out}{printed.err}{servers_log(session_folder)}"
    assert "/v1/sign-in/links/open" in everything, "nothing was logged, so nothing is proved"
    everything += "".join(each.text for each in answers if each.status_code >= 400)
    assert [answer.status_code for answer in answers] == [401, 422, 422, 200, 401, 200, 401, 200]
    assert not [secret for secret in secrets if secret in everything]
