"""How often one may try: per address and per place, counted in PostgreSQL for all processes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from aurora.db.transaction import Connection
from aurora.features.sign_in import store
from aurora.features.sign_in.model import TooManyAttempts

BUCKET_BITS: Final = 20
"""2**20 buckets a kind: at most about a million rows each, whoever tries whatever."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many attempts at once, coming back evenly over the window."""

    kind: str
    attempts: int
    window: timedelta


PASSWORD_BY_IP: Final = Limit("password_ip", 60, timedelta(minutes=15))
PASSWORD_BY_ADDRESS: Final = Limit("password_address", 10, timedelta(minutes=15))
LINK_BY_IP: Final = Limit("link_ip", 20, timedelta(minutes=60))
LINK_BY_ADDRESS: Final = Limit("link_address", 3, timedelta(minutes=15))
TOKEN_BY_IP: Final = Limit("token_ip", 60, timedelta(minutes=15))
PASSWORD_BY_PERSON: Final = Limit("person", 10, timedelta(minutes=15))


async def take(conn: Connection, *asked: tuple[Limit, str]) -> None:
    """Take one attempt of each limit, or of none where one of them is used up.

    Args:
        conn: Of a transaction that ends before the attempt is made: one that fails counts too.
        asked: Limits and whose attempt it is, always in the order of `kind`'s declaration above:
            two requests that lock the same buckets in one order cannot wait for each other.

    Raises:
        TooManyAttempts: With the seconds to wait.
    """
    wait_s = 0
    for limit, whose in asked:
        wait_s = max(
            wait_s,
            await store.take_sign_in_attempt(
                conn, limit.kind, bucket_of(whose), limit.attempts, limit.window
            ),
        )
    if wait_s:
        raise TooManyAttempts(retry_after_s=wait_s)


def bucket_of(whose: str) -> int:
    """Return which bucket counts this address or place.

    Strangers share one about once in a million; who wants another's bucket full can name the other.
    """
    digest = hashlib.sha256(whose.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4]) >> (32 - BUCKET_BITS)
