"""The ASGI middleware's own turns: who goes on when, and what is metered of who leaves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from tests.client.test_metering import Nowhere, _served

from aurora.client import AuroraMiddleware, asgi
from aurora.client.metering import Meter
from aurora.client.model import Question, Verdict
from aurora.client.spool import Spool, events_of

KEY = b"tro_test_DemoKeyForTryingAuroraOut12uJbbW"
VALID = Verdict(valid=True, code="VALID", organization_id=UUID(int=1), key_id=UUID(int=2))
PATIENCE_S = 5.0
NEVER_S = 0.3


class Told:
    """A verifier that lets everybody pass, and writes down in which order it was asked."""

    def __init__(self, order: list[str]) -> None:
        self.order = order

    async def open(self) -> None:
        """Open nothing."""

    def verify_at_once(self, question: Any, /) -> Verdict:
        """Write down who is asked about."""
        self.order.append(f"verify {question.origin}")
        return VALID

    async def verify(self, question: Any) -> Verdict:
        """Nothing here takes waiting."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close nothing."""


class Here(Nowhere):
    """Verifies at once, and sends nothing anywhere."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def verifier(self) -> Told:
        """Return what writes the order down."""
        return Told(self.order)


def _request(name: str) -> dict[str, Any]:
    headers = [(b"x-api-key", KEY), (b"origin", name.encode())]
    return {"type": "http", "method": "GET", "path": f"/{name}", "headers": headers}


async def _send(_message: Any) -> None:
    """Send nothing anywhere."""


@pytest.fixture
async def here() -> Here:
    return Here()


@pytest.fixture
async def middleware(here: Here, tmp_path: Path) -> AsyncIterator[AuroraMiddleware]:
    made = AuroraMiddleware(
        _app(here), backend=here, spool=tmp_path / "spool.db", close_timeout_s=0.1
    )
    await made(_request("first"), None, _send)  # type: ignore[arg-type]
    here.order.clear()
    yield made
    await made.close()


def _app(here: Here) -> Any:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        here.order.append(f"serve {scope['path'][1:]}")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


async def _together(middleware: AuroraMiddleware, *names: str) -> None:
    await asyncio.gather(*(middleware(_request(each), None, _send) for each in names))  # type: ignore[arg-type]


async def test_who_comes_in_one_turn_is_verified_in_a_row(
    middleware: AuroraMiddleware, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "CROWD_S", 60.0)
    await _together(middleware, "a", "b", "c")
    assert here.order == ["verify a", "verify b", "verify c", "serve a", "serve b", "serve c"]


async def test_one_that_comes_alone_waits_for_no_turn(
    middleware: AuroraMiddleware, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "CROWD_S", 0.0)
    await _together(middleware, "a", "b")
    assert here.order == ["verify a", "serve a", "verify b", "serve b"]


class Hasty(AuroraMiddleware):
    """The wrong version: it waits for its turn before anybody sees to what becomes of it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Take of the limit, and notice too late who leaves."""
        self._backend.verifier().verify_at_once(Question(key="", origin=scope["path"][1:]))
        await asyncio.sleep(0)
        await super().__call__(scope, receive, send)


async def _leave_in_the_turn(middleware: AuroraMiddleware, spool: Path) -> list[int]:
    """Let a request in, cancel it in the turn that it waits, and return what is metered."""
    leaving = asyncio.create_task(middleware(_request("leaves"), None, _send))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    leaving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leaving
    await middleware.close()
    return [status for path, status in _events(spool) if path == "/leaves"]


def _events(path: Path) -> list[tuple[str, int]]:
    spool = Spool(path)
    waiting = spool.next(1_000, 1_000_000)
    spool.close()
    events = [] if waiting is None else map(msgspec.json.decode, events_of(waiting.body))
    return [(each["endpoint"], each["status_code"]) for each in events]


async def test_who_leaves_in_the_turn_took_of_the_limit_and_is_metered(
    middleware: AuroraMiddleware, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "CROWD_S", 60.0)
    assert await _leave_in_the_turn(middleware, tmp_path / "spool.db") == [asgi.CLIENT_LEFT]
    assert here.order == ["verify leaves"]


async def test_a_turn_outside_meters_nobody_who_leaves_in_it(here: Here, tmp_path: Path) -> None:
    spool = tmp_path / "hasty.db"
    hasty = Hasty(_app(here), backend=here, spool=spool, close_timeout_s=0.1)
    await hasty(_request("first"), None, _send)
    here.order.clear()
    assert await _leave_in_the_turn(hasty, spool) == []
    assert here.order == ["verify leaves"]


class Interrupted(Meter):
    """A meter that notes a request at the worst moment: while the thread begins to listen."""

    interrupts = 0

    def _listen(self) -> None:
        if not self.interrupts:
            self.interrupts = 1
            self.note(_served(endpoint="/between"))
        super()._listen()


class Deaf(Interrupted):
    """The wrong version: it wants to be told again before it has cleared what it was told."""

    def _listen(self) -> None:
        self._is_told = False
        if not self.interrupts:
            self.interrupts = 1
            self.note(_served(endpoint="/between"))
        self._something.clear()


async def _until(true: Callable[[], bool], patience_s: float) -> bool:
    until_s = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > until_s:
            return False
        await asyncio.sleep(0.01)
    return True


@pytest.mark.parametrize(
    ("kind", "patience_s", "is_written"),
    [(Interrupted, PATIENCE_S, True), (Deaf, NEVER_S, False)],
)
async def test_what_is_noted_after_a_batch_is_taken_wakes_the_thread(
    kind: type[Interrupted], patience_s: float, is_written: bool, tmp_path: Path
) -> None:
    meter = kind(Nowhere(), tmp_path / "spool.db", flush_s=0.001)
    meter.note(_served(endpoint="/before"))
    assert await _until(lambda: meter.spool.waiting == 2, PATIENCE_S)
    meter.note(_served(endpoint="/after"))
    assert await _until(lambda: meter.spool.waiting == 3, patience_s) == is_written
    meter.close(0.1)
