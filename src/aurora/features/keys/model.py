"""API keys as the house sees them: never the key itself but once, when it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal, TypedDict
from uuid import UUID

import msgspec

from aurora.core.errors import Conflict, Invalid, NotFound

Environment = Literal["production", "test"]
Kind = Literal["secret", "publishable"]
Network = IPv4Network | IPv6Network

DEFAULT_SCOPES = ("aurora:read",)
KNOWN_SCOPES = frozenset({"aurora:read", "analytics:read", "billing:read", "widgets:embed"})
MAX_ORIGINS = 50
MAX_IP_RULES = 200
EARLIEST_EXPIRY = datetime(2000, 1, 1, tzinfo=UTC)
LATEST_EXPIRY = datetime(3000, 1, 1, tzinfo=UTC)
DEFAULT_OVERLAP = timedelta(hours=24)
MAX_OVERLAP = timedelta(days=30)
"""How long a key that was rotated may go on beside the new one."""
CHANGEABLE = frozenset(
    {
        "name",
        "description",
        "scopes",
        "not_before",
        "expires_at",
        "allowed_origins",
        "ip_whitelist",
        "metadata",
    }
)
"""What an admin of the organization changes of a key."""
LIMITS = frozenset({"rate_limit_tier", "rate_limit_per_hour", "burst_per_second"})
"""What only the platform changes: limits follow what the organization bought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What anybody in the organization may know of a key."""

    id: UUID
    created_at: datetime
    updated_at: datetime
    organization_id: UUID
    key_prefix: str
    name: str
    description: str | None
    kind: Kind
    environment: Environment
    scopes: list[str]
    rate_limit_tier: str
    rate_limit_per_hour: int
    status: Literal["active", "revoked", "expired"]
    burst_per_second: int | None
    last_used_at: datetime | None
    not_before: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    rotated_from: UUID | None
    allowed_origins: list[str]
    ip_whitelist: list[str] | None
    metadata: dict[str, Any]


class KeyFields(TypedDict, total=False):
    """What may be said of a key that is to be made; whatever is left out has a default.

    Attributes:
        environment: Test keys never bill; production.
        kind: A publishable key may stand in a web page; secret.
        description: More for people.
        scopes: What it may do; `DEFAULT_SCOPES`.
        tier: The plan whose hourly limit it gets when none is named; basic.
        rate_limit_per_hour: Requests in any rolling hour; None takes the tier's.
        burst_per_second: Requests in any second; None for no more than the hour's limit.
        not_before: Until this moment it is refused.
        expires_at: From this moment on it is refused.
        allowed_origins: `*`, exact origins, or `https://*.example.com`; all.
        ip_whitelist: Addresses and networks; None allows all.
        metadata: The customer's own notes, a JSON object of at most 8,192 bytes.
        created_by: The member who makes it.
        rotated_from: The key whose place it takes; it has the limits of that.
    """

    environment: Environment
    kind: Kind
    description: str | None
    scopes: Sequence[str]
    tier: str
    rate_limit_per_hour: int | None
    burst_per_second: int | None
    not_before: datetime | None
    expires_at: datetime | None
    allowed_origins: Sequence[str]
    ip_whitelist: Sequence[str] | None
    metadata: Mapping[str, Any] | None
    created_by: UUID | None
    rotated_from: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey:
    """A key just made, with the secret that is shown this once."""

    record: ApiKey
    key: str = field(repr=False)


class Account(msgspec.Struct, kw_only=True, weakref=True, eq=False):
    """What the gate knows of an organization, once a process, shared by the records of its keys.

    Attributes:
        organization_id: Whose it is.
        status: The organization's.
        plan_id: What its running subscription bought, if one runs.
        is_stale: Set when any of this changed: records that point here are not used any more.
    """

    organization_id: UUID
    status: str
    plan_id: str | None = None
    is_stale: bool = False


class KeyRules(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """What a key may do, and until when: once a process, shared by all keys that may do the same.

    Attributes:
        kind: A publishable key may stand in a web page.
        environment: Test keys never bill.
        scopes: What the key may do.
        status: active, revoked, or expired; the clock decides on top of it.
        not_before: Refused until then.
        expires_at: Refused from then on.
        allowed_origins: As they are written.
        networks: Addresses and networks that may send it; None where all may.
        rate_limit_tier: For people.
        rate_limit_per_hour: Requests in any rolling hour.
        burst_per_second: Requests in any second; None where only the hour counts.
    """

    kind: Kind
    environment: Environment
    scopes: tuple[str, ...]
    status: str
    not_before: datetime | None
    expires_at: datetime | None
    allowed_origins: tuple[str, ...]
    networks: tuple[Network, ...] | None
    rate_limit_tier: str
    rate_limit_per_hour: int
    burst_per_second: int | None


class KeyRecord(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """What the gate knows of one key, ready to be asked a million times: one line of a CPU's cache.

    What a decision stands on never changes here: another record takes its place.

    Attributes:
        id: The key's.
        account: The organization, as far as it matters here.
        rules: What the key may do.
        is_recent: Whether it was used since the cache looked at it last.
        noted_in: In which round of what has to be written down its use was noted last.
    """

    id: UUID
    account: Account
    rules: KeyRules
    is_recent: bool = False
    noted_in: int = -1

    @property
    def organization_id(self) -> UUID:
        """Return whose key it is."""
        return self.account.organization_id

    @property
    def kind(self) -> Kind:
        """Return secret or publishable."""
        return self.rules.kind

    @property
    def environment(self) -> Environment:
        """Return production or test."""
        return self.rules.environment

    @property
    def rate_limit_per_hour(self) -> int:
        """Return the requests in any rolling hour."""
        return self.rules.rate_limit_per_hour

    @property
    def burst_per_second(self) -> int | None:
        """Return the requests in any second; None where only the hour counts."""
        return self.rules.burst_per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOwner:
    """Whose a key is and whether its use bills."""

    id: UUID
    organization_id: UUID
    environment: Environment


class ApiKeyNotFound(NotFound):
    """No such key, or not one that the caller may see."""

    code, title = "api_key_not_found", "There is no such API key"


class KeyTaken(Conflict):
    """The same key exists already."""

    code, title = "key_taken", "This key exists already"
    constraints = ("api_keys_key_hash_key",)


class KeyDead(Conflict):
    """A revoked or expired key never opens anything again."""

    code, title = "key_dead", "A revoked or expired key stays so"


class KeyMalformed(Invalid):
    """The text is not a key."""

    code, title = "key_malformed", "The key does not have the form of a key"


class ScopeUnknown(Invalid):
    """A scope that does not exist."""

    code, title = "scope_unknown", "There is no such scope"


class OriginInvalid(Invalid):
    """An origin is not scheme://host[:port]."""

    code = "origin_invalid"
    title = "An origin is https://host or http://host, with a port if any, or https://*.example.com"


class IpRuleInvalid(Invalid):
    """An entry of the IP list is neither an address nor a network."""

    code, title = "ip_rule_invalid", "An IP rule is an address or a network such as 10.0.0.0/24"


class ExpiryInvalid(Invalid):
    """A key ends at a moment that no calendar of ours holds."""

    code = "expiry_invalid"
    title = "A key begins and expires between the years 2000 and 2999, in that order"
    constraints = ("api_keys_life_check",)


class OverlapInvalid(Invalid):
    """A rotated key would go on too long."""

    code, title = "overlap_invalid", "A rotated key goes on for at most 30 days"


class KeyMetadataInvalid(Invalid):
    """The metadata is no object, or too long."""

    code, title = "key_metadata_invalid", "Metadata is a JSON object of at most 8,192 bytes"
    constraints = ("api_keys_metadata_check",)


class PublishableKeyInvalid(Invalid):
    """A publishable key asks for more than widgets or names no origins."""

    code = "publishable_key_invalid"
    title = "A publishable key carries only widgets:embed and names its origins"
    constraints = ("api_keys_publishable_check",)


class RateLimitInvalid(Invalid):
    """A limit below zero."""

    code = "rate_limit_invalid"
    title = "A rate limit is zero or more requests an hour, and at least one in a second if any"
    constraints = ("api_keys_rate_limit_per_hour_check", "api_keys_burst_per_second_check")


class TierUnknown(Invalid):
    """A rate limit tier that does not exist."""

    code, title = "tier_unknown", "The tier is demo, basic, premium, or premium_plus"
    constraints = ("api_keys_rate_limit_tier_check",)


class EnvironmentInvalid(Invalid):
    """Neither production nor test."""

    code, title = "environment_invalid", "The environment is production or test"
    constraints = ("api_keys_environment_check", "api_keys_environment_prefix_check")


class CreatorUnknown(Invalid):
    """The creator is not a member of the key's organization."""

    code, title = "creator_unknown", "created_by is not a member of this organization"
    constraints = ("api_keys_created_by_fkey",)
