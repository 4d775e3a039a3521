"""No HTTP route gives or changes anything of an organization whose key did not ask for it."""

from __future__ import annotations

import re
from typing import Any, Final

import httpx
import psycopg
import pytest
from tests.isolation.catalogue import relations
from tests.isolation.conftest import Client
from tests.isolation.expectations import rule_of
from tests.isolation.identities import ORGANIZATIONS, PLACES, thing_of
from tests.isolation.routes import LIMITED, ROUTES, Attempt, Unnamed, attempts

from aurora.features.organizations import api as organizations_api
from aurora.features.organizations import members_api
from aurora.features.organizations.authority import Place

# Every text of B in world.sql holds one of these.
MARKS = ("secret b", "secret-b", "hotel-b")


def contents(admin: psycopg.Connection[Any], organization: str) -> list[tuple[str, str | None]]:
    """Return a digest of every row that an organization has."""
    admin.rollback()
    found = []
    for relation in relations(admin):
        rule = rule_of(relation.name)
        if rule and rule.whose and relation.kind in ("r", "p"):
            digest = admin.execute(
                f"select md5(string_agg(t::text, '|' order by t::text)) from {relation.sql_name} t"
                f" where {rule.whose} = '{ORGANIZATIONS[organization]}'".encode()
            ).fetchone()
            found.append((relation.name, digest[0] if digest else None))
    return found


async def test_every_route_keeps_organizations_apart(world: str, client: Client) -> None:
    wrong = []
    with psycopg.connect(world) as admin:
        before = contents(admin, "B")
        assert all(digest for name, digest in before if name.startswith("public."))
        for attempt in attempts(client.document):
            for who in ("key", "nobody"):
                access = ROUTES[attempt.route]
                right = attempt.right if who == "key" else {access.nobody}
                if attempt.route in LIMITED:
                    right = {*right, 429}
                answer = await client.ask(attempt, who)
                told = f"{attempt} as {who}"
                if answer.status_code not in right:
                    wrong.append(f"{told}: {answer.status_code} {answer.text[:200]}")
                if any(mark in answer.text.lower() for mark in MARKS):
                    wrong.append(f"{told}: tells of B")
                if contents(admin, "B") != before:
                    wrong.append(f"{told}: changed B")
    assert not wrong, "\n".join(wrong)


def anonymous(answer: httpx.Response, letter: str) -> tuple[int, str]:
    """Return an answer without the id that was asked for, and without the request's own."""
    text = re.sub(r"req_[0-9a-f]+", "", answer.text).replace(letter.lower() * 8, "?")
    return answer.status_code, text


def names_another(attempt: Attempt) -> bool:
    """Whether an id of B is in the request, and the answer is not about how often one asked."""
    said = f"{attempt.url} {attempt.query} {attempt.body}"
    return str(ORGANIZATIONS["B"])[:9] in said and attempt.route not in LIMITED


@pytest.mark.parametrize("who", ["key", *PLACES])
async def test_what_is_anothers_is_refused_like_what_is_missing(
    who: str, world: str, client: Client
) -> None:
    """By every route: of B's ids and of nobody's the same is said, and nothing of B changes."""
    wrong = []
    with psycopg.connect(world) as admin:
        before = contents(admin, "B")
        pairs = zip(attempts(client.document, "B"), attempts(client.document, "C"), strict=True)
        for foreign, missing in pairs:
            if not names_another(foreign):
                continue
            told = [
                anonymous(await client.ask(attempt, who), letter)
                for attempt, letter in ((foreign, "B"), (missing, "C"))
            ]
            allowed = ROUTES[foreign.route].foreign | {403, 404}
            if told[0] != told[1] or told[0][0] not in allowed:
                wrong.append(f"{foreign}: {told[0]} and of what is missing {told[1]}")
            if any(mark in told[0][1].lower() for mark in MARKS):
                wrong.append(f"{foreign}: tells of B: {told[0]}")
        if contents(admin, "B") != before:
            wrong.append("something changed B")
    assert not wrong, "\n".join(wrong)


# What a person may have done by the platform, once the door has looked at their place: rows and
# columns that no person writes. All others are asked for with the person's own rights.
BY_THE_PLATFORM: Final = (
    "POST /v1/organizations/{organization_id}/erase",
    "GET /v1/organizations/{organization_id}/export",
    "POST /v1/organizations/{organization_id}/status",
    "POST /v1/organizations/{organization_id}/invitations",
    "POST /v1/organizations/{organization_id}/invitations/{invitation_id}/resend",
    "DELETE /v1/organizations/{organization_id}/invitations/{invitation_id}",
    "DELETE /v1/organizations/{organization_id}",
    "POST /v1/organizations/{organization_id}/restore",
)


async def reached_past_the_doors(
    world: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Return what the owner of A reaches of B while the doors take everybody for an owner."""

    async def everybodys_owner(*_: object) -> Place:
        return Place("owner", thing_of("A", 4))

    for module in (organizations_api, members_api):
        monkeypatch.setattr(module, "place_of", everybodys_owner)
    wrong = []
    with psycopg.connect(world) as admin:
        before = contents(admin, "B")
        for attempt in attempts(client.document):
            if not names_another(attempt) or attempt.route in BY_THE_PLATFORM:
                continue
            answer = await client.ask(attempt, "owner")
            if answer.status_code not in ROUTES[attempt.route].foreign | {403, 404}:
                wrong.append(f"{attempt}: {answer.status_code} {answer.text[:200]}")
            if any(mark in answer.text.lower() for mark in MARKS):
                wrong.append(f"{attempt}: tells of B")
        if contents(admin, "B") != before:
            wrong.append("something changed B")
    return wrong


async def test_postgresql_keeps_people_apart_where_a_door_forgets_to(
    world: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await reached_past_the_doors(world, client, monkeypatch) == []


async def test_a_door_that_forgets_is_seen_where_postgresql_forgets_too(
    world: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(world, autocommit=True) as admin:
        admin.execute("alter table users disable row level security")
    wrong = await reached_past_the_doors(world, client, monkeypatch)
    assert any("GET" in line and "/users/" in line and "tells of B" in line for line in wrong)


async def test_a_route_that_no_rule_names_fails(client: Client) -> None:
    paths = {**client.document["paths"], "/v1/forgotten": {"get": {}}}
    with pytest.raises(Unnamed, match="GET /v1/forgotten"):
        list(attempts({**client.document, "paths": paths}))
