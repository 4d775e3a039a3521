"""Commands about the people of an organization: aurora user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

import typer

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.organizations import invitations, service
from aurora.features.organizations.model import Invitation, Language, Organization, Role, User
from aurora.integrations.terminal import JsonOption, run, show

user = typer.Typer(help="Users: the people of an organization.", no_args_is_help=True)

USER_COLUMNS = ("email", "name", "role", "status", "id")
INVITATION_COLUMNS = ("email", "name", "role", "expires_at", "accepted_at", "revoked_at", "id")
OrgOption = Annotated[str, typer.Option(help="The organization's slug.")]
UserArgument = Annotated[UUID, typer.Argument(help="The member's id.")]
InvitationArgument = Annotated[UUID, typer.Argument(help="The invitation's id.")]


def _in_organization(
    ctx: typer.Context, slug: str, work: Callable[[Connection, Organization], Awaitable[Any]]
) -> Any:
    async def in_transaction(pool: Pool) -> Any:
        async with transaction(pool, PLATFORM) as conn:
            return await work(conn, await service.get_organization(conn, slug))

    return run(ctx, in_transaction)


@user.command("create")
def create_user(
    ctx: typer.Context,
    org: OrgOption,
    email: Annotated[str, typer.Option(help="Of the person, to sign in with.")],
    name: Annotated[str, typer.Option(help="Of the person.")],
    role: Annotated[Role, typer.Option(help="What the person may do.")] = "member",
    json: JsonOption = False,
) -> None:
    """Make a person a member of an organization without asking."""

    async def work(conn: Connection, found: Organization) -> User:
        return await service.create_user(
            conn, organization_id=found.id, email=email, name=name, role=role
        )

    show(_in_organization(ctx, org, work), json=json, columns=USER_COLUMNS)


@user.command("list")
def list_users(ctx: typer.Context, org: OrgOption, json: JsonOption = False) -> None:
    """List the people of an organization."""

    async def work(conn: Connection, found: Organization) -> list[User]:
        return await service.list_users(conn, found.id)

    show(_in_organization(ctx, org, work), json=json, columns=USER_COLUMNS)


@user.command("update")
def update_user(
    ctx: typer.Context,
    user_id: UserArgument,
    org: OrgOption,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    role: Annotated[Role | None, typer.Option(help="Another role.")] = None,
    json: JsonOption = False,
) -> None:
    """Change a member's name or role."""
    given = {"name": name, "role": role}
    changes = {field: value for field, value in given.items() if value is not None}

    async def work(conn: Connection, found: Organization) -> User:
        return await service.change_user(conn, found.id, user_id, changes)

    show(_in_organization(ctx, org, work), json=json, columns=USER_COLUMNS)


@user.command("remove")
def remove_user(
    ctx: typer.Context, user_id: UserArgument, org: OrgOption, json: JsonOption = False
) -> None:
    """Make a member inactive; the last owner stays."""

    async def work(conn: Connection, found: Organization) -> User:
        return await service.change_user(conn, found.id, user_id, {"status": "inactive"})

    show(_in_organization(ctx, org, work), json=json, columns=USER_COLUMNS)


@user.command("invite")
def invite(
    ctx: typer.Context,
    org: OrgOption,
    email: Annotated[str, typer.Option(help="Where the one-time link goes.")],
    name: Annotated[str, typer.Option(help="Of the person.")],
    role: Annotated[Role, typer.Option(help="What the person becomes.")] = "member",
    language: Annotated[Language | None, typer.Option(help="Of the mail.")] = None,
    json: JsonOption = False,
) -> None:
    """Invite a person by mail."""

    async def work(conn: Connection, found: Organization) -> Invitation:
        return await invitations.invite(
            conn, organization_id=found.id, email=email, name=name, role=role, language=language
        )

    show(_in_organization(ctx, org, work), json=json, columns=INVITATION_COLUMNS)


@user.command("invitations")
def list_invitations(ctx: typer.Context, org: OrgOption, json: JsonOption = False) -> None:
    """List the invitations of an organization, newest first."""

    async def work(conn: Connection, found: Organization) -> list[Invitation]:
        return await invitations.list_invitations(conn, found.id)

    show(_in_organization(ctx, org, work), json=json, columns=INVITATION_COLUMNS)


@user.command("resend")
def send_again(
    ctx: typer.Context, invitation_id: InvitationArgument, org: OrgOption, json: JsonOption = False
) -> None:
    """Send an invitation with a new link; the old one is dead."""

    async def work(conn: Connection, found: Organization) -> Invitation:
        return await invitations.send_again(conn, found.id, invitation_id)

    show(_in_organization(ctx, org, work), json=json, columns=INVITATION_COLUMNS)


@user.command("uninvite")
def take_back(
    ctx: typer.Context, invitation_id: InvitationArgument, org: OrgOption, json: JsonOption = False
) -> None:
    """Take an invitation back."""

    async def work(conn: Connection, found: Organization) -> Invitation:
        return await invitations.take_back(conn, found.id, invitation_id)

    show(_in_organization(ctx, org, work), json=json, columns=INVITATION_COLUMNS)
