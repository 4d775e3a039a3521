"""API keys as the house sees them: never the key itself but once, when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from aurora.core.errors import Conflict, Invalid, NotFound

Environment = Literal["production", "test"]
Kind = Literal["secret", "publishable"]

DEFAULT_SCOPES = ("aurora:read",)
KNOWN_SCOPES = frozenset({"aurora:read", "analytics:read", "billing:read", "widgets:embed"})
MAX_ORIGINS = 50
MAX_IP_RULES = 200
EARLIEST_EXPIRY = datetime(2000, 1, 1, tzinfo=UTC)
LATEST_EXPIRY = datetime(3000, 1, 1, tzinfo=UTC)


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
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    allowed_origins: list[str]
    ip_whitelist: list[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey:
    """A key just made, with the secret that is shown this once."""

    record: ApiKey
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What the gate needs to decide about a request that carries this key."""

    id: UUID
    organization_id: UUID
    organization_status: str
    kind: Kind
    environment: Environment
    scopes: list[str]
    status: str
    expires_at: datetime | None
    allowed_origins: list[str]
    ip_whitelist: list[str] | None
    rate_limit_tier: str
    rate_limit_per_hour: int
    metadata: dict[str, Any]


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

    code, title = "expiry_invalid", "A key expires between the years 2000 and 2999"


class PublishableKeyInvalid(Invalid):
    """A publishable key asks for more than widgets or names no origins."""

    code = "publishable_key_invalid"
    title = "A publishable key carries only widgets:embed and names its origins"
    constraints = ("api_keys_publishable_check",)


class RateLimitInvalid(Invalid):
    """A limit below zero."""

    code, title = "rate_limit_invalid", "A rate limit is zero or more requests an hour"
    constraints = ("api_keys_rate_limit_per_hour_check",)


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
