"""Commands of the books room: aurora billing journal, aurora billing saft."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from aurora.core import clock
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.books import store
from aurora.features.books.model import BooksPeriodInvalid
from aurora.features.books.saft import check_saft, saft_document
from aurora.features.books.service import journal_csv, list_vouchers
from aurora.features.invoices.service import DEFAULT_SELLER, get_seller
from aurora.integrations.terminal import OutputOption, failing_clearly, out, run, write_file

billing = typer.Typer()

FirstOption = Annotated[str, typer.Option("--from", help="First day, like 2026-01-01.")]
LastOption = Annotated[str, typer.Option("--to", help="Last day, included.")]
SellerOption = Annotated[
    str, typer.Option(help="Whose books: a seller's id, where there are several.")
]


@billing.command("journal")
def write_journal(
    ctx: typer.Context,
    first: FirstOption,
    last: LastOption,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where it goes; the terminal if nowhere.")
    ] = None,
    seller: SellerOption = DEFAULT_SELLER,
) -> None:
    """Write a period's invoices, credit notes, and payments as a balanced journal (CSV)."""
    first_day, last_day = _period(first, last)

    async def work(pool: Pool) -> bytes:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            who = await get_seller(conn, seller)
            return journal_csv(
                await list_vouchers(conn, first_day, last_day, legal_entity_id=who.id)
            )

    journal = run(ctx, work)
    if output is None:
        out.file.write(journal.decode())
    else:
        write_file(output, journal)


@billing.command("saft")
def write_saft(
    ctx: typer.Context,
    first: FirstOption,
    last: LastOption,
    output: OutputOption,
    schema: Annotated[
        Path | None, typer.Option(help="Check it first against this XSD of Skatteetaten.")
    ] = None,
    seller: SellerOption = DEFAULT_SELLER,
) -> None:
    """Write a period's sales as Norwegian SAF-T Financial 1.30."""
    first_day, last_day = _period(first, last)

    async def work(pool: Pool) -> bytes:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            who = await get_seller(conn, seller)
            vouchers = await list_vouchers(conn, first_day, last_day, legal_entity_id=who.id)
            ids = {voucher.organization_id for voucher in vouchers}
            made = saft_document(
                vouchers,
                await store.list_customers(conn, ids),
                who,
                first_day=first_day,
                last_day=last_day,
                made_on=clock.now().astimezone(ZoneInfo(clock.SELLER_ZONE_DEFAULT)).date(),
            )
        if schema is not None:
            check_saft(made, schema)
        return made

    write_file(output, run(ctx, work))


def _period(first: str, last: str) -> tuple[date, date]:
    with failing_clearly():
        try:
            return date.fromisoformat(first), date.fromisoformat(last)
        except ValueError:
            raise BooksPeriodInvalid("--from and --to take days like 2026-01-01.") from None
