"""Members and invitations: who changes whom, the last owner, and links that work once."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from psycopg.conninfo import make_conninfo
from tests.conftest import LOGIN_ROLE
from tests.features.organizations.conftest import House

from aurora.apps.api.app import build
from aurora.apps.worker import work
from aurora.integrations.http import Caller
from aurora.integrations.mail import Mail, Post

CodeOf = Callable[[httpx.Response], tuple[int, str]]
OLA: dict[str, Any] = {"email": "ola@lyngen.example", "name": "Ola", "role": "member"}


async def mails(house: House) -> list[Mail]:
    """The mails that wait to be sent, oldest first."""
    found = await house.rows(
        "select payload from pgqueuer.pgqueuer where entrypoint = 'mail_send' order by id"
    )
    return [msgspec.json.decode(payload, type=Mail) for (payload,) in found]


async def token_of(house: House) -> str:
    """The token in the newest mail."""
    found = re.search(r"token=([\w-]+)", (await mails(house))[-1].text)
    assert found
    return found[1]


async def test_only_owners_make_change_and_remove_owners(house: House, code_of: CodeOf) -> None:
    made = await house.organization()
    users = f"/v1/organizations/{made['id']}/users"
    owner_id, owner = await house.member(made["id"], "owner")
    admin_id, admin = await house.member(made["id"], "admin")
    member_id, member = await house.member(made["id"], "member")
    forbidden = (403, "role_forbidden")
    async with house.client(admin) as client:
        assert (
            code_of(await client.patch(f"{users}/{member_id}", json={"role": "owner"})) == forbidden
        )
        assert (
            code_of(await client.patch(f"{users}/{admin_id}", json={"role": "owner"})) == forbidden
        )
        assert (
            code_of(await client.patch(f"{users}/{owner_id}", json={"role": "viewer"})) == forbidden
        )
        assert code_of(await client.delete(f"{users}/{owner_id}")) == forbidden
        path = f"/v1/organizations/{made['id']}/invitations"
        assert code_of(await client.post(path, json=OLA | {"role": "owner"})) == forbidden
        viewer = await client.patch(f"{users}/{member_id}", json={"role": "viewer"})
        assert viewer.json()["role"] == "viewer"
    async with house.client(member) as client:
        assert (
            code_of(await client.patch(f"{users}/{member_id}", json={"role": "admin"})) == forbidden
        )
        renamed = await client.patch(f"{users}/{member_id}", json={"name": "Per"})
        assert renamed.json()["name"] == "Per"
        assert (await client.delete(f"{users}/{member_id}")).json()["status"] == "inactive"
        assert code_of(await client.get(users)) == (404, "organization_not_found"), (
            "who left is out"
        )
    async with house.client(owner) as client:
        promoted = await client.patch(f"{users}/{admin_id}", json={"role": "owner"})
        assert promoted.json()["role"] == "owner"


async def test_the_last_active_owner_stays_even_when_two_leave_at_once(
    house: House, code_of: CodeOf
) -> None:
    made = await house.organization()
    users = f"/v1/organizations/{made['id']}/users"
    first, _ = await house.member(made["id"], "owner")
    async with house.client() as operator:
        assert code_of(await operator.delete(f"{users}/{first}")) == (409, "last_owner")
        demoted = await operator.patch(f"{users}/{first}", json={"role": "admin"})
        assert code_of(demoted) == (409, "last_owner")
        second, _ = await house.member(made["id"], "owner")
        left = await asyncio.gather(*(operator.delete(f"{users}/{one}") for one in (first, second)))
    assert sorted(answer.status_code for answer in left) == [200, 409]


async def test_one_person_has_a_place_in_each_of_several_organizations(house: House) -> None:
    mine, other = await house.organization(), await house.organization()
    _, person = await house.member(mine["id"], "owner", email="two@lyngen.example")
    body = {"email": "Two@lyngen.example", "name": "Two", "role": "viewer"}
    async with house.client() as operator:
        path = f"/v1/organizations/{other['id']}/users"
        assert (await operator.post(path, json=body)).status_code == 201
    await house.rows("update users set auth_id = %s where email ilike 'two@%%'", person.person_id)
    async with house.client(person) as client:
        roles = []
        for organization in (mine, other):
            path = f"/v1/organizations/{organization['id']}"
            roles.append((await client.patch(path, json={"phone": "1"})).status_code)
    assert roles == [200, 403]


async def test_an_invitation_is_mailed_accepted_once_and_kept_as_a_hash(
    house: House, code_of: CodeOf
) -> None:
    made = await house.organization(settings={"language": "en"})
    path = f"/v1/organizations/{made['id']}/invitations"
    async with house.client() as operator:
        invited = await operator.post(path, json=OLA)
        assert invited.json()["status"] == "open"
        token = await token_of(house)
        assert token not in invited.text
        (mail,) = await mails(house)
        assert (mail.to, mail.subject) == ("ola@lyngen.example", "Invitation to Lyngen")
        assert code_of(await operator.post(path, json=OLA)) == (409, "invitation_open")
        accept = "/v1/invitations/accept"
        async with house.client(Caller("key")) as nobody:
            taken = await nobody.post(accept, json={"token": token, "name": "Ola N."})
            again = await nobody.post(accept, json={"token": token})
            unknown = await nobody.post(accept, json={"token": "x" * 43})
        assert (taken.json()["status"], taken.json()["name"]) == ("active", "Ola N.")
        assert code_of(again) == code_of(unknown) == (404, "invitation_not_found")
        assert again.json()["detail"] == unknown.json()["detail"]
        assert code_of(await operator.post(path, json=OLA)) == (409, "member_exists")
        assert [one["status"] for one in (await operator.get(path)).json()["items"]] == ["accepted"]
    hashes = await house.rows("select token_hash from invitations")
    assert token not in str(hashes)


async def test_a_resent_taken_back_or_expired_link_is_dead(house: House, code_of: CodeOf) -> None:
    made = await house.organization()
    path = f"/v1/organizations/{made['id']}/invitations"
    gone = (404, "invitation_not_found")
    async with house.client() as operator:

        async def accepted(token: str) -> httpx.Response:
            return await operator.post("/v1/invitations/accept", json={"token": token})

        invitation = (await operator.post(path, json=OLA)).json()
        first = await token_of(house)
        sent = (await operator.post(f"{path}/{invitation['id']}/resend")).json()
        second = await token_of(house)
        assert (sent["sent_count"], first != second) == (2, True)
        assert code_of(await accepted(first)) == gone
        revoked = await operator.delete(f"{path}/{invitation['id']}")
        assert revoked.json()["status"] == "revoked"
        assert code_of(await accepted(second)) == gone
        assert code_of(await operator.post(f"{path}/{invitation['id']}/resend")) == gone
        assert (await operator.post(path, json=OLA)).status_code == 201
        await house.rows("insert into app.clock (shift) values ('7 days')")
        assert code_of(await accepted(await token_of(house))) == gone
        assert (await operator.post(path, json=OLA)).status_code == 201, "an expired one is no bar"
        for _ in range(9):
            last = (await operator.get(path)).json()["items"][0]["id"]
            assert (await operator.post(f"{path}/{last}/resend")).status_code == 200
        assert code_of(await operator.post(f"{path}/{last}/resend")) == (
            429,
            "invitations_exhausted",
        )


async def test_an_invitation_does_not_tell_whether_an_address_is_known_elsewhere(
    house: House,
) -> None:
    mine, other = await house.organization(), await house.organization()
    await house.member(other["id"], "owner", email="known@lyngen.example")
    path = f"/v1/organizations/{mine['id']}/invitations"
    async with house.client() as operator:
        answers = [
            (await operator.post(path, json=OLA | {"email": f"{who}@lyngen.example"})).json()
            for who in ("known", "strange")
        ]
    hidden = {"id", "created_at", "expires_at", "email"}
    assert answers[0].keys() == answers[1].keys()
    assert {k: v for k, v in answers[0].items() if k not in hidden} == {
        k: v for k, v in answers[1].items() if k not in hidden
    }


async def test_whoever_signed_up_with_somebody_elses_address_does_not_get_the_membership(
    house: House,
) -> None:
    made = await house.organization()
    await house.signs_up("ola@lyngen.example", is_confirmed=False)
    async with house.client() as operator:
        await operator.post(f"/v1/organizations/{made['id']}/invitations", json=OLA)
        token = await token_of(house)
        taken = await operator.post("/v1/invitations/accept", json={"token": token})
    assert taken.status_code == 201
    assert await house.rows("select auth_id from users") == [(None,)]


async def test_who_had_left_comes_back_by_invitation_to_the_same_row(house: House) -> None:
    made = await house.organization()
    user_id, _ = await house.member(made["id"], "viewer", email="ola@lyngen.example")
    async with house.client() as operator:
        await operator.delete(f"/v1/organizations/{made['id']}/users/{user_id}")
        await operator.post(f"/v1/organizations/{made['id']}/invitations", json=OLA)
        body = {"token": await token_of(house)}
        back = (await operator.post("/v1/invitations/accept", json=body)).json()
    assert (back["id"], back["role"], back["status"]) == (user_id, "member", "active")


async def test_from_invitation_to_member_over_a_socket_and_through_the_outbox(
    house: House, tmp_path: Path
) -> None:
    """The journey: a server on a socket, a worker that sends, and a person who follows the link."""
    dsn = make_conninfo(house.owner_dsn, user=LOGIN_ROLE)
    app = build(dsn=dsn, service_token=house.token)
    config = uvicorn.Config(app, lifespan="on", log_config=None, access_log=False)
    server, stop = uvicorn.Server(config), asyncio.Event()
    post = Post("aurora@house.example", "https://aurora.example", tmp_path / "outbox")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        running = [
            asyncio.create_task(server.serve([listener])),
            asyncio.create_task(work(dsn, post, stop)),
        ]
        headers = {"authorization": f"Bearer {house.token}"}
        async with asyncio.timeout(60), httpx.AsyncClient(base_url=address) as client:
            while not server.started:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.05)
            hotel = {"name": "Blåbær Hotell", "slug": "blabaer", "email": "post@blåbær.no"}
            made = (await client.post("/v1/organizations", json=hotel, headers=headers)).json()
            path = f"/v1/organizations/{made['id']}/invitations"
            await client.post(path, json=OLA | {"role": "owner"}, headers=headers)
            while not (found := list((tmp_path / "outbox").glob("*.eml"))):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            mail = email.message_from_bytes(found[0].read_bytes(), policy=email.policy.default)
            link = re.search(r"https://aurora\.example\S+#token=([\w-]+)", mail.get_content())
            assert link
            assert mail["Subject"] == "Invitasjon til Blåbær Hotell"
            taken = await client.post("/v1/invitations/accept", json={"token": link[1]})
            assert (taken.status_code, taken.json()["role"]) == (201, "owner")
        server.should_exit = True
        stop.set()
        await asyncio.gather(*running)
