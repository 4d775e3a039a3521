"""The header fields that tell a client its limit: RateLimit-Policy, RateLimit, and Retry-After."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from aurora.features.limits.model import WINDOW_S, Taken

HeaderList = list[tuple[bytes, bytes]]

_POLICY: Final = b"ratelimit-policy"
_STATE: Final = b"ratelimit"
_RETRY: Final = b"retry-after"


def limit_headers(taken: Taken, per_second: int | None = None) -> HeaderList:
    """Return the fields for what became of a request, as an ASGI server sends them.

    draft-ietf-httpapi-ratelimit-headers-10: lists of strings with parameters (RFC 9651); q is the
    quota, w the window in seconds, r what is left, t the seconds until more is. A retry is told in
    seconds (RFC 9110, section 10.2.3).

    Args:
        taken: What became of it.
        per_second: The key's other limit, where it has one.
    """
    fields: HeaderList = []
    if taken.limit is not None:
        fields.append((_POLICY, _policy(taken.limit, per_second)))
    if taken.remaining is not None:
        fields.append((_STATE, b'"hourly";r=%d;t=%d' % (taken.remaining, taken.reset_s or 0)))
    if taken.retry_after_s is not None:
        fields.append((_RETRY, b"%d" % taken.retry_after_s))
    return fields


def limit_texts(taken: Taken, per_second: int | None = None) -> Iterator[tuple[str, str]]:
    """Yield the same fields as text."""
    for name, value in limit_headers(taken, per_second):
        yield name.decode(), value.decode()


@lru_cache(maxsize=1_024)
def _policy(per_hour: int, per_second: int | None) -> bytes:
    hourly = b'"hourly";q=%d;w=%d' % (per_hour, WINDOW_S)
    return hourly if per_second is None else hourly + b', "burst";q=%d;w=1' % per_second
