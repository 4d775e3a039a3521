"""What the founding document promises: its tables, its data, its functions, its two queries."""

# ruff: noqa: E501 - the document's own lines are kept as they are.

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import TupleRow, dict_row

Connection = psycopg.AsyncConnection[TupleRow]

COLUMNS = {
    "organizations": "id created_at updated_at name slug domain email phone address city postal_code "
    "country org_number vat_number billing_email invoice_reference status trial_ends_at settings metadata",
    "users": "id created_at updated_at organization_id email name avatar_url auth_id role status "
    "last_login_at metadata",
    "api_keys": "id created_at updated_at organization_id created_by key key_prefix key_hash name "
    "description environment scopes rate_limit_tier rate_limit_per_hour status last_used_at expires_at "
    "allowed_origins ip_whitelist metadata",
    "usage_analytics": "id timestamp organization_id api_key_id endpoint method status_code "
    "response_time_ms cached widget_type widget_impression origin user_agent ip_address country_code "
    "metadata date",
    "subscriptions": "id created_at updated_at organization_id plan_id plan_name price_monthly currency "
    "billing_period current_period_start current_period_end status cancel_at_period_end cancelled_at "
    "included_impressions overage_rate features stripe_subscription_id stripe_customer_id metadata",
    "invoices": "id created_at updated_at organization_id subscription_id invoice_number invoice_date "
    "due_date period_start period_end subtotal tax_rate tax_amount total currency line_items status "
    "paid_at stripe_invoice_id payment_method pdf_url metadata",
    "widget_instances": "id created_at updated_at organization_id api_key_id widget_type instance_id "
    "origin page_url page_title config status last_seen_at total_impressions total_interactions metadata",
    "notifications": "id created_at user_id organization_id type title message priority read read_at "
    "action_url action_label metadata",
    "daily_usage_summary": "organization_id api_key_id date total_requests widget_impressions "
    "successful_requests failed_requests cached_requests avg_response_time unique_visitors",
}

# The document's own statements, but for the key, which its own rule for keys refuses.
SEED_DATA = """
INSERT INTO organizations (id, name, slug, email, status, trial_ends_at)
VALUES (
  '00000000-0000-0000-0000-000000000001', 'Demo Organization', 'demo', 'demo@example.com', 'trial',
  NOW() + INTERVAL '30 days'
);
INSERT INTO api_keys (
  organization_id, key, key_prefix, key_hash, name, environment, rate_limit_tier, rate_limit_per_hour
)
VALUES (
  '00000000-0000-0000-0000-000000000001', 'tro_test_DemoKeyForTryingAuroraOut12uJbbW',
  'tro_test_DemoKe', encode(sha256('tro_test_DemoKeyForTryingAuroraOut12uJbbW'), 'hex'),
  'Demo Test Key', 'test', 'demo', 100
);
INSERT INTO subscriptions (
  organization_id, plan_id, plan_name, price_monthly, current_period_start, current_period_end, status,
  included_impressions
)
VALUES (
  '00000000-0000-0000-0000-000000000001', 'demo', 'Demo Plan', 0.00, NOW(), NOW() + INTERVAL '30 days',
  'trialing', 1000
);
"""

MONTHLY_IMPRESSIONS = """
SELECT
  o.name AS organization_name,
  DATE_TRUNC('month', ua.timestamp) AS month,
  COUNT(*) FILTER (WHERE ua.widget_impression = TRUE) AS impressions,
  s.included_impressions,
  GREATEST(0, COUNT(*) FILTER (WHERE ua.widget_impression = TRUE) - s.included_impressions) AS overage
FROM usage_analytics ua
JOIN organizations o ON ua.organization_id = o.id
JOIN subscriptions s ON o.id = s.organization_id
WHERE ua.timestamp >= NOW() - INTERVAL '3 months'
GROUP BY o.id, o.name, month, s.included_impressions
ORDER BY month DESC, impressions DESC;
"""

API_PERFORMANCE = """
SELECT
  endpoint,
  COUNT(*) AS total_requests,
  AVG(response_time_ms) AS avg_response_time,
  PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY response_time_ms) AS p95_response_time,
  COUNT(*) FILTER (WHERE status_code >= 400) AS error_count,
  ROUND(100.0 * COUNT(*) FILTER (WHERE status_code >= 400) / COUNT(*), 2) AS error_rate_pct
FROM usage_analytics
WHERE timestamp >= NOW() - INTERVAL '24 hours'
GROUP BY endpoint
ORDER BY total_requests DESC;
"""

ORGANIZATION = UUID("00000000-0000-0000-0000-000000000001")


async def rows(connection: Connection, query: str, *params: object) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, params)
        return await cursor.fetchall()


async def seeded(connection: Connection) -> UUID:
    """Run the document's data; return the key's id."""
    await connection.execute(SEED_DATA)
    return UUID(str((await rows(connection, "select id from api_keys"))[0]["id"]))


async def track(connection: Connection, key: UUID, at: datetime, **fields: object) -> bool:
    named = {"p_endpoint": "/api/aurora/now", "p_timestamp": at, **fields}
    arguments = ", ".join(f"{name} => %({name})s" for name in named)
    found = await connection.execute(
        f"select track_usage(%(org)s, %(key)s, {arguments})".encode(),
        {"org": ORGANIZATION, "key": key, **named},
    )
    row = await found.fetchone()
    assert row is not None
    return bool(row[0])


@pytest.mark.parametrize("table", COLUMNS)
async def test_every_column_of_the_document_is_there(connection: Connection, table: str) -> None:
    found = await rows(
        connection,
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 "
        "and not attisdropped order by attnum",
        f"public.{table}",
    )
    names = [row["attname"] for row in found]
    assert set(COLUMNS[table].split()) <= set(names)
    if table == "daily_usage_summary":
        assert names == COLUMNS[table].split()


async def test_the_documents_data_goes_in_and_the_key_is_forgotten(connection: Connection) -> None:
    await seeded(connection)
    (key,) = await rows(connection, "select key, key_prefix, key_hash from api_keys")
    assert key["key"] is None
    assert key["key_prefix"] == "tro_test_DemoKe"
    assert len(key["key_hash"]) == 64


async def test_monthly_impressions_runs_unchanged_and_is_right(connection: Connection) -> None:
    key = await seeded(connection)
    now = datetime.now(UTC)
    expected: dict[str, int] = {}
    for day in range(30):
        at = now - timedelta(days=day)
        for shown in (True, True, False):
            assert await track(
                connection, key, at, p_widget_impression=shown, p_widget_type="forecast"
            )
            month = at.strftime("%Y-%m")
            expected[month] = expected.get(month, 0) + shown
    await connection.execute("set local timezone to 'UTC'")
    found = await rows(connection, MONTHLY_IMPRESSIONS)
    assert {row["month"].strftime("%Y-%m"): row["impressions"] for row in found} == expected
    assert all(row["included_impressions"] == 1000 and row["overage"] == 0 for row in found)


async def test_api_performance_runs_unchanged_and_is_right(connection: Connection) -> None:
    key = await seeded(connection)
    now = datetime.now(UTC)
    times = [10, 20, 30, 40, 1000]
    for place, ms in enumerate(times):
        await track(
            connection,
            key,
            now - timedelta(minutes=place),
            p_response_time_ms=ms,
            p_status_code=500 if ms == 1000 else 200,
        )
    await track(connection, key, now - timedelta(days=2), p_response_time_ms=9999)
    (found,) = await rows(connection, API_PERFORMANCE)
    assert found["total_requests"] == len(times)
    assert found["avg_response_time"] == Decimal(sum(times)) / len(times)
    # Between the 4th and 5th of five: 40 + 0.8 * (1000 - 40).
    assert found["p95_response_time"] == pytest.approx(808.0)
    assert (found["error_count"], found["error_rate_pct"]) == (1, Decimal("20.00"))


async def test_tracking_the_same_event_again_does_not_count(connection: Connection) -> None:
    key = await seeded(connection)
    at = datetime.now(UTC)
    assert await track(connection, key, at, p_event_id="once")
    assert not await track(connection, key, at, p_event_id="once")
    (counted,) = await rows(connection, "select sum(requests) as n from usage_daily_rows")
    assert counted["n"] == 1


async def test_the_summary_equals_a_recount_whatever_was_folded_when(
    connection: Connection,
) -> None:
    key = await seeded(connection)
    chance = random.Random(7)
    now = datetime.now(UTC)
    for step in range(120):
        await track(
            connection,
            key,
            now - timedelta(days=chance.randrange(5), minutes=chance.randrange(600)),
            p_event_id=f"e{chance.randrange(90)}",
            p_status_code=chance.choice([200, 204, 304, 401, 500]),
            p_widget_impression=chance.random() < 0.5,
            p_cached=chance.random() < 0.5,
            p_response_time_ms=chance.choice([None, 5, 80]),
            p_ip_address=f"192.0.2.{chance.randrange(9)}",
        )
        if step % 17 == 0:
            await connection.execute("select app.fold_usage(%s)", (chance.choice([3, 1000]),))
        if step % 29 == 0:
            await connection.execute("select app.count_closed_visitors()")
    summary = await rows(connection, "select * from daily_usage_summary order by date")
    recount = await rows(
        connection,
        "select organization_id, api_key_id, date, count(*) as total_requests, "
        "count(*) filter (where widget_impression) as widget_impressions, "
        "count(*) filter (where status_code between 200 and 399) as successful_requests, "
        "count(*) filter (where status_code >= 400) as failed_requests, "
        "count(*) filter (where cached) as cached_requests, "
        "avg(response_time_ms) as avg_response_time, count(distinct ip_address) as unique_visitors "
        "from usage_analytics group by 1, 2, 3 order by date",
    )
    for row in (*summary, *recount):
        row["avg_response_time"] = round(row["avg_response_time"] or 0, 6)
    assert summary == recount
    # The wrong version: a summary of what is folded alone loses what is not.
    await track(connection, key, now, p_event_id="fresh")
    (folded,) = await rows(connection, "select coalesce(sum(requests), 0) as n from usage_daily")
    (raw,) = await rows(connection, "select count(*) as n from usage_analytics")
    assert folded["n"] < raw["n"]


async def test_a_monthly_bill_is_the_fee_and_the_begun_thousands(connection: Connection) -> None:
    await seeded(connection)
    start = (datetime.now(UTC) - timedelta(days=20)).replace(hour=12)
    await connection.execute(
        "insert into api_keys (id, organization_id, key, name) values "
        "('00000000-0000-0000-0000-00000000000a', %s, generate_api_key(), 'Web')",
        (ORGANIZATION,),
    )
    await connection.execute(
        "update subscriptions set status = 'active', price_monthly = 3500, included_impressions = 2, "
        "overage_rate = 50, billing_anchor = %s, months_billed = 1, next_billing_at = "
        "app.billing_moment(%s, 1, 'Europe/Oslo')",
        (start.date(), start.date()),
    )
    for number in range(5):
        await track(
            connection,
            UUID("00000000-0000-0000-0000-00000000000a"),
            start + timedelta(hours=number),
            p_widget_impression=True,
            p_event_id=f"b{number}",
        )
    lines = await rows(
        connection,
        "select kind, quantity, amount, impressions from calculate_monthly_bill(%s)",
        ORGANIZATION,
    )
    assert [(line["kind"], line["quantity"], line["amount"]) for line in lines] == [
        ("overage", 1, Decimal("50.00")),
        ("fee", 1, Decimal("3500.00")),
    ]
    assert lines[0]["impressions"] == 5
