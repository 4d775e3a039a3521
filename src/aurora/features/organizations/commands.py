"""Commands of the organizations room: aurora org, aurora user."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import typer

from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.organizations import service
from aurora.features.organizations.logos_commands import logo
from aurora.features.organizations.members_commands import user
from aurora.features.organizations.model import FieldUnknown, Organization, OrganizationStatus
from aurora.integrations.terminal import JsonOption, run, show

__all__ = ["org", "user"]

org = typer.Typer(help="Organizations: the customers.", no_args_is_help=True)
org.add_typer(logo, name="logo")

CHANGEABLE = (
    "name",
    "slug",
    "email",
    "phone",
    "domain",
    "address",
    "city",
    "postal_code",
    "country",
    "org_number",
    "vat_number",
    "billing_email",
    "invoice_reference",
)
SlugArgument = Annotated[str, typer.Argument(help="The organization's slug.")]
ORGANIZATION_COLUMNS = ("slug", "name", "email", "status", "country", "created_at", "id")


@org.command("create")
def create_organization(  # noqa: PLR0917 - options are named
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="Display name, as on invoices.")],
    slug: Annotated[str, typer.Option(help="Short name in addresses: a-z, 0-9 and -.")],
    email: Annotated[str, typer.Option(help="Contact address.")],
    country: Annotated[str, typer.Option(help="ISO 3166-1 code.")] = "NO",
    org_number: Annotated[str | None, typer.Option(help="Organization number.")] = None,
    vat_number: Annotated[str | None, typer.Option(help="VAT number.")] = None,
    address: Annotated[str | None, typer.Option(help="Street address.")] = None,
    postal_code: Annotated[str | None, typer.Option(help="As in the country.")] = None,
    city: Annotated[str | None, typer.Option(help="Postal town.")] = None,
    billing_email: Annotated[str | None, typer.Option(help="Where invoices go.")] = None,
    invoice_reference: Annotated[str | None, typer.Option(help="The buyer's reference.")] = None,
    unverified: Annotated[
        bool, typer.Option(help="Keep numbers that their register's check digits refuse.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Create an organization on a 30-day trial."""

    async def work(pool: Pool) -> Organization:
        async with transaction(pool, PLATFORM) as conn:
            return await service.create_organization(
                conn,
                name=name,
                slug=slug,
                email=email,
                country=country,
                org_number=org_number,
                vat_number=vat_number,
                address=address,
                postal_code=postal_code,
                city=city,
                billing_email=billing_email,
                invoice_reference=invoice_reference,
                org_number_unverified=unverified,
                vat_number_unverified=unverified,
            )

    show(run(ctx, work), json=json, columns=ORGANIZATION_COLUMNS)


@org.command("list")
def list_organizations(
    ctx: typer.Context,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE_SIZE, help="How many at most.")
    ] = DEFAULT_PAGE_SIZE,
    json: JsonOption = False,
) -> None:
    """List organizations, newest first."""

    async def work(pool: Pool) -> list[Organization]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return (await service.list_organizations(conn, cursor=None, limit=limit)).items

    show(run(ctx, work), json=json, columns=ORGANIZATION_COLUMNS)


@org.command("show")
def show_organization(
    ctx: typer.Context,
    slug: SlugArgument,
    json: JsonOption = False,
) -> None:
    """Show one organization."""

    async def work(pool: Pool) -> Organization:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await service.get_organization(conn, slug)

    show(run(ctx, work), json=json)


@org.command("update")
def update_organization(
    ctx: typer.Context,
    slug: SlugArgument,
    set_: Annotated[
        list[str],
        typer.Option("--set", help="FIELD=VALUE, repeated; FIELD= empties the field."),
    ],
    unverified: Annotated[
        bool, typer.Option(help="Keep numbers that their register's check digits refuse.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Change fields, settings included: --set phone=77000000 --set settings.theme=dark."""

    async def work(pool: Pool) -> Organization:
        changes = _changes(set_)
        if unverified:
            changes |= {"org_number_unverified": True, "vat_number_unverified": True}
        async with transaction(pool, PLATFORM) as conn:
            found = await service.get_organization(conn, slug)
            return await service.change_organization(conn, found.id, changes)

    show(run(ctx, work), json=json)


@org.command("status")
def set_status(
    ctx: typer.Context,
    slug: SlugArgument,
    status: Annotated[OrganizationStatus, typer.Argument(help="The status that comes next.")],
    json: JsonOption = False,
) -> None:
    """Move an organization to another status."""

    async def work(pool: Pool) -> Organization:
        async with transaction(pool, PLATFORM) as conn:
            found = await service.get_organization(conn, slug)
            return await service.set_organization_status(conn, found.id, status)

    show(run(ctx, work), json=json, columns=ORGANIZATION_COLUMNS)


@org.command("delete")
def delete_organization(ctx: typer.Context, slug: SlugArgument, json: JsonOption = False) -> None:
    """Delete a cancelled organization softly; its documents and slug stay."""

    async def work(pool: Pool) -> Organization:
        async with transaction(pool, PLATFORM) as conn:
            found = await service.get_organization(conn, slug)
            return await service.delete_organization(conn, found.id)

    show(run(ctx, work), json=json, columns=ORGANIZATION_COLUMNS)


@org.command("restore")
def restore_organization(
    ctx: typer.Context,
    organization_id: Annotated[UUID, typer.Argument(help="The organization's id.")],
    json: JsonOption = False,
) -> None:
    """Take a deletion back."""

    async def work(pool: Pool) -> Organization:
        async with transaction(pool, PLATFORM) as conn:
            return await service.restore_organization(conn, organization_id)

    show(run(ctx, work), json=json, columns=ORGANIZATION_COLUMNS)


def _changes(pairs: list[str]) -> dict[str, Any]:
    """Return FIELD=VALUE pairs as what the service takes, having checked their names.

    Raises:
        FieldUnknown: A pair has no = or names no field.
    """
    changes: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if equals and name in CHANGEABLE:
            changes[name] = value or None
        elif equals and name in ("settings.theme", "settings.language"):
            settings[name.removeprefix("settings.")] = value or None
        elif equals and name in ("settings.logo_url", "settings.color"):
            settings.setdefault("branding", {})[name.removeprefix("settings.")] = value or None
        else:
            raise FieldUnknown(f"{name!r} is not FIELD=VALUE with one of {', '.join(CHANGEABLE)}.")
    return changes | ({"settings": settings} if settings else {})
