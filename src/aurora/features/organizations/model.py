"""Organizations and users as the rest of the house sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from aurora.core.errors import Conflict, Forbidden, Invalid, NotFound

Role = Literal["owner", "admin", "member", "viewer"]
OrganizationStatus = Literal["trial", "active", "suspended", "cancelled"]

TRIAL_DAYS = 30
MAX_USERS_LISTED = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """A customer of the platform."""

    id: UUID
    created_at: datetime
    updated_at: datetime
    name: str
    slug: str
    domain: str | None
    email: str
    phone: str | None
    address: str | None
    city: str | None
    postal_code: str | None
    country: str
    org_number: str | None
    vat_number: str | None
    billing_email: str | None
    invoice_reference: str | None
    status: OrganizationStatus
    trial_ends_at: datetime | None
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One person's membership in one organization; none means an operator of the platform."""

    id: UUID
    created_at: datetime
    updated_at: datetime
    organization_id: UUID | None
    email: str
    name: str
    avatar_url: str | None
    role: Role
    status: Literal["active", "inactive", "invited"]
    last_login_at: datetime | None


class OrganizationNotFound(NotFound):
    """No such organization, or not one that the caller may see."""

    code, title = "organization_not_found", "There is no such organization"
    constraints = ("users_organization_id_fkey", "api_keys_organization_id_fkey")


class LastOwner(Conflict):
    """The last active owner cannot leave, nor become something else."""

    code, title = "last_owner", "An organization keeps at least one active owner"


class RoleForbidden(Forbidden):
    """The person's own role is too low for this change of a membership."""

    code, title = "role_forbidden", "This role may not change that membership"


class SlugTaken(Conflict):
    """Another organization has this slug."""

    code, title = "slug_taken", "Another organization has this slug; choose a different one"
    constraints = ("organizations_slug_key",)


class SlugInvalid(Invalid):
    """The slug is not a plain host-name label."""

    code = "slug_invalid"
    title = "A slug has 1 to 63 of a-z, 0-9 and -, and does not begin or end with -"
    constraints = ("organizations_slug_check",)


class NameInvalid(Invalid):
    """A name is blank or too long."""

    code, title = "name_invalid", "A name has 1 to 200 characters and is not blank"
    constraints = ("organizations_name_check", "users_name_check", "api_keys_name_check")


class CountryInvalid(Invalid):
    """The country is not two capital letters."""

    code, title = "country_invalid", "A country is two capital letters (ISO 3166-1), such as NO"
    constraints = ("organizations_country_check", "legal_entities_country_check")


class MemberExists(Conflict):
    """The address is a member of this organization already."""

    code, title = "member_exists", "This person is a member of the organization already"
    constraints = ("users_organization_id_email_key", "users_auth_id_organization_id_key")
