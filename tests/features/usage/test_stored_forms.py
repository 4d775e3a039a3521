"""What is staged in PostgreSQL's own binary forms reads back as it was sent."""

from __future__ import annotations

from datetime import UTC, date, datetime
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from tests.builders import a_key, an_event, an_organization, decoded, moment

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.usage.service import Sender, event_key, record_usage

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    address=st.ip_addresses().map(str).filter(lambda text: "%" not in text) | st.none(),
    metadata=st.dictionaries(texts, values, max_size=4),
)
async def test_address_metadata_and_identity_read_back_as_sent(
    pool: Pool, address: str | None, metadata: dict[str, Any]
) -> None:
    event = an_event(ip_address=address, metadata=metadata)
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        key = await a_key(conn, organization)
        sender = Sender(organization_id=organization.id, key_id=key.record.id)
        receipt = await record_usage(conn, decoded([event]), sender)
        found = await conn.execute(
            "select ip_address, metadata, event_key, app.usage_event_key(null, event_id) "
            "from usage_analytics where organization_id = %s",
            (organization.id,),
        )
        stored, kept, identity, expected = (await found.fetchall())[0]
    assert receipt.accepted == 1
    assert stored == (None if address is None else _unwrapped(address))
    assert kept == metadata
    assert identity == expected
    assert identity.bytes == event_key(None, event["id"])


def told(key_id: UUID, status_code: int, *, cached: bool) -> dict[str, Any]:
    """An impression that says something in every field."""
    return {
        "id": "e-17",
        "timestamp": datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC),
        "api_key_id": key_id,
        "endpoint": "/api/aurora/tonight",
        "method": "PATCH",
        "status_code": status_code,
        "response_time_ms": 41,
        "cached": cached,
        "widget_type": "chat",
        "widget_impression": True,
        "origin": "https://hotel.example",
        "user_agent": "Blåtann/1.0",
        "ip_address": ip_address("2001:db8::7"),
        "country_code": "SJ",
        "metadata": {"room": "Nordlys", "nights": [1, 2]},
    }


# Each pair of columns of one type differs in one of them: none can stand in another's place.
@pytest.mark.parametrize(
    ("status_code", "cached", "bills"), [(207, False, True), (500, True, False)]
)
async def test_every_column_reads_back_as_sent(
    pool: Pool, status_code: int, cached: bool, bills: bool
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        key = await a_key(conn, organization)
        sent = told(key.record.id, status_code, cached=cached)
        sender = Sender(organization_id=organization.id, backfill=True)
        event = {**sent, "timestamp": moment(sent["timestamp"]), "ip_address": "2001:db8::7"}
        receipt = await record_usage(conn, decoded([event]), sender)
        assert receipt.accepted == 1, receipt
        async with conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(
                "select a.*, e.digest, e.date as claimed_on from usage_analytics a"
                " join usage_event_ids e using (organization_id, event_key)"
                " where organization_id = %s",
                (organization.id,),
            )
            stored = await cursor.fetchone()
    assert stored
    kept = {name: stored["event_id" if name == "id" else name] for name in sent}
    assert kept == sent
    assert (stored["date"], stored["claimed_on"]) == (date(2026, 2, 28), date(2026, 2, 28))
    assert stored["billable"] is bills, "a production key and an impression"
    assert len(stored["visitor"]) == 8


def _unwrapped(address: str) -> object:
    parsed = ip_address(address)
    return getattr(parsed, "ipv4_mapped", None) or parsed
