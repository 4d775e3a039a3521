"""What is overdue through its HTTP door, which only operators enter."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import httpx
import pytest
from tests.features.invoices.test_overdue import SUSPENDED, a_debtor
from tests.features.invoices.test_settling_doors import NOBODY
from tests.features.organizations.conftest import House

from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.overdue import enter_policy
from aurora.integrations.http import Caller

Code = Callable[[httpx.Response], tuple[int, str]]
POLICY = {"valid_from": "2030-01-01", "reminder_days": [14, 3], "suspend_days": None}


async def test_an_operator_sees_chases_and_exempts(house: House, code_of: Code) -> None:
    async with transaction(house.pool, PLATFORM) as conn:
        debtor = await a_debtor(conn)
    async with house.client() as operator:
        path = f"/v1/organizations/{debtor}/overdue-exemption"
        assert (await operator.get("/v1/overdue")).json() == {"items": []}
        await house.rows("delete from app.clock")
        await house.rows(f"insert into app.clock (shift) values (interval '{SUSPENDED + 1} days')")
        first = (await operator.post("/v1/overdue/chase")).json()
        assert first == {"reminded": 1, "suspended": 0, "reactivated": 0}
        [late] = (
            await operator.get("/v1/overdue", params={"organization_id": str(debtor)})
        ).json()["items"]
        assert (late["days_late"], late["reminders"], late["exempt"]) == (46, 1, False)
        assert late["amount_due"] == "4375.00"
        assert (await operator.put(path, json={"reason": "A dispute"})).status_code == 204
        [late] = (await operator.get("/v1/overdue")).json()["items"]
        assert late["exempt"] is True
        assert (await operator.delete(path)).status_code == 204
        [late] = (await operator.get("/v1/overdue")).json()["items"]
        assert late["exempt"] is False
        unknown = await operator.put(
            f"/v1/organizations/{NOBODY}/overdue-exemption", json={"reason": "A dispute"}
        )
        assert code_of(unknown) == (404, "organization_not_found")
        blank = await operator.put(path, json={"reason": "  "})
        assert code_of(blank) == (422, "overdue_policy_invalid")


async def test_a_longer_policy_of_the_command_line_is_shown(house: House) -> None:
    async with transaction(house.pool, PLATFORM) as conn:
        await enter_policy(conn, since=date(2030, 1, 1), reminder_days=[7], suspend_days=400)
    async with house.client() as operator:
        newest, *_ = (await operator.get("/v1/overdue/policies")).json()["items"]
    assert newest["suspend_days"] == 400


async def test_an_operator_enters_a_policy(house: House, code_of: Code) -> None:
    async with house.client() as operator:
        made = await operator.post("/v1/overdue/policies", json=POLICY)
        assert (made.status_code, made.json()) == (201, POLICY | {"reminder_days": [3, 14]})
        newest, *_ = (await operator.get("/v1/overdue/policies")).json()["items"]
        assert newest == made.json()
        for wrong in (
            POLICY | {"reminder_days": []},
            POLICY | {"reminder_days": [0]},
            POLICY | {"suspend_days": 366},
            POLICY | {"fee": 35},
        ):
            refused = await operator.post("/v1/overdue/policies", json=wrong)
            assert refused.status_code == 422, wrong
        sooner = POLICY | {"valid_from": "2030-02-01", "suspend_days": 10}
        refused = await operator.post("/v1/overdue/policies", json=sooner)
        assert code_of(refused) == (422, "overdue_policy_invalid")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/overdue"),
        ("POST", "/v1/overdue/chase"),
        ("GET", "/v1/overdue/policies"),
        ("POST", "/v1/overdue/policies"),
        ("PUT", f"/v1/organizations/{NOBODY}/overdue-exemption"),
        ("DELETE", f"/v1/organizations/{NOBODY}/overdue-exemption"),
    ],
)
async def test_nobody_else_enters(method: str, path: str, house: House, code_of: Code) -> None:
    body = {"POST": POLICY, "PUT": {"reason": "Mine"}}.get(method)
    for who in (
        Caller("key", organization_id=NOBODY, scopes=frozenset({"billing:read"})),
        Caller("person", person_id=NOBODY),
    ):
        async with house.client(who) as client:
            assert (await client.request(method, path, json=body)).status_code == 403
