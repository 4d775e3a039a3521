"""Commands that keep usage: aurora usage verify, quarantine, retention."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final, TypeVar
from uuid import UUID

import typer

from aurora.core.errors import Conflict
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.organizations.service import get_organization
from aurora.features.usage import jobs, keeping
from aurora.features.usage.model import Difference, Quarantined, Replayed, Retention
from aurora.features.usage.reading_commands import FromOption, OrgOption, ToOption, day_of
from aurora.integrations.terminal import EXIT_FAILED, JsonOption, err, run, show

usage = typer.Typer()

MAX_KEPT_SHOWN: Final = 20

T = TypeVar("T")


class AdoptionUnfinished(Conflict):
    """The table is still written to."""

    code, title = "adoption_unfinished", "The table is still written to; stop that and go on"


quarantine = typer.Typer(
    help="Events that came out of time: look, replay, drop.", no_args_is_help=True
)

VERIFY_TIMEOUT_MS = 600_000
MAX_ADOPTED_BATCH = 100_000
MAX_PASSES = 5
ReasonOption = Annotated[str, typer.Option(help="Why, for the audit.")]


@usage.command("verify")
def verify_usage(
    ctx: typer.Context,
    org: OrgOption,
    from_: FromOption = None,
    to: ToOption = None,
    json: JsonOption = False,
) -> None:
    """Recount raw rows and list every sum that differs; exit code 1 if one does."""

    async def work(pool: Pool) -> list[Difference]:
        async with transaction(
            pool, PLATFORM, read_only=True, statement_timeout_ms=VERIFY_TIMEOUT_MS
        ) as conn:
            organization = await get_organization(conn, org)
            return await keeping.verify_usage(conn, organization.id, day_of(from_), day_of(to))

    found = run(ctx, work)
    show(found, json=json)
    if found:
        err.print(f"{len(found):,} sums differ from the raw rows")
        raise typer.Exit(EXIT_FAILED)


@usage.command("adopt")
def adopt_usage(
    ctx: typer.Context,
    table: Annotated[str, typer.Argument(help="As schema.table, in the founding shape.")],
    batch: Annotated[
        int, typer.Option(min=1, max=MAX_ADOPTED_BATCH, help="Rows a transaction.")
    ] = 20_000,
    json: JsonOption = False,
) -> None:
    """Take over usage that another system stored, each row once; interrupted, it goes on.

    Rows of no organization or key that is here, or that no constraint lets in, are left where they
    are and counted as refused; exit code 1 if there are any.
    """

    async def work(pool: Pool) -> dict[str, int]:
        accepted = refused = known = passes = 0
        with err.status("adopting") as status:
            while True:
                async with transaction(
                    pool, PLATFORM, statement_timeout_ms=VERIFY_TIMEOUT_MS
                ) as conn:
                    done = await keeping.adopt_usage(conn, table, batch)
                    accepted += done.accepted
                    known += done.known
                    refused = refused + done.refused if done.looked_at else refused
                    if done.is_finished:
                        await keeping.record_adoption(
                            conn, table, accepted=accepted, refused=refused
                        )
                        break
                    if not done.looked_at:
                        # From the front again: somebody wrote meanwhile.
                        refused, known, passes = 0, 0, passes + 1
                        if passes > MAX_PASSES:
                            raise AdoptionUnfinished
                status.update(f"adopting: {accepted:,} rows")
        await jobs.fold(pool)
        await jobs.count_visitors(pool)
        return {"accepted": accepted, "known": known, "refused": refused}

    done = run(ctx, work)
    show(done, json=json)
    warn_of_retention(ctx)
    if done["refused"]:
        raise typer.Exit(EXIT_FAILED)


def warn_of_retention(ctx: typer.Context) -> None:
    """Say so where raw rows that were just brought in will be dropped at night."""

    async def work(pool: Pool) -> tuple[int, Retention]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await keeping.count_months_over(conn), await keeping.get_retention(conn)

    months, kept = run(ctx, work)
    if months:
        err.print(
            f"{months} months of raw rows are older than the {kept.keep_months} that are kept: the "
            "next night drops them, and their sums stay. To keep them: "
            "aurora usage retention --months N",
            soft_wrap=True,
        )


@usage.command("retention")
def show_retention(
    ctx: typer.Context,
    months: Annotated[int | None, typer.Option(min=4, max=240, help="Months of raw rows.")] = None,
    address_days: Annotated[
        int | None, typer.Option(min=1, max=3_700, help="Days of whole addresses.")
    ] = None,
    hourly_days: Annotated[
        int | None, typer.Option(min=40, max=3_700, help="Days of hourly sums by dimension.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show how long usage is kept, or change it; what is gone does not come back."""

    async def work(pool: Pool) -> Retention:
        async with transaction(pool, PLATFORM) as conn:
            return await keeping.set_retention(
                conn, keep_months=months, address_days=address_days, hourly_days=hourly_days
            )

    show(run(ctx, work), json=json)


@quarantine.command("list")
def list_quarantine(ctx: typer.Context, org: OrgOption, json: JsonOption = False) -> None:
    """List up to 1,000 events in quarantine."""

    async def work(pool: Pool) -> list[Quarantined]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            return await keeping.list_quarantine(conn, organization.id)

    columns = ("timestamp", "received_at", "reason", "event")
    show(run(ctx, work), json=json, columns=columns)


@quarantine.command("replay")
def replay_quarantine(
    ctx: typer.Context, org: OrgOption, reason: ReasonOption, json: JsonOption = False
) -> None:
    """Count the events of an organization's quarantine on their own days, whatever their age.

    Those that cannot be counted stay in it, and the exit code is 1.
    """

    async def replay(conn: Connection, held: Sequence[Quarantined]) -> Replayed:
        return await keeping.replay_quarantine(conn, held, reason=reason)

    done = _each_batch(ctx, org, replay)
    kept = [each for batch in done for each in batch.kept]
    counts = {
        "accepted": sum(batch.accepted for batch in done),
        "duplicates": sum(batch.duplicates for batch in done),
    }
    show({**counts, "kept": kept if json else len(kept)}, json=json)
    if kept and not json:
        show(kept[:MAX_KEPT_SHOWN], json=False)
    if kept:
        raise typer.Exit(EXIT_FAILED)


@quarantine.command("drop")
def drop_quarantine(
    ctx: typer.Context, org: OrgOption, reason: ReasonOption, json: JsonOption = False
) -> None:
    """Forget all events of an organization's quarantine."""

    async def drop(conn: Connection, held: Sequence[Quarantined]) -> int:
        return await keeping.drop_quarantine(conn, held, reason=reason)

    show({"dropped": sum(_each_batch(ctx, org, drop))}, json=json)


def _each_batch(
    ctx: typer.Context,
    org: str,
    step: Callable[[Connection, Sequence[Quarantined]], Awaitable[T]],
) -> list[T]:
    async def work(pool: Pool) -> list[T]:
        done: list[T] = []
        after: UUID | None = None
        while True:
            async with transaction(pool, PLATFORM) as conn:
                organization = await get_organization(conn, org)
                held = await keeping.list_quarantine(conn, organization.id, after=after)
                if not held:
                    return done
                done.append(await step(conn, held))
            after = held[-1].event_key

    return run(ctx, work)
