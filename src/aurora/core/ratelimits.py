"""The header fields that tell a client its limit: RateLimit-Policy, RateLimit, and Retry-After."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

HeaderList = list[tuple[bytes, bytes]]

WINDOW_S: Final = 3_600
"""The hour of `rate_limit_per_hour`, whenever it begins."""

_POLICY: Final = b"ratelimit-policy"
_STATE: Final = b"ratelimit"
_RETRY: Final = b"retry-after"


def limit_fields(
    *,
    per_hour: int | None,
    per_second: int | None,
    remaining: int | None,
    reset_s: int | None,
    retry_after_s: int | None,
) -> HeaderList:
    """Return the fields for what is known, as an ASGI server sends them.

    draft-ietf-httpapi-ratelimit-headers-10: lists of strings with parameters (RFC 9651); q is the
    quota, w the window in seconds, r what is left, t the seconds until more is. A retry is told in
    seconds (RFC 9110, section 10.2.3).
    """
    fields: HeaderList = []
    if per_hour is not None:
        fields.append((_POLICY, _policy(per_hour, per_second)))
    if remaining is not None:
        fields.append((_STATE, b'"hourly";r=%d;t=%d' % (remaining, reset_s or 0)))
    if retry_after_s is not None:
        fields.append((_RETRY, b"%d" % retry_after_s))
    return fields


@lru_cache(maxsize=1_024)
def _policy(per_hour: int, per_second: int | None) -> bytes:
    hourly = b'"hourly";q=%d;w=%d' % (per_hour, WINDOW_S)
    return hourly if per_second is None else hourly + b', "burst";q=%d;w=1' % per_second
