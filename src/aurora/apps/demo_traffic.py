"""Makes a year of believable usage for the demo: guests of hotels in Tromsø, machines, mishaps.

Everything is a function of the arguments: the same call gives the same events with the same ids,
so making the demo twice counts once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import blake2b
from operator import attrgetter
from random import Random
from statistics import NormalDist
from typing import Literal, NamedTuple, TypeVar
from uuid import UUID

from aurora.apps.demo_world import (
    COUNTRIES_SUMMER,
    COUNTRIES_WINTER,
    CRAWLERS,
    HOTELS,
    LOCALES,
    SERVERS,
    STAGING,
    Guest,
    Hour,
    hours_of_year,
    make_guests,
    make_machines,
)
from aurora.features.usage.model import UsageEvent, WidgetType

MAX_EVENTS = 10_000_000
SECONDS_OF_VISIT = 20
LATENCY_STEPS = 2048
LATENCY_SIGMA = 0.55
TABLE_SIZE = 1000

# A visit loads a widget, which asks for its data, and counts once half of it was seen.
_WIDGETS: dict[WidgetType, int] = {"forecast": 62, "map": 27, "chat": 11}
_DATA: dict[WidgetType, tuple[str, ...]] = {
    "forecast": ("/api/aurora/now", "/api/aurora/forecast", "/api/aurora/tonight"),
    "map": ("/api/aurora/oval", "/api/aurora/now"),
    "chat": ("/api/aurora/tonight", "/api/aurora/now"),
}
_POLLED = {"/api/aurora/now": 50, "/api/aurora/tonight": 25, "/api/aurora/forecast": 20,
           "/api/aurora/oval": 5}  # fmt: skip
_PROBED = {"/v1/widgets/forecast/embed": 40, "/v1/widgets/map/embed": 15, "/api/aurora/now": 25,
           "/robots.txt": 8, "/wp-login.php": 7, "/.env": 5}  # fmt: skip
_MISSING = frozenset({"/robots.txt", "/wp-login.php", "/.env"})

SEEN_SHARE = 0.71
CRAWLER_SHARE = 0.35
CACHED_SHARE = 0.72
# Medians in milliseconds.
_CACHED_MS, _FRESH_MS, _SEEN_MS, _CHAT_MS, _REFUSED_MS = 11.0, 92.0, 7.0, 240.0, 3.0
_INCIDENT_FACTOR = 6.5
# What becomes of 1,000 requests on an ordinary hour, in a storm, and in the incident.
_OK = 200
_QUICK = frozenset({401, 404, 429})
_ORDINARY: dict[int, int] = {200: 988, 404: 4, 401: 4, 429: 2, 500: 2}
_STORM: dict[int, int] = {200: 950, 404: 3, 401: 4, 429: 40, 500: 3}
_INCIDENT: dict[int, int] = {200: 600, 404: 4, 401: 6, 429: 20, 500: 280, 503: 90}
_MOODS = {"ordinary": _ORDINARY, "storm": _STORM, "incident": _INCIDENT}

Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True)
class DemoKey:
    """An API key of the demo and its share of the traffic, relative to the other keys."""

    id: UUID
    environment: Literal["test", "production"]
    weight: float


def generate_year(
    *, end: date, seed: int, keys: Sequence[DemoKey], events: int
) -> Iterator[UsageEvent]:
    """Yield exactly `events` events of the year before `end`, in order of time.

    Measured on one core: 280,000 events a second (the goal is 80,000).

    Args:
        end: The first day, in Europe/Oslo, that is not part of the year.
        seed: Other seeds give other years.
        keys: At least one; their weights need not add up to anything.
        events: How many, at most MAX_EVENTS.

    Raises:
        ValueError: There is no key with a positive weight, or too many events are asked for.
    """
    if not 0 <= events <= MAX_EVENTS:
        raise ValueError(f"events must be between 0 and {MAX_EVENTS}")
    traffic = _Traffic(seed, keys, tag=_tag(end, seed, keys, events))
    start = _year_before(end)
    hours = list(hours_of_year(start, end, Random(f"{seed}-calendar")))  # noqa: S311
    total = sum(hour.guests + hour.machines for hour in hours)
    reached, made = 0.0, 0
    for hour in hours:
        reached += hour.guests + hour.machines
        # Rounding the running sum, not each hour, makes the parts add up to the whole.
        due = min(events, round(events * reached / total))
        yield from traffic.hour(hour, due - made)
        made = due
    # The last sum may miss the total by a rounding error of floats.
    yield from traffic.hour(hours[-1], events - made)


class _Traffic:
    """Makes the events of one hour after another, numbering them."""

    def __init__(self, seed: int, keys: Sequence[DemoKey], *, tag: str) -> None:
        self._random = Random(f"{seed}-traffic").random  # noqa: S311 - repeatable, not secret
        people = Random(f"{seed}-guests")  # noqa: S311
        self._tag = tag
        self._made = 0
        self._keys = _table({key: key.weight for key in keys})
        self._guests = make_guests(people)
        self._winter, self._summer = _table(COUNTRIES_WINTER), _table(COUNTRIES_SUMMER)
        self._hotels = _table({(origin, pages): share for origin, pages, share in HOTELS})
        self._crawlers = make_machines(CRAWLERS, "US", 1)
        self._servers = make_machines(SERVERS * 3, "NO", 20)
        self._widgets = _table(_WIDGETS)
        self._polled, self._probed = _table(_POLLED), _table(_PROBED)
        self._statuses = {mood: _table(shares) for mood, shares in _MOODS.items()}
        normal = NormalDist()
        self._spread = [
            math.exp(LATENCY_SIGMA * normal.inv_cdf((step + 0.5) / LATENCY_STEPS))
            for step in range(LATENCY_STEPS)
        ]

    def hour(self, hour: Hour, count: int) -> Iterator[UsageEvent]:
        """Yield `count` events of this hour in order of time."""
        random = self._random
        machines = hour.machines / (hour.guests + hour.machines)
        made: list[UsageEvent] = []
        while len(made) < count:
            # No visit runs over the hour, so that hours follow each other in order.
            at_s = hour.epoch_s + random() * (3600 - SECONDS_OF_VISIT)
            if random() < machines:
                made.append(self._machine_call(hour, at_s))
            else:
                made += self._visit(hour, at_s)
        del made[count:]
        made.sort(key=attrgetter("timestamp"))
        for number, event in enumerate(made, start=self._made + 1):
            event.id = f"{self._tag}-{number:07d}"
            yield event
        self._made += len(made)

    def _visit(self, hour: Hour, at_s: float) -> list[UsageEvent]:
        """Load a widget, fetch its data, and count it as seen, for as long as nothing fails."""
        random, widget = self._random, self._pick(self._widgets)
        country = self._pick(self._winter if hour.winter else self._summer)
        crowd = self._guests[country]
        # Squaring makes some guests come often and most of them seldom.
        guest = crowd[int(random() ** 2 * len(crowd))]
        key, (origin, pages) = self._pick(self._keys), self._pick(self._hotels)
        if key.environment == "test":
            origin = STAGING
        visit = _Visit(hour, guest, key.id, origin, origin + self._pick(pages))
        events = [self._event(visit, at_s, f"/v1/widgets/{widget}/embed", widget)]
        if events[0].status_code == _OK:
            data = self._pick(_DATA[widget])
            events.append(self._event(visit, at_s + 0.2 + random(), data, widget))
            if random() < SEEN_SHARE:
                seen_s = at_s + 1.5 + random() * 15
                events.append(self._event(visit, seen_s, f"/v1/seen/{widget}", widget, seen=True))
        return events

    def _machine_call(self, hour: Hour, at_s: float) -> UsageEvent:
        """One call by a crawler, or by the server of a hotel that shows the forecast itself."""
        crawls = self._random() < CRAWLER_SHARE
        machine = self._pick(self._crawlers if crawls else self._servers)
        endpoint = self._pick(self._probed if crawls else self._polled)
        visit = _Visit(hour, machine, self._pick(self._keys).id, None, None)
        return self._event(visit, at_s, endpoint, None)

    def _event(
        self,
        visit: _Visit,
        at_s: float,
        endpoint: str,
        widget: WidgetType | None,
        *,
        seen: bool = False,
    ) -> UsageEvent:
        random, hour = self._random, visit.hour
        status = 404 if endpoint in _MISSING else self._pick(self._statuses[hour.mood])
        cached = status == _OK and not seen and random() < CACHED_SHARE
        median_ms = _median_ms(status, widget, cached=cached, seen=seen)
        if hour.mood == "incident" and status not in _QUICK:
            median_ms *= _INCIDENT_FACTOR
        guest = visit.guest
        return UsageEvent(
            id="",
            timestamp=datetime.fromtimestamp(at_s, UTC),
            endpoint=endpoint,
            status_code=204 if seen and status == _OK else status,
            api_key_id=visit.key_id,
            method="POST" if seen else "GET",
            response_time_ms=1 + int(median_ms * self._spread[int(random() * LATENCY_STEPS)]),
            cached=cached,
            widget_type=widget,
            widget_impression=seen,
            origin=visit.origin,
            user_agent=guest.user_agent,
            ip_address=guest.ip_address,
            country_code=guest.country_code,
            metadata={}
            if visit.page is None
            else {"referer": visit.page, "locale": LOCALES.get(guest.country_code, "en")},
        )

    def _pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self._random() * len(choices))]


class _Visit(NamedTuple):
    hour: Hour
    guest: Guest
    key_id: UUID
    origin: str | None
    page: str | None


def _median_ms(status: int, widget: WidgetType | None, *, cached: bool, seen: bool) -> float:
    if status in _QUICK:
        return _REFUSED_MS
    if seen:
        return _SEEN_MS
    if cached:
        return _CACHED_MS
    return _CHAT_MS if widget == "chat" else _FRESH_MS


def _table(weights: Mapping[Choice, float]) -> list[Choice]:
    """Return TABLE_SIZE choices in proportion to their weights, so that a pick is one look-up."""
    total = sum(weights.values())
    if total <= 0 or min(weights.values()) < 0:
        raise ValueError("weights must not be negative, and one of them must be positive")
    table: list[Choice] = []
    reached = 0.0
    for choice, weight in weights.items():
        reached += weight
        table += [choice] * (round(TABLE_SIZE * reached / total) - len(table))
    return table


def _tag(end: date, seed: int, keys: Sequence[DemoKey], events: int) -> str:
    """Return what begins every id: other arguments make other facts, which need other ids."""
    shares = ",".join(f"{key.id}={key.weight!r}" for key in keys)
    facts = f"{end}|{seed}|{events}|{shares}".encode()
    return "demo-" + blake2b(facts, digest_size=6).hexdigest()


def _year_before(end: date) -> date:
    """Return the same day a year earlier; 29 February has 28 February for it."""
    leap_day = (end.month, end.day) == (2, 29)
    return end.replace(year=end.year - 1, day=28 if leap_day else end.day)
