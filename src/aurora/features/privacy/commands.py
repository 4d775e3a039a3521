"""Commands of the privacy room: aurora export, aurora erase."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from aurora.core.emails import check_email
from aurora.core.errors import Conflict
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.privacy import service
from aurora.features.privacy.model import ConfirmationMissing, Erasure
from aurora.integrations.terminal import JsonOption, run, show

export = typer.Typer(help="Everything about an organization or a person, in one zip.")
erase = typer.Typer(help="Erase an organization or a person; issued invoices stay.")

OutOption = Annotated[Path, typer.Option("--out", help="The zip to write; it must not exist.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Yes, for good: nothing brings it back.")]
OrgArgument = Annotated[str, typer.Argument(help="The organization's slug or id.")]
EmailArgument = Annotated[str, typer.Argument(help="Any of the person's addresses.")]


class FileExists(Conflict):
    """The file is there already, or cannot be made."""

    code, title = "file_exists", "The file cannot be made"


@export.command("org")
def export_organization(
    ctx: typer.Context, org: OrgArgument, out: OutOption, json: JsonOption = False
) -> None:
    """Write everything about an organization into one zip."""

    async def work(pool: Pool) -> dict[str, object]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            subject = await service.find_subject(conn, _which(org))
        return await _write(out, service.export_organization(pool, subject.id))

    show(run(ctx, work), json=json)


@export.command("user")
def export_person(
    ctx: typer.Context, email: EmailArgument, out: OutOption, json: JsonOption = False
) -> None:
    """Write everything about a person into one zip."""

    async def work(pool: Pool) -> dict[str, object]:
        return await _write(out, service.export_person(pool, check_email(email)))

    show(run(ctx, work), json=json)


@erase.command("org")
def erase_organization(
    ctx: typer.Context, org: OrgArgument, yes: YesOption = False, json: JsonOption = False
) -> None:
    """Erase an organization: people, contacts, keys, and who its visitors were."""

    async def work(pool: Pool) -> dict[str, object]:
        _must_be_confirmed(yes)
        async with transaction(pool, PLATFORM) as conn:
            subject = await service.find_subject(conn, _which(org))
            done = await service.erase_organization(conn, subject.id, confirm=subject.slug)
        stripped = await service.strip_usage(pool, subject.id)
        return {
            "id": subject.id,
            "people": done.people,
            "keys_revoked": done.keys_revoked,
            "usage_rows_stripped": stripped,
        }

    show(run(ctx, work), json=json)


@erase.command("user")
def erase_person(
    ctx: typer.Context, email: EmailArgument, yes: YesOption = False, json: JsonOption = False
) -> None:
    """Erase a person: memberships, account, invitations, notifications."""

    async def work(pool: Pool) -> Erasure:
        _must_be_confirmed(yes)
        async with transaction(pool, PLATFORM) as conn:
            return await service.erase_person(conn, email, confirm=email)

    show(run(ctx, work), json=json, columns=("people", "invitations", "contacts"))


def _which(text: str) -> UUID | str:
    try:
        return UUID(text)
    except ValueError:
        return text


def _must_be_confirmed(yes: bool) -> None:
    if not yes:
        raise ConfirmationMissing("Nothing was erased: say --yes; nothing brings it back.")


async def _write(path: Path, pieces: AsyncIterator[bytes]) -> dict[str, object]:
    """Write an archive that only its owner may read; half an archive is not left behind."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise FileExists(f"{path} cannot be made: {error.strerror}.") from error
    size = 0
    try:
        with os.fdopen(descriptor, "wb") as file:
            async for piece in pieces:
                size += file.write(piece)
    except BaseException:
        os.unlink(path)  # noqa: PTH108 - one call, and the command ends
        raise
    return {"file": str(path), "bytes": size}
