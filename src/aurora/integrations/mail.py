"""Plain-text mail: enqueued in the caller's transaction, sent by SMTP or laid into a folder."""

from __future__ import annotations

import asyncio
import os
import smtplib
import ssl
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec
import structlog

from aurora.core import clock
from aurora.core.emails import check_email, to_ascii
from aurora.core.errors import Unavailable
from aurora.core.ids import new_id
from aurora.db.pool import Pool
from aurora.db.transaction import Connection
from aurora.integrations.jobs import Job, enqueue

MAIL_JOB: Final = "mail_send"
OUTBOX: Final = "outbox"
PUBLIC_URL: Final = "{public_url}"
"""In a text it stands for the address at which people reach this installation, filled in on
sending: the address in a mail must never come from a request's Host header."""

MAX_SUBJECT_LENGTH: Final = 200
MAX_TEXT_LENGTH: Final = 100_000
SMTP_TIMEOUT_S: Final = 20
MAX_SEND_S: Final = 90
PORTS: Final = {"smtp": 587, "smtps": 465}

log = structlog.get_logger(__name__)


class MailNotSent(Unavailable):
    """The mail server did not take the message; the message never names the recipient."""

    code, title = "mail_not_sent", "The mail server did not take the message"


@dataclass(frozen=True, slots=True)
class Mail:
    """One message to one person.

    Attributes:
        to: A checked address, `aurora.core.emails.check_email`.
        subject: One line.
        text: Plain text; PUBLIC_URL in it is replaced when it is sent. It may hold a link that
            opens something, so it does not stand in the `repr`.
    """

    to: str
    subject: str
    text: str = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse whatever could become a header of its own, before it is enqueued.

        Raises:
            EmailInvalid: `to` is not one address.
            ValueError: The subject is not one line, or something is too long.
        """
        check_email(self.to)
        if not 0 < len(self.subject) <= MAX_SUBJECT_LENGTH or not self.subject.isprintable():
            raise ValueError(f"a subject is one line of at most {MAX_SUBJECT_LENGTH} characters")
        if len(self.text) > MAX_TEXT_LENGTH:
            raise ValueError(f"a text has at most {MAX_TEXT_LENGTH} characters")


@dataclass(frozen=True, slots=True)
class Post:
    """How this installation sends.

    Attributes:
        sender: The From address.
        public_url: Where people reach this installation, without a slash at its end.
        outbox: Where messages are laid as .eml while there is no SMTP server.
        smtp_url: `smtp://user:password@host:587` (STARTTLS) or `smtps://…:465`; None: the outbox.
            `smtp://` without a user, for a relay on this machine, does not insist on TLS.
    """

    sender: str
    public_url: str
    outbox: Path
    smtp_url: str | None = None


async def enqueue_mail(conn: Connection, mail: Mail) -> None:
    """Enqueue a message in the caller's transaction: it is sent exactly if that commits.

    A server that takes the message and then fails to say so makes the job fail, and an operator
    who retries it sends it twice; nothing makes mail arrive exactly once.
    """
    await enqueue(conn, MAIL_JOB, msgspec.json.encode(mail))


def mail_job(post: Post) -> Job:
    """Return the job that sends what `enqueue_mail` enqueued."""

    async def send(_pool: Pool, payload: bytes) -> None:
        await deliver(post, msgspec.json.decode(payload, type=Mail))

    return Job(MAIL_JOB, send)


async def deliver(post: Post, mail: Mail) -> None:
    """Hand one message to the SMTP server, or lay it into the outbox.

    Raises:
        MailNotSent: The server refused it or did not answer in time.
    """
    message = compose(post, mail)
    if post.smtp_url is None:
        await asyncio.to_thread(_lay_down, post.outbox, message)
        log.info("mail_laid_into_outbox", outbox=str(post.outbox))
        return
    try:
        async with asyncio.timeout(MAX_SEND_S):
            await asyncio.to_thread(_send, post.smtp_url, message)
    except (OSError, smtplib.SMTPException, TimeoutError) as error:
        # Not the error itself: what a server answers repeats the address, and this is logged.
        raise MailNotSent(f"The mail server failed: {type(error).__name__}.") from None


def compose(post: Post, mail: Mail) -> EmailMessage:
    """Return the message with its headers; addresses have their domains in Punycode."""
    message = EmailMessage(policy=SMTP)
    message["From"] = Address("Aurora", addr_spec=to_ascii(check_email(post.sender)))
    message["To"] = Address(addr_spec=to_ascii(mail.to))
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(clock.now())
    message["Message-ID"] = f"<{new_id()}@{to_ascii(post.sender).rpartition('@')[2]}>"
    # Answers of machines to machines go in circles (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text.replace(PUBLIC_URL, post.public_url))
    return message


def _lay_down(outbox: Path, message: EmailMessage) -> None:
    # Invitations and sign-in links lie here: nobody but the owner may look.
    outbox.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"{clock.now():%Y%m%dT%H%M%S}-{new_id()}"
    part = outbox / f".{name}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(message.as_bytes())
    part.rename(outbox / f"{name}.eml")


def _send(url: str, message: EmailMessage) -> None:
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port or PORTS[parts.scheme]
    tls = ssl.create_default_context()
    server = (
        smtplib.SMTP_SSL(host, port, timeout=SMTP_TIMEOUT_S, context=tls)
        if parts.scheme == "smtps"
        else smtplib.SMTP(host, port, timeout=SMTP_TIMEOUT_S)
    )
    with server:
        if parts.scheme == "smtp":
            server.ehlo()
            if parts.username or server.has_extn("starttls"):
                server.starttls(context=tls)
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        server.send_message(message)
