"""Organizations and users as the rest of the house sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from aurora.core import clock
from aurora.core.errors import Conflict, Forbidden, Invalid, LimitExceeded, NotFound

Role = Literal["owner", "admin", "member", "viewer"]
OrganizationStatus = Literal["trial", "active", "suspended", "cancelled"]
UserStatus = Literal["active", "inactive", "invited"]
Language = Literal["nb", "en"]

TRIAL_DAYS = 30
MAX_USERS_LISTED = 500
INVITATION_DAYS = 7
MAX_OPEN_INVITATIONS = 100
MAX_INVITATIONS_SENT = 10
MAX_INVITATIONS_LISTED = 500


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
    org_number_unverified: bool
    vat_number_unverified: bool
    logo_sha256: str | None
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Logo:
    """A logo as it is kept: a PNG, its sides in pixels, and the digest that documents name."""

    sha256: str
    width: int
    height: int
    content: bytes


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
    status: UserStatus
    last_login_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A person who was asked to become a member; its token is known to nobody but them."""

    id: UUID
    created_at: datetime
    organization_id: UUID
    invited_by: UUID | None
    email: str
    name: str
    role: Role
    language: Language
    expires_at: datetime
    sent_count: int
    accepted_at: datetime | None
    revoked_at: datetime | None

    @property
    def status(self) -> Literal["open", "accepted", "revoked", "expired"]:
        """Where it stands at this moment."""
        if self.accepted_at is not None:
            return "accepted"
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at <= clock.now() else "open"


class Branding(BaseModel):
    """How an organization's own pages look."""

    model_config = ConfigDict(extra="forbid")
    logo_url: str | None = Field(
        None, max_length=498, pattern=r"^https://[^\s\x00-\x1f\x7f\"<>\\]+$"
    )
    color: str | None = Field(None, pattern="^#[0-9a-f]{6}$")


class OrganizationSettings(BaseModel):
    """What an organization chooses; what is left out stays, null takes a choice back."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"theme": "dark", "language": "nb", "branding": {"color": "#0b6e4f"}}]
        },
    )
    theme: Literal["light", "dark", "system"] | None = None
    language: Language | None = None
    branding: Branding | None = None

    def named(self) -> dict[str, Any]:
        """Return what was given, nulls included."""
        return self.model_dump(exclude_unset=True)


# A PNG of one pixel: enough to show the form, too small to be taken.
_EXAMPLE_LOGO: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class NewLogo(BaseModel):
    """A PNG, JPEG, or SVG file in base64."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"content": _EXAMPLE_LOGO}]}
    )
    content: Base64Bytes


class LogoOut(BaseModel):
    """A logo as it is kept: its sides in pixels, and the SHA-256 by which documents name it."""

    model_config = ConfigDict(from_attributes=True)
    sha256: str
    width: int
    height: int


class LogoNotFound(NotFound):
    """No logo was set."""

    code, title = "logo_not_found", "No logo is set"


class OrganizationNotFound(NotFound):
    """No such organization, or not one that the caller may see."""

    code, title = "organization_not_found", "There is no such organization"
    constraints = (
        "users_organization_id_fkey",
        "api_keys_organization_id_fkey",
        "invitations_organization_id_fkey",
    )


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
    constraints = (
        "organizations_name_check",
        "users_name_check",
        "invitations_name_check",
        "api_keys_name_check",
    )


class CountryInvalid(Invalid):
    """The country is not two capital letters."""

    code, title = "country_invalid", "A country is two capital letters (ISO 3166-1), such as NO"
    constraints = ("organizations_country_check", "legal_entities_country_check")


class MemberExists(Conflict):
    """The address is a member of this organization already."""

    code, title = "member_exists", "This person is a member of the organization already"
    constraints = ("users_organization_id_email_key", "users_auth_id_organization_id_key")


class FieldUnknown(Invalid):
    """There is no field of this name, or it is not changed this way."""

    code, title = "field_unknown", "There is no such field"


class FieldRequired(Invalid):
    """A field that every row has was to be emptied."""

    code, title = "field_required", "This field cannot be empty"


class UserNotFound(NotFound):
    """No such membership in this organization."""

    code, title = "user_not_found", "There is no such member"


class StatusTransitionInvalid(Conflict):
    """An organization of this status cannot become that."""

    code, title = "status_transition_invalid", "An organization cannot go from one to the other"


class OrganizationNotCancelled(Conflict):
    """An organization that is alive is not deleted."""

    code, title = "organization_not_cancelled", "Only a cancelled organization can be deleted"


class OrganizationErased(Conflict):
    """Nothing brings an erased organization back."""

    code, title = "organization_erased", "The organization was erased"


class OrganizationSettingsInvalid(Invalid):
    """The settings hold something that is not a setting."""

    code, title = "organization_settings_invalid", "These are not settings of an organization"
    constraints = ("organizations_settings_check",)


class InvitationNotFound(NotFound):
    """Unknown, used, taken back, or expired: the four look the same."""

    code, title = "invitation_not_found", "There is no such open invitation"


class InvitationOpen(Conflict):
    """The address was invited and has not answered yet."""

    code, title = "invitation_open", "This address has an open invitation; send it again instead"
    constraints = ("invitations_open_key",)


class InvitationsExhausted(LimitExceeded):
    """Mail to one address, or from one organization, has a limit."""

    code, title = "invitations_exhausted", "No more invitations can be sent"
    constraints = ("invitations_sent_count_check",)
