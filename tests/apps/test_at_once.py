"""What can be answered at once is answered where it is parsed; all else goes the ordinary way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from aurora.apps.api.at_once import SMALL_BODY_BYTES, AtOnce, HotProtocol
from aurora.apps.api.identity import Doorkeeper
from aurora.core.errors import Unavailable
from aurora.features.sign_in.browser import Site
from aurora.integrations.hot import HotAnswer, HotRequest, HotRoute, Later, Pending, PlainRequest

HOST = "127.0.0.1"
TIMEOUT_S = 20.0
QUEUED = 2_000


NOBODY = Doorkeeper("", Site("http://localhost"))


async def _never(_request: HotRequest) -> HotAnswer:
    raise AssertionError("the application of this test answers the ordinary way by itself")


def _echo(request: PlainRequest) -> bytes | Later | None:
    body, state = request.body, request.state
    state["asked"] += 1
    if body.startswith(b"stored"):
        state["done"] = Pending()
        return Later(state["done"], lambda result: b"stored:" + result)
    if body == b"fails":
        raise ValueError("something of ours is wrong")
    return None if body == b"later" else b"at once:" + body


class Application:
    """Says of every body that it came the ordinary way; `/slow` waits until it is let go."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"asked": 0}
        route = HotRoute("/hot", _never, 1_000_000, {}, (), public=True, at_once=_echo)
        self.at_once = AtOnce((route,), self.state, NOBODY)
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/slow":
            await self.go.wait()
        answer = b"ordinary:" + body
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


class Ahead(HotProtocol):
    """The wrong version: it answers whatever can be answered, before what came before it."""

    @property
    def is_idle(self) -> bool:
        return True


@asynccontextmanager
async def serving(
    app: Application, protocol: type[asyncio.Protocol] = HotProtocol, *, keep_alive_s: int = 5
) -> AsyncIterator[int]:
    """Give the port of a server that runs the application."""
    config = uvicorn.Config(
        app,
        host=HOST,
        port=0,
        http=protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=keep_alive_s,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


def request(
    body: bytes = b"x", *, path: str = "/hot", more: str = "", version: str = "1.1"
) -> bytes:
    """Return a request as bytes."""
    head = f"POST {path} HTTP/{version}\r\nhost: here\r\n{more}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def ask(port: int, *pieces: bytes, answers: int = 1) -> list[tuple[bytes, bytes]]:
    """Send pieces, each on its own, and return head and body of the answers."""
    reader, writer = await asyncio.open_connection(HOST, port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.02)
    found = [await one(reader) for _ in range(answers)]
    writer.close()
    return found


async def one(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read an answer."""
    async with asyncio.timeout(TIMEOUT_S):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\ncontent-length: (\d+)\r", head)
        assert length is not None, head
        return head, await reader.readexactly(int(length[1]))


async def test_a_plain_question_is_answered_at_once_whole_or_in_pieces() -> None:
    app = Application()
    async with serving(app) as port:
        (head, body), *_ = await ask(port, request(b"abc"))
        assert body == b"at once:abc"
        whole = request(b"in pieces")
        assert (await ask(port, whole[:20], whole[20:-4], whole[-4:]))[0][1] == b"at once:in pieces"
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    for line in (
        rb"date: .+ GMT",
        rb"content-type: application/json",
        rb"cache-control: no-store",
        rb"x-content-type-options: nosniff",
        rb"x-request-id: req_[0-9a-f]{32}",
    ):
        assert len(re.findall(rb"\n%s\r" % line, head)) == 1, (line, head)
    assert b"connection:" not in head


@pytest.mark.parametrize(
    ("more", "body"),
    [
        ("", b"later"),
        ("", b"fails"),
        ("", b"y" * (SMALL_BODY_BYTES + 1)),
        ("content-encoding: gzip\r\n", b"x"),
        (f"x-much: {'m' * 65_536}\r\n", b"x"),
    ],
    ids=["has to wait", "fails", "large", "compressed", "large headers"],
)
async def test_what_is_not_plain_goes_the_ordinary_way_with_its_whole_body(
    more: str, body: bytes
) -> None:
    async with serving(Application()) as port:
        assert (await ask(port, request(body, more=more)))[0][1] == b"ordinary:" + body


async def test_a_body_in_chunks_goes_the_ordinary_way() -> None:
    chunked = (
        b"POST /hot HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    )
    async with serving(Application()) as port:
        assert (await ask(port, chunked))[0][1] == b"ordinary:x"


async def test_who_waits_to_be_told_to_go_on_is_told() -> None:
    head, body = request(b"abc", more="expect: 100-continue\r\n").split(b"\r\n\r\n")
    async with serving(Application()) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(head + b"\r\n\r\n")
        async with asyncio.timeout(TIMEOUT_S):
            assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
        writer.write(body)
        assert (await one(reader))[1] == b"ordinary:abc"
        writer.close()


async def test_a_connection_ends_where_the_request_says_so() -> None:
    async with serving(Application()) as port:
        for sent in (request(more="connection: close\r\n"), request(version="1.0")):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(sent)
            head, body = await one(reader)
            assert body == b"at once:x"
            assert b"\nconnection: close\r" in head
            async with asyncio.timeout(TIMEOUT_S):
                assert await reader.read() == b""
            writer.close()


async def test_a_request_keeps_its_name_where_that_is_a_safe_word() -> None:
    async with serving(Application()) as port:
        kept = await ask(port, request(more="x-request-id: my-name_1\r\n"))
        assert b"\nx-request-id: my-name_1\r" in kept[0][0]
        for unsafe in ("a b", "a" * 101, "é"):
            head = (await ask(port, request(more=f"x-request-id: {unsafe}\r\n")))[0][0]
            assert re.search(rb"\nx-request-id: req_[0-9a-f]{32}\r", head), head


async def _queued_behind_a_slow_one(protocol: type[HotProtocol]) -> list[bytes]:
    app = Application()
    async with serving(app, protocol) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request(path="/slow") + b"".join(request(b"%d" % n) for n in range(QUEUED)))
        await asyncio.sleep(0.1)
        app.go.set()
        found = [(await one(reader))[1] for _ in range(QUEUED + 1)]
        writer.close()
    return found


async def test_what_queues_behind_a_slow_one_is_answered_in_order() -> None:
    bodies = await _queued_behind_a_slow_one(HotProtocol)
    assert [body.rpartition(b":")[2] for body in bodies] == [
        b"x",
        *(b"%d" % number for number in range(QUEUED)),
    ]


async def test_without_an_order_the_queue_would_be_answered_before_the_slow_one() -> None:
    bodies = await _queued_behind_a_slow_one(Ahead)
    assert bodies[0] == b"at once:0"


async def test_a_held_request_is_answered_though_the_server_ends_meanwhile() -> None:
    for body, answer in ((b"abc", b"at once:abc"), (b"later", b"ordinary:later")):
        made: list[HotProtocol] = []

        class Kept(HotProtocol):
            def connection_made(self, transport: Any, made: list[HotProtocol] = made) -> None:
                made.append(self)
                super().connection_made(transport)

        async with serving(Application(), Kept) as port:
            reader, writer = await asyncio.open_connection(HOST, port)
            sent = request(body)
            writer.write(sent[: -len(body)])
            while not made or made[0]._held is None:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
            made[0].shutdown()
            writer.write(body)
            head, said = await one(reader)
            assert said == answer
            assert b"\nconnection: close\r" in head
            writer.close()


async def _stored_and_behind(protocol: type[HotProtocol]) -> list[bytes]:
    """Return the answers to one that waits for a commit and two that came behind it."""
    app = Application()
    async with serving(app, protocol) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request(b"stored") + request(b"a") + request(b"b"))
        await asyncio.sleep(0.1)
        app.state["done"].set_result(b"1")
        found = [(await one(reader))[1] for _ in range(3)]
        writer.close()
    return found


async def test_what_waits_for_a_commit_is_answered_after_it_and_before_what_came_behind() -> None:
    first, *behind = await _stored_and_behind(HotProtocol)
    assert first == b"stored:1"
    assert [body.rpartition(b":")[2] for body in behind] == [b"a", b"b"]
    # Without an order whoever came behind would hear first.
    assert (await _stored_and_behind(Ahead))[0] == b"at once:a"


async def test_connections_are_used_again_after_what_waited() -> None:
    app = Application()
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        for number in range(3):
            writer.write(request(b"stored"))
            while app.state.get("done") is None:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
            app.state.pop("done").set_result(b"%d" % number)
            head, body = await one(reader)
            assert body == b"stored:%d" % number
            assert b"connection:" not in head
            writer.write(request(b"later"))
            assert (await one(reader))[1] == b"ordinary:later"
        writer.close()


@pytest.mark.parametrize(
    ("failed", "status", "code"),
    [
        (Unavailable("Not now.", retry_after_s=3), 503, b"unavailable"),
        (ValueError("a secret"), 500, b"internal_error"),
    ],
)
async def test_what_fails_later_is_a_problem_and_says_nothing_of_ours(
    failed: Exception, status: int, code: bytes
) -> None:
    app = Application()
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request(b"stored"))
        await asyncio.sleep(0.1)
        app.state["done"].set_exception(failed)
        head, body = await one(reader)
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"content-type: application/problem+json\r" in head
        assert b'"code":"%s"' % code in body
        assert b"a secret" not in body
        assert (b"retry-after: 3\r" in head) == (status == 503)
        writer.close()


async def test_the_server_ends_after_what_waits_is_answered() -> None:
    app = Application()
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request(b"stored"))
        await asyncio.sleep(0.1)
        asyncio.get_running_loop().call_later(0.5, app.state["done"].set_result, b"1")
    # The server has ended, and closed the connection after the answer.
    head, body = await one(reader)
    assert body == b"stored:1"
    assert b"\nconnection: close\r" in head
    assert await reader.read() == b""
    writer.close()


async def test_who_leaves_before_the_answer_harms_nobody() -> None:
    app = Application()
    async with serving(app) as port:
        _, writer = await asyncio.open_connection(HOST, port)
        writer.write(request(b"stored"))
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        app.state["done"].set_result(b"1")
        assert (await ask(port, request(b"next")))[0][1] == b"at once:next"


async def test_a_slow_one_behind_an_answer_outlives_the_keep_alive() -> None:
    app = Application()
    async with serving(app, keep_alive_s=1) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request() + request(path="/slow"))
        assert (await one(reader))[1] == b"at once:x"
        await asyncio.sleep(1.5)
        app.go.set()
        assert (await one(reader))[1] == b"ordinary:x"
        writer.close()


async def test_who_does_not_read_answers_is_not_served_ahead_of_himself() -> None:
    app = Application()
    sent = request(b"z" * 8_000) * 4_000
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection(HOST, port, limit=1_024)
        writer.write(sent)
        before = -1
        while app.state["asked"] != before:
            before = app.state["asked"]
            await asyncio.sleep(0.2)
        # 32 MB of answers are due; what was answered is no more than sockets and buffers hold.
        assert before < 2_500
        writer.transport.abort()
        del reader
