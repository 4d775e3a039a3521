"""Commands of organizations' logos: aurora org logo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.organizations import logos, service
from aurora.features.organizations.model import LogoOut
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

logo = typer.Typer(help="The logo on documents and pages.", no_args_is_help=True)

SlugArgument = Annotated[str, typer.Argument(help="The organization's slug.")]
FileArgument = Annotated[Path, typer.Argument(help="A PNG, JPEG, or SVG file.")]


@logo.command("set")
def set_logo(
    ctx: typer.Context, slug: SlugArgument, file: FileArgument, json: JsonOption = False
) -> None:
    """Set an organization's logo; documents that were made keep the one they show."""
    content = read_file(file, max_bytes=MAX_PICTURE_BYTES)

    async def work(pool: Pool) -> LogoOut:
        picture = await logos.draw_logo(content)
        async with transaction(pool, PLATFORM) as conn:
            organization = await service.get_organization(conn, slug)
            await logos.set_logo(conn, organization.id, picture)
            return LogoOut.model_validate(await logos.get_logo(conn, organization.id))

    show(run(ctx, work).model_dump(), json=json)


@logo.command("get")
def get_logo(ctx: typer.Context, slug: SlugArgument, output: OutputOption) -> None:
    """Write an organization's logo, as it is printed, as PNG."""

    async def work(pool: Pool) -> bytes:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await service.get_organization(conn, slug)
            return (await logos.get_logo(conn, organization.id)).content

    write_file(output, run(ctx, work))


@logo.command("remove")
def remove_logo(ctx: typer.Context, slug: SlugArgument) -> None:
    """Take an organization's logo away; documents that were made keep the one they show."""

    async def work(pool: Pool) -> None:
        async with transaction(pool, PLATFORM) as conn:
            organization = await service.get_organization(conn, slug)
            await logos.set_logo(conn, organization.id, None)

    run(ctx, work)
    err.print(f"{slug}: no logo")
