"""Every table and column that the founding document names is there, under its name."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from aurora.apps import house

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


@pytest.mark.parametrize("table", COLUMNS)
async def test_every_column_of_the_document_is_there(
    connection: psycopg.AsyncConnection[TupleRow], table: str
) -> None:
    found = await connection.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 "
        "and not attisdropped order by attnum",
        (f"public.{table}",),
    )
    names = [name for (name,) in await found.fetchall()]
    assert set(COLUMNS[table].split()) <= set(names)
    if table == "daily_usage_summary":
        assert names == COLUMNS[table].split()


def test_every_sql_file_of_a_room_is_listed_in_the_house() -> None:
    listed = {file for room in house.rooms() for file in room.sql}
    found = {
        file
        for folder in house.FEATURES.iterdir()
        if folder.is_dir()
        for file in Path(folder).glob("*.sql")
        if file.name != "queries.sql"
    }
    assert found == listed
