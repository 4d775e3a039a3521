"""A head that came before is not parsed again; whatever differs from it is."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from tests.apps.test_at_once import (
    HOST,
    Application,
    ask,
    one,
    request,
    serving,
)

from aurora.apps.api import at_once as module
from aurora.apps.api import identity
from aurora.apps.api.at_once import HotProtocol
from aurora.features.gate.model import Verdict

END = b"\r\n\r\n"


class Counting(HotProtocol):
    """Counts the heads that are parsed."""

    parsed = 0

    def on_headers_complete(self) -> None:
        """Count."""
        type(self).parsed += 1
        super().on_headers_complete()


class Careless(HotProtocol):
    """The wrong version: what begins as an earlier request is taken for one, whole or not."""

    def data_received(self, data: bytes) -> None:
        """Look at the head alone."""
        begin = data.find(END) + len(END)
        head = self._at_once.heads.get(data[:begin]) if self._at_once else None
        if head is None or not self._answered(head, data[begin:], stays=True):
            self._packet = data
            super(HotProtocol, self).data_received(data)


async def answers(protocol: type[HotProtocol], *pieces: bytes, expected: int) -> list[bytes]:
    """Return the bodies of the answers to a plain request, and then to pieces."""
    async with serving(Application(), protocol) as port:
        found = await ask(port, request(b"ab"), *pieces, answers=1 + expected)
    return [body for _, body in found]


async def test_the_same_head_is_parsed_once_for_all_connections() -> None:
    Counting.parsed = 0
    async with serving(Application(), Counting) as port:
        for _ in range(2):
            found = await ask(port, *(request(b"%d" % n) for n in range(5)), answers=5)
            assert [body for _, body in found] == [b"at once:%d" % n for n in range(5)]
        assert Counting.parsed == 1
        # Another length and another name are other heads.
        found = await ask(port, request(b"12"), request(more="x-request-id: a\r\n"), answers=2)
        assert Counting.parsed == 3
    assert b"\nx-request-id: a\r" in found[1][0]


HEAD = request(b"ab").partition(END)[0] + END


@pytest.mark.parametrize(
    ("pieces", "bodies"),
    [
        ((HEAD, b"cd"), [b"cd"]),
        ((HEAD + b"c", b"d"), [b"cd"]),
        ((HEAD[:-1], HEAD[-1:] + b"cd"), [b"cd"]),
        ((HEAD + b"cd" + HEAD + b"ef",), [b"cd", b"ef"]),
        ((HEAD + b"cd" + HEAD, b"ef"), [b"cd", b"ef"]),
        ((b"\r\n" + HEAD + b"cd",), [b"cd"]),
    ],
    ids=["head first", "part", "head in two", "two at once", "one and a half", "blank line"],
)
async def test_what_only_begins_as_an_earlier_request_is_parsed(
    pieces: tuple[bytes, ...], bodies: list[bytes]
) -> None:
    found = await answers(HotProtocol, *pieces, expected=len(bodies))
    assert [body.rpartition(b":")[2] for body in found] == [b"ab", *bodies]


async def test_a_version_that_looks_at_the_head_alone_would_be_caught() -> None:
    found = await answers(Careless, HEAD + b"c", b"d", expected=1)
    assert found[1] != b"at once:cd"


async def test_what_lies_in_the_body_of_another_request_is_no_head() -> None:
    """Bytes that look as a request that came before, in the midst of one that is parsed."""
    inside = HEAD + b"cd"
    outer = request(inside)
    begin = len(outer) - len(inside)
    found = await answers(HotProtocol, outer[:begin], outer[begin:], expected=1)
    assert found == [b"at once:ab", b"at once:" + inside]


@pytest.mark.parametrize(
    "sent",
    [
        request(more="connection: close\r\n"),
        request(version="1.0"),
        request(more=f"x-long: {'l' * module.MAX_HEAD_BYTES}\r\n"),
        request(b"later"),
    ],
    ids=["closes", "old", "long", "not at once"],
)
async def test_a_head_is_not_remembered(sent: bytes) -> None:
    app = Application()
    async with serving(app) as port:
        await ask(port, sent)
    assert app.at_once.heads == {}


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HEADS", 3)
    app = Application()
    async with serving(app) as port:
        for number in range(8):
            await ask(port, request(more=f"x-number: {number}\r\n"))
            assert 1 <= len(app.at_once.heads) <= 3


async def test_a_connection_that_is_idle_for_too_long_is_closed_after_a_remembered_head() -> None:
    async with serving(Application(), keep_alive_s=1) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        for _ in range(2):
            writer.write(request(b"ab"))
            await one(reader)
            await asyncio.sleep(0.7)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


def verdict(**changes: Any) -> Verdict:
    """Return a verdict on a key that is valid."""
    fields: dict[str, Any] = {"organization_id": uuid4(), "key_id": uuid4(), "scopes": ("a",)}
    return Verdict(valid=True, code="VALID", **(fields | changes))


def test_a_caller_is_made_once_while_the_key_stays_as_it_is() -> None:
    first = verdict()
    who = identity._caller_of(first)
    assert identity._caller_of(first) is who
    same: dict[str, Any] = {"organization_id": first.organization_id, "key_id": first.key_id}
    changed = identity._caller_of(verdict(scopes=("b",), **same))
    assert changed.scopes == frozenset({"b"})
    assert identity._caller_of(first).scopes == frozenset({"a"})


def test_the_callers_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "MAX_CALLERS", 3)
    monkeypatch.setattr(identity, "_callers", {})
    for _ in range(9):
        identity._caller_of(verdict())
        assert len(identity._callers) <= 3
