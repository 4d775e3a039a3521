"""The demo organization: made again and again, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from aurora.apps.demo import ORGANIZATION_ID, SEED, make_demo
from aurora.db.pool import Pool
from aurora.features.organizations.model import SlugTaken

TABLES = ("organizations", "users", "api_keys", "subscriptions", "usage_analytics", "usage_imports")
EVENTS = 200


def contents(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the tables that the demo fills."""
    with psycopg.connect(dsn) as owner:
        return {
            table: owner.execute(
                f"select to_jsonb(t) from {table} t order by 1".encode()
            ).fetchall()
            for table in TABLES
        }


async def test_the_founding_rows_have_their_fixed_ids(pool: Pool, database: str) -> None:
    assert await make_demo(pool, events=EVENTS) == EVENTS
    made = contents(database)
    [(organization,)] = made["organizations"]
    assert (organization["id"], organization["slug"]) == (str(ORGANIZATION_ID), "demo")
    assert (organization["name"], organization["status"]) == ("Demo Organization", "trial")
    [(subscription,)] = made["subscriptions"]
    terms = ("plan_id", "status", "included_impressions", "price_monthly")
    assert [subscription[term] for term in terms] == ["demo", "trialing", 1000, 0.0]
    demo_key = next(key for (key,) in made["api_keys"] if key["name"] == "Demo Test Key")
    limits = ("environment", "rate_limit_tier", "rate_limit_per_hour", "key")
    assert [demo_key[limit] for limit in limits] == ["test", "demo", 100, None]


async def test_doing_it_again_changes_nothing_not_even_what_somebody_changed(
    pool: Pool, database: str
) -> None:
    await make_demo(pool, events=EVENTS)
    with psycopg.connect(database) as owner:
        owner.execute(
            "update organizations set name = 'Renamed', settings = '{\"theme\": \"dark\"}'"
        )
        owner.execute("update api_keys set status = 'revoked'")
    before = contents(database)
    assert await make_demo(pool, events=EVENTS) == 0
    with psycopg.connect(database) as owner:
        owner.execute(SEED.read_bytes())
    assert contents(database) == before


async def test_an_erased_demo_stays_erased(pool: Pool, database: str) -> None:
    await make_demo(pool, events=EVENTS)
    with psycopg.connect(database) as owner:
        owner.execute("select app.erase_organization(%s)", (ORGANIZATION_ID,))
        # What was counted once may be forgotten by now.
        owner.execute("delete from usage_event_ids")
    before = contents(database)
    assert await make_demo(pool, events=EVENTS) == 0
    assert contents(database) == before


async def test_a_customer_called_demo_is_left_alone(pool: Pool, database: str) -> None:
    with psycopg.connect(database) as owner:
        owner.execute(
            "insert into organizations (name, slug, email)"
            " values ('Demo AS', 'demo', 'post@demo.example')"
        )
    before = contents(database)
    with pytest.raises(SlugTaken):
        await make_demo(pool, events=EVENTS)
    assert contents(database) == before
