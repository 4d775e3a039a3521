"""Operators keep the catalogue and the coupons; what was bought stays as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.builders import a_subscription, an_organization
from tests.features.organizations.conftest import House

from aurora.db.transaction import PLATFORM, transaction
from aurora.integrations.http import Caller

Code = Callable[[httpx.Response], tuple[int, str]]
A_CUSTOMER = Caller("key", organization_id=uuid4(), scopes=frozenset({"billing:read"}))
SUMMER = {"id": "summer", "name": "Summer", "price_monthly": "1000.00", "overage_rate": "50"}
GRADUATED = {"model": "graduated", "tiers": [{"up_to": 10, "unit": 10}, {"unit": 5}]}


async def test_a_changed_price_is_a_new_version_that_no_running_subscription_feels(
    house: House,
) -> None:
    async with house.client() as operator:
        assert (await operator.post("/v1/plans", json=SUMMER)).status_code == 201
        async with transaction(house.pool, PLATFORM) as conn:
            organization = await an_organization(conn)
            await a_subscription(conn, organization, plan_id="summer")
        changed = await operator.patch("/v1/plans/summer", json={"price_monthly": "1200.00"})
        assert (changed.json()["version"], changed.json()["overage_rate"]) == (2, "50.0000")
        versions = (await operator.get("/v1/plans/summer/versions")).json()["items"]
        sold = (await operator.get(f"/v1/organizations/{organization.id}/subscription")).json()
    assert [each["price_monthly"] for each in versions] == ["1200.00", "1000.00"]
    assert sold["price_monthly"] == "1000.00"


async def test_a_plan_that_was_bought_is_retired_and_not_deleted(
    house: House, code_of: Code
) -> None:
    async with house.client() as operator:
        await operator.post("/v1/plans", json=SUMMER)
        await operator.post("/v1/plans", json=SUMMER | {"id": "winter"})
        async with transaction(house.pool, PLATFORM) as conn:
            await a_subscription(conn, await an_organization(conn), plan_id="summer")
        assert code_of(await operator.delete("/v1/plans/summer")) == (409, "plan_in_use")
        assert (await operator.delete("/v1/plans/winter")).status_code == 204
        assert code_of(await operator.delete("/v1/plans/winter")) == (404, "plan_not_found")
        retired = await operator.patch("/v1/plans/summer", json={"is_active": False})
        assert (retired.json()["is_active"], retired.json()["version"]) == (False, 1)
        assert (await operator.get("/v1/plans/summer")).status_code == 200
    async with house.client(A_CUSTOMER) as customer:
        assert code_of(await customer.get("/v1/plans/summer")) == (404, "plan_not_found")
        listed = (await customer.get("/v1/plans")).json()["items"]
        assert "summer" not in {each["id"] for each in listed}


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"price_monthly": "-1"}, 422, None),
        ({"price_monthly": "1.001"}, 422, None),
        ({"overage_rate": "-0.01"}, 422, None),
        ({"included_impressions": -1}, 422, None),
        ({"currency": "XXZ"}, 422, "currency_unknown"),
        ({"currency": "JPY", "price_monthly": "10.50"}, 422, "price_invalid"),
        ({"id": "Sommer!"}, 422, None),
        ({"id": "basic"}, 409, "plan_exists"),
        ({"price_model": {"model": "magic"}}, 422, "price_model_invalid"),
        ({"price_model": {"model": "graduated", "tiers": [{"up_to": 10, "unit": -1}]}},
         422, "price_model_invalid"),
        ({"price_model": {"model": "graduated", "tiers": [{"up_to": 10, "unit": 1}]}},
         422, "tiers_end"),
        ({"price_model": {"model": "graduated", "ranges": [
            {"from": 0, "to": 10, "unit": 1}, {"from": 5, "to": None, "unit": 2}]}},
         422, "tiers_overlap"),
    ],
)  # fmt: skip
async def test_terms_that_make_no_sense_are_refused(
    changes: dict[str, Any], status: int, code: str | None, house: House, code_of: Code
) -> None:
    async with house.client() as operator:
        refused = await operator.post("/v1/plans", json=SUMMER | changes)
        listed = (await operator.get("/v1/plans")).json()["items"]
    assert refused.status_code == status, refused.text
    assert code in (None, code_of(refused)[1]), refused.text
    assert "summer" not in {each["id"] for each in listed}


async def test_a_coupon_is_made_listed_and_retired(house: House, code_of: Code) -> None:
    async with house.client() as operator:
        made = await operator.post("/v1/coupons", json={"code": "SUMMER", "percent": "20"})
        again = await operator.post("/v1/coupons", json={"code": "SUMMER", "percent": "20"})
        both = {"code": "BOTH", "percent": "20", "amount": "5.00", "currency": "NOK"}
        neither = {"code": "NONE"}
        refused = [await operator.post("/v1/coupons", json=body) for body in (both, neither)]
        retired = await operator.post("/v1/coupons/SUMMER/retire")
        missing = await operator.post("/v1/coupons/NOTHING/retire")
        listed = (await operator.get("/v1/coupons")).json()["items"]
    assert (made.status_code, made.json()["redemptions"]) == (201, 0)
    assert code_of(again) == (409, "coupon_exists")
    assert [code_of(each) for each in refused] == [(422, "coupon_invalid")] * 2
    assert retired.json()["is_active"] is False
    assert code_of(missing) == (404, "coupon_not_found")
    assert [each["code"] for each in listed] == ["SUMMER"]


async def test_nobody_but_an_operator_keeps_the_catalogue(house: House, code_of: Code) -> None:
    organization = await house.organization()
    _, owner = await house.member(organization["id"], "owner")
    calls = (
        ("POST", "/v1/plans", SUMMER), ("PATCH", "/v1/plans/basic", {"price_monthly": "1.00"}),
        ("DELETE", "/v1/plans/basic", None), ("GET", "/v1/plans/basic/versions", None),
        ("GET", "/v1/coupons", None), ("POST", "/v1/coupons", {"code": "FREE", "percent": "100"}),
        ("POST", "/v1/coupons/FREE/retire", None),
    )  # fmt: skip
    for caller in (A_CUSTOMER, owner):
        async with house.client(caller) as client:
            for method, url, body in calls:
                refused = await client.request(method, url, json=body)
                assert code_of(refused) == (403, "operator_only"), url


def test_the_command_line_keeps_the_catalogue(aurora: Any, tmp_path: Path) -> None:
    model = tmp_path / "model.json"
    model.write_text(json.dumps(GRADUATED))
    made = aurora("plan", "create", "summer", "--name", "Summer", "--monthly", "1000", "--included",
                  "10", "--price-model", str(model), "--json")[1]  # fmt: skip
    assert (made["overage_model"], made["price_model"]["model"]) == ("price_model", "graduated")
    changed = aurora("plan", "change", "summer", "--monthly", "1200", "--json")[1]
    assert (changed["version"], changed["included_impressions"]) == (2, 10)
    versions = aurora("plan", "versions", "summer", "--json")[1]
    assert [each["version"] for each in versions] == [2, 1]
    assert aurora("plan", "retire", "summer", "--json")[1]["is_active"] is False
    assert "summer" not in {each["id"] for each in aurora("plan", "list", "--json")[1]}
    assert "summer" in {each["id"] for each in aurora("plan", "list", "--retired", "--json")[1]}
    assert aurora("plan", "restore", "summer", "--json")[1]["is_active"] is True
    assert aurora("plan", "delete", "summer")[0] == 0
    ten = ("--amount", "10", "--bills", "3", "--until", "2030-12-31", "--json")
    coupon = aurora("coupon", "create", "TEN", *ten)[1]
    assert (coupon["currency"], coupon["redeem_until"]) == ("NOK", "2030-12-31T23:00:00Z")
    assert [each["code"] for each in aurora("coupon", "list", "--json")[1]] == ["TEN"]
    assert aurora("coupon", "retire", "TEN", "--json")[1]["is_active"] is False


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("plan", "create", "x", "--name", "X", "--monthly", "-1"), "price_invalid"),
        (("plan", "create", "x", "--name", "X", "--monthly", "much"), "price_invalid"),
        (("plan", "create", "x", "--name", "X", "--currency", "XXZ"), "currency_unknown"),
        (("plan", "create", "basic", "--name", "X"), "plan_exists"),
        (("plan", "create", "No!", "--name", "X"), "plan_invalid"),
        (("plan", "create", "x", "--name", "X", "--price-model", "/x"), "price_model_invalid"),
        (("plan", "change", "nothing", "--monthly", "1"), "plan_not_found"),
        (("plan", "delete", "nothing"), "plan_not_found"),
        (("coupon", "create", "A"), "coupon_invalid"),
        (("coupon", "create", "A", "--percent", "101"), "coupon_invalid"),
        (("coupon", "create", "a b", "--percent", "10"), "coupon_invalid"),
        (("coupon", "create", "A", "--amount", "1", "--until", "soon"), "coupon_invalid"),
        (("coupon", "retire", "A"), "coupon_not_found"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    arguments: tuple[str, ...], code: str, aurora: Any
) -> None:
    status, said = aurora(*arguments)
    assert (status, f"({code})" in said) == (1, True), said
