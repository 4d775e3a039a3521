"""Mail to people, enqueued in our own transaction and sent by the worker."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from aurora.db.transaction import Connection
from aurora.integrations.jobs import enqueue


@dataclass(frozen=True)
class Mail:
    """One message in plain text."""

    to: str
    subject: str
    text: str = field(repr=False)


async def enqueue_mail(conn: Connection, mail: Mail) -> None:
    """Send a message after, and exactly if, the caller's transaction commits."""
    await enqueue(conn, "mail_send", msgspec.json.encode(mail))
