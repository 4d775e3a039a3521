"""An organization's life over HTTP: fields, numbers, settings, statuses, deletion, who may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from tests.features.organizations.conftest import House

from aurora.core.errors import AuroraError
from aurora.features.organizations.rules import check_name, check_slug
from aurora.integrations.http import Caller

CodeOf = Callable[[httpx.Response], tuple[int, str]]


@pytest.mark.parametrize(
    "slug",
    [
        "hotel\n",
        " hotel",
        "Hotel",
        "\u212aari",
        "h\u0131tel",
        "\uff48otel",
        "a" * 300,
        "",
        "-a",
        "a-",
        "a_b",
    ],
)
def test_a_slug_trick_is_refused(slug: str) -> None:
    with pytest.raises(AuroraError) as caught:
        check_slug(slug)
    assert caught.value.code == "slug_invalid"


def test_a_name_is_kept_in_nfc_and_on_one_line() -> None:
    assert check_name(" Bla\u030aba\u0308r ") == "Blåbär"
    for wrong in ("", "  ", "a\nb", "a\u202eb", "a" * 201):
        with pytest.raises(AuroraError):
            check_name(wrong)


async def test_only_named_fields_change_and_null_empties(house: House) -> None:
    made = await house.organization(phone="77", city="Tromsø", settings={"theme": "dark"})
    async with house.client() as operator:
        path = f"/v1/organizations/{made['id']}"
        changed = (
            await operator.patch(
                path, json={"phone": None, "email": "A@Blåbær.no", "settings": {"language": "en"}}
            )
        ).json()
    assert changed["phone"] is None
    assert changed["email"] == "A@blåbær.no"
    assert changed["city"] == "Tromsø"
    assert changed["settings"] == {"theme": "dark", "language": "en"}


@pytest.mark.parametrize(
    ("body", "status", "code", "named"),
    [
        ({"nmae": "x"}, 422, "invalid", "nmae"),
        ({"status": "active"}, 422, "invalid", "status"),
        ({"name": None}, 422, "field_required", "name"),
        ({"email": "a@b.no\n"}, 422, "email_invalid", "line break"),
        ({"email": "\u212aari@b.no"}, 422, "email_invalid", "looks like"),
        ({"email": "a" * 300 + "@b.no"}, 422, "invalid", "email"),
        ({"slug": "h\u0131tel"}, 422, "slug_invalid", "DOTLESS"),
        ({"slug": "a" * 300}, 422, "invalid", "slug"),
        ({"country": "no"}, 422, "country_invalid", "NO"),
        ({"org_number": "123456789"}, 422, "org_number_invalid", "org_number_unverified"),
        ({"settings": {"theme": "pink"}}, 422, "invalid", "theme"),
        ({"settings": {"them": "dark"}}, 422, "invalid", "them"),
        (
            {"settings": {"branding": {"logo_url": "javascript:alert(1)"}}},
            422,
            "invalid",
            "logo_url",
        ),
        ({"settings": {"branding": {"color": "red"}}}, 422, "invalid", "color"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_changes(
    house: House, body: dict[str, Any], status: int, code: str, named: str
) -> None:
    made = await house.organization()
    async with house.client() as operator:
        path = f"/v1/organizations/{made['id']}"
        refused = await operator.patch(path, json=body)
        after = (await operator.get(path)).json()
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    assert named in refused.json()["detail"]
    assert after == made


async def test_settings_are_checked_by_the_database_too(house: House) -> None:
    made = await house.organization()
    for wrong in ('{"a": 1}', '{"theme": "x"}', '{"branding": {"logo_url": "javascript:x"}}', "[]"):
        with pytest.raises(psycopg.errors.CheckViolation):
            await house.rows(
                "update organizations set settings = %s where id = %s", wrong, made["id"]
            )


async def test_a_wrong_norwegian_number_is_kept_only_under_its_mark_whoever_writes_sql(
    house: House,
) -> None:
    made = await house.organization(org_number="987654325")
    write = "update organizations set {} where id = %s"
    for wrong in (
        "org_number = '123456789'",
        "org_number = '987654325 '",
        "vat_number = 'NO123456789MVA'",
        "vat_number = '987654325'",
    ):
        with pytest.raises(psycopg.DatabaseError, match="unverified"):
            await house.rows(write.format(wrong), made["id"])
    # Neither by the mark's removal, nor by moving to Norway with a number from elsewhere.
    await house.rows(
        write.format("org_number = '123456789', org_number_unverified = true"), made["id"]
    )
    with pytest.raises(psycopg.DatabaseError, match="unverified"):
        await house.rows(write.format("org_number_unverified = false"), made["id"])
    await house.rows(
        write.format("country = 'SE', org_number = '5560360793', org_number_unverified = false"),
        made["id"],
    )
    with pytest.raises(psycopg.DatabaseError, match="unverified"):
        await house.rows(write.format("country = 'NO'"), made["id"])


async def test_a_number_that_no_register_gave_can_be_kept_and_says_so(house: House) -> None:
    made = await house.organization(org_number="123456789", org_number_unverified=True)
    assert (made["org_number"], made["org_number_unverified"]) == ("123456789", True)
    async with house.client() as operator:
        path = f"/v1/organizations/{made['id']}"
        right = (
            await operator.patch(
                path, json={"org_number": "987 654 325", "org_number_unverified": True}
            )
        ).json()
        abroad = await operator.patch(path, json={"country": "SE"})
    assert (right["org_number"], right["org_number_unverified"]) == ("987654325", False)
    assert abroad.json()["code"] == "org_number_invalid", "a Norwegian number is not Swedish"


@pytest.mark.parametrize(
    ("start", "to", "by_owner", "by_operator"),
    [
        ("trial", "active", (403, "operator_only"), (200, "")),
        ("trial", "cancelled", (200, ""), (200, "")),
        ("active", "trial", (409, "status_transition_invalid"), (409, "status_transition_invalid")),
        ("active", "suspended", (403, "operator_only"), (200, "")),
        ("active", "active", (200, ""), (200, "")),
        ("suspended", "active", (403, "operator_only"), (200, "")),
        ("suspended", "cancelled", (200, ""), (200, "")),
        ("cancelled", "active", (403, "operator_only"), (200, "")),
        (
            "cancelled",
            "suspended",
            (409, "status_transition_invalid"),
            (409, "status_transition_invalid"),
        ),
    ],
)
async def test_a_status_follows_only_where_it_may_and_by_whom(
    house: House, code_of: CodeOf, start: str, to: str,
    by_owner: tuple[int, str], by_operator: tuple[int, str],
) -> None:  # fmt: skip
    for who, expected in (("owner", by_owner), ("admin", None), ("operator", by_operator)):
        made = await house.organization()
        for step in {
            "active": ["active"],
            "suspended": ["suspended"],
            "cancelled": ["cancelled"],
        }.get(start, []):
            await house.rows("update organizations set status = %s where id = %s", step, made["id"])
        caller = None if who == "operator" else (await house.member(made["id"], who))[1]
        async with house.client(caller) as client:
            done = await client.post(f"/v1/organizations/{made['id']}/status", json={"status": to})
        if who == "admin":
            assert done.status_code == (200 if start == to else 403), done.text
        else:
            assert code_of(done) == expected, (who, done.text)


async def test_only_a_cancelled_organization_is_deleted_and_comes_back(
    house: House, code_of: CodeOf
) -> None:
    made = await house.organization()
    path = f"/v1/organizations/{made['id']}"
    async with house.client() as operator:
        assert code_of(await operator.delete(path)) == (409, "organization_not_cancelled")
        await operator.post(path + "/status", json={"status": "cancelled"})
        assert (await operator.delete(path)).json()["deleted_at"] is not None
        assert code_of(await operator.get(path)) == (404, "organization_not_found")
        assert code_of(await operator.patch(path, json={"phone": "1"})) == (
            404,
            "organization_not_found",
        )
        taken = await operator.post(
            "/v1/organizations", json={"name": "Other", "slug": made["slug"], "email": "a@b.no"}
        )
        assert code_of(taken) == (409, "slug_taken")
        assert (await operator.post(path + "/restore")).json()["status"] == "cancelled"
        assert (await operator.get(path)).status_code == 200


async def test_what_is_billed_is_not_deleted(house: House, code_of: CodeOf) -> None:
    made = await house.organization()
    path = f"/v1/organizations/{made['id']}"
    async with house.client() as operator:
        await operator.post(path + "/status", json={"status": "cancelled"})
        await house.rows(
            "insert into subscriptions (organization_id, plan_id, plan_name, price_monthly,"
            " current_period_start, current_period_end)"
            " values (%s, 'basic', 'Basic', 1, now(), now() + interval '1 month')",
            made["id"],
        )
        assert code_of(await operator.delete(path)) == (409, "subscription_running")


async def test_a_foreign_organization_is_a_missing_one_and_a_low_role_is_told(
    house: House, code_of: CodeOf
) -> None:
    mine, other = await house.organization(), await house.organization()
    _, viewer = await house.member(mine["id"], "viewer")
    key = Caller("key", organization_id=None)
    calls: list[tuple[str, str, Any]] = [
        ("PATCH", "", {"phone": "1"}),
        ("POST", "/status", {"status": "cancelled"}),
        ("DELETE", "", None),
        ("POST", "/restore", None),
        ("GET", "/users", None),
        ("GET", f"/users/{uuid4()}", None),
        ("PATCH", f"/users/{uuid4()}", {"name": "x"}),
        ("DELETE", f"/users/{uuid4()}", None),
        ("POST", "/invitations", {"email": "a@b.no", "name": "A"}),
        ("GET", "/invitations", None),
        ("POST", f"/invitations/{uuid4()}/resend", None),
        ("DELETE", f"/invitations/{uuid4()}", None),
    ]
    for method, rest, body in calls:
        async with house.client(viewer) as client:
            foreign = await client.request(
                method, f"/v1/organizations/{other['id']}{rest}", json=body
            )
            missing = await client.request(method, f"/v1/organizations/{uuid4()}{rest}", json=body)
            own = await client.request(method, f"/v1/organizations/{mine['id']}{rest}", json=body)
        assert code_of(foreign) == code_of(missing) == (404, "organization_not_found"), (
            method,
            rest,
        )
        assert own.status_code in (403, 404), (method, rest, own.text)
        assert own.json()["code"] in (
            "role_forbidden", "operator_only", "user_not_found", "invitation_not_found",
        )  # fmt: skip
        async with house.client(key) as client:
            by_key = await client.request(
                method, f"/v1/organizations/{other['id']}{rest}", json=body
            )
        assert code_of(by_key) == (404, "organization_not_found")


async def test_an_admin_changes_details_but_not_the_slug(house: House, code_of: CodeOf) -> None:
    made = await house.organization()
    _, admin = await house.member(made["id"], "admin")
    path = f"/v1/organizations/{made['id']}"
    async with house.client(admin) as client:
        assert (await client.patch(path, json={"phone": "1"})).json()["phone"] == "1"
        assert code_of(await client.patch(path, json={"slug": "new"})) == (403, "operator_only")
        assert (await client.get(path)).status_code == 200
