"""What can be done with API keys."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from aurora.core.secrets import generate_api_key, hash_key
from aurora.db.transaction import Connection
from aurora.features.keys import store
from aurora.features.keys.model import (
    DEFAULT_SCOPES,
    EARLIEST_EXPIRY,
    KNOWN_SCOPES,
    LATEST_EXPIRY,
    MAX_IP_RULES,
    MAX_ORIGINS,
    ApiKey,
    ApiKeyNotFound,
    Environment,
    ExpiryInvalid,
    IpRuleInvalid,
    KeyOwner,
    KeyRecord,
    Kind,
    NewApiKey,
    OriginInvalid,
    ScopeUnknown,
)

ORIGIN = re.compile(r"https?://(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?")


async def create_api_key(
    conn: Connection,
    *,
    organization_id: UUID,
    name: str,
    environment: Environment = "production",
    kind: Kind = "secret",
    description: str | None = None,
    scopes: Sequence[str] = DEFAULT_SCOPES,
    tier: str = "basic",
    rate_limit_per_hour: int | None = None,
    expires_at: datetime | None = None,
    allowed_origins: Sequence[str] = ("*",),
    ip_whitelist: Sequence[str] | None = None,
    created_by: UUID | None = None,
    key: str | None = None,
) -> NewApiKey:
    """Make a key; the answer carries the secret, and nothing else ever does.

    Args:
        conn: An open transaction.
        organization_id: Whose key it becomes.
        name: For people: "Production website".
        environment: Test keys never bill.
        kind: A publishable key may stand in a web page.
        description: More for people.
        scopes: What it may do.
        tier: The plan whose hourly limit it gets when none is named.
        rate_limit_per_hour: Requests in any rolling hour; None takes the tier's.
        expires_at: From this moment on it is refused.
        allowed_origins: `*`, exact origins, or `https://*.example.com`.
        ip_whitelist: Addresses and networks; None allows all.
        created_by: The member who makes it.
        key: A key made elsewhere, such as the demo's; None makes a new one.

    Raises:
        ScopeUnknown, OriginInvalid, IpRuleInvalid, PublishableKeyInvalid: One field says too much.
        ExpiryInvalid: Years away from any key's life.
        OrganizationNotFound: There is no such organization.
    """
    if expires_at is not None and not EARLIEST_EXPIRY <= expires_at < LATEST_EXPIRY:
        raise ExpiryInvalid
    secret = None if key is not None else generate_api_key(environment)
    plain = secret.key if secret is not None else str(key)
    record = await store.insert_api_key(
        conn,
        organization_id=organization_id,
        created_by=created_by,
        key_prefix=plain[:15],
        key_hash=hash_key(plain),
        name=name.strip(),
        description=description,
        kind=kind,
        environment=environment,
        scopes=_check_scopes(scopes),
        rate_limit_tier=tier,
        rate_limit_per_hour=rate_limit_per_hour,
        expires_at=expires_at,
        allowed_origins=_check_origins(allowed_origins),
        ip_whitelist=None if ip_whitelist is None else _check_ip_rules(ip_whitelist),
        metadata={},
    )
    return NewApiKey(record=record, key=plain)


async def get_api_key(conn: Connection, organization_id: UUID, key_id: UUID) -> ApiKey:
    """Return one key of an organization.

    Raises:
        ApiKeyNotFound: The organization has no such key.
    """
    found = await store.find_api_key(conn, organization_id, key_id)
    if found is None:
        raise ApiKeyNotFound
    return found


async def list_api_keys(conn: Connection, organization_id: UUID) -> list[ApiKey]:
    """Return the keys of an organization, newest first."""
    return await store.list_api_keys(conn, organization_id)


async def revoke_api_key(conn: Connection, organization_id: UUID, key_id: UUID) -> ApiKey:
    """Revoke a key for good; revoking twice is the same as once.

    Raises:
        ApiKeyNotFound: The organization has no such key.
    """
    revoked = await store.revoke_api_key(conn, organization_id, key_id)
    if revoked is None:
        raise ApiKeyNotFound
    return revoked


async def find_key_record(conn: Connection, key: str) -> KeyRecord | None:
    """Return what the gate decides on for this key, if it exists."""
    return await store.find_api_key_by_hash(conn, hash_key(key))


async def find_key_owners(conn: Connection, key_ids: Iterable[UUID]) -> dict[UUID, KeyOwner]:
    """Return whose these keys are, by id; ids that are no keys are left out."""
    wanted = list(key_ids)
    if not wanted:
        return {}
    return {owner.id: owner for owner in await store.list_key_owners(conn, wanted)}


async def expire_api_keys(conn: Connection) -> int:
    """Write down which keys have expired; return how many."""
    return await store.expire_api_keys(conn)


def _check_scopes(scopes: Sequence[str]) -> list[str]:
    unknown = sorted(set(scopes) - KNOWN_SCOPES)
    if unknown:
        known = ", ".join(sorted(KNOWN_SCOPES))
        raise ScopeUnknown(f"There is no scope {', '.join(unknown)}; there are: {known}.")
    return sorted(set(scopes))


def _check_origins(origins: Sequence[str]) -> list[str]:
    if len(origins) > MAX_ORIGINS:
        raise OriginInvalid(f"A key names at most {MAX_ORIGINS} origins.")
    for origin in origins:
        if origin != "*" and not ORIGIN.fullmatch(origin):
            raise OriginInvalid(f"{origin!r} is not an origin such as https://www.example.com.")
    return list(origins)


def _check_ip_rules(rules: Sequence[str]) -> list[str]:
    if len(rules) > MAX_IP_RULES:
        raise IpRuleInvalid(f"A key names at most {MAX_IP_RULES} IP rules.")
    checked: list[str] = []
    for rule in rules:
        try:
            network = ipaddress.ip_network(rule, strict=False)
        except ValueError:
            raise IpRuleInvalid(f"{rule!r} is neither an address nor a network.") from None
        checked.append(str(network) if "/" in rule else str(network.network_address))
    return checked
