"""Runs the HTTP server, and with `aurora up` the worker beside it, until a signal comes."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.loops.auto import auto_loop_factory

from aurora.apps.api.app import build
from aurora.apps.api.at_once import HotProtocol
from aurora.apps.database import Database
from aurora.apps.settings import Settings
from aurora.apps.worker import work
from aurora.core.errors import AuroraError

BACKLOG = 1024
DRAIN_TIMEOUT_S = 30
KEEP_ALIVE_S = 75
STARTED_CHECK_S = 0.01
COLLECT_EVERY_OBJECTS = 20_000
"""Made and not yet freed. A batch makes some thousands, none of them in a circle: at CPython's 700
each is looked through while it is still read."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class PortTaken(AuroraError):
    """Another program listens there."""

    status, code, title = 503, "port_taken", "The port is taken"


class _Server(uvicorn.Server):
    """uvicorn, but the signals are ours: the worker has to hear them too."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Give a socket that listens; a taken port is known before anything else is started.

    Raises:
        PortTaken: The address is in use, or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, so that whatever accepts on it knows to send without delay (Nagle, RFC 896).
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"fails: {error.strerror}"
            raise PortTaken(
                f"Port {port} on {host} {reason}; choose another with AURORA_PORT or --port."
            ) from error
        listener.listen(BACKLOG)
        listener.setblocking(False)
        yield listener


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a server to its end on the loop that uvicorn would choose, uvloop where it is there.

    asyncio.run would take the slower loop of the standard library: uvicorn chooses none where it
    runs inside ours.
    """
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(main)


async def serve(
    listener: socket.socket,
    where: Database,
    settings: Settings,
    *,
    with_worker: bool,
    demo_key_prefix: str | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGINT or SIGTERM; requests that have begun are answered first.

    Args:
        listener: A listening socket.
        where: The database.
        settings: Of this process.
        with_worker: Run jobs and crons in this process too.
        demo_key_prefix: For the start page.
        on_ready: Called once requests are taken.
    """
    app = build(
        dsn=where.dsn,
        service_token=settings.token(),
        pool_size=settings.database_pool_size,
        demo_key_prefix=demo_key_prefix,
        public_url=settings.address(),
        access_tokens=settings.access_tokens(),
        key_lease_ms=settings.key_lease_ms,
        key_cache_records=settings.key_cache_records,
        trusted_proxies=settings.proxies(),
    )
    server = _Server(
        uvicorn.Config(
            app,
            http=HotProtocol,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            # Whose word counts about a caller's address is AURORA_TRUSTED_PROXIES' business.
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=DRAIN_TIMEOUT_S,
        )
    )
    with stop_at_signals() as stop:
        running = [asyncio.create_task(server.serve([listener]))]
        if with_worker:
            running.append(asyncio.create_task(work(where.dsn, settings.post(), stop)))
        stopping = asyncio.create_task(stop.wait())
        try:
            while not server.started and not running[0].done():  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(STARTED_CHECK_S)
            if server.started:
                keep_out_of_collections()
                on_ready()
                await asyncio.wait({*running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            # Answers without an end come to one; the server would wait for them.
            app.state.stopping.set()
            server.should_exit = True
            await asyncio.gather(*running)


def keep_out_of_collections() -> None:
    """Let the garbage collector pass over what this process began with: it stays to the end.

    All modules and routes were looked through every few thousand requests, 85 ms in which nobody
    was answered (measured); what comes later is still collected.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY_OBJECTS, *gc.get_threshold()[1:])


@contextmanager
def stop_at_signals() -> Iterator[asyncio.Event]:
    """Give an event that SIGINT and SIGTERM set, in place of ending the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
