"""Asking people to become members: a one-time link by mail, good for a week."""

from __future__ import annotations

import secrets
from uuid import UUID

from aurora.core.emails import check_email
from aurora.core.secrets import hash_key
from aurora.db.transaction import Connection
from aurora.features.organizations import store
from aurora.features.organizations.authority import OPERATOR, Place
from aurora.features.organizations.model import (
    INVITATION_DAYS,
    MAX_INVITATIONS_SENT,
    MAX_OPEN_INVITATIONS,
    Invitation,
    InvitationNotFound,
    InvitationsExhausted,
    Language,
    MemberExists,
    Organization,
    Role,
    User,
)
from aurora.features.organizations.rules import check_name
from aurora.features.organizations.service import get_organization
from aurora.integrations.mail import PUBLIC_URL, Mail, enqueue_mail

TOKEN_BYTES = 32
ACCEPT_PATH = "/invitations/accept"

_SUBJECTS: dict[Language, str] = {
    "nb": "Invitasjon til {organization}",
    "en": "Invitation to {organization}",
}
_TEXTS: dict[Language, str] = {
    "nb": """\
Hei!

Du er invitert til å bli medlem av {organization} i Aurora som {role}.

Åpne denne lenken innen {days} dager for å ta imot:
{link}

Lenken virker én gang. Ventet du ikke denne meldingen, kan du se bort fra den.
""",
    "en": """\
Hello!

You are invited to become a member of {organization} in Aurora, as {role}.

Open this link within {days} days to accept:
{link}

The link works once. If you did not expect this message, you can ignore it.
""",
}
_ROLES: dict[Language, dict[Role, str]] = {
    "nb": {
        "owner": "eier",
        "admin": "administrator",
        "member": "medlem",
        "viewer": "leser",
    },
    "en": {"owner": "owner", "admin": "administrator", "member": "member", "viewer": "viewer"},
}


async def invite(
    conn: Connection,
    *,
    organization_id: UUID,
    email: str,
    name: str,
    role: Role = "member",
    language: Language | None = None,
    place: Place = OPERATOR,
) -> Invitation:
    """Invite a person by mail; the answer never tells whether the address is known elsewhere.

    Args:
        conn: An open transaction; the mail leaves when it commits.
        organization_id: Into which organization.
        email: Where the link goes.
        name: Of the person.
        role: What they become.
        language: Of the mail; None takes the organization's, or its country's.
        place: Of who asks.

    Raises:
        OrganizationNotFound: There is none.
        RoleForbidden: Below admin, or below owner for an owner.
        EmailInvalid, NameInvalid: A field.
        MemberExists, InvitationOpen: In this very organization.
        InvitationsExhausted: Too many wait for an answer.
    """
    place.must_be("owner" if role == "owner" else "admin")
    organization = await get_organization(conn, organization_id)
    address = check_email(email)
    if await store.count_active_members(conn, organization_id, address):
        raise MemberExists
    await store.close_expired_invitations(conn, organization_id)
    if await store.count_open_invitations(conn, organization_id) >= MAX_OPEN_INVITATIONS:
        raise InvitationsExhausted(
            f"{MAX_OPEN_INVITATIONS} invitations wait for an answer; take some back first."
        )
    token = secrets.token_urlsafe(TOKEN_BYTES)
    invitation = await store.insert_invitation(
        conn,
        organization_id=organization_id,
        invited_by=place.user_id,
        email=address,
        name=check_name(name),
        role=role,
        language=language or _language_of(organization),
        token_hash=hash_key(token),
    )
    await enqueue_mail(conn, letter(invitation, organization.name, token))
    return invitation


async def list_invitations(conn: Connection, organization_id: UUID) -> list[Invitation]:
    """Return the invitations of an organization, newest first."""
    return await store.list_invitations(conn, organization_id)


async def send_again(
    conn: Connection, organization_id: UUID, invitation_id: UUID, place: Place = OPERATOR
) -> Invitation:
    """Send an invitation with a new link and a new week; the old link is dead.

    Raises:
        InvitationNotFound: There is none that is open.
        RoleForbidden: As with `invite`.
        InvitationsExhausted: It was sent too often.
    """
    organization = await get_organization(conn, organization_id)
    present = await _find(conn, organization_id, invitation_id, place)
    if present.sent_count >= MAX_INVITATIONS_SENT:
        raise InvitationsExhausted(f"An invitation is sent at most {MAX_INVITATIONS_SENT} times.")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    renewed = await store.renew_invitation(conn, organization_id, invitation_id, hash_key(token))
    if renewed is None:
        raise InvitationNotFound
    await enqueue_mail(conn, letter(renewed, organization.name, token))
    return renewed


async def take_back(
    conn: Connection, organization_id: UUID, invitation_id: UUID, place: Place = OPERATOR
) -> Invitation:
    """Take an invitation back; a second time is the same as once.

    Raises:
        InvitationNotFound: There is none, or it was accepted.
        RoleForbidden: As with `invite`.
    """
    await _find(conn, organization_id, invitation_id, place)
    revoked = await store.revoke_invitation(conn, organization_id, invitation_id)
    if revoked is None:
        raise InvitationNotFound
    return revoked


async def accept(conn: Connection, token: str, name: str | None = None) -> User:
    """Make the holder of a token a member, once.

    Raises:
        InvitationNotFound: Unknown, used, taken back, or expired; nobody learns which.
        NameInvalid: The name that the person gives in place of the one they were invited by.
    """
    given = None if name is None else check_name(name)
    return await store.accept_invitation(conn, hash_key(token), given)


def letter(invitation: Invitation, organization: str, token: str) -> Mail:
    """Return the mail with the one-time link."""
    language = invitation.language
    return Mail(
        to=invitation.email,
        subject=_SUBJECTS[language].format(organization=organization[:120]),
        text=_TEXTS[language].format(
            organization=organization.replace(PUBLIC_URL, ""),
            role=_ROLES[language][invitation.role],
            days=INVITATION_DAYS,
            # Behind the #, so that the token is in no log and no Referer on the way.
            link=f"{PUBLIC_URL}{ACCEPT_PATH}#token={token}",
        ),
    )


async def _find(
    conn: Connection, organization_id: UUID, invitation_id: UUID, place: Place
) -> Invitation:
    found = await store.find_invitation(conn, organization_id, invitation_id)
    if found is None:
        raise InvitationNotFound
    place.must_be("owner" if found.role == "owner" else "admin")
    return found


def _language_of(organization: Organization) -> Language:
    if organization.settings.get("language") in ("nb", "en"):
        chosen: Language = organization.settings["language"]
        return chosen
    return "nb" if organization.country in ("NO", "SJ") else "en"
