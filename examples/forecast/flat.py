"""The same for WSGI, without a framework: any server of threads runs it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from aurora.client import AuroraWSGIMiddleware, Remote


def forecast(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer for any place."""
    aurora = environ["aurora"]
    aurora.note(widget_type="forecast", widget_impression=True)
    organization = str(aurora.verdict.organization_id)
    body = json.dumps({"place": environ["PATH_INFO"], "for_organization": organization}).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


app = AuroraWSGIMiddleware(
    forecast,
    backend=Remote(os.environ["AURORA_URL"], os.environ["AURORA_TOKEN"]),
    spool=os.environ.get("AURORA_SPOOL", "aurora-spool.db"),
    scope="aurora:read",
)
