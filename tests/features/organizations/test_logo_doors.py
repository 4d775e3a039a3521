"""A logo is set, shown, and taken away over HTTP and on the command line, by those who may."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from tests.features.commands import Said
from tests.features.commands import aurora as aurora  # noqa: PLC0414 - a fixture
from tests.features.organizations.conftest import House
from tests.integrations.pictures import a_png, an_svg

from aurora.integrations.pictures import MAX_PICTURE_BYTES, png_size

Code = Callable[[httpx.Response], tuple[int, str]]
SELLER = "/v1/seller/logo"


def a_body(content: bytes) -> dict[str, str]:
    return {"content": base64.b64encode(content).decode()}


def path_of(organization: dict[str, Any]) -> str:
    return f"/v1/organizations/{organization['id']}/logo"


async def test_an_admin_sets_what_members_see_and_the_audit_tells(
    house: House, code_of: Code
) -> None:
    hotel = await house.organization()
    _, admin = await house.member(hotel["id"], "admin")
    _, viewer = await house.member(hotel["id"], "viewer")
    async with house.client(admin) as client:
        nothing = await client.get(path_of(hotel))
        made = await client.put(path_of(hotel), json=a_body(an_svg()))
        again = await client.put(path_of(hotel), json=a_body(an_svg()))
    async with house.client(viewer) as client:
        seen = await client.get(path_of(hotel))
        named = (await client.get(f"/v1/organizations/{hotel['id']}")).json()
        refused = [
            await client.put(path_of(hotel), json=a_body(an_svg())),
            await client.delete(path_of(hotel)),
        ]
    assert code_of(nothing) == (404, "logo_not_found")
    assert (
        made.json() == again.json() == {"sha256": named["logo_sha256"], "width": 840, "height": 280}
    )
    assert (seen.headers["content-type"], png_size(seen.content)) == ("image/png", (840, 280))
    assert "sandbox" in seen.headers["content-security-policy"]
    assert [code_of(each) for each in refused] == [(403, "role_forbidden")] * 2
    async with house.client(admin) as client:
        assert (await client.delete(path_of(hotel))).status_code == 204
        assert code_of(await client.get(path_of(hotel))) == (404, "logo_not_found")
    told = await house.rows(
        "select before ->> 'logo_sha256', after ->> 'logo_sha256' from audit_events"
        " where action = 'organization.logo_changed' order by id"
    )
    assert told == [(None, named["logo_sha256"]), (named["logo_sha256"], None)]


async def test_nobody_sees_or_sets_another_organizations_logo(house: House, code_of: Code) -> None:
    ours, theirs = await house.organization(), await house.organization()
    _, owner = await house.member(ours["id"], "owner")
    async with house.client() as operator:
        await operator.put(path_of(theirs), json=a_body(an_svg()))
    async with house.client(owner) as client:
        answers = [
            await client.get(path_of(theirs)),
            await client.put(path_of(theirs), json=a_body(a_png())),
            await client.delete(path_of(theirs)),
            await client.get(SELLER),
            await client.put(SELLER, json=a_body(a_png())),
        ]
    assert [code_of(each) for each in answers] == [
        *([(404, "organization_not_found")] * 3),
        *([(403, "operator_only")] * 2),
    ]
    assert await house.rows("select width, height from organization_logos") == [(840, 280)]


async def test_what_is_no_logo_is_refused_by_its_reason(house: House, code_of: Code) -> None:
    hotel = await house.organization()
    bodies: list[tuple[dict[str, Any], tuple[int, str]]] = [
        (a_body(b"%PDF"), (422, "picture_invalid")),
        (a_body(an_svg("<script/>")), (422, "picture_invalid")),
        (a_body(a_png(50_000, 50_000, rows=1)), (413, "picture_too_large")),
        (a_body(a_png() + bytes(MAX_PICTURE_BYTES)), (413, "picture_too_large")),
        ({"content": "a"}, (422, "invalid")),
        ({}, (422, "invalid")),
    ]
    async with house.client() as operator:
        for body, expected in bodies:
            for path in (path_of(hotel), SELLER):
                assert code_of(await operator.put(path, json=body)) == expected
    assert await house.rows("select count(*) from organization_logos") == [(0,)]


async def test_an_operator_sets_the_sellers_logo(house: House, code_of: Code) -> None:
    async with house.client() as operator:
        assert code_of(await operator.get(SELLER)) == (404, "logo_not_found")
        made = await operator.put(SELLER, json=a_body(a_png(600, 200)))
        seen = await operator.get(SELLER)
        assert (await operator.delete(SELLER)).status_code == 204
        assert code_of(await operator.get(SELLER)) == (404, "logo_not_found")
    assert (made.json()["width"], png_size(seen.content)) == (600, (600, 200))


def test_the_command_line_does_the_same(aurora: Callable[..., Said], tmp_path: Path) -> None:
    file, wrong, copy = tmp_path / "logo.png", tmp_path / "none.svg", tmp_path / "copy.png"
    file.write_bytes(a_png(600, 200))
    wrong.write_bytes(an_svg("<script/>"))
    aurora("org", "create", "--name", "Lyngen", "--slug", "lyngen", "--email", "a@lyngen.example")
    for group in (("org", "logo"), ("invoice", "logo")):
        who = ("lyngen",) if group[0] == "org" else ()
        assert aurora(*group, "get", *who, "-o", str(copy))[0] == 1
        _, made = aurora(*group, "set", *who, str(file), "--json")
        assert (made["width"], made["height"]) == (600, 200)
        assert aurora(*group, "get", *who, "-o", str(copy))[0] == 0
        assert png_size(copy.read_bytes()) == (600, 200)
        code, said = aurora(*group, "set", *who, str(wrong))
        assert (code, "picture_invalid" in said) == (1, True)
        code, said = aurora(*group, "set", *who, str(tmp_path / "missing.png"))
        assert (code, "file_unreadable" in said) == (1, True)
        assert aurora(*group, "remove", *who)[0] == 0
        code, said = aurora(*group, "get", *who, "-o", str(copy))
        assert (code, "logo_not_found" in said) == (1, True)
