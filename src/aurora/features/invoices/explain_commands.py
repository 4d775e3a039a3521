"""Commands that explain an invoice and compute it anew: aurora invoice explain, replay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import typer

from aurora.core.errors import Invalid
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.explaining import (
    LineExplained,
    Replay,
    explain_line,
    replay_all,
    replay_document,
)
from aurora.features.invoices.service import get_document
from aurora.integrations.terminal import (
    EXIT_FAILED,
    JsonOption,
    err,
    failing_clearly,
    out,
    run,
    show,
)

invoice = typer.Typer()

MAX_DIFFERING_SHOWN = 1_000


class ReplayUnclear(Invalid):
    """Neither one document is named nor all of them, or both."""

    code, title = "replay_unclear", "Name one document, or use --all"


@invoice.command("explain")
def explain(
    ctx: typer.Context,
    number: Annotated[str, typer.Argument(help="The document's number, as printed on it.")],
    line: Annotated[int | None, typer.Option(min=1, help="Only this line; the first is 1.")] = None,
    json: JsonOption = False,
) -> None:
    """Show what each line was made from: its price, its facts, its usage day by day."""

    async def work(pool: Pool) -> list[LineExplained]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            count = len((await get_document(conn, number)).line_items)
            wanted = range(1, count + 1) if line is None else (line,)
            return [await explain_line(conn, number, each) for each in wanted]

    found = run(ctx, work)
    if json:
        show(found, json=True)
        return
    for each in found:
        columns = ("line", "kind", "description", "quantity", "unit", "unit_price", "amount")
        show([each], json=False, columns=columns)
        if each.entered_by_hand:
            said = f"entered by hand; aurora audit list --subject {each.document_id} says by whom"
            out.print(said, soft_wrap=True)
        if each.credits is not None:
            show(
                [each.credits], json=False, columns=("invoice_number", "line", "amount", "credited")
            )
        if each.usage is not None:
            show([each.usage], json=False, columns=("billable", "included", "counted", "agrees"))
            show(each.usage.days, json=False, columns=("day", "billable", "events_path"))


@invoice.command("replay")
def replay(
    ctx: typer.Context,
    number: Annotated[
        str | None, typer.Argument(help="The document's number, as printed on it.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every issued document.")] = False,
    json: JsonOption = False,
) -> None:
    """Compute issued documents anew from the stored facts; exit 1 where a figure differs."""
    with failing_clearly():
        if (number is None) is not every:
            raise ReplayUnclear

    async def work(pool: Pool) -> tuple[int, int, list[Replay]]:
        if number is not None:
            async with transaction(pool, PLATFORM, read_only=True) as conn:
                one = await replay_document(conn, number)
            return 1, int(not one.matches), [one]
        return await _counted(replay_all(pool), quiet=json)

    replayed, differing, shown = run(ctx, work)
    if json:
        show({"replayed": replayed, "differing": differing, "documents": shown}, json=True)
    else:
        for each in shown:
            show(each.differences, json=False, columns=("line", "field", "issued", "replayed"))
            verdict = "the same bytes" if each.matches else "differs"
            err.print(f"{each.number}: {verdict}")
        err.print(f"{replayed} replayed, {differing} differ")
    if differing:
        raise typer.Exit(EXIT_FAILED)


async def _counted(replays: AsyncIterator[Replay], *, quiet: bool) -> tuple[int, int, list[Replay]]:
    """Count all, and keep the first that differ."""
    replayed, differing = 0, 0
    kept: list[Replay] = []
    with err.status("replaying") as status:
        if quiet:
            status.stop()
        async for each in replays:
            replayed += 1
            if not each.matches:
                differing += 1
                if len(kept) < MAX_DIFFERING_SHOWN:
                    kept.append(each)
            status.update(f"replaying: {replayed} so far, {differing} differ")
    return replayed, differing, kept
