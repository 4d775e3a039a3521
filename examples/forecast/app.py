"""A small forecast API whose customers hold Aurora's keys: verified, limited, metered.

Run it with

    AURORA_URL=http://127.0.0.1:8000 AURORA_TOKEN=aur_svc_… uvicorn examples.forecast.app:app
"""

from __future__ import annotations

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aurora.client import AuroraMiddleware, Remote


async def healthz(_request: Request) -> Response:
    """Say that the application runs; exempt, so that no key is needed."""
    return JSONResponse({"status": "alive"})


async def forecast(request: Request) -> Response:
    """Answer for one place, and count an impression of the widget."""
    aurora: Any = request.scope["aurora"]
    aurora.note(widget_type="forecast", widget_impression=True)
    return JSONResponse(
        {
            "place": request.path_params["place"],
            "chance": "clear sky, strong aurora",
            "for_organization": str(aurora.verdict.organization_id),
        }
    )


def scope_of(path: str, _method: str) -> str:
    """Return the scope that a request needs."""
    return "analytics:read" if path.startswith("/reports") else "aurora:read"


app = AuroraMiddleware(
    Starlette(routes=[Route("/healthz", healthz), Route("/forecast/{place}", forecast)]),
    backend=Remote(os.environ["AURORA_URL"], os.environ["AURORA_TOKEN"]),
    spool=os.environ.get("AURORA_SPOOL", "aurora-spool.db"),
    scope=scope_of,
    exempt=["/healthz"],
    when_away="pass",
    durability="before_response",
)
