"""Commands of the organizations room: aurora org, aurora user."""

from __future__ import annotations

from typing import Annotated

import typer

from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.organizations import service
from aurora.features.organizations.model import Organization, Role, User
from aurora.integrations.terminal import JsonOption, run, show

org = typer.Typer(help="Organizations: the customers.", no_args_is_help=True)
user = typer.Typer(help="Users: the people of an organization.", no_args_is_help=True)

ORGANIZATION_COLUMNS = ("slug", "name", "email", "status", "country", "created_at", "id")
USER_COLUMNS = ("email", "name", "role", "status", "id")


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
    postal_code: Annotated[str | None, typer.Option()] = None,
    city: Annotated[str | None, typer.Option()] = None,
    billing_email: Annotated[str | None, typer.Option(help="Where invoices go.")] = None,
    invoice_reference: Annotated[str | None, typer.Option(help="The buyer's reference.")] = None,
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
            )

    show(run(ctx, work), json=json, columns=ORGANIZATION_COLUMNS)


@org.command("list")
def list_organizations(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE_SIZE)] = DEFAULT_PAGE_SIZE,
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
    slug: Annotated[str, typer.Argument(help="The organization's slug.")],
    json: JsonOption = False,
) -> None:
    """Show one organization."""

    async def work(pool: Pool) -> Organization:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await service.get_organization(conn, slug)

    show(run(ctx, work), json=json)


@user.command("create")
def create_user(
    ctx: typer.Context,
    org: Annotated[str, typer.Option(help="The organization's slug.")],
    email: Annotated[str, typer.Option()],
    name: Annotated[str, typer.Option()],
    role: Annotated[Role, typer.Option(help="What the person may do.")] = "member",
    json: JsonOption = False,
) -> None:
    """Make a person a member of an organization."""

    async def work(pool: Pool) -> User:
        async with transaction(pool, PLATFORM) as conn:
            organization = await service.get_organization(conn, org)
            return await service.create_user(
                conn,
                organization_id=organization.id,
                email=email,
                name=name,
                role=role,
            )

    show(run(ctx, work), json=json, columns=USER_COLUMNS)


@user.command("list")
def list_users(
    ctx: typer.Context,
    org: Annotated[str, typer.Option(help="The organization's slug.")],
    json: JsonOption = False,
) -> None:
    """List the people of an organization."""

    async def work(pool: Pool) -> list[User]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await service.get_organization(conn, org)
            return await service.list_users(conn, organization.id)

    show(run(ctx, work), json=json, columns=USER_COLUMNS)
