"""The demo's year is believable, repeatable, and speaks of nobody real."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from datetime import UTC, date, datetime
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest

from aurora.apps.demo_traffic import DemoKey, generate_year
from aurora.features.usage.model import UsageEvent

OSLO = ZoneInfo("Europe/Oslo")
END = date(2026, 6, 15)
LIVE = DemoKey(UUID(int=1), "production", 9)
TEST = DemoKey(UUID(int=2), "test", 1)
DOCUMENTATION = [
    ipaddress.ip_network(text)
    for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]


def a_year(
    events: int = 20_000, seed: int = 7, end: date = END, keys: tuple[DemoKey, ...] = (LIVE, TEST)
) -> list[UsageEvent]:
    return list(generate_year(end=end, seed=seed, keys=keys, events=events))


@pytest.fixture(scope="module")
def year() -> list[UsageEvent]:
    return a_year(100_000)


def test_the_same_arguments_give_the_same_events_and_others_give_other_ids() -> None:
    assert a_year(3000) == a_year(3000)
    ids = {event.id for event in a_year(3000)}
    assert len(ids) == 3000
    for other in (a_year(3000, seed=8), a_year(3000, end=date(2026, 6, 16)), a_year(2999)):
        assert ids.isdisjoint(event.id for event in other)


@pytest.mark.parametrize("events", [0, 1, 2, 999])
def test_there_are_exactly_as_many_events_as_asked_for(events: int) -> None:
    assert len(a_year(events)) == events


def test_events_come_in_order_and_fill_one_year_of_oslo(year: list[UsageEvent]) -> None:
    assert all(a.timestamp <= b.timestamp for a, b in pairwise(year))
    assert datetime(2025, 6, 15, tzinfo=OSLO) <= year[0].timestamp
    assert year[-1].timestamp < datetime(2026, 6, 15, tzinfo=OSLO)
    assert (year[-1].timestamp - year[0].timestamp).days == 364


def test_a_year_that_ends_on_a_leap_day_is_made() -> None:
    assert a_year(10, end=date(2028, 2, 29))[0].timestamp >= datetime(2027, 2, 27, tzinfo=UTC)


def test_every_event_is_valid_as_the_api_would_take_it(year: list[UsageEvent]) -> None:
    encoded = msgspec.json.encode(year[::10])
    assert msgspec.json.decode(encoded, type=list[UsageEvent]) == year[::10]


def test_winter_evenings_are_busy_and_midsummer_is_quiet(year: list[UsageEvent]) -> None:
    months = Counter(event.timestamp.astimezone(OSLO).month for event in year)
    assert months[2] > 4 * months[7]
    assert min(months[m] for m in (10, 11, 12, 1, 2, 3)) > max(months[m] for m in (5, 6, 7, 8))
    hours = Counter(event.timestamp.astimezone(OSLO).hour for event in year)
    assert max(hours, key=lambda hour: hours[hour]) in (19, 20, 21)
    assert hours[20] > 5 * hours[4]


def test_storm_nights_stand_out(year: list[UsageEvent]) -> None:
    days = Counter(event.timestamp.astimezone(OSLO).date() for event in year)
    usual = sorted(days[day] for day in days if day.month in (10, 11, 12, 1, 2, 3))
    assert max(days.values()) > 2.5 * usual[len(usual) // 2]


def test_usage_grows_over_the_year(year: list[UsageEvent]) -> None:
    polls = [event for event in year if (event.user_agent or "").startswith("hotel-cms")]
    half = sum(event.timestamp < datetime(2025, 12, 14, tzinfo=UTC) for event in polls)
    assert half < 0.46 * len(polls)


def test_one_incident_has_most_server_errors_and_is_slow(year: list[UsageEvent]) -> None:
    broken = [event for event in year if event.status_code in (500, 503)]
    (day, count), (_, second) = Counter(e.timestamp.date() for e in broken).most_common(2)
    assert count > 5 * second
    during = [e.response_time_ms or 0 for e in broken if e.timestamp.date() == day]
    usual = sorted(e.response_time_ms or 0 for e in year if not e.cached)
    assert sorted(during)[len(during) // 2] > 3 * usual[len(usual) // 2]


def test_what_happens_on_the_web_happens_here(year: list[UsageEvent]) -> None:
    statuses = Counter(event.status_code for event in year)
    assert {200, 204, 401, 404, 429, 500} <= set(statuses)
    assert 0.03 > sum(n for code, n in statuses.items() if code >= 400) / len(year) > 0.01
    assert {"NO", "DE", "GB", "US", "NL", "FR", "IT", "SE", "CN", "JP"} <= {
        event.country_code for event in year
    }
    assert 0.4 < sum(event.cached for event in year) / len(year) < 0.7
    seen = Counter(event.widget_type for event in year if event.widget_impression)
    assert seen["forecast"] > seen["map"] > seen["chat"] > 500
    assert any("Googlebot" in (event.user_agent or "") for event in year)
    keys = Counter(event.api_key_id for event in year)
    assert keys[LIVE.id] == pytest.approx(9 * keys[TEST.id], rel=0.1)


def test_crawlers_are_never_impressions(year: list[UsageEvent]) -> None:
    for event in year:
        if event.widget_impression:
            assert event.method == "POST"
            assert "bot" not in (event.user_agent or "").lower()


def test_no_address_and_no_name_is_real(year: list[UsageEvent]) -> None:
    for address in {event.ip_address for event in year}:
        assert address is not None
        assert any(ipaddress.ip_address(address) in network for network in DOCUMENTATION)
    for origin in {event.origin for event in year} - {None}:
        assert re.fullmatch(r"https://[a-z.-]+\.example", origin or "")


def test_an_address_stays_in_its_country(year: list[UsageEvent]) -> None:
    countries: dict[str | None, set[str | None]] = {}
    for event in year:
        countries.setdefault(event.ip_address, set()).add(event.country_code)
    assert max(map(len, countries.values())) == 1


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="weights"):
        a_year(1, keys=(DemoKey(UUID(int=1), "test", 0),))
    with pytest.raises(ValueError, match="weights"):
        a_year(1, keys=())
    with pytest.raises(ValueError, match="events"):
        a_year(-1)
