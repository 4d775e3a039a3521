"""A simulated price is what the months would have cost: under the same terms, what was billed."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.builders import a_key, a_subscription, an_organization
from tests.features.organizations.conftest import House

from aurora.core import clock
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.billing_run import run_billing

BASIC_NOW = ("plan", "simulate", "basic", "--months", "2", "--json")


@pytest.fixture
async def sold(house: House) -> list[str]:
    """Two customers on basic with one included impression, two months old: 0 and 3 shown."""
    slugs = []
    today = clock.now().date()
    for shown in (0, 3):
        async with transaction(house.pool, PLATFORM) as conn:
            organization = await an_organization(conn)
            await a_subscription(
                conn, organization, at=today - timedelta(days=64), included_impressions=1
            )
            key = await a_key(conn, organization)
            for n in range(shown):
                await conn.execute(
                    "select track_usage(%s, %s, '/x', p_event_id => %s, p_status_code => 200,"
                    " p_widget_impression => true, p_timestamp => %s)",
                    (organization.id, key.record.id, str(n), clock.now() - timedelta(days=20)),
                )
            slugs.append(organization.slug)
    return slugs


def test_a_new_price_is_compared_with_what_was_paid(sold: list[str], aurora: Any) -> None:
    terms = ("--monthly", "4000", "--included", "0", "--overage", "100")
    code, said = aurora(*BASIC_NOW, *terms)
    assert code == 0, said
    found = {each["slug"]: each for each in said["customers"]}
    quiet, busy = (found[slug] for slug in sold)
    assert (quiet["months"], quiet["paid"], quiet["would_pay"]) == (2, "7000.00", "8000.00")
    # Two beyond one included are a begun thousand at 50; three beyond none are one at 100.
    assert (busy["paid"], busy["would_pay"], busy["difference"]) == (
        "7050.00", "8100.00", "1050.00",
    )  # fmt: skip
    assert said["difference"] == "2050.00"


async def billed(house: House) -> Decimal:
    """What invoices of the months that ended say without VAT: their fees and their overage."""
    ((total,),) = await house.rows(
        "select sum((l ->> 'amount')::numeric) from invoices i,"
        " jsonb_array_elements(i.line_items) l where l ->> 'kind' = 'overage' or i.billed_at <"
        " (select max(billed_at) from invoices)"
    )
    assert isinstance(total, Decimal)
    return total


@pytest.fixture
async def invoiced(house: House, sold: list[str]) -> Decimal:
    await run_billing(house.pool, as_of=clock.now().date())
    return await billed(house)


def test_the_same_terms_cost_what_was_invoiced(invoiced: Decimal, aurora: Any) -> None:
    code, said = aurora(*BASIC_NOW, "--included", "1")
    assert code == 0, said
    assert Decimal(said["paid"]) == invoiced
    assert Decimal(said["difference"]) == 0


def test_a_price_model_and_other_customers(sold: list[str], aurora: Any, tmp_path: Path) -> None:
    model = tmp_path / "model.json"
    model.write_text(json.dumps({"model": "standard", "unit_price": "2"}))
    chosen = ("--org", sold[1], "--included", "0", "--price-model", str(model))
    said = aurora(*BASIC_NOW, *chosen)[1]
    assert [each["new_usage"] for each in said["customers"]] == ["6.00"]
    assert aurora(*BASIC_NOW, "--on", "premium")[1]["customers"] == []


def test_a_simulation_that_ignores_the_new_terms_is_caught(
    sold: list[str], aurora: Any, database: str
) -> None:
    with psycopg.connect(database, autocommit=True) as owner:
        ((definition,),) = owner.execute(
            "select pg_get_functiondef(oid) from pg_proc where proname = 'simulate_terms'"
        ).fetchall()
        mutant = definition.replace("app.rate_usage(p_new,", "app.rate_usage(v_terms,")
        assert mutant != definition
        owner.execute(mutant.encode())
    with pytest.raises(AssertionError):
        test_a_new_price_is_compared_with_what_was_paid(sold, aurora)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("nothing",), "plan_not_found"),
        (("enterprise",), "price_by_agreement"),
        (("basic", "--months", "0"), "months_invalid"),
        (("basic", "--monthly", "-1"), "price_invalid"),
        (("basic", "--monthly", "1.001"), "price_invalid"),
        (("basic", "--price-model", "/x"), "price_model_invalid"),
        (("basic", "--org", "nobody"), "organization_not_found"),
    ],
)
def test_what_cannot_be_simulated_is_said(
    arguments: tuple[str, ...], code: str, sold: list[str], aurora: Any
) -> None:
    status, said = aurora("plan", "simulate", *arguments)
    assert (status, f"({code})" in said) == (1, True), said
