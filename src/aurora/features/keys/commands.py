"""Commands of the keys room: aurora key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.keys import service
from aurora.features.keys.model import (
    DEFAULT_OVERLAP,
    DEFAULT_SCOPES,
    ApiKey,
    Environment,
    KeyMetadataInvalid,
    Kind,
    NewApiKey,
)
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
MAX_HOURS = 1_000_000.0
MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
ScopeOption = Annotated[
    list[str] | None, typer.Option("--scope", help="What it may do; repeat for several.")
]
OriginOption = Annotated[
    list[str] | None, typer.Option("--origin", help="Which pages; repeat for several.")
]
IpOption = Annotated[
    list[str] | None, typer.Option("--ip", help="An address or network; repeat for several.")
]
NotBeforeOption = Annotated[
    datetime | None,
    typer.Option("--not-before", formats=MOMENTS, help="Refused until then (UTC)."),
]
ExpiresOption = Annotated[
    datetime | None,
    typer.Option("--expires", formats=MOMENTS, help="Refused from then on (UTC)."),
]
MetadataOption = Annotated[
    str | None, typer.Option("--metadata", help="Your own notes, a JSON object.")
]
OrgOption = Annotated[str, typer.Option("--org", help="The organization's slug.")]
KeyArgument = Annotated[UUID, typer.Argument(help="The key's id, as `aurora key list` says.")]


@key.command("create")
def create_key(
    ctx: typer.Context,
    *,
    org: OrgOption,
    name: Annotated[str, typer.Option(help="What it is for: 'Production website'.")],
    env: Annotated[Environment, typer.Option(help="Test keys never bill.")] = "production",
    kind: Annotated[Kind, typer.Option(help="publishable: may stand in a web page.")] = "secret",
    scope: ScopeOption = None,
    origin: OriginOption = None,
    ip: IpOption = None,
    tier: Annotated[str, typer.Option(help="Whose hourly limit it gets.")] = "basic",
    limit: Annotated[int | None, typer.Option(min=0, help="Requests in any hour.")] = None,
    burst: Annotated[int | None, typer.Option(min=1, help="Requests in any second.")] = None,
    not_before: NotBeforeOption = None,
    expires: ExpiresOption = None,
    metadata: MetadataOption = None,
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
                ip_whitelist=ip or None,
                tier=tier,
                rate_limit_per_hour=limit,
                burst_per_second=burst,
                not_before=_in_utc(not_before),
                expires_at=_in_utc(expires),
                metadata=_as_object(metadata) or {},
            )

    _show_once(run(ctx, work), json=json)


@key.command("show")
def show_key(
    ctx: typer.Context, key_id: KeyArgument, org: OrgOption, json: JsonOption = False
) -> None:
    """Show one key, without its secret."""

    async def work(pool: Pool) -> ApiKey:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            return await service.get_api_key(conn, organization.id, key_id)

    show(run(ctx, work), json=json, columns=KEY_COLUMNS)


@key.command("update")
def update_key(
    ctx: typer.Context,
    key_id: KeyArgument,
    *,
    org: OrgOption,
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    scope: ScopeOption = None,
    origin: OriginOption = None,
    ip: IpOption = None,
    any_ip: Annotated[bool, typer.Option("--any-ip", help="Let all addresses in again.")] = False,
    limit: Annotated[int | None, typer.Option(min=0, help="Requests in any hour.")] = None,
    burst: Annotated[int | None, typer.Option(min=1, help="Requests in any second.")] = None,
    not_before: NotBeforeOption = None,
    expires: ExpiresOption = None,
    metadata: MetadataOption = None,
    json: JsonOption = False,
) -> None:
    """Change a key; what is not named stays."""
    named = {
        "name": name,
        "scopes": scope or None,
        "allowed_origins": origin or None,
        "ip_whitelist": ip or None,
        "rate_limit_per_hour": limit,
        "burst_per_second": burst,
        "not_before": _in_utc(not_before),
        "expires_at": _in_utc(expires),
        "metadata": _as_object(metadata),
    }
    changed: dict[str, Any] = {field: value for field, value in named.items() if value is not None}
    if any_ip:
        changed["ip_whitelist"] = None

    async def work(pool: Pool) -> ApiKey:
        async with transaction(pool, PLATFORM) as conn:
            organization = await get_organization(conn, org)
            return await service.update_api_key(conn, organization.id, key_id, changed)

    show(run(ctx, work), json=json, columns=KEY_COLUMNS)


@key.command("rotate")
def rotate_key(
    ctx: typer.Context,
    key_id: KeyArgument,
    org: OrgOption,
    overlap: Annotated[
        float, typer.Option(min=0, help="Hours that the old key goes on; 0 revokes it.")
    ] = DEFAULT_OVERLAP.total_seconds() / 3600,
    json: JsonOption = False,
) -> None:
    """Make a key like this one, which itself ends after the overlap; show the new one this once."""

    async def work(pool: Pool) -> NewApiKey:
        async with transaction(pool, PLATFORM) as conn:
            organization = await get_organization(conn, org)
            return await service.rotate_api_key(
                conn, organization.id, key_id, overlap=timedelta(hours=min(overlap, MAX_HOURS))
            )

    _show_once(run(ctx, work), json=json)


@key.command("list")
def list_keys(ctx: typer.Context, org: OrgOption, json: JsonOption = False) -> None:
    """List an organization's keys, newest first."""

    async def work(pool: Pool) -> list[ApiKey]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            return await service.list_api_keys(conn, organization.id)

    show(run(ctx, work), json=json, columns=KEY_COLUMNS)


@key.command("revoke")
def revoke_key(
    ctx: typer.Context, key_id: KeyArgument, org: OrgOption, json: JsonOption = False
) -> None:
    """Revoke a key for good."""

    async def work(pool: Pool) -> ApiKey:
        async with transaction(pool, PLATFORM) as conn:
            organization = await get_organization(conn, org)
            return await service.revoke_api_key(conn, organization.id, key_id)

    show(run(ctx, work), json=json, columns=KEY_COLUMNS)


def _show_once(made: NewApiKey, *, json: bool) -> None:
    show(
        {"key": made.key, **as_plain(made.record)},
        json=json,
        columns=("key", "id", "name", "environment", "scopes", "rate_limit_per_hour"),
    )


def _as_object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise KeyMetadataInvalid from None
    return found


def _in_utc(at: datetime | None) -> datetime | None:
    if at is None:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
