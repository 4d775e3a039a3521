"""Keys over HTTP and at the command line: changed, rotated with an overlap, revoked."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from tests.journeys.conftest import Aurora, Customer, problem_of, sign_up, slug_of

from aurora.core import clock
from aurora.core.secrets import is_well_formed


async def code_of(server: Aurora, key: str, **fields: Any) -> str:
    """What the gate says of a key right now."""
    async with server.client("") as anybody:
        answer = await anybody.post("/v1/keys/verify", json={"key": key, **fields})
    code: str = answer.json()["code"]
    return code


def keys_of(customer: Customer) -> str:
    """Where an organization's keys are."""
    return f"/v1/organizations/{customer.id}/keys"


async def test_a_key_is_changed_over_http_in_what_is_named_and_at_once(server: Aurora) -> None:
    customer = await sign_up(server)
    path = f"{keys_of(customer)}/{customer.key_id}"
    async with server.client() as operator:
        before = (await operator.get(path)).json()
        changes = {
            "scopes": ["analytics:read"],
            "ip_whitelist": ["192.0.2.0/24"],
            "metadata": {"team": "web"},
            "rate_limit_per_hour": 5,
        }
        assert await code_of(server, customer.key, scope="aurora:read") == "VALID"
        changed = (await operator.patch(path, json=changes)).json()
        assert changed == before | changes | {"last_used_at": changed["last_used_at"]}
        inside = {"ip": "192.0.2.9", "scope": "analytics:read"}
        assert await code_of(server, customer.key, **inside) == "VALID"
        assert await code_of(server, customer.key, **inside | {"scope": "aurora:read"}) == (
            "SCOPE_MISSING"
        )
        assert await code_of(server, customer.key, **inside | {"ip": "198.51.100.1"}) == "IP_DENIED"
        for wrong in ({"scopes": ["everything"]}, {"key": "x"}, {"status": "active"}):
            assert problem_of(await operator.patch(path, json=wrong))["status"] == 422


async def test_a_rotated_key_goes_on_for_its_overlap_and_the_new_one_begins_at_once(
    server: Aurora,
) -> None:
    customer = await sign_up(server, metadata={"team": "web"})
    path = f"{keys_of(customer)}/{customer.key_id}"
    async with server.client() as operator:
        before = clock.now()
        answer = await operator.post(f"{path}/rotate", json={"overlap_s": 3600})
        made, old = answer.json(), (await operator.get(path)).json()
        assert answer.status_code == 201
        assert is_well_formed(made["key"])
        assert made["rotated_from"] == customer.key_id
        for kept in ("name", "scopes", "environment", "rate_limit_per_hour", "metadata"):
            assert made[kept] == old[kept]
        ends = clock.as_utc(datetime.fromisoformat(old["expires_at"]))
        assert timedelta(seconds=3595) < ends - before < timedelta(seconds=3630)
        assert await code_of(server, customer.key) == "VALID"
        assert await code_of(server, made["key"]) == "VALID"
        # Without an overlap the old one is dead before the answer comes.
        last = (
            await operator.post(f"{keys_of(customer)}/{made['id']}/rotate", json={"overlap_s": 0})
        ).json()
        assert await code_of(server, made["key"]) in {"REVOKED", "EXPIRED"}
        assert await code_of(server, last["key"]) == "VALID"
        # What is shown once is shown nowhere else.
        listed = await operator.get(keys_of(customer))
        assert not any(key in listed.text for key in (made["key"], last["key"]))
        other = await sign_up(server)
        theirs = await operator.post(f"{keys_of(other)}/{customer.key_id}/rotate", json={})
        assert problem_of(theirs)["code"] == "api_key_not_found"


async def test_the_command_line_changes_and_rotates_keys(server: Aurora) -> None:
    customer = await sign_up(server)
    slug = await slug_of(server, customer)
    assert await code_of(server, customer.key) == "VALID"

    async def key(*arguments: str) -> Any:
        return await asyncio.to_thread(server.json, "key", *arguments, "--org", slug)

    changed = await key(
        "update",
        customer.key_id,
        *("--name", "New name", "--scope", "analytics:read", "--limit", "9", "--burst", "3"),
        *("--ip", "192.0.2.0/24", "--metadata", '{"team": "web"}'),
    )
    assert changed["metadata"] == {"team": "web"}
    assert (changed["name"], changed["scopes"]) == ("New name", ["analytics:read"])
    assert (changed["rate_limit_per_hour"], changed["burst_per_second"]) == (9, 3)
    assert changed["ip_whitelist"] == ["192.0.2.0/24"]
    assert changed["allowed_origins"] == ["*"]
    again = await key("update", customer.key_id, "--any-ip")
    assert again["ip_whitelist"] is None
    assert (again["name"], again["metadata"]) == ("New name", {"team": "web"})
    for wrong in ("[1]", "{", '"x"'):
        arguments = ("key", "update", customer.key_id, "--org", slug, "--metadata", wrong)
        assert (await asyncio.to_thread(server.cli, *arguments)).code == 1
    made = await key("rotate", customer.key_id, "--overlap", "0")
    assert made["rotated_from"] == customer.key_id
    # Another process made the change: it is heard of within the lease.
    await asyncio.sleep(1)
    assert await code_of(server, customer.key) in {"REVOKED", "EXPIRED"}
    assert await code_of(server, made["key"]) == "VALID"
    refused = await asyncio.to_thread(server.cli, "key", "rotate", customer.key_id, "--org", slug)
    assert refused.code == 1
    assert made["key"] not in refused.err
