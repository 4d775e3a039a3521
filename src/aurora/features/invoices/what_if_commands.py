"""Commands that answer before anybody trusts a number: rate, periods, prorate, preview."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import typer

from aurora.core.errors import Malformed
from aurora.core.money import currency_digits, from_minor, to_minor
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.change_preview import ChangePreview, preview_change
from aurora.features.organizations.service import get_organization
from aurora.features.plans.model import Rating, UnitsInvalid
from aurora.features.plans.service import rate as rate_units
from aurora.features.subscriptions import service as subscriptions
from aurora.features.subscriptions.model import (
    BillingPeriod,
    ChangeTime,
    CountedPeriod,
    PeriodsInvalid,
    ProrationInvalid,
)
from aurora.integrations.terminal import JsonOption, failing_clearly, run, show

billing = typer.Typer()
subscription = typer.Typer()

MAX_INPUT_BYTES: Final = 1_000_000
MAX_EVENT_AMOUNTS: Final = 10_000
_NOT_OF_THE_MODEL: Final = {"units", "event_amounts", "currency"}


class QuestionUnreadable(Malformed):
    """What came in is no JSON object."""

    code, title = "question_unreadable", "The question is one JSON object on standard input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proration:
    """The price of `days` of a period of `of_days`; amounts in major and in minor units."""

    price: Decimal
    days: int
    of_days: int
    currency: str
    amount: Decimal
    amount_minor: int


@billing.command("rate")
def rate(ctx: typer.Context, json: JsonOption = False) -> None:
    """Rate units under a price model: {"model": …, "units": …} as JSON on standard input."""
    with failing_clearly():
        question = _question()
        currency = str(question.get("currency", "NOK"))
        amounts = _amounts(question.get("event_amounts"))
        if "units" not in question and amounts is None:
            raise UnitsInvalid('Say how many units: {…, "units": 1200}.')
        units = sum(amounts or (), Decimal(0))
        if "units" in question:
            units = _number(question["units"])
        model = {name: v for name, v in question.items() if name not in _NOT_OF_THE_MODEL}

    async def work(pool: Pool) -> Rating:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await rate_units(conn, model, units, amounts=amounts, currency=currency)

    rating = run(ctx, work)
    answer = asdict(rating) | {"amount": _short(rating.amount), "units": _short(rating.units)}
    for line in answer["lines"]:
        line |= {
            name: _short(line[name])
            for name in ("quantity", "unit_price", "base_quantity", "amount")
        }
    if json:
        show(answer, json=True)
    else:
        columns = ("kind", "tier", "quantity", "unit", "unit_price", "base_quantity", "amount")
        show(answer["lines"], json=False, columns=columns)
        show({"amount": answer["amount"], "total": rating.total}, json=False)


@billing.command("periods")
def periods(
    ctx: typer.Context,
    anchor: Annotated[str, typer.Option(help="First day, 2026-01-31.")],
    interval: Annotated[
        Literal["month", "year"], typer.Option(help="How long a period is.")
    ] = "month",
    count: Annotated[int, typer.Option(help="How many, 1 to 1200.")] = 12,
    time_zone: Annotated[str, typer.Option(help="Whose midnights.")] = "Europe/Oslo",
    json: JsonOption = False,
) -> None:
    """List billing periods from an anchor on: half-open, no day twice, none left out."""
    with failing_clearly():
        first = _day(anchor)

    async def work(pool: Pool) -> list[CountedPeriod]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await subscriptions.list_periods(
                conn,
                anchor=first,
                months=12 if interval == "year" else 1,
                count=count,
                time_zone=time_zone,
            )

    found = run(ctx, work)
    with failing_clearly():
        shown = [_local(period, time_zone) for period in found]
    show(shown, json=json)


@billing.command("prorate")
def prorate(
    ctx: typer.Context,
    price: Annotated[str | None, typer.Option(help="Of the whole period, 3500.00.")] = None,
    currency: Annotated[str, typer.Option(help="ISO 4217; says how amounts round.")] = "NOK",
    days: Annotated[int | None, typer.Option(help="Days to pay for.")] = None,
    of_days: Annotated[int | None, typer.Option(help="Days of the whole period.")] = None,
    period_start: Annotated[str | None, typer.Option(help="First day of the period.")] = None,
    period_end: Annotated[str | None, typer.Option(help="First day after it.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="First day to pay for.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="First day not to pay for.")] = None,
    json: JsonOption = False,
) -> None:
    """Prorate a price by days over the whole period; without options it reads JSON."""
    with failing_clearly():
        question: dict[str, Any] = {
            "price": price,
            "currency": currency,
            "days": days,
            "of_days": of_days,
            "period_start": period_start,
            "period_end": period_end,
            "from": start,
            "to": end,
        }
        if price is None:
            question = _question()
        whole, part, of, money = _proration(question)

    async def work(pool: Pool) -> Decimal:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await subscriptions.prorate(
                conn, price=whole, days=part, of_days=of, currency=money
            )

    amount = run(ctx, work)
    done = Proration(
        price=whole,
        days=part,
        of_days=of,
        currency=money,
        amount=amount,
        amount_minor=to_minor(amount, money),
    )
    show(done, json=json)


@subscription.command("preview")
def preview(
    ctx: typer.Context,
    org: Annotated[str, typer.Option(help="The organization's slug.")],
    plan: Annotated[str, typer.Option(help="A plan of 'aurora plan list'.")],
    at: Annotated[str | None, typer.Option(help="First day; today if absent.")] = None,
    billing_period: Annotated[
        BillingPeriod | None, typer.Option(help="Another; as it is if absent.")
    ] = None,
    when: Annotated[ChangeTime, typer.Option(help="auto: a dearer plan at once.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Show what a change would give back, ask for, and put on the next invoice, with VAT."""
    with failing_clearly():
        first_day = None if at is None else _day(at)

    async def work(pool: Pool) -> ChangePreview:
        async with transaction(pool, PLATFORM) as conn:
            organization = await get_organization(conn, org)
            return await preview_change(
                conn,
                organization.id,
                plan_id=plan,
                billing_period=billing_period,
                when=when,
                on_day=first_day,
            )

    show(run(ctx, work), json=json)


def _proration(question: dict[str, Any]) -> tuple[Decimal, int, int, str]:
    """Return price, days, days of the whole period, and currency of a question."""
    currency = str(question.get("currency") or "NOK")
    currency_digits(currency)
    if (minor := question.get("price_minor", question.get("plan_amount_minor"))) is not None:
        price = from_minor(int(_number(minor)), currency)
    elif question.get("price") is not None:
        price = _number(question["price"])
    else:
        raise ProrationInvalid("Name the price of the whole period.")
    start, end = question.get("period_start"), question.get("period_end")
    first, last = question.get("from"), question.get("to")
    of_days = question.get("of_days", question.get("period_days"))
    days = question.get("days", question.get("billed_days"))
    if of_days is None:
        if start is None or end is None:
            raise ProrationInvalid("Name days and of_days, or period_start and period_end.")
        of_days = (_day(end) - _day(start)).days
    if days is None:
        if (first or start) is None or (last or end) is None:
            raise ProrationInvalid("Name the days to pay for, or from and to.")
        days = (_day(last or end) - _day(first or start)).days
    if (start and first and _day(first) < _day(start)) or (end and last and _day(last) > _day(end)):
        raise ProrationInvalid("The days to pay for lie within the period.")
    return price, int(_number(days)), int(_number(of_days)), currency


def _question() -> dict[str, Any]:
    text = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    if len(text) > MAX_INPUT_BYTES:
        raise QuestionUnreadable(f"The question is longer than {MAX_INPUT_BYTES} bytes.")
    try:
        found = json_format.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise QuestionUnreadable from None
    if not isinstance(found, dict):
        raise QuestionUnreadable
    return found


def _amounts(given: object) -> list[Decimal] | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) > MAX_EVENT_AMOUNTS:
        raise UnitsInvalid(f"event_amounts is a list of at most {MAX_EVENT_AMOUNTS}.")
    return [_number(each) for each in given]


def _number(given: object) -> Decimal:
    try:
        found = Decimal(str(given))
    except ArithmeticError:
        raise UnitsInvalid(f"{given!r:.40} is not a number.") from None
    if isinstance(given, bool) or not found.is_finite() or abs(found.adjusted()) > 100:  # noqa: PLR2004
        raise UnitsInvalid(f"{given!r:.40} is not a number that can be rated.")
    return found


def _day(text: object) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        raise PeriodsInvalid(f"{text!r:.40} is not a day; write it like 2026-01-31.") from None


def _local(period: CountedPeriod, time_zone: str) -> dict[str, Any]:
    """Return a period with its days in its zone: `from` is inside, `to` is the day after."""
    from aurora.core.periods import zone_of

    zone = zone_of(time_zone)
    return {
        "n": period.n,
        "from": period.period_start.astimezone(zone).date(),
        "to": period.period_end.astimezone(zone).date(),
        "days": period.days,
        "period_start": period.period_start,
        "period_end": period.period_end,
    }


def _short(amount: Decimal) -> str:
    """Write an exact amount without zeros that say nothing: 110, 51.2345."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
