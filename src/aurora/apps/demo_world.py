"""The fictional world of the demo: hotels in Tromsø, their guests, crawlers, and the calendar.

Addresses are from the ranges kept for documentation (RFC 5737, RFC 3849), names end in .example
(RFC 2606): nothing here can be taken for a real company or person.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Literal
from zoneinfo import ZoneInfo

OSLO = ZoneInfo("Europe/Oslo")
STORM_NIGHTS = 9
NOON = 12
GUESTS = 6_000
IPV6_SHARE = 0.3

# How much is asked for in the middle of each month: dark nights sell, the midnight sun does not.
_MONTHS = (1.45, 1.60, 1.40, 0.75, 0.30, 0.14, 0.15, 0.45, 1.15, 1.35, 1.25, 1.40)
# By local hour: people look in the evening, when they decide whether to go out.
_HOURS = (0.8, 0.5, 0.3, 0.2, 0.15, 0.15, 0.25, 0.5, 0.8, 0.9, 0.9, 0.9,
          1.0, 1.0, 1.1, 1.3, 1.6, 2.0, 2.4, 2.8, 3.0, 2.8, 2.2, 1.4)  # fmt: skip
_WEEKDAYS = (0.92, 0.90, 0.93, 0.98, 1.10, 1.18, 1.05)
_TREND_FROM, _TREND_TO = 0.7, 1.3
_STORM_HOURS = frozenset({19, 20, 21, 22, 23, 0, 1})
_INCIDENT_HOURS = frozenset({17, 18, 19})
_SEASON_MONTHS = frozenset({9, 10, 11, 12, 1, 2, 3})
# Machines that poll: the same at every hour of the year, measured against an average hour.
_STEADY = 0.18
# In the incident clients try again and again.
_INCIDENT_RETRIES = 4

COUNTRIES_WINTER = {
    "NO": 26, "DE": 15, "GB": 14, "US": 10, "NL": 7, "FR": 7, "IT": 5, "ES": 4, "SE": 4,
    "CN": 3, "JP": 3, "SG": 1, "AU": 1,
}  # fmt: skip
COUNTRIES_SUMMER = {
    "NO": 38, "DE": 20, "SE": 10, "NL": 8, "US": 8, "GB": 5, "FR": 4, "IT": 3, "ES": 2,
    "CN": 1, "JP": 1, "SG": 1, "AU": 1,
}  # fmt: skip
LOCALES = {"NO": "nb", "DE": "de", "NL": "nl", "FR": "fr", "IT": "it", "ES": "es", "SE": "sv",
           "CN": "zh", "JP": "ja"}  # fmt: skip

# Origin, the pages that hold a widget, and how often it is visited.
HOTELS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("https://www.polarlys-hotell.example", ("/", "/nordlys", "/en/northern-lights"), 9),
    ("https://fjordview-tromso.example", ("/", "/experiences/aurora"), 7),
    ("https://www.arctic-harbour.example", ("/", "/tonight"), 6),
    ("https://booking.storgata-suites.example", ("/arrival", "/confirmation"), 4),
    ("https://tromsdalen-lodge.example", ("/", "/aurora-camp"), 4),
    ("https://www.kvaloya-cabins.example", ("/", "/en/cabins"), 3),
    ("https://lyngen-icehotel.example", ("/", "/sky"), 2),
    ("https://husky-and-lights.example", ("/tours", "/tours/chase"), 2),
)

# Where the customer tries things out, with a test key.
STAGING = "https://staging.polarlys-hotell.example"

_SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko)"
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64"
_ANDROID = "Mozilla/5.0 (Linux; Android 10; K)"
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS"
BROWSERS = (
    f"{_IPHONE} 18_5 like Mac OS X) {_SAFARI} Version/18.5 Mobile/15E148 Safari/604.1",
    f"{_IPHONE} 17_6 like Mac OS X) {_SAFARI} Version/17.6 Mobile/15E148 Safari/604.1",
    f"{_ANDROID} {_CHROME} Chrome/137.0.0.0 Mobile Safari/537.36",
    f"{_ANDROID} {_CHROME} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
    f"{_WINDOWS}) {_CHROME} Chrome/137.0.0.0 Safari/537.36",
    f"{_WINDOWS}) {_CHROME} Chrome/136.0.0.0 Safari/537.36 Edg/136.0.0.0",
    f"{_WINDOWS}; rv:139.0) Gecko/20100101 Firefox/139.0",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_SAFARI} Version/18.4 Safari/605.1.15",
)
CRAWLERS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "python-requests/2.32.3",
)
SERVERS = ("hotel-cms/4.2 (+aurora-plugin 1.8)", "node-fetch/3.3", "Go-http-client/2.0")


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody with a browser: where from, and with what."""

    ip_address: str
    country_code: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of the year: how much guests and machines ask for, and what kind of hour it is."""

    epoch_s: int
    guests: float
    machines: float
    winter: bool
    mood: Literal["ordinary", "storm", "incident"]


def make_guests(random: Random) -> dict[str, list[Guest]]:
    """Return guests by country; an IPv4 address belongs to one country only."""
    countries = list(COUNTRIES_WINTER)
    addresses: dict[str, list[str]] = {country: [] for country in countries}
    weights = [COUNTRIES_WINTER[country] for country in countries]
    # 192.0.2.0/26 is left to machines.
    spare = [f"192.0.2.{n}" for n in range(64, 255)]
    spare += [f"{net}.{n}" for net in ("198.51.100", "203.0.113") for n in range(1, 255)]
    for number, address in enumerate(spare):
        country = (
            countries[number] if number < len(countries) else _pick(random, countries, weights)
        )
        addresses[country].append(address)
    guests: dict[str, list[Guest]] = {country: [] for country in countries}
    for number in range(GUESTS):
        country = (
            countries[number] if number < len(countries) else _pick(random, countries, weights)
        )
        if random.random() < IPV6_SHARE:
            network, host = int(random.random() * 0xFFFF) + 1, int(random.random() * 0xFFFF) + 1
            address = f"2001:db8:{countries.index(country) + 1:x}:{network:x}::{host:x}"
        else:
            own = addresses[country]
            address = own[int(random.random() * len(own))]
        browser = BROWSERS[int(random.random() ** 1.4 * len(BROWSERS))]
        guests[country].append(Guest(address, country, browser))
    return guests


def make_machines(agents: Sequence[str], country: str, first: int) -> list[Guest]:
    """Return one machine for each agent, at fixed addresses from 192.0.2.`first` on."""
    return [
        Guest(f"192.0.2.{number}", country, agent) for number, agent in enumerate(agents, first)
    ]


def hours_of_year(start: date, end: date, random: Random) -> Iterator[Hour]:
    """Yield the hours from `start` to before `end`, days of Europe/Oslo, with what is asked for."""
    days = (end - start).days
    dark = [
        day
        for day in (start + timedelta(days=n) for n in range(1, days - 1))
        if day.month in _SEASON_MONTHS
    ]
    nights = {dark[int(random.random() * len(dark))]: 3 + 3 * random.random()
              for _ in range(STORM_NIGHTS)}  # fmt: skip
    calm = [day for day in dark if day not in nights and day - timedelta(days=1) not in nights]
    incident = calm[int(random.random() * len(calm))]
    moment = datetime(start.year, start.month, start.day, tzinfo=OSLO).astimezone(UTC)
    last = datetime(end.year, end.month, end.day, tzinfo=OSLO).astimezone(UTC)
    weather = 1.0
    while moment < last:
        local = moment.astimezone(OSLO)
        today = local.date()
        # A storm night goes on after midnight; clouds come and go over days.
        night = today if local.hour >= NOON else today - timedelta(days=1)
        storm = night in nights and local.hour in _STORM_HOURS
        weather += 0.02 * (1 - weather) + 0.05 * (random.random() - 0.5)
        trend = _TREND_FROM + (_TREND_TO - _TREND_FROM) * (today - start).days / days
        guests = _season(local) * _HOURS[local.hour] * _WEEKDAYS[local.weekday()] * trend * weather
        mood = _mood(storm, today == incident and local.hour in _INCIDENT_HOURS)
        boost = nights[night] if storm else _INCIDENT_RETRIES if mood == "incident" else 1
        yield Hour(
            epoch_s=int(moment.timestamp()),
            guests=guests * boost,
            machines=_STEADY * trend,
            winter=local.month in _SEASON_MONTHS,
            mood=mood,
        )
        moment += timedelta(hours=1)


def _mood(storm: bool, incident: bool) -> Literal["ordinary", "storm", "incident"]:
    if incident:
        return "incident"
    return "storm" if storm else "ordinary"


def _season(local: datetime) -> float:
    """Return the demand of the day, smooth between the middles of the months."""
    place = (local.month - 1 + (local.day - 15) / 30) % 12
    before = int(place)
    share = (1 - math.cos(math.pi * (place - before))) / 2
    return _MONTHS[before] * (1 - share) + _MONTHS[(before + 1) % 12] * share


def _pick(random: Random, names: list[str], weights: list[int]) -> str:
    left = random.random() * sum(weights)
    for name, weight in zip(names, weights, strict=True):
        left -= weight
        if left < 0:
            return name
    return names[-1]
