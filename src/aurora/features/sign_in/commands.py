"""Commands of the sign-in room: aurora token."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from aurora.core.clock import now
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.sign_in import service_tokens
from aurora.features.sign_in.model import NewServiceToken, ServiceToken
from aurora.integrations.terminal import JsonOption, as_plain, run, show

token = typer.Typer(help="Service tokens of the operators' programs.", no_args_is_help=True)

DEFAULT_DAYS = 365
MAX_DAYS = 3650
TOKEN_COLUMNS = (
    "token_prefix",
    "name",
    "scopes",
    "created_at",
    "expires_at",
    "last_used_at",
    "revoked_at",
    "id",
)


@token.command("create")
def create_token(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="What it is for: 'Nightly billing'.")],
    scope: Annotated[
        list[str],
        typer.Option(help="operator, read, usage:write, or billing:run; repeat for several."),
    ],
    days: Annotated[
        int, typer.Option(min=1, max=MAX_DAYS, help="After how many days it expires.")
    ] = DEFAULT_DAYS,
    json: JsonOption = False,
) -> None:
    """Make a token and show it this once."""

    async def work(pool: Pool) -> NewServiceToken:
        async with transaction(pool, PLATFORM) as conn:
            return await service_tokens.create_service_token(
                conn, name=name, scopes=scope, expires_at=now() + timedelta(days=days)
            )

    made = run(ctx, work)
    show(
        {"token": made.token, **as_plain(made.record)},
        json=json,
        columns=("token", "id", "name", "scopes", "expires_at"),
    )


@token.command("list")
def list_tokens(ctx: typer.Context, json: JsonOption = False) -> None:
    """List the tokens, newest first, revoked ones too."""

    async def work(pool: Pool) -> list[ServiceToken]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await service_tokens.list_service_tokens(conn)

    show(run(ctx, work), json=json, columns=TOKEN_COLUMNS)


@token.command("revoke")
def revoke_token(
    ctx: typer.Context,
    token_id: Annotated[UUID, typer.Argument(help="As `aurora token list` says.")],
    json: JsonOption = False,
) -> None:
    """Revoke a token for good; the next request with it is refused."""

    async def work(pool: Pool) -> ServiceToken:
        async with transaction(pool, PLATFORM) as conn:
            return await service_tokens.revoke_service_token(conn, token_id)

    show(run(ctx, work), json=json, columns=TOKEN_COLUMNS)
