"""Keys: shown once, stored as a hash, refused by a code that says what is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from tests.builders import a_key, a_user, an_organization

from aurora.core import clock
from aurora.core.errors import AuroraError
from aurora.core.secrets import hash_key, is_well_formed
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.gate.model import VerifyRequest
from aurora.features.gate.service import Gate
from aurora.features.keys.model import ApiKeyNotFound
from aurora.features.keys.service import (
    create_api_key,
    expire_api_keys,
    find_key_owners,
    get_api_key,
    list_api_keys,
    revoke_api_key,
)


async def test_a_key_is_nowhere_in_the_database_but_as_its_hash(pool: Pool, database: str) -> None:
    async with transaction(pool, PLATFORM) as conn:
        made = await a_key(conn, await an_organization(conn))
    async with await psycopg.AsyncConnection.connect(database) as owner:
        cursor = await owner.execute("select row_to_json(k)::text, k.key_hash from api_keys k")
        ((row, stored_hash),) = await cursor.fetchall()
    assert is_well_formed(made.key)
    assert made.key not in row
    assert stored_hash == hash_key(made.key)
    assert made.key not in repr(made)
    assert made.record.key_prefix == made.key[:15]


@pytest.mark.parametrize(("environment", "prefix"), [("production", "live"), ("test", "test")])
async def test_a_key_says_which_environment_it_is_of(
    environment: str, prefix: str, pool: Pool
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        made = await a_key(conn, await an_organization(conn), environment=environment)
    assert made.key.startswith(f"tro_{prefix}_")
    assert made.record.environment == environment


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"scopes": ("aurora:read", "everything")}, "scope_unknown"),
        ({"allowed_origins": ("www.hotel.example",)}, "origin_invalid"),
        ({"allowed_origins": ("https://www.hotel.example/",)}, "origin_invalid"),
        ({"allowed_origins": ("https://*",)}, "origin_invalid"),
        ({"allowed_origins": ("https://a.example\n",)}, "origin_invalid"),
        ({"allowed_origins": ("https://WWW.hotel.example",)}, "origin_invalid"),
        ({"allowed_origins": ("*",) * 51}, "origin_invalid"),
        ({"ip_whitelist": ("10.0.0.0/33",)}, "ip_rule_invalid"),
        ({"ip_whitelist": ("10.0.0.1",) * 201}, "ip_rule_invalid"),
        ({"tier": "gold"}, "tier_unknown"),
        ({"environment": "staging", "key": "tro_live_" + "a" * 32}, "environment_invalid"),
        ({"key": "tro_test_" + "a" * 32}, "environment_invalid"),
        ({"rate_limit_per_hour": -1}, "rate_limit_invalid"),
        ({"name": "  "}, "name_invalid"),
        ({"name": "x" * 201}, "name_invalid"),
        ({"kind": "publishable"}, "publishable_key_invalid"),
        ({"kind": "publishable", "scopes": ("widgets:embed",)}, "publishable_key_invalid"),
        ({"expires_at": datetime(1999, 12, 31, tzinfo=UTC)}, "expiry_invalid"),
        ({"expires_at": datetime(3000, 1, 1, tzinfo=UTC)}, "expiry_invalid"),
        ({"organization_id": uuid4()}, "organization_not_found"),
        ({"created_by": uuid4()}, "creator_unknown"),
    ],
)
async def test_a_key_that_may_not_be_is_refused_by_its_code(
    fields: dict[str, Any], code: str, pool: Pool
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
    given: dict[str, Any] = {"organization_id": organization.id, "name": "Website"}
    with pytest.raises(AuroraError) as refusal:
        async with transaction(pool, PLATFORM) as conn:
            await create_api_key(conn, **(given | fields))
    assert refusal.value.code == code
    assert 400 <= refusal.value.status < 500
    async with transaction(pool, PLATFORM) as conn:
        assert await list_api_keys(conn, organization.id) == []


async def test_the_same_key_is_made_once(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        first = await a_key(conn, await an_organization(conn))
    with pytest.raises(AuroraError) as refusal:
        async with transaction(pool, PLATFORM) as conn:
            await a_key(conn, await an_organization(conn), key=first.key)
    assert refusal.value.code == "key_taken"


async def test_a_creator_is_a_member_of_the_same_organization(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        organization, other = await an_organization(conn), await an_organization(conn)
        mine, theirs = await a_user(conn, organization), await a_user(conn, other)
        await a_key(conn, organization, created_by=mine.id)
    with pytest.raises(AuroraError) as refusal:
        async with transaction(pool, PLATFORM) as conn:
            await a_key(conn, organization, created_by=theirs.id)
    assert refusal.value.code == "creator_unknown"


@pytest.mark.parametrize(("tier", "limit"), [("demo", 100), ("premium_plus", 200_000)])
async def test_a_key_without_a_limit_gets_its_tiers(tier: str, limit: int, pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        assert (await a_key(conn, organization, tier=tier)).record.rate_limit_per_hour == limit
        named = await a_key(conn, organization, tier=tier, rate_limit_per_hour=7)
        assert named.record.rate_limit_per_hour == 7


async def test_a_revoked_key_opens_nothing_and_stays_revoked(pool: Pool) -> None:
    gate = Gate(pool)
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        made = await a_key(conn, organization)
    asked = VerifyRequest(key=made.key)
    assert (await gate.verify(asked)).code == "VALID"
    async with transaction(pool, PLATFORM) as conn:
        first = await revoke_api_key(conn, organization.id, made.record.id)
        again = await revoke_api_key(conn, organization.id, made.record.id)
    assert (await gate.verify(asked)).code == "REVOKED"
    assert first.revoked_at is not None
    assert again.revoked_at == first.revoked_at


async def test_nobody_revokes_or_reads_the_key_of_another_organization(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        made = await a_key(conn, await an_organization(conn))
        other = await an_organization(conn)
        for act in (revoke_api_key, get_api_key):
            with pytest.raises(ApiKeyNotFound):
                await act(conn, other.id, made.record.id)
        kept = await get_api_key(conn, made.record.organization_id, made.record.id)
    assert kept.status == "active"


async def test_a_key_expires_at_its_second_and_is_written_down_later(pool: Pool) -> None:
    gate = Gate(pool)
    soon = clock.now() + timedelta(hours=1)
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        made = await a_key(conn, organization, expires_at=soon)
    with clock.freeze(soon - timedelta(microseconds=1)):
        assert (await gate.verify(VerifyRequest(key=made.key))).code == "VALID"
    with clock.freeze(soon):
        assert (await gate.verify(VerifyRequest(key=made.key))).code == "EXPIRED"
    async with transaction(pool, PLATFORM) as conn:
        assert await expire_api_keys(conn) == 0
        past = await a_key(conn, organization, expires_at=clock.now() - timedelta(seconds=1))
        assert await expire_api_keys(conn) == 1
        assert (await get_api_key(conn, organization.id, past.record.id)).status == "expired"


async def test_the_gate_tells_a_typo_from_a_key_nobody_has(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        made = await a_key(conn, await an_organization(conn))
    typo = made.key[:-1] + ("a" if made.key[-1] != "a" else "b")
    assert (await Gate(pool).verify(VerifyRequest(key=typo))).code == "MALFORMED"
    unknown = "tro_test_DemoKeyForTryingAuroraOut12uJbbW"
    assert (await Gate(pool).verify(VerifyRequest(key=unknown))).code == "NOT_FOUND"


async def test_owners_are_found_and_unknown_ids_left_out(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        made = await a_key(conn, organization, environment="test")
        owners = await find_key_owners(conn, [made.record.id, UUID(int=7)])
        assert await find_key_owners(conn, []) == {}
    assert set(owners) == {made.record.id}
    owner = owners[made.record.id]
    assert (owner.organization_id, owner.environment) == (organization.id, "test")


async def test_addresses_are_kept_as_networks_are_written(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        rules = ("10.1.2.3", "10.1.2.3/8", "2001:DB8::1")
        made = await a_key(conn, await an_organization(conn), ip_whitelist=rules)
    assert made.record.ip_whitelist == ["10.1.2.3", "10.0.0.0/8", "2001:db8::1"]
