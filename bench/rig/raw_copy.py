"""The limit that ingest is held against: a binary COPY of finished rows, with nothing around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from aurora.features.usage.model import UsageEvent

Row = tuple[Any, ...]

_COLUMNS: Final = {
    "timestamp": "timestamptz",
    "organization_id": "uuid",
    "api_key_id": "uuid",
    "endpoint": "text",
    "method": "text",
    "status_code": "int4",
    "response_time_ms": "int4",
    "cached": "bool",
    "widget_type": "text",
    "widget_impression": "bool",
    "origin": "text",
    "user_agent": "text",
    "ip_address": "inet",
    "country_code": "text",
    "metadata": "jsonb",
    "date": "date",
    "billable": "bool",
    "event_key": "uuid",
    "event_id": "text",
}
"""Every column of usage_analytics but `id`, which its sequence gives in both cases."""

_COPY: Final = (
    f"copy usage_analytics ({', '.join(f'"{name}"' for name in _COLUMNS)}) "
    "from stdin (format binary)"
)
