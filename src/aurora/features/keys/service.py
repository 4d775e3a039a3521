"""What can be done with API keys."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Unpack
from uuid import UUID

from aurora.core import clock
from aurora.core.secrets import VISIBLE_LENGTH, generate_api_key, hash_key
from aurora.db.transaction import Connection
from aurora.features.keys import store
from aurora.features.keys.model import (
    CHANGEABLE,
    DEFAULT_OVERLAP,
    DEFAULT_SCOPES,
    EARLIEST_EXPIRY,
    KNOWN_SCOPES,
    LATEST_EXPIRY,
    LIMITS,
    MAX_IP_RULES,
    MAX_ORIGINS,
    MAX_OVERLAP,
    ApiKey,
    ApiKeyNotFound,
    ExpiryInvalid,
    IpRuleInvalid,
    KeyFields,
    KeyOwner,
    NewApiKey,
    OriginInvalid,
    OverlapInvalid,
    ScopeUnknown,
)

ORIGIN = re.compile(r"https?://(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?")


async def create_api_key(
    conn: Connection,
    *,
    organization_id: UUID,
    name: str,
    key: str | None = None,
    as_member: bool = False,
    **fields: Unpack[KeyFields],
) -> NewApiKey:
    """Make a key; the answer carries the secret, and nothing else ever does.

    Args:
        conn: An open transaction.
        organization_id: Whose key it becomes.
        name: For people: "Production website".
        key: A key made elsewhere, such as the demo's; None makes a new one.
        as_member: A person acts, who chooses neither limits nor creator.
        fields: What else it has; `KeyFields` says what it has without.

    Raises:
        ScopeUnknown, OriginInvalid, IpRuleInvalid, PublishableKeyInvalid: One field says too much.
        ExpiryInvalid: Years away from any key's life, or before it begins.
        OrganizationNotFound: There is no such organization.
    """
    environment = fields.get("environment", "production")
    plain = generate_api_key(environment).key if key is None else key
    rules = fields.get("ip_whitelist")
    record = await store.insert_api_key(
        conn,
        as_member=as_member,
        organization_id=organization_id,
        created_by=fields.get("created_by"),
        key_prefix=plain[:VISIBLE_LENGTH],
        key_hash=hash_key(plain),
        name=name.strip(),
        description=fields.get("description"),
        kind=fields.get("kind", "secret"),
        environment=environment,
        scopes=_check_scopes(fields.get("scopes", DEFAULT_SCOPES)),
        rate_limit_tier=fields.get("tier", "basic"),
        rate_limit_per_hour=fields.get("rate_limit_per_hour"),
        burst_per_second=fields.get("burst_per_second"),
        not_before=_check_moment(fields.get("not_before")),
        expires_at=_check_moment(fields.get("expires_at")),
        rotated_from=fields.get("rotated_from"),
        allowed_origins=_check_origins(fields.get("allowed_origins", ("*",))),
        ip_whitelist=None if rules is None else _check_ip_rules(rules),
        metadata=dict(fields.get("metadata") or {}),
    )
    return NewApiKey(record=record, key=plain)


async def rotate_api_key(
    conn: Connection,
    organization_id: UUID,
    key_id: UUID,
    *,
    overlap: timedelta = DEFAULT_OVERLAP,
    as_member: bool = False,
) -> NewApiKey:
    """Make a key like another one and let that one end after the overlap.

    The new key may do what the old one may, with the same limits; the old one works on until the
    overlap has passed, or is revoked at once where there is none.

    Raises:
        ApiKeyNotFound: The organization has no such key.
        KeyDead: It was revoked or has expired, so there is nothing to take over.
        OverlapInvalid: Less than nothing, or more than `MAX_OVERLAP`.
    """
    if not timedelta() <= overlap <= MAX_OVERLAP:
        raise OverlapInvalid
    old = await _get_to_change(conn, organization_id, key_id)
    made = await create_api_key(
        conn,
        organization_id=organization_id,
        name=old.name,
        environment=old.environment,
        kind=old.kind,
        description=old.description,
        scopes=old.scopes,
        tier=old.rate_limit_tier,
        rate_limit_per_hour=old.rate_limit_per_hour,
        burst_per_second=old.burst_per_second,
        not_before=old.not_before,
        expires_at=old.expires_at,
        allowed_origins=old.allowed_origins,
        ip_whitelist=old.ip_whitelist,
        metadata=old.metadata,
        rotated_from=old.id,
        as_member=as_member,
    )
    if overlap:
        await store.end_api_key(conn, organization_id, key_id, clock.now() + overlap)
    else:
        await store.revoke_api_key(conn, organization_id, key_id)
    return made


async def update_api_key(
    conn: Connection, organization_id: UUID, key_id: UUID, changed: Mapping[str, Any]
) -> ApiKey:
    """Change some fields of a key; the others stay.

    Args:
        conn: An open transaction, of an operator where limits are changed.
        organization_id: Whose key it is.
        key_id: Which.
        changed: `CHANGEABLE` and `LIMITS` name what there is.

    Raises:
        ApiKeyNotFound: The organization has no such key.
        KeyDead: Its end has come, and cannot be moved any more.
        ScopeUnknown, OriginInvalid, IpRuleInvalid, PublishableKeyInvalid: One field says too much.
    """
    unknown = changed.keys() - CHANGEABLE - LIMITS
    if unknown:
        raise TypeError(f"a key has no fields to change such as {sorted(unknown)}")
    key = replace(await _get_to_change(conn, organization_id, key_id), **changed)
    if changed.keys() & CHANGEABLE:
        key = await store.update_api_key(
            conn,
            replace(
                key,
                name=key.name.strip(),
                scopes=_check_scopes(key.scopes),
                not_before=_check_moment(key.not_before),
                expires_at=_check_moment(key.expires_at),
                allowed_origins=_check_origins(key.allowed_origins),
                ip_whitelist=None
                if key.ip_whitelist is None
                else _check_ip_rules(key.ip_whitelist),
            ),
        )
        key = replace(key, **{name: changed[name] for name in changed.keys() & LIMITS})
    if changed.keys() & LIMITS:
        key = await store.update_api_key_limits(conn, key)
    return key


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


async def find_key_owners(conn: Connection, key_ids: Iterable[UUID]) -> dict[UUID, KeyOwner]:
    """Return whose these keys are, by id; ids that are no keys are left out."""
    wanted = list(key_ids)
    if not wanted:
        return {}
    return {owner.id: owner for owner in await store.list_key_owners(conn, wanted)}


async def expire_api_keys(conn: Connection) -> int:
    """Write down which keys have expired; return how many."""
    return await store.expire_api_keys(conn)


async def touch_api_keys(conn: Connection, used: Mapping[str, datetime]) -> int:
    """Write down when keys, named by their hashes, were last used; return how many rows changed.

    A key whose last use is written down within the minute stays as it is, and one that somebody
    is writing to waits for the next time.
    """
    if not used:
        return 0
    return await store.touch_api_keys(conn, list(used.keys()), list(used.values()))


async def _get_to_change(conn: Connection, organization_id: UUID, key_id: UUID) -> ApiKey:
    found = await store.find_api_key(conn, organization_id, key_id, to_change=True)
    if found is None:
        raise ApiKeyNotFound
    return found


def _check_moment(at: datetime | None) -> datetime | None:
    if at is not None and not EARLIEST_EXPIRY <= at < LATEST_EXPIRY:
        raise ExpiryInvalid
    return at


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
