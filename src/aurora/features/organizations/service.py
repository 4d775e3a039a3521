"""What can be done with organizations and their people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from aurora.core.emails import check_email
from aurora.core.paging import Page, decode_cursor, page_of
from aurora.db.transaction import Connection
from aurora.features.organizations import store
from aurora.features.organizations.authority import OPERATOR, Place
from aurora.features.organizations.authority import place_of as place_of  # noqa: PLC0414 - for other rooms
from aurora.features.organizations.logos import draw_logo as draw_logo  # noqa: PLC0414 - the same
from aurora.features.organizations.model import (
    FieldRequired,
    Organization,
    OrganizationNotFound,
    OrganizationStatus,
    Role,
    User,
    UserNotFound,
)
from aurora.features.organizations.rules import check_fields, check_name

REQUIRED = frozenset({"name", "slug", "email", "country"})


async def create_organization(
    conn: Connection,
    *,
    name: str,
    slug: str,
    email: str,
    phone: str | None = None,
    domain: str | None = None,
    address: str | None = None,
    city: str | None = None,
    postal_code: str | None = None,
    country: str = "NO",
    org_number: str | None = None,
    vat_number: str | None = None,
    billing_email: str | None = None,
    invoice_reference: str | None = None,
    org_number_unverified: bool = False,
    vat_number_unverified: bool = False,
    settings: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Organization:
    """Create a customer on a 30-day trial.

    Raises:
        SlugTaken: Somebody has, or had, this slug.
        SlugInvalid, NameInvalid, EmailInvalid, CountryInvalid: As they say.
        OrgNumberInvalid, VatNumberInvalid: The country's check digits refuse the number, and
            `…_unverified` does not ask to keep it.
        OrganizationSettingsInvalid: `settings` hold what is no setting.
    """
    fields = {
        "name": name,
        "slug": slug,
        "email": email,
        "phone": phone,
        "domain": domain,
        "address": address,
        "city": city,
        "postal_code": postal_code,
        "country": country,
        "org_number": org_number,
        "org_number_unverified": org_number_unverified,
        "vat_number": vat_number,
        "vat_number_unverified": vat_number_unverified,
        "billing_email": billing_email,
        "invoice_reference": invoice_reference,
    }
    return await store.insert_organization(
        conn,
        **check_fields(fields, country),
        settings=dict(settings or {}),
        metadata=dict(metadata or {}),
    )


async def get_organization(conn: Connection, which: UUID | str) -> Organization:
    """Return one organization by id or slug.

    Raises:
        OrganizationNotFound: There is none, or the caller may not see it.
    """
    found = (
        await store.find_organization(conn, which)
        if isinstance(which, UUID)
        else await store.find_organization_by_slug(conn, which)
    )
    if found is None:
        raise OrganizationNotFound(f"There is no organization {which}.")
    return found


async def find_known_organizations(conn: Connection, ids: Iterable[UUID]) -> set[UUID]:
    """Return which of these ids are organizations; asks nothing where there are none."""
    wanted = list(ids)
    return set(await store.list_organization_ids(conn, wanted)) if wanted else set()


async def list_organizations(
    conn: Connection, *, cursor: str | None, limit: int
) -> Page[Organization]:
    """Return a page of organizations, newest first."""
    after = None if cursor is None else decode_cursor(cursor, (datetime, UUID))
    found = await store.list_organizations(conn, after=after, limit=limit + 1)
    return page_of(found, limit, lambda row: (row.created_at, row.id))


async def change_organization(
    conn: Connection, organization_id: UUID, changes: Mapping[str, Any]
) -> Organization:
    """Change the named fields of an organization; `settings` are merged with what is there.

    Args:
        conn: An open transaction.
        organization_id: Which one.
        changes: By column; None empties a column that may be empty.

    Raises:
        OrganizationNotFound: There is none, or it was deleted.
        FieldRequired: None for something that cannot be empty.
        Invalid: As with `create_organization`.
    """
    present = await get_organization(conn, organization_id)
    for field in REQUIRED & changes.keys():
        if changes[field] is None:
            raise FieldRequired(f"{field} cannot be empty.", field=field)
    wanted = dict(changes)
    settings = wanted.pop("settings", {})
    country = wanted.get("country", present.country)
    if country != present.country:
        # Another country has another register: what was checked there must be checked anew.
        for column in ("org_number", "vat_number"):
            wanted.setdefault(column, getattr(present, column))
    checked = check_fields(wanted, country)
    if "slug" in checked:
        await store.update_organization_slug(conn, organization_id, checked.pop("slug"))
    changed = await store.update_organization(conn, organization_id, checked, settings)
    if changed is None:
        raise OrganizationNotFound
    return changed


async def set_organization_status(
    conn: Connection, organization_id: UUID, status: OrganizationStatus, place: Place = OPERATOR
) -> Organization:
    """Move an organization to another status; the one it has already is no move.

    Args:
        conn: An open transaction.
        organization_id: Which one.
        status: The new one.
        place: Of who asks.

    Raises:
        OrganizationNotFound: There is none, or it was deleted.
        StatusTransitionInvalid: From its present status nobody can do that.
        RoleForbidden, OperatorOnly: Somebody else may.
    """
    present = await get_organization(conn, organization_id)
    if present.status != status:
        may = await store.find_transition(conn, present.status, status)
        if may == "operator":
            place.must_be_operator()
        else:
            place.must_be("owner")
        # Where nobody may, the database refuses and says so.
        if not await store.update_organization_status(conn, organization_id, status):
            raise OrganizationNotFound
    return await get_organization(conn, organization_id)


async def delete_organization(conn: Connection, organization_id: UUID) -> Organization:
    """Delete a cancelled organization softly: keys and people are out, documents and slug stay.

    Raises:
        OrganizationNotFound: There is none.
        OrganizationNotCancelled: It lives.
        SubscriptionRunning: It would go on being billed.
    """
    deleted = await store.delete_organization(conn, organization_id)
    if deleted is None:
        raise OrganizationNotFound
    return deleted


async def restore_organization(conn: Connection, organization_id: UUID) -> Organization:
    """Take a soft deletion back; the organization stays cancelled until it is made active.

    Raises:
        OrganizationNotFound: There is none.
        OrganizationErased: There is nothing left to bring back.
    """
    restored = await store.restore_organization(conn, organization_id)
    if restored is None:
        raise OrganizationNotFound
    return restored


async def create_user(
    conn: Connection, *, organization_id: UUID, email: str, name: str, role: Role = "member"
) -> User:
    """Make a person a member of an organization.

    Raises:
        OrganizationNotFound, MemberExists, EmailInvalid, NameInvalid: As they say.
    """
    await get_organization(conn, organization_id)
    return await store.insert_user(
        conn,
        organization_id=organization_id,
        email=check_email(email),
        name=check_name(name),
        role=role,
        status="active",
    )


async def list_users(conn: Connection, organization_id: UUID) -> list[User]:
    """Return the people of an organization, oldest membership first."""
    return await store.list_users(conn, organization_id)


async def get_user(conn: Connection, organization_id: UUID, user_id: UUID) -> User:
    """Return one membership.

    Raises:
        UserNotFound: The organization has no such member.
    """
    found = await store.find_user(conn, organization_id, user_id)
    if found is None:
        raise UserNotFound
    return found


async def change_user(
    conn: Connection,
    organization_id: UUID,
    user_id: UUID,
    changes: Mapping[str, Any],
    place: Place = OPERATOR,
) -> User:
    """Change name, role, or status of a member.

    Everybody renames themselves and may leave; admins change members; only owners make, change,
    and remove owners. The last active owner stays. The policies of `users` hold the same for a
    person's own transaction; here it is said with a code.

    Args:
        conn: An open transaction.
        organization_id: Whose member.
        user_id: Which member.
        changes: `name`, `role`, `status`; what is not named stays.
        place: Of who asks.

    Raises:
        UserNotFound: The organization has no such member.
        RoleForbidden: The place is too low.
        LastOwner: Nobody would own the organization any more.
        FieldRequired, NameInvalid: A field.
    """
    present = await get_user(conn, organization_id, user_id)
    wanted = {name: value for name, value in changes.items() if value != getattr(present, name)}
    is_own = place.user_id == user_id
    leaves_or_renames = wanted.keys() <= {"name"} or wanted == {"status": "inactive"}
    if not (is_own and leaves_or_renames):
        is_about_owners = "owner" in (present.role, wanted.get("role"))
        place.must_be("owner" if is_about_owners else "admin")
    for field, value in wanted.items():
        if value is None:
            raise FieldRequired(f"{field} cannot be empty.", field=field)
    if "name" in wanted:
        wanted["name"] = check_name(wanted["name"])
    changed = await store.update_user(conn, organization_id, user_id, wanted)
    if changed is None:
        raise UserNotFound
    return changed
