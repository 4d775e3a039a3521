"""Applications of a customer behind the middleware, and networks that fail before Aurora."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from aurora.client import AuroraMiddleware, Remote, Spool

PATIENCE_S = 15.0
HANGS_S = 5.0


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """A customer's application, with a path for each way in which one can answer."""
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path == "/raises":
        raise ZeroDivisionError
    headers = [(b"content-type", b"text/plain")]
    if path == "/sized":
        headers.append((b"content-length", b"5"))
    status = 404 if path == "/missing" else 200
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if path == "/raises-late":
        raise ZeroDivisionError
    if path in {"/streams", "/sized"}:
        await send({"type": "http.response.body", "body": b"hel", "more_body": True})
        await send({"type": "http.response.body", "body": b"lo", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    verdict = scope["aurora"].verdict if "aurora" in scope else None
    if path == "/widget":
        scope["aurora"].note(widget_type="forecast", widget_impression=True, country_code="NO")
    body = b"nobody" if verdict is None else str(verdict.organization_id).encode()
    await send({"type": "http.response.body", "body": body})


class Network:
    """A proxy before Aurora: passes, is down, hangs, or loses answers after Aurora gave them."""

    def __init__(self, target: str) -> None:
        self.target = httpx.URL(target)
        self.mode = "passes"
        self.calls = 0
        self.questions: list[int] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with httpx.AsyncClient(timeout=30) as aurora:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.strip().split("\r\n")
                fields = dict(line.split(": ", 1) for line in lines)
                length = int(fields.get("content-length", fields.get("Content-Length", "0")))
                body = await reader.readexactly(length)
                if self.mode == "down":
                    return
                if self.mode == "hangs":
                    await asyncio.sleep(HANGS_S)
                self.calls += 1
                method, path, _ = first.split(" ")
                if path == "/v1/keys/verify":
                    asked = json.loads(body)
                    self.questions.append(len(asked) if isinstance(asked, list) else 1)
                kept = {
                    n: v for n, v in fields.items() if n.lower() not in {"host", "content-length"}
                }
                url = self.target.join(path)
                answer = await aurora.request(method, url, content=body, headers=kept)
                if self.mode == "loses" and path == "/v1/usage/events":
                    return
                after = answer.headers.get("retry-after")
                more = f"retry-after: {after}\r\n" if after else ""
                writer.write(
                    f"HTTP/1.1 {answer.status_code} X\r\ncontent-type: application/json\r\n{more}"
                    f"content-length: {len(answer.content)}\r\n\r\n".encode()
                )
                writer.write(answer.content)
                await writer.drain()


@asynccontextmanager
async def behind(
    url: str, token: str, folder: Path, app: Any = hello, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, AuroraMiddleware]]:
    """An application behind the middleware, and a client of it."""
    options = {"flush_s": 0.005, "close_timeout_s": 5.0, **settings}
    backend = options.pop("backend", None) or Remote(url, token)
    middleware = AuroraMiddleware(app, backend=backend, spool=folder / "spool.db", **options)
    transport = httpx.ASGITransport(middleware, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.example") as client:
        yield client, middleware
    await middleware.close()


def waiting_in(folder: Path) -> int:
    """How many events wait in the folder's spool."""
    spool = Spool(folder / "spool.db")
    try:
        return spool.waiting
    finally:
        spool.close()


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is so; that it never is fails."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it never became so"
        await asyncio.sleep(0.02)


def ids_in(folder: Path) -> list[str]:
    """The ids of the events that wait."""
    with sqlite3.connect(folder / "spool.db") as connection:
        bodies = connection.execute("select body from batches order by id").fetchall()
    text = b"[" + b",".join(body for (body,) in bodies) + b"]"
    return [event["id"] for event in httpx.Response(200, content=text).json()]


def all_of(folder: Path) -> bytes:
    """Every byte in the folder's files."""
    return b"".join(path.read_bytes() for path in folder.iterdir())
