"""The least that a Python HTTP server can do: read the body, answer a constant.

It runs under the same uvicorn settings as `aurora serve` (aurora.apps.serving), so what lies
between the two is Aurora's own work: `python -m bench.rig.bare_app PORT`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvicorn

from aurora.apps.api.at_once import HotProtocol
from aurora.apps.serving import BACKLOG, DRAIN_TIMEOUT_S, KEEP_ALIVE_S

# As long as the verdict on a valid key.
ANSWER: Final = b'{"valid":true,"code":"VALID"' + b" " * 240 + b"}"
HEADERS: Final = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(ANSWER)).encode()),
]


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer any request."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


def main() -> None:
    """Serve on the port that the command line names."""
    uvicorn.run(
        app,
        http=HotProtocol,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        lifespan="off",
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
