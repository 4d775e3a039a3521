"""How organizations end, who was invited, and operators' tokens are told by the audit."""

from __future__ import annotations

import json

from tests.features.audit.stage import (
    OPERATOR,
    a_member,
    an_organization,
    change,
    last_event,
    recorded,
)

from aurora.core.secrets import hash_key
from aurora.db.pool import Pool
from aurora.db.transaction import transaction
from aurora.features.sign_in.service_tokens import create_service_token, revoke_service_token


async def test_the_end_of_an_organization_and_its_return_are_told_by_their_names(
    pool: Pool,
) -> None:
    organization = await an_organization(pool)
    await a_member(pool, organization)
    for statement in (
        "update organizations set status = 'cancelled' where id = %s",
        "update organizations set deleted_at = app.now() where id = %s",
        "update organizations set deleted_at = null where id = %s",
        "select app.erase_organization(%s)",
    ):
        await change(pool, statement, organization)
    events = await recorded(pool, organization)
    assert [event["action"] for event in events[-5:]] == [
        "organization.status_changed",
        "organization.deleted",
        "organization.restored",
        "organization.erased",
        "member.erased",
    ]


async def test_an_invitation_is_told_without_its_address_and_token(pool: Pool) -> None:
    organization = await an_organization(pool)
    inviting = (
        "insert into invitations (organization_id, email, name, token_hash, expires_at)"
        " values (%s, %s, 'Canary Nordmann', %s, app.now() + interval '7 days')"
    )
    hashes = [letter * 64 for letter in "abc"]
    for hashed in hashes:
        await change(pool, inviting, organization, f"canary@{hashed[0]}.example", hashed)
    await change(pool, "select app.accept_invitation(%s)", hashes[0])
    await change(
        pool, "update invitations set revoked_at = app.now() where token_hash = %s", hashes[1]
    )
    sending_again = "update invitations set token_hash = %s, sent_count = 2 where token_hash = %s"
    await change(pool, sending_again, "d" * 64, hashes[2])
    events = (await recorded(pool, organization))[1:]
    assert [event["action"] for event in events] == [
        *["invitation.created"] * 3,
        "member.added",
        "invitation.accepted",
        "invitation.revoked",
        "invitation.updated",
    ]
    assert events[-1]["after"] == {"token_hash": "(withheld)"}
    text = json.dumps([(event["before"], event["after"]) for event in events])
    assert not [each for each in ("canary", "Canary", *hashes, "d" * 64) if each in text]


async def test_a_service_token_is_told_by_its_name_and_scopes(pool: Pool) -> None:
    async with transaction(pool, OPERATOR) as conn:
        made = await create_service_token(conn, name="Nightly", scopes=("billing:run",))
    created = await last_event(pool, None)
    assert (created["action"], created["actor"]) == ("service_token.created", "operator")
    assert created["subject_id"] == str(made.record.id)
    assert created["after"] == {"name": "Nightly", "scopes": ["billing:run"]}
    await change(pool, "select app.use_service_token(%s, '1 day')", hash_key(made.token))
    assert await last_event(pool, None) == created, "being used is no change"
    async with transaction(pool, OPERATOR) as conn:
        await revoke_service_token(conn, made.record.id)
    revoked = await last_event(pool, None)
    assert (revoked["action"], set(revoked["after"])) == ("service_token.revoked", {"revoked_at"})
