"""Background work of the sign-in room: sending links, and forgetting what has ended."""

from __future__ import annotations

from typing import Final

import msgspec

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.sign_in import service, store
from aurora.features.sign_in.model import LINK_LIFETIME, LinkPurpose
from aurora.integrations.jobs import Cron, Job, enqueue
from aurora.integrations.mail import Mail, enqueue_mail

SEND_LINK: Final = "sign_in_send_link"
PATHS: Final[dict[LinkPurpose, str]] = {
    "sign_in": "/sign-in/link",
    "password_reset": "/sign-in/password-reset",
}
SUBJECTS: Final[dict[LinkPurpose, str]] = {
    "sign_in": "Sign in to Aurora / Logg inn i Aurora",
    "password_reset": "New password for Aurora / Nytt passord i Aurora",
}


class LinkRequest(msgspec.Struct, frozen=True):
    """Somebody asked for a link; nobody has looked yet whether the address is known."""

    address: str
    purpose: LinkPurpose
    site_url: str


async def enqueue_link(conn: Connection, request: LinkRequest) -> None:
    """Leave the looking up to the worker: the answer takes as long for a stranger's address."""
    await enqueue(conn, SEND_LINK, msgspec.json.encode(request))


async def send_link(pool: Pool, payload: bytes) -> None:
    """Make a link and enqueue its mail; a stranger gets none."""
    request = msgspec.json.decode(payload, type=LinkRequest)
    async with transaction(pool, PLATFORM) as conn:
        made = await service.make_link(conn, address=request.address, purpose=request.purpose)
        if made is not None:
            to, token = made
            await enqueue_mail(conn, link_mail(to, token, request))


def link_mail(to: str, token: str, request: LinkRequest) -> Mail:
    """Return the message; the token stands behind #, which no browser sends to any server."""
    minutes = int(LINK_LIFETIME.total_seconds() // 60)
    link = f"{request.site_url}{PATHS[request.purpose]}#token={token}"
    return Mail(
        to=to,
        subject=SUBJECTS[request.purpose],
        text=(
            f"{link}\n\n"
            f"This link opens once, within {minutes} minutes. If you did not ask for it, nothing "
            "happens unless somebody opens it; you can delete this message.\n\n"
            f"Lenken virker én gang, innen {minutes} minutter. Har du ikke bedt om den, skjer "
            "ingenting så lenge ingen åpner den; du kan slette denne meldingen.\n"
        ),
    )


async def prune(pool: Pool) -> int:
    """Delete ended sessions, dead links, and idle limits."""
    async with transaction(pool, PLATFORM, statement_timeout_ms=60_000) as conn:
        return await store.prune(conn)


JOBS = (Job(SEND_LINK, send_link),)
CRONS = (Cron("sign_in_prune", "*/10 * * * *", prune),)
