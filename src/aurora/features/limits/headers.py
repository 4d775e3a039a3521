"""The header fields for what a request took: RateLimit-Policy, RateLimit, and Retry-After."""

from __future__ import annotations

from collections.abc import Iterator

from aurora.core.ratelimits import HeaderList, limit_fields
from aurora.features.limits.model import Taken


def limit_headers(taken: Taken) -> HeaderList:
    """Return the fields for what became of a request, as an ASGI server sends them."""
    return limit_fields(taken)


def limit_texts(taken: Taken) -> Iterator[tuple[str, str]]:
    """Yield the same fields as text."""
    for name, value in limit_headers(taken):
        yield name.decode(), value.decode()
