"""Makes an nginx access log that looks like a widget platform's, the same bytes every time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

FIRST_SECOND: Final = datetime(2025, 3, 3, tzinfo=UTC)
DAYS: Final = 14
VISITORS: Final = 40_000
PAGES: Final = 600
AGENTS: Final = 300
LINES_PER_WRITE: Final = 10_000

_COUNTRIES: Final = ("NO", "DE", "GB", "US", "NL", "SE", "FR", "ES", "IT", "JP", "CN", "AU")
_COUNTRY_WEIGHTS: Final = (30, 16, 12, 10, 6, 6, 5, 4, 4, 3, 2, 2)
# Request, its share, and its usual duration in seconds.
_REQUESTS: Final = (
    ("GET /w/forecast.js HTTP/2.0", 14, 0.002),
    ("GET /v1/widgets/forecast?lat={lat}&lon={lon} HTTP/2.0", 20, 0.024),
    ("GET /v1/widgets/map?zoom=4&lat={lat} HTTP/2.0", 8, 0.061),
    ("POST /v1/seen/forecast HTTP/2.0", 22, 0.006),
    ("POST /v1/seen/map HTTP/2.0", 8, 0.006),
    ("POST /v1/seen/chat HTTP/2.0", 3, 0.007),
    ("GET /api/aurora/now?lat={lat}&lon={lon} HTTP/1.1", 12, 0.018),
    ("GET /api/aurora/tonight?lat={lat} HTTP/1.1", 5, 0.033),
    ("GET /api/aurora/oval HTTP/1.1", 4, 0.047),
    ("GET /api/aurora/forecast?days=3 HTTP/1.1", 3, 0.038),
    ("OPTIONS /v1/seen/forecast HTTP/2.0", 3, 0.001),
)
# What robots ask for; it is never there.
_PROBES: Final = (
    "GET /wp-login.php HTTP/1.1",
    "GET /.env HTTP/1.1",
    "POST /xmlrpc.php HTTP/1.1",
    "GET /robots.txt HTTP/1.1",
)
_STATUSES: Final = (200, 304, 204, 401, 429, 500, 502)
_STATUS_WEIGHTS: Final = (880, 60, 30, 12, 12, 4, 2)
_PROBE_SHARE: Final = 0.015
_NIGHT_HOUR: Final = 21


def write_access_log(path: Path, lines: int, *, seed: int = 1) -> int:
    """Write a log of so many lines in nginx's combined format with three fields after the agent.

    Those are `rt=` ($request_time, in seconds), `cs=` ($upstream_cache_status), and `country=`.
    Return its size in bytes.
    """
    written: list[str] = []
    with path.open("w", encoding="ascii") as file:
        for line in access_lines(lines, seed=seed):
            written.append(line)
            if len(written) >= LINES_PER_WRITE:
                file.write("".join(written))
                written.clear()
        file.write("".join(written))
    return path.stat().st_size


def access_lines(lines: int, *, seed: int = 1) -> Iterator[str]:
    """Yield the lines, in order of time, more of them in the evening than in the morning."""
    random = Random(seed)
    visitors = [(_an_address(random), *_a_visitor(random)) for _ in range(VISITORS)]
    requests = random.choices(_REQUESTS, [share for _, share, _ in _REQUESTS], k=4_096)
    statuses = random.choices(_STATUSES, _STATUS_WEIGHTS, k=4_096)
    for second, count in enumerate(_per_second(lines)):
        if not count:
            continue
        when = (FIRST_SECOND + timedelta(seconds=second)).strftime("%d/%b/%Y:%H:%M:%S +0000")
        for _ in range(count):
            # Squared, so that few visitors come often and most of them seldom.
            address, country, page, agent = visitors[int(random.random() ** 2 * VISITORS)]
            request, _, usual_s = requests[random.getrandbits(12)]
            status = statuses[random.getrandbits(12)]
            if random.random() < _PROBE_SHARE:
                request, usual_s, status, page = random.choice(_PROBES), 0.001, 404, "-"
            elif "{" in request:
                request = request.format(lat=random.randrange(550, 720) / 10, lon=18.9)
            took_s = usual_s * math.exp(random.random() * 2 - 0.6)
            cache = "HIT" if random.random() < 0.6 else "MISS"
            yield (
                f'{address} - - [{when}] "{request}" {status} {random.randrange(150, 9_000)} '
                f'"{page}" "{agent}" rt={took_s:.3f} cs={cache} country={country}\n'
            )


def _per_second(lines: int) -> Iterator[int]:
    """Yield how many lines each second has; they sum to `lines`."""
    seconds = DAYS * 86_400
    made = 0
    # The integral of 1 + 0.7·cos around the busy hour, so the rest of a rounding is carried on.
    for second in range(1, seconds + 1):
        days = second / 86_400
        wave = math.sin(2 * math.pi * (days - _NIGHT_HOUR / 24)) / (2 * math.pi)
        wave += math.sin(2 * math.pi * _NIGHT_HOUR / 24) / (2 * math.pi)
        due = round(lines * (days + 0.7 * wave) / DAYS)
        yield due - made
        made = due


def _an_address(random: Random) -> str:
    if random.random() < 0.25:
        return f"2a01:799:{random.getrandbits(16):x}:{random.getrandbits(16):x}::1"
    high, low = random.getrandbits(8), random.getrandbits(8)
    return f"{random.randrange(24, 220)}.{high}.{low}.{random.randrange(1, 255)}"


def _a_visitor(random: Random) -> tuple[str, str, str]:
    country = random.choices(_COUNTRIES, _COUNTRY_WEIGHTS)[0]
    page = int(random.random() ** 2 * PAGES)
    browser = int(random.random() ** 2 * AGENTS)
    major, minor = 100 + browser // 12, browser % 12
    agent = (
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        f"Chrome/{major}.0.{minor}.0 Safari/537.36"
    )
    return country, f"https://www.hotel-{page:03}.example/en/rooms/{page % 9}", agent
