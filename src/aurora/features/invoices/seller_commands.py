"""Commands of the seller's logo: aurora invoice logo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import service
from aurora.features.organizations.model import LogoOut
from aurora.features.organizations.service import draw_logo
from aurora.integrations.pictures import MAX_PICTURE_BYTES
from aurora.integrations.terminal import (
    JsonOption,
    OutputOption,
    err,
    read_file,
    run,
    show,
    write_file,
)

logo = typer.Typer(help="The seller's logo on documents.", no_args_is_help=True)


@logo.command("set")
def set_logo(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A PNG, JPEG, or SVG file.")],
    json: JsonOption = False,
) -> None:
    """Set the seller's logo; documents that were made keep the one they show."""
    content = read_file(file, max_bytes=MAX_PICTURE_BYTES)

    async def work(pool: Pool) -> LogoOut:
        picture = await draw_logo(content)
        async with transaction(pool, PLATFORM) as conn:
            await service.set_seller_logo(conn, picture)
            return LogoOut.model_validate(await service.get_seller_logo(conn))

    show(run(ctx, work).model_dump(), json=json)


@logo.command("get")
def get_logo(ctx: typer.Context, output: OutputOption) -> None:
    """Write the seller's logo, as it is printed, as PNG."""

    async def work(pool: Pool) -> bytes:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return (await service.get_seller_logo(conn)).content

    write_file(output, run(ctx, work))


@logo.command("remove")
def remove_logo(ctx: typer.Context) -> None:
    """Take the seller's logo away; documents that were made keep the one they show."""

    async def work(pool: Pool) -> None:
        async with transaction(pool, PLATFORM) as conn:
            await service.set_seller_logo(conn, None)

    run(ctx, work)
    err.print("no logo")
