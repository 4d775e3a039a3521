"""Commands of the keys room: aurora key."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.keys import service
from aurora.features.keys.model import DEFAULT_SCOPES, ApiKey, Environment, Kind, NewApiKey
from aurora.features.organizations.service import get_organization
from aurora.integrations.terminal import JsonOption, as_plain, run, show

key = typer.Typer(help="API keys.", no_args_is_help=True)

KEY_COLUMNS = (
    "key_prefix",
    "name",
    "environment",
    "kind",
    "status",
    "scopes",
    "last_used_at",
    "id",
)
OrgOption = Annotated[str, typer.Option("--org", help="The organization's slug.")]


@key.command("create")
def create_key(
    ctx: typer.Context,
    org: OrgOption,
    name: Annotated[str, typer.Option(help="What it is for: 'Production website'.")],
    env: Annotated[Environment, typer.Option(help="Test keys never bill.")] = "production",
    kind: Annotated[Kind, typer.Option(help="publishable: may stand in a web page.")] = "secret",
    scope: Annotated[list[str] | None, typer.Option(help="Repeat for several.")] = None,
    origin: Annotated[list[str] | None, typer.Option(help="Repeat for several.")] = None,
    tier: Annotated[str, typer.Option(help="Whose hourly limit it gets.")] = "basic",
    limit: Annotated[int | None, typer.Option(min=0, help="Requests in any hour.")] = None,
    json: JsonOption = False,
) -> None:
    """Make a key and show it this once."""

    async def work(pool: Pool) -> NewApiKey:
        async with transaction(pool, PLATFORM) as conn:
            organization = await get_organization(conn, org)
            return await service.create_api_key(
                conn,
                organization_id=organization.id,
                name=name,
                environment=env,
                kind=kind,
                scopes=scope or (("widgets:embed",) if kind == "publishable" else DEFAULT_SCOPES),
                allowed_origins=origin or ("*",),
                tier=tier,
                rate_limit_per_hour=limit,
            )

    made = run(ctx, work)
    show(
        {"key": made.key, **as_plain(made.record)},
        json=json,
        columns=("key", "id", "name", "environment", "scopes", "rate_limit_per_hour"),
    )


@key.command("list")
def list_keys(ctx: typer.Context, org: OrgOption, json: JsonOption = False) -> None:
    """List an organization's keys, newest first."""

    async def work(pool: Pool) -> list[ApiKey]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            return await service.list_api_keys(conn, organization.id)

    show(run(ctx, work), json=json, columns=KEY_COLUMNS)


@key.command("revoke")
def revoke_key(ctx: typer.Context, key_id: UUID, org: OrgOption, json: JsonOption = False) -> None:
    """Revoke a key for good."""

    async def work(pool: Pool) -> ApiKey:
        async with transaction(pool, PLATFORM) as conn:
            organization = await get_organization(conn, org)
            return await service.revoke_api_key(conn, organization.id, key_id)

    show(run(ctx, work), json=json, columns=KEY_COLUMNS)
