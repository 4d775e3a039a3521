"""Passwords: the rules, the hash, and that nobody learns who is known here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from hypothesis import given
from hypothesis import strategies as st
from tests.features.sign_in.conftest import EMAIL, PASSWORD, VISITOR, World

from aurora.core.secrets import hash_key
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.sign_in import limits, passwords, service
from aurora.features.sign_in.model import (
    PasswordUnsuitable,
    PasswordWrong,
    SessionUse,
    SignInElsewhere,
    SignInFailed,
    TooManyAttempts,
)
from aurora.features.sign_in.passwords import check_password, hash_password, verify_password


@pytest.mark.parametrize(
    "password",
    [
        "eleven char",
        "x" * 1001,
        "ø" * 501,
        EMAIL,
        "KARI@hotel.example",
        "kari\uff20hotel.example",
        "half a surrogate \ud800",
        "\ufdfa" * 60,
    ],
)
def test_an_unsuitable_password_is_refused(password: str) -> None:
    with pytest.raises(PasswordUnsuitable):
        check_password(password, email=EMAIL)


@given(st.text(min_size=1, max_size=400))
def test_a_checked_password_is_normal_long_enough_and_bounded(password: str) -> None:
    try:
        checked = check_password(password, email=EMAIL)
    except PasswordUnsuitable:
        return
    assert checked == passwords.normalise(checked)
    assert len(checked) >= 12
    assert len(checked.encode()) <= 1000


async def test_two_keyboards_type_the_same_password() -> None:
    hashed = await hash_password(check_password("smørbrød på é", email=EMAIL))
    assert (await verify_password("smørbrød på e\u0301", hashed)).matches
    assert not (await verify_password("smørbrød på e", hashed)).matches


def test_the_dummy_hash_costs_what_a_real_one_costs() -> None:
    parameters = extract_parameters(passwords.DUMMY_HASH)
    assert (parameters.time_cost, parameters.memory_cost, parameters.parallelism) == (3, 65536, 4)
    assert parameters == extract_parameters(passwords._hash("some password"))


async def test_hashing_leaves_the_loop_free() -> None:
    ticks = 0
    hashing = asyncio.create_task(hash_password(PASSWORD))
    while not hashing.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks > 3


async def test_a_flood_of_hashes_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MAX_HASHES_WAITING", 1)
    found = await asyncio.gather(
        *(verify_password(PASSWORD, None) for _ in range(3)), return_exceptions=True
    )
    assert [type(each).__name__ for each in found].count("TooManyHashes") == 2
    assert not (await verify_password(PASSWORD, None)).matches


async def test_the_right_password_opens_a_session(world: World) -> None:
    auth_id = await world.person()
    made = await service.sign_in_with_password(
        world.pool, email="Kari@Hotel.example ", password=PASSWORD, visitor=VISITOR
    )
    assert made.session.auth_id == auth_id
    assert made.token not in repr(made)
    [(hashed,)] = await world.admin("select token_hash from sessions")
    assert hashed == hash_key(made.token)


@pytest.mark.parametrize("known", [True, False, None])
async def test_member_and_stranger_are_refused_alike_after_one_comparison(
    world: World, monkeypatch: pytest.MonkeyPatch, known: bool | None
) -> None:
    if known is not False:
        await world.person(password=PASSWORD if known else None)
    compared: list[str] = []
    real = passwords._verify

    def spy(password: str, password_hash: str) -> Any:
        compared.append(password_hash)
        return real(password, password_hash)

    monkeypatch.setattr(passwords, "_verify", spy)
    with pytest.raises(SignInFailed) as refused:
        await service.sign_in_with_password(
            world.pool, email=EMAIL, password="not the password", visitor=VISITOR
        )
    assert refused.value.detail == SignInFailed.title
    assert len(compared) == 1
    assert (compared == [passwords.DUMMY_HASH]) is not (known is True)


async def test_a_kelvin_sign_finds_nobody(world: World) -> None:
    await world.person()
    with pytest.raises(SignInFailed):
        await service.sign_in_with_password(
            world.pool, email="\u212aari@hotel.example", password=PASSWORD, visitor=VISITOR
        )


async def test_another_systems_hash_never_matches(world: World) -> None:
    await world.person(password=None)
    await world.admin("update auth.users set encrypted_password = '$2a$10$abcdefghijklmnopqrstuv'")
    with pytest.raises(SignInFailed):
        await service.sign_in_with_password(
            world.pool, email=EMAIL, password=PASSWORD, visitor=VISITOR
        )


async def test_an_old_hash_is_made_anew_at_sign_in(world: World) -> None:
    await world.person(password=None)
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    await world.admin("update auth.users set encrypted_password = %s", weak)
    await service.sign_in_with_password(world.pool, email=EMAIL, password=PASSWORD, visitor=VISITOR)
    [(hashed,)] = await world.admin("select encrypted_password from auth.users")
    assert "m=65536,t=3,p=4" in hashed
    assert (await verify_password(PASSWORD, hashed)).matches


async def test_attempts_at_one_address_are_limited_and_come_back(world: World) -> None:
    limit = limits.PASSWORD_BY_ADDRESS
    for _ in range(limit.attempts):
        async with transaction(world.pool, PLATFORM) as conn:
            await limits.take(conn, (limit, EMAIL))
    with pytest.raises(TooManyAttempts) as refused:
        await service.sign_in_with_password(
            world.pool, email=EMAIL.upper(), password=PASSWORD, visitor=VISITOR
        )
    assert 1 <= refused.value.facts["retry_after_s"] <= 90
    await world.later("91 seconds")
    with pytest.raises(SignInFailed):
        await service.sign_in_with_password(
            world.pool, email=EMAIL, password=PASSWORD, visitor=VISITOR
        )


async def test_concurrent_attempts_never_pass_the_limit(world: World) -> None:
    async def attempt() -> bool:
        try:
            async with transaction(world.pool, PLATFORM) as conn:
                await limits.take(conn, (limits.LINK_BY_ADDRESS, EMAIL))
        except TooManyAttempts:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt() for _ in range(20)))) == 3


def test_the_table_of_limits_has_a_largest_size() -> None:
    found = {limits.bucket_of(f"{number}@x.example") for number in range(5000)}
    assert max(found) < 2**20
    assert len(found) > 4900


async def test_a_changed_password_ends_the_other_sessions(world: World) -> None:
    auth_id = await world.person()
    here, there = [
        await service.sign_in_with_password(
            world.pool, email=EMAIL, password=PASSWORD, visitor=VISITOR
        )
        for _ in range(2)
    ]
    who = SessionUse(id=here.session.id, auth_id=auth_id, email=EMAIL, is_operator=False)
    for wrong in ("not the password", None):
        with pytest.raises(PasswordWrong):
            await service.change_password(
                world.pool, who=who, current_password=wrong, new_password="another password"
            )
    await service.change_password(
        world.pool, who=who, current_password=PASSWORD, new_password="another password"
    )
    async with transaction(world.pool, PLATFORM) as conn:
        assert await service.find_session(conn, here.token) is not None
        assert await service.find_session(conn, there.token) is None
    with pytest.raises(SignInFailed):
        await service.sign_in_with_password(
            world.pool, email=EMAIL, password=PASSWORD, visitor=VISITOR
        )


async def test_on_supabase_passwords_are_off_and_it_says_so(world: World) -> None:
    await world.person()
    await world.admin("create table auth.identities (id uuid)")
    with pytest.raises(SignInElsewhere, match="Supabase"):
        await service.sign_in_with_password(
            world.pool, email=EMAIL, password=PASSWORD, visitor=VISITOR
        )
    with pytest.raises(SignInElsewhere, match="Supabase"):
        async with transaction(world.pool, PLATFORM) as conn:
            await service.admit_link_request(conn, email=EMAIL, visitor=VISITOR)
