"""Commands of the audit room: aurora audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.audit import service
from aurora.features.audit.model import AuditEvent, Head, HeadsUnreadable, Verification
from aurora.features.organizations.service import get_organization
from aurora.integrations.terminal import (
    EXIT_FAILED,
    JsonOption,
    err,
    failing_clearly,
    out,
    run,
    show,
)

audit = typer.Typer(
    help="Audit: who changed what, and whether the record is whole.", no_args_is_help=True
)

# Every statement of a check is one fetch of a bounded number of rows.
VERIFY_TIMEOUT_MS = 120_000
MAX_HEADS_BYTES = 100_000_000
EVENT_COLUMNS = ("occurred_at", "actor", "action", "subject_id", "before", "after", "sequence")
HEAD_COLUMNS = ("organization_id", "sequence", "hash")
OrgOption = Annotated[str | None, typer.Option("--org", help="Only this organization (slug).")]


@audit.command("list")
def list_events(
    ctx: typer.Context,
    org: OrgOption = None,
    platform: Annotated[bool, typer.Option(help="Only plans, sellers, operators.")] = False,
    action: Annotated[str | None, typer.Option(help="Only this: api_key.revoked.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only what was done to this id.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE_SIZE, help="How many at most.")
    ] = DEFAULT_PAGE_SIZE,
    json: JsonOption = False,
) -> None:
    """List what was changed and by whom, newest first."""

    async def work(pool: Pool) -> list[AuditEvent]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            page = await service.list_events(
                conn,
                organization_id=await _organization_id(conn, org),
                platform_only=platform,
                action=action,
                subject_id=subject,
                cursor=None,
                limit=limit,
            )
            return page.items

    show(run(ctx, work), json=json, columns=EVENT_COLUMNS)


@audit.command("head")
def show_heads(ctx: typer.Context, org: OrgOption = None, json: JsonOption = False) -> None:
    """Show each chain's length and last hash; keep them elsewhere for `verify --against`."""

    async def work(pool: Pool) -> list[Head]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await service.list_heads(conn, await _organization_id(conn, org))

    show(run(ctx, work), json=json, columns=HEAD_COLUMNS)


@audit.command("verify")
def verify(
    ctx: typer.Context,
    org: OrgOption = None,
    against: Annotated[
        Path | None, typer.Option(help="Heads kept from `aurora audit head --json`.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Recompute every chain; say where one is first broken, with exit code 1."""
    with failing_clearly():
        noted = [] if against is None else _read_heads(against)

    async def work(pool: Pool) -> Verification:
        async with transaction(
            pool, PLATFORM, read_only=True, statement_timeout_ms=VERIFY_TIMEOUT_MS
        ) as conn:
            organization_id = await _organization_id(conn, org)
            heads = await service.list_heads(conn, organization_id)
            with _progress(sum(head.sequence for head in heads), quiet=json) as advance:
                return await service.verify_chains(
                    conn, organization_id, noted=noted, on_checked=advance
                )

    found = run(ctx, work)
    if json:
        show(found, json=True)
    else:
        for broken in found.broken:
            whose = broken.organization_id or "the platform"
            err.print(
                f"[red]broken[/red] {whose}: {broken.fault} at {broken.sequence}: {broken.detail}",
                soft_wrap=True,
            )
        whole = found.chains - len(found.broken)
        out.print(f"{found.events:,} events; {whole:,} of {found.chains:,} chains are whole")
    if found.broken:
        raise typer.Exit(EXIT_FAILED)


async def _organization_id(conn: Connection, slug: str | None) -> UUID | None:
    return None if slug is None else (await get_organization(conn, slug)).id


def _read_heads(file: Path) -> list[Head]:
    try:
        if file.stat().st_size > MAX_HEADS_BYTES:
            raise HeadsUnreadable(f"{file} has more than {MAX_HEADS_BYTES:,} bytes.")
        return msgspec.json.decode(file.read_bytes(), type=list[Head])
    except OSError as error:
        raise HeadsUnreadable(f"{file} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HeadsUnreadable(f"{file}: {error}.") from error


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=quiet or total == 0,
        transient=True,
    )
    with bar:
        task = bar.add_task("checking", total=total)
        yield lambda count: bar.advance(task, count)
