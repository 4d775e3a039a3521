"""A trivial application, bare or behind the middleware: `python -m bench.rig.behind`, with a plan.

The plan is JSON on the command line. All of them run under the same settings of uvicorn.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from aurora.apps.in_process import InProcess
from aurora.apps.serving import BACKLOG, DRAIN_TIMEOUT_S, KEEP_ALIVE_S
from aurora.client import AuroraMiddleware, Remote

BODY: Final = b'{"hello":"world"}'
HEADERS: Final = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(BODY)).encode()),
]


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Answer a constant, with no framework: the least that an application can do."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


async def _live(receive: Any, send: Any) -> None:
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})


def with_fastapi() -> FastAPI:
    """Return the first application of FastAPI's own tutorial, with a POST."""
    app = FastAPI()

    @app.get("/ready")
    async def ready() -> dict[str, bool]:
        """Say that it serves."""
        return {"ready": True}

    @app.post("/hello")
    async def hello() -> dict[str, str]:
        """Say hello."""
        return {"hello": "world"}

    return app


def main() -> None:
    """Serve as planned."""
    plan = json.loads(sys.argv[1])
    app: Any = bare if plan["app"] == "bare" else with_fastapi()
    backend: Any = None
    if plan["backend"] == "in_process":
        backend = InProcess(plan["dsn"])
    elif plan["backend"] == "remote":
        backend = Remote(plan["url"], plan["token"])
    if backend is not None:
        app = AuroraMiddleware(
            app,
            backend=backend,
            spool=plan["spool"],
            scope="aurora:read",
            exempt=["/ready"],
            durability=plan["durability"],
        )
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=plan["port"],
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_TIMEOUT_S,
    )


if __name__ == "__main__":
    main()
