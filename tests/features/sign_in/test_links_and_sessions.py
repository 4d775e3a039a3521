"""One-time links, sessions, and what the database lets nobody see."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from tests.features.sign_in.conftest import EMAIL, PASSWORD, VISITOR, World

from aurora.db.transaction import PLATFORM, Actor, person, tenant, transaction
from aurora.features.sign_in import jobs, service, store
from aurora.features.sign_in.model import MAX_SESSIONS, LinkInvalid, SessionNotFound


async def open_link(world: World, token: str) -> str:
    made = await service.sign_in_with_link(world.pool, token=token, visitor=VISITOR)
    return made.token


async def is_alive(world: World, token: str) -> bool:
    async with transaction(world.pool, PLATFORM) as conn:
        return await service.find_session(conn, token) is not None


async def test_a_link_opens_once(world: World) -> None:
    await world.person()
    token = await world.link()
    assert len(token) >= 43
    assert await is_alive(world, await open_link(world, token))
    with pytest.raises(LinkInvalid):
        await open_link(world, token)


async def test_a_link_used_twice_at_once_opens_once(world: World) -> None:
    await world.person()
    token = await world.link()
    found = await asyncio.gather(
        *(open_link(world, token) for _ in range(6)), return_exceptions=True
    )
    assert sum(isinstance(each, str) for each in found) == 1
    assert sum(isinstance(each, LinkInvalid) for each in found) == 5


async def test_a_link_opens_nothing_after_fifteen_minutes(world: World) -> None:
    await world.person()
    token = await world.link()
    await world.later("15 minutes")
    with pytest.raises(LinkInvalid):
        await open_link(world, token)


async def test_a_link_opens_only_what_it_is_for(world: World) -> None:
    await world.person()
    token = await world.link(purpose="password_reset")
    with pytest.raises(LinkInvalid):
        await open_link(world, token)
    with pytest.raises(LinkInvalid):
        await service.reset_password(
            world.pool,
            token=await world.link(purpose="sign_in"),
            new_password="a new password",
            visitor=VISITOR,
        )


async def test_a_used_link_makes_the_others_worthless(world: World) -> None:
    await world.person()
    first, second = await world.link(), await world.link()
    await open_link(world, second)
    with pytest.raises(LinkInvalid):
        await open_link(world, first)


async def test_a_reset_sets_the_password_and_ends_every_session(world: World) -> None:
    await world.person()
    before = await open_link(world, await world.link())
    made = await service.reset_password(
        world.pool,
        token=await world.link(purpose="password_reset"),
        new_password="a new password",
        visitor=VISITOR,
    )
    assert not await is_alive(world, before)
    assert await is_alive(world, made.token)
    await service.sign_in_with_password(
        world.pool, email=EMAIL, password="a new password", visitor=VISITOR
    )


async def test_a_member_without_a_person_becomes_one_by_link_and_joins(world: World) -> None:
    organization = await world.organization()
    await world.member(organization)
    made = await service.sign_in_with_link(world.pool, token=await world.link(), visitor=VISITOR)
    found = await service.list_memberships(world.pool, made.session.auth_id)
    assert [(each.organization_id, each.role) for each in found] == [(organization, "admin")]


async def test_a_password_alone_joins_no_membership(world: World) -> None:
    await world.person()
    await world.member(await world.organization())
    made = await service.sign_in_with_password(
        world.pool, email=EMAIL, password=PASSWORD, visitor=VISITOR
    )
    assert await service.list_memberships(world.pool, made.session.auth_id) == []


async def test_the_link_goes_to_the_stored_address_and_strangers_get_none(world: World) -> None:
    await world.person()
    for typed in ("KARI@Hotel.Example", "ola@nowhere.example"):
        async with transaction(world.pool, PLATFORM) as conn:
            address = await service.admit_link_request(conn, email=typed, visitor=VISITOR)
            await jobs.enqueue_link(
                conn, jobs.LinkRequest(address, "sign_in", "https://aurora.example")
            )
    assert len(await world.queued(jobs.SEND_LINK)) == 2
    [mail] = await world.send_links()
    assert mail["to"] == EMAIL
    link = mail["text"].splitlines()[0]
    assert link.startswith("https://aurora.example/sign-in/link#token=")
    assert await is_alive(world, await open_link(world, link.partition("=")[2]))


async def test_a_session_ends_when_nobody_uses_it(world: World) -> None:
    await world.person()
    token = await open_link(world, await world.link())
    await world.later("11 hours 59 minutes")
    assert await is_alive(world, token)
    await world.later("11 hours 59 minutes")
    assert await is_alive(world, token)
    await world.later("12 hours")
    assert not await is_alive(world, token)


async def test_a_session_ends_after_thirty_days_however_used(world: World) -> None:
    await world.person()
    token = await open_link(world, await world.link())
    for _ in range(72):
        await world.later("10 hours")
        alive = await is_alive(world, token)
    assert not alive


async def test_a_revoked_session_is_dead_at_once_and_a_strangers_cannot_be_ended(
    world: World,
) -> None:
    auth_id = await world.person()
    other = await world.person("ola@hotel.example")
    made = await service.sign_in_with_link(world.pool, token=await world.link(), visitor=VISITOR)
    with pytest.raises(SessionNotFound):
        async with transaction(world.pool, PLATFORM) as conn:
            await service.end_session(conn, other, made.session.id)
    assert await is_alive(world, made.token)
    async with transaction(world.pool, PLATFORM) as conn:
        await service.end_session(conn, auth_id, made.session.id)
    assert not await is_alive(world, made.token)


async def test_a_deleted_person_has_no_session(world: World) -> None:
    await world.person()
    token = await open_link(world, await world.link())
    await world.admin("update auth.users set deleted_at = now()")
    assert not await is_alive(world, token)


async def test_a_person_has_a_bounded_number_of_sessions(world: World) -> None:
    auth_id = await world.person()
    async with transaction(world.pool, PLATFORM) as conn:
        for number in range(MAX_SESSIONS + 5):
            await store.insert_session(conn, auth_id, f"{number:064x}", "link", "other")
    [(alive,)] = await world.admin("select count(*) from sessions where revoked_at is null")
    assert alive == MAX_SESSIONS


async def test_what_has_ended_is_forgotten(world: World) -> None:
    await world.person()
    await open_link(world, await world.link())
    await world.later("61 days")
    assert await jobs.prune(world.pool) >= 3
    for table in ("sessions", "sign_in_links", "sign_in_limits"):
        assert await world.admin(f"select * from {table}") == []


SECRET_COLUMNS = (
    "select token_hash from sessions",
    "select token_hash from sign_in_links",
    "select token_hash from service_tokens",
    "select encrypted_password from auth.users",
    "select id from sessions where token_hash = 'x'",
    "select used_at from sign_in_links where token_hash = 'x'",
)
FUNCTIONS = (
    "select app.find_credentials('kari@hotel.example')",
    "select app.use_session(repeat('0', 64), '1 day', '1 day')",
    "select app.use_sign_in_link(repeat('0', 64), 'sign_in')",
    "select app.use_service_token(repeat('0', 64), '1 day')",
    "select app.set_password(gen_random_uuid(), 'x', null)",
    "select app.note_sign_in(gen_random_uuid(), true)",
)


@pytest.mark.parametrize("statement", SECRET_COLUMNS)
async def test_no_role_reads_a_hash(world: World, statement: str) -> None:
    organization = await world.organization()
    everybody = (PLATFORM, person(await world.person()), tenant(organization), Actor("anon"))
    for actor in everybody:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with transaction(world.pool, actor) as conn:
                await conn.execute(statement.encode())


@pytest.mark.parametrize("statement", FUNCTIONS)
async def test_only_the_platform_proves_who_one_is(world: World, statement: str) -> None:
    organization = await world.organization()
    for actor in (person(await world.person()), tenant(organization), Actor("anon")):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with transaction(world.pool, actor) as conn:
                await conn.execute(statement.encode())


def test_a_mail_does_not_show_its_link_when_it_is_logged() -> None:
    request = jobs.LinkRequest(EMAIL, "sign_in", "https://aurora.example")
    assert "SECRET" not in repr(jobs.link_mail(EMAIL, "SECRET", request))
