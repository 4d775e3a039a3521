"""Organizations and their people: who may be made, and by which code the others are refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from tests.builders import a_slug, a_subscription, a_user, an_organization

from aurora.core.errors import AuroraError
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, tenant, transaction
from aurora.features.organizations.model import OrganizationNotFound
from aurora.features.organizations.service import (
    find_known_organizations,
    get_organization,
    list_organizations,
    list_users,
    set_organization_status,
)


async def test_an_organization_begins_on_a_trial_of_30_days(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        made = await an_organization(conn, name="  Hotel  ", org_number="987 654 325")
        assert await get_organization(conn, made.id) == made
        assert await get_organization(conn, made.slug) == made
    assert (made.status, made.name, made.country) == ("trial", "Hotel", "NO")
    assert made.org_number == "987654325"
    assert made.trial_ends_at is not None
    assert made.trial_ends_at - made.created_at == timedelta(days=30)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"slug": "Hotel"}, "slug_invalid"),
        ({"slug": "-hotel"}, "slug_invalid"),
        ({"slug": "hotel-"}, "slug_invalid"),
        ({"slug": "hotel\n"}, "slug_invalid"),
        ({"slug": "x" * 64}, "slug_invalid"),
        ({"slug": ""}, "slug_invalid"),
        ({"name": " \t"}, "name_invalid"),
        ({"name": "x" * 201}, "name_invalid"),
        ({"email": "nobody"}, "email_invalid"),
        ({"email": "a b@hotel.example"}, "email_invalid"),
        ({"email": "a@hotel.example\nbcc: b@hotel.example"}, "email_invalid"),
        ({"billing_email": "x@"}, "email_invalid"),
        ({"country": "no", "org_number": None}, "country_invalid"),
        ({"country": "Norway", "org_number": None}, "country_invalid"),
        ({"org_number": "987654321"}, "org_number_invalid"),
        ({"vat_number": "NO987654321MVA"}, "vat_number_invalid"),
    ],
)
async def test_an_organization_that_may_not_be_is_refused_by_its_code(
    fields: dict[str, Any], code: str, pool: Pool
) -> None:
    with pytest.raises(AuroraError) as refusal:
        async with transaction(pool, PLATFORM) as conn:
            await an_organization(conn, **fields)
    assert refusal.value.code == code
    async with transaction(pool, PLATFORM) as conn:
        assert (await list_organizations(conn, cursor=None, limit=10)).items == []


async def test_a_slug_is_taken_once(pool: Pool) -> None:
    slug = a_slug()
    async with transaction(pool, PLATFORM) as conn:
        await an_organization(conn, slug=slug)
    with pytest.raises(AuroraError) as refusal:
        async with transaction(pool, PLATFORM) as conn:
            await an_organization(conn, slug=slug)
    assert (refusal.value.code, refusal.value.status) == ("slug_taken", 409)


async def test_pages_hold_every_organization_once_newest_first(pool: Pool) -> None:
    made = []
    for _ in range(5):
        async with transaction(pool, PLATFORM) as conn:
            made.append((await an_organization(conn)).id)
    # Two of the same moment: the id decides between them.
    async with transaction(pool, PLATFORM) as conn:
        made += sorted([(await an_organization(conn)).id for _ in range(2)])
    found, cursor = [], None
    for _ in range(4):
        async with transaction(pool, PLATFORM) as conn:
            page = await list_organizations(conn, cursor=cursor, limit=2)
        found += [item.id for item in page.items]
        cursor = page.next_cursor
    assert cursor is None
    assert found == made[::-1]


async def test_an_unknown_organization_is_not_found_anywhere(pool: Pool) -> None:
    nobody = uuid4()
    async with transaction(pool, PLATFORM) as conn:
        known = await an_organization(conn)
        assert await find_known_organizations(conn, [known.id, nobody]) == {known.id}
        assert await find_known_organizations(conn, []) == set()
        for which in (nobody, "nobody"):
            with pytest.raises(OrganizationNotFound):
                await get_organization(conn, which)
        with pytest.raises(OrganizationNotFound):
            await set_organization_status(conn, nobody, "suspended")


async def test_a_tenant_sees_itself_and_nobody_else(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        mine, other = await an_organization(conn), await an_organization(conn)
    async with transaction(pool, tenant(mine.id), read_only=True) as conn:
        assert (await get_organization(conn, mine.id)).id == mine.id
        with pytest.raises(OrganizationNotFound):
            await get_organization(conn, other.id)


async def test_a_person_is_a_member_of_an_organization_once(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        first, second = await an_organization(conn), await an_organization(conn)
        kari = await a_user(conn, first, email="kari@hotel.example")
        await a_user(conn, second, email="kari@hotel.example")
        assert await list_users(conn, first.id) == [kari]
    with pytest.raises(AuroraError) as refusal:
        async with transaction(pool, PLATFORM) as conn:
            await a_user(conn, first, email="KARI@hotel.example")
    assert (refusal.value.code, refusal.value.status) == ("member_exists", 409)


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"email": "nobody"}, "email_invalid"), ({"name": " "}, "name_invalid")],
)
async def test_a_person_that_may_not_be_is_refused_by_its_code(
    fields: dict[str, Any], code: str, pool: Pool
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
    with pytest.raises(AuroraError) as refusal:
        async with transaction(pool, PLATFORM) as conn:
            await a_user(conn, organization, **fields)
    assert refusal.value.code == code


async def test_nobody_is_a_member_of_an_organization_that_is_not_there(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        ghost = replace(await an_organization(conn), id=uuid4())
    with pytest.raises(OrganizationNotFound):
        async with transaction(pool, PLATFORM) as conn:
            await a_user(conn, ghost)


async def test_subscribing_ends_the_trial(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        await a_subscription(conn, organization)
        assert (await get_organization(conn, organization.id)).status == "active"
