"""Questions of the middleware that go to Aurora in one call, over a socket to a real server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.journeys.behind_the_gate import Network
from tests.journeys.conftest import Aurora, Customer, sign_up

from aurora.client import calls
from aurora.client.errors import Refused
from aurora.client.model import MAX_QUESTIONS_PER_CALL, Question, Verdict
from aurora.client.remote import AWAY_S, RemoteVerifier, _Waiting

TIMEOUT_S = 0.5
MANY = 250
SPOILT = "x" * 200
"""A scope that the door takes for no question at all."""


@pytest.fixture
async def customers(server: Aurora) -> list[Customer]:
    return [await sign_up(server, rate_limit_per_hour=1_000) for _ in range(3)]


@asynccontextmanager
async def asking(
    server: Aurora,
    kind: type[RemoteVerifier] = RemoteVerifier,
    timeout_s: float = 10.0,
) -> AsyncIterator[tuple[RemoteVerifier, Network]]:
    """A verifier, and the network between it and Aurora."""
    async with Network(server.address) as network:
        verifier = kind(network.url, server.token, timeout_s)
        try:
            yield verifier, network
        finally:
            await verifier.close()


async def verdicts_on(verifier: RemoteVerifier, keys: list[str]) -> list[Verdict]:
    return await asyncio.gather(*(verifier.verify(Question(key=key)) for key in keys))


class Crossed(RemoteVerifier):
    """The wrong version: each gets the verdict on another one's question."""

    async def _ask(self, asked: list[_Waiting]) -> None:
        turned = zip(asked, reversed(asked), strict=True)
        await super()._ask([_Waiting(one.question, other.answer, 0.0) for one, other in turned])


class Alone(RemoteVerifier):
    """The wrong version: every question is a call."""

    connections = asyncio.Semaphore(8)

    async def verify(self, question: Question) -> Verdict:
        """Ask about nothing else."""
        async with self.connections:
            return await self._aurora.send(calls.verify(question))


class Spoilt(RemoteVerifier):
    """The wrong version: what is wrong with one question is told of all in its call."""

    async def _ask(self, asked: list[_Waiting]) -> None:
        with contextlib.suppress(Refused):
            call = calls.verify_many([each.question for each in asked])
            verdicts: list[Verdict] = await self._aurora.send(call)
            for each, verdict in zip(asked, verdicts, strict=True):
                each.answer.set_result(verdict)


class Tied(RemoteVerifier):
    """The wrong version: who waits holds the call, and takes it along when it leaves."""

    shared: asyncio.Future[list[Verdict]] | None = None
    asked = 0

    async def verify(self, question: Question) -> Verdict:
        """Wait for the call itself."""
        if self.shared is None:
            self.shared = asyncio.ensure_future(
                self._aurora.send(calls.verify_many([question] * 9))
            )
        place = self.asked
        self.asked += 1
        return (await self.shared)[place]


async def _mixed(
    server: Aurora, customers: list[Customer], kind: type[RemoteVerifier]
) -> list[int]:
    """Ask for many kinds of keys at once; return how many questions each call had."""
    one, other, third = customers
    keys = [
        (one.key, one.key_id),
        (other.key, other.key_id),
        (third.key, third.key_id),
        ("typo", None),
    ]
    asked = [keys[number % 4] for number in range(MANY)]
    async with asking(server, kind) as (verifier, network):
        found = await verdicts_on(verifier, [key for key, _ in asked])
        assert [str(each.key_id) for each in found] == [str(whose) for _, whose in asked]
        assert {each.code for each in found[3::4]} == {"MALFORMED"}
        # A verdict is worth one request: each took one.
        left = [each.limits.remaining or 0 for each in found[::4] if each.limits is not None]
        assert len(set(left)) == len(left)
    return network.questions


async def test_everybody_gets_the_verdict_on_the_own_key_in_a_few_calls(
    server: Aurora, customers: list[Customer]
) -> None:
    questions = await _mixed(server, customers, RemoteVerifier)
    assert sum(questions) == MANY
    assert max(questions) == MAX_QUESTIONS_PER_CALL
    assert len(questions) == 3


async def test_the_wrong_versions_are_seen(server: Aurora, customers: list[Customer]) -> None:
    assert set(await _mixed(server, customers, Alone)) == {1}
    with pytest.raises(AssertionError):
        await _mixed(server, customers, Crossed)


async def test_who_comes_alone_is_asked_about_alone(
    server: Aurora, customers: list[Customer]
) -> None:
    async with asking(server) as (verifier, network):
        for _ in range(3):
            (verdict,) = await verdicts_on(verifier, [customers[0].key])
            assert verdict.valid
    assert network.questions == [1, 1, 1]


@pytest.mark.parametrize(("kind", "passed"), [(RemoteVerifier, 19), (Spoilt, 0)])
async def test_a_question_that_aurora_cannot_read_spoils_no_other(
    server: Aurora, customers: list[Customer], kind: type[RemoteVerifier], passed: int
) -> None:
    scopes = [None] * 7 + [SPOILT] + [None] * 12
    async with asking(server, kind) as (verifier, _):
        questions = [Question(key=customers[0].key, scope=scope) for scope in scopes]
        found = await asyncio.gather(*map(verifier.verify, questions))
        assert sum(each.valid for each in found) == passed
        assert found[7].code == "UNAVAILABLE"
        # It is no outage: who comes after it is asked about.
        assert verifier.verify_at_once(questions[0]) is None


@pytest.mark.parametrize(("kind", "passed"), [(RemoteVerifier, 8), (Tied, 0)])
async def test_who_leaves_takes_no_verdict_of_others_along(
    server: Aurora, customers: list[Customer], kind: type[RemoteVerifier], passed: int
) -> None:
    async with asking(server, kind) as (verifier, network):
        asked = [
            asyncio.create_task(verifier.verify(Question(key=customers[0].key))) for _ in range(9)
        ]
        while not network.questions:  # noqa: ASYNC110 - what is waited for is under way elsewhere
            await asyncio.sleep(0)
        asked[4].cancel()
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[4], asyncio.CancelledError)
    assert sum(isinstance(each, Verdict) and each.valid for each in found) == passed


@pytest.mark.parametrize("mode", ["down", "hangs"])
async def test_where_no_answer_comes_all_who_wait_hear_so_in_time(
    server: Aurora, customers: list[Customer], mode: str
) -> None:
    async with asking(server, timeout_s=TIMEOUT_S) as (verifier, network):
        network.mode = mode
        began_s = time.monotonic()
        found = await verdicts_on(verifier, [customers[0].key] * MANY)
        assert {each.code for each in found} == {"UNAVAILABLE"}
        assert time.monotonic() - began_s < 4 * TIMEOUT_S
        # Nobody waits for what is known to be away, and soon it is asked again.
        away = verifier.verify_at_once(Question(key=customers[0].key))
        assert away is not None
        assert away.code == "UNAVAILABLE"
        network.mode = "passes"
        await asyncio.sleep(AWAY_S)
        assert verifier.verify_at_once(Question(key=customers[0].key)) is None
        (verdict,) = await verdicts_on(verifier, [customers[0].key])
        assert verdict.valid


async def test_who_waits_at_the_end_is_told(server: Aurora, customers: list[Customer]) -> None:
    async with asking(server) as (verifier, network):
        network.mode = "hangs"
        waiting = asyncio.ensure_future(verdicts_on(verifier, [customers[0].key] * MANY))
        await asyncio.sleep(0.05)
        await verifier.close()
        found = await asyncio.wait_for(waiting, TIMEOUT_S)
    assert {each.code for each in found} == {"UNAVAILABLE"}
