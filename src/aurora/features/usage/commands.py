"""Commands of the usage room: aurora usage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.keys.service import list_api_keys
from aurora.features.organizations.service import get_organization
from aurora.features.usage import (
    importing,
    jobs,
    keeping,
    keeping_commands,
    reading_commands,
    service,
)
from aurora.features.usage.model import (
    ApiKeyUnknown,
    DateRangeInvalid,
    GroupBy,
    Receipt,
    SummaryRow,
    UsageEvent,
)
from aurora.integrations.terminal import EXIT_FAILED, JsonOption, err, failing_clearly, run, show

usage = typer.Typer(help="Usage: importing, summaries, rollups.", no_args_is_help=True)

IMPORT_TIMEOUT_MS = 120_000
MAX_REJECTIONS_PRINTED = 20
OrgOption = Annotated[str, typer.Option("--org", help="The organization's slug.")]


class DatabaseCheckpoint:
    """Keeps how far a file was imported in the organization's own rows."""

    def __init__(self, pool: Pool, organization_id: UUID, file_name: str) -> None:
        self._pool, self._organization_id, self._file_name = pool, organization_id, file_name

    async def load(self, key: str) -> importing.Saved | None:
        """Return what was saved last under this key."""
        async with transaction(self._pool, PLATFORM, read_only=True) as conn:
            found = await service.find_import_position(conn, self._organization_id, key)
        return None if found is None else msgspec.convert(found, importing.Saved)

    async def save(self, key: str, saved: importing.Saved) -> None:
        """Replace what is saved under this key."""
        async with transaction(self._pool, PLATFORM) as conn:
            await service.save_import_position(
                conn,
                self._organization_id,
                key,
                file_name=self._file_name,
                position=msgspec.to_builtins(saved),
            )

    async def clear(self, key: str) -> None:
        """Forget the key: the file was read to its end."""
        async with transaction(self._pool, PLATFORM) as conn:
            await service.delete_import_position(conn, self._organization_id, key)


@usage.command("import")
def import_usage(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Plain or gzip.")],
    org: OrgOption,
    key: Annotated[
        str | None, typer.Option(help="Id or prefix of the key for events that name none.")
    ] = None,
    format: Annotated[  # noqa: A002 - it is what the option is called
        str, typer.Option(help="auto, ndjson, csv, cloudevents, or access_log.")
    ] = "auto",
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "an import",
    json: JsonOption = False,
) -> None:
    """Import events from a file; again, or after an interruption, each still counts once.

    Reads NDJSON, CSV, CloudEvents, and nginx or Apache access logs. Rejected lines are listed with
    their numbers; all others are stored.
    """

    async def work(pool: Pool) -> importing.ImportReport:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            keys = await list_api_keys(conn, organization.id)
        key_id = None
        if key is not None:
            named = [each.id for each in keys if key in (str(each.id), each.key_prefix)]
            if len(named) != 1:
                raise ApiKeyUnknown(f"{org} has no API key {key!r}; see aurora key list.")
            key_id = named[0]
        taken = _Taken(pool, organization.id)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        with Progress(
            *columns, TimeRemainingColumn(), console=err, disable=json, transient=True
        ) as bar:
            task = bar.add_task(file.name, total=None)
            async with taken.audited(file.name, reason):
                return await importing.import_file(
                    file,
                    taken.ingest,
                    format=format,
                    defaults=importing.Defaults(api_key_id=key_id, organization_id=organization.id),
                    checkpoint=DatabaseCheckpoint(pool, organization.id, file.name),
                    on_progress=lambda done: bar.update(
                        task, completed=done.bytes_done, total=done.bytes_total
                    ),
                )

    report = run(ctx, work)
    if json:
        show(report, json=True)
    else:
        _print_report(report)
    keeping_commands.warn_of_retention(ctx)
    if report.counts.rejected and not report.counts.accepted + report.counts.duplicates:
        raise typer.Exit(EXIT_FAILED)


class _Taken:
    """Stores the batches of one import, and writes into the audit what they were."""

    def __init__(self, pool: Pool, organization_id: UUID) -> None:
        self._pool, self._organization_id = pool, organization_id
        self._sender = service.Sender(organization_id=organization_id, backfill=True)
        self._accepted = 0
        self._first, self._last = date.max, date.min

    async def ingest(self, events: list[UsageEvent]) -> Receipt:
        """Store a batch; when it returns, the batch is committed."""
        # Every parser of the importing package hands out only what check_event() lets pass.
        async with transaction(
            self._pool, PLATFORM, statement_timeout_ms=IMPORT_TIMEOUT_MS
        ) as conn:
            receipt = await service.record_usage(conn, list(enumerate(events)), self._sender)
        if receipt.accepted:
            moments = [event.timestamp for event in events]
            self._first = min(self._first, min(moments).astimezone(UTC).date())
            self._last = max(self._last, max(moments).astimezone(UTC).date())
            self._accepted += receipt.accepted
        return receipt

    @asynccontextmanager
    async def audited(self, file_name: str, reason: str) -> AsyncIterator[None]:
        """Write down that an import begins, and at its end, of whatever kind, what it brought."""
        async with transaction(self._pool, PLATFORM) as conn:
            await keeping.record_import(
                conn, self._organization_id, file_name=file_name, reason=reason
            )
        try:
            yield
        finally:
            if self._accepted:
                async with transaction(self._pool, PLATFORM) as conn:
                    await keeping.record_backfill(
                        conn,
                        self._organization_id,
                        reason=reason,
                        days=(self._first, self._last),
                        count=self._accepted,
                    )


def _print_report(report: importing.ImportReport) -> None:
    counts = report.counts
    rate = counts.lines / report.duration_s if report.duration_s else 0
    err.print(
        f"{counts.lines:,} lines in {report.duration_s:.1f} s ({rate:,.0f} a second): "
        f"{counts.accepted:,} accepted, {counts.duplicates:,} counted before, "
        f"{counts.conflicts:,} conflicts, {counts.rejected:,} rejected"
    )
    for rejection in report.rejections[:MAX_REJECTIONS_PRINTED]:
        err.print(
            f"  line {rejection.line_number}: {rejection.detail} ({rejection.code})",
            markup=False,
        )
    hidden = counts.rejected - MAX_REJECTIONS_PRINTED
    if hidden > 0:
        err.print(f"  … and {hidden:,} more; --json lists the first 1,000")


@usage.command("summary")
def show_summary(
    ctx: typer.Context,
    org: OrgOption,
    group_by: Annotated[GroupBy, typer.Option(help="What a row stands for.")] = "day",
    from_: Annotated[str | None, typer.Option("--from", help="First UTC day.")] = None,
    to: Annotated[str | None, typer.Option(help="Last UTC day, included.")] = None,
    json: JsonOption = False,
) -> None:
    """Summarise an organization's usage."""
    with failing_clearly():
        first, last = _day(from_), _day(to)

    async def work(pool: Pool) -> list[SummaryRow]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            _, _, rows = await service.summarise(
                conn, organization.id, group_by=group_by, first_day=first, last_day=last
            )
            return rows

    columns = ("group", "requests", "widget_impressions", "billable_impressions", "failed")
    show(run(ctx, work), json=json, columns=columns)


@usage.command("fold")
def fold_usage(ctx: typer.Context, json: JsonOption = False) -> None:
    """Fold what was recorded into the rollups now, as the worker does every minute."""

    async def work(pool: Pool) -> dict[str, int]:
        return {
            "folded": await jobs.fold(pool),
            "days_counted": await jobs.count_visitors(pool),
        }

    show(run(ctx, work), json=json)


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise DateRangeInvalid(f"{text!r} is not a day; write it like 2026-11-01.") from None


usage.registered_commands += reading_commands.usage.registered_commands
usage.registered_commands += keeping_commands.usage.registered_commands
usage.add_typer(keeping_commands.quarantine, name="quarantine")
