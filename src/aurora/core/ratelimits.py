"""The header fields that tell a client its limit: RateLimit-Policy, RateLimit, and Retry-After."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Protocol

HeaderList = list[tuple[bytes, bytes]]

WINDOW_S: Final = 3_600
"""The hour of `rate_limit_per_hour`, whenever it begins."""

_POLICY: Final = b"ratelimit-policy"
_STATE: Final = b"ratelimit"
_RETRY: Final = b"retry-after"


class Limited(Protocol):
    """What is known of a limit, wherever it comes from."""

    @property
    def limit(self) -> int | None:
        """Return the requests in any rolling hour."""

    @property
    def per_second(self) -> int | None:
        """Return the requests in any rolling second."""

    @property
    def remaining(self) -> int | None:
        """Return how many are left."""

    @property
    def reset_s(self) -> int | None:
        """Return the seconds until more are."""

    @property
    def retry_after_s(self) -> int | None:
        """Return the seconds after which asking again may succeed."""


def limit_fields(limits: Limited | None) -> HeaderList:
    """Return the fields for what is known, as an ASGI server sends them.

    draft-ietf-httpapi-ratelimit-headers-10: lists of strings with parameters (RFC 9651); q is the
    quota, w the window in seconds, r what is left, t the seconds until more is. A retry is told in
    seconds (RFC 9110, section 10.2.3).
    """
    if limits is None:
        return []
    limit, remaining, retry_after_s = limits.limit, limits.remaining, limits.retry_after_s
    fields: HeaderList = []
    if limit is not None:
        fields.append(_policy(limit, limits.per_second))
    if remaining is not None:
        fields.append((_STATE, b'"hourly";r=%d;t=%d' % (remaining, limits.reset_s or 0)))
    if retry_after_s is not None:
        fields.append((_RETRY, b"%d" % retry_after_s))
    return fields


@lru_cache(maxsize=1_024)
def _policy(per_hour: int, per_second: int | None) -> tuple[bytes, bytes]:
    policy = b'"hourly";q=%d;w=%d' % (per_hour, WINDOW_S)
    if per_second is not None:
        policy += b', "burst";q=%d;w=1' % per_second
    return _POLICY, policy
