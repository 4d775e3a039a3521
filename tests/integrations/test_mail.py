"""Mail: enqueued with the caller's transaction, one recipient, and no header but ours."""

from __future__ import annotations

import asyncio
import email
import email.policy
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from aurora.apps.settings import SettingsInvalid, load_settings
from aurora.apps.worker import work
from aurora.core.emails import EmailInvalid
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.integrations import jobs
from aurora.integrations.mail import Mail, MailNotSent, Post, compose, deliver, enqueue_mail

LETTER = Mail(to="kari@blåbær.no", subject="Hei på deg", text="Åpne {public_url}/x\n")


def a_post(folder: Path, smtp_url: str | None = None) -> Post:
    return Post("aurora@house.example", "https://aurora.example", folder / "outbox", smtp_url)


@asynccontextmanager
async def a_mail_server(answer_to_rcpt: str = "250 ok") -> AsyncIterator[tuple[str, list[str]]]:
    """Speak just enough SMTP on a socket of this machine; collect every line that came."""
    lines: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(line: str) -> None:
            writer.write(line.encode() + b"\r\n")

        say("220 here")
        in_data = False
        while line := (await reader.readline()).decode().rstrip("\r\n"):
            lines.append(line)
            command = line[:4].upper()
            if command == "RCPT":
                say(answer_to_rcpt)
            elif command == "DATA":
                say("354 go on")
                in_data = True
            elif command == "QUIT":
                say("221 bye")
                break
            else:
                say("250 ok")
            while in_data:
                line = (await reader.readline()).decode().rstrip("\r\n")
                lines.append(line)
                if line == ".":
                    in_data = False
                    say("250 taken")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"smtp://127.0.0.1:{port}", lines


@pytest.mark.parametrize(
    "to",
    ["kari@hotel.example\nBcc: all@hotel.example", "a@b.no, c@d.no", "a@b.no\r", "Kari <a@b.no>"],
)
def test_a_recipient_cannot_bring_headers_or_others(to: str) -> None:
    with pytest.raises(EmailInvalid):
        Mail(to=to, subject="x", text="x")


@pytest.mark.parametrize(
    "subject", ["x\nBcc: a@b.no", "x\r\n\r\nbody", "", "x\x00", "x\u2028y", "x" * 201]
)
def test_a_subject_is_one_line(subject: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        Mail(to="a@b.no", subject=subject, text="x")


def test_a_message_has_ours_headers_only_and_its_text_stays_text(tmp_path: Path) -> None:
    hostile = Mail(
        to="a@b.no", subject="Hi", text="Bcc: all@b.no\n\n.\nSubject: other\n{public_url}"
    )
    raw = compose(a_post(tmp_path), hostile).as_bytes()
    parsed = email.message_from_bytes(raw, policy=email.policy.default)
    assert parsed["To"] == "a@b.no"
    assert parsed["Bcc"] is None
    assert parsed.get_all("Subject") == ["Hi"]
    assert "https://aurora.example" in parsed.get_content()


async def test_without_a_server_mail_lies_in_the_outbox_for_its_owner_only(tmp_path: Path) -> None:
    await deliver(a_post(tmp_path), LETTER)
    (file,) = (tmp_path / "outbox").iterdir()
    assert file.suffix == ".eml"
    assert file.stat().st_mode & 0o077 == 0
    parsed = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    assert parsed["To"] == "kari@xn--blbr-roah.no"
    assert parsed["Subject"] == "Hei på deg"
    assert parsed.get_content().strip() == "Åpne https://aurora.example/x"


async def test_a_server_gets_one_recipient_and_the_message(tmp_path: Path) -> None:
    async with a_mail_server() as (url, lines):
        await deliver(a_post(tmp_path, url), LETTER)
    assert [line for line in lines if line[:4].upper() == "RCPT"] == [
        "rcpt TO:<kari@xn--blbr-roah.no>"
    ]
    assert "." in lines


async def test_a_refusal_does_not_repeat_the_address(tmp_path: Path) -> None:
    async with a_mail_server("550 kari@blåbær.no unknown") as (url, _):
        with pytest.raises(MailNotSent) as caught:
            await deliver(a_post(tmp_path, url), LETTER)
    assert "kari" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_no_server_at_all_is_a_refusal(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"smtp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(MailNotSent):
            await deliver(a_post(tmp_path, url), LETTER)


async def test_a_password_never_travels_without_tls(tmp_path: Path) -> None:
    async with a_mail_server() as (url, lines):
        with pytest.raises(MailNotSent):
            await deliver(a_post(tmp_path, url.replace("//", "//user:secret-word@")), LETTER)
    assert not any(line[:4].upper() in {"AUTH", "MAIL"} for line in lines)


async def test_mail_leaves_exactly_if_the_transaction_commits(
    pool: Pool, database: str, tmp_path: Path
) -> None:
    await jobs.install(database)
    async with transaction(pool, PLATFORM) as conn:
        await enqueue_mail(conn, Mail(to="a@b.no", subject="never", text="x"))
        await conn.rollback()
        await conn.execute("begin")
    async with transaction(pool, PLATFORM) as conn:
        await enqueue_mail(conn, LETTER)
    stop = asyncio.Event()
    working = asyncio.create_task(work(database, a_post(tmp_path), stop))
    outbox = tmp_path / "outbox"
    async with asyncio.timeout(30):
        while not list(outbox.glob("*.eml")):  # noqa: ASYNC110 - a file gives no event
            await asyncio.sleep(0.05)
    stop.set()
    await working
    async with await psycopg.AsyncConnection.connect(database) as owner:
        left = await owner.execute("select count(*) from pgqueuer.pgqueuer")
        assert await left.fetchone() == (0,)
    assert [b"never" in file.read_bytes() for file in outbox.iterdir()] == [False]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AURORA_SMTP_URL", "http://mail.example"),
        ("AURORA_MAIL_FROM", "a@b.no\nBcc: c@d.no"),
        ("AURORA_PUBLIC_URL", "javascript:alert(1)"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid, match=name):
        load_settings()
