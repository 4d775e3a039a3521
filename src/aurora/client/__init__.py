"""What an application imports that is a customer of Aurora, or stands behind its gate.

I own: talking HTTP with Aurora, verifying and metering the requests of another application, and the
file in which events wait while Aurora is away. I do not own: any decision about a key, and nothing
that needs PostgreSQL: importing me loads none of the platform.
"""

from aurora.client.asgi import AuroraMiddleware
from aurora.client.asynchronous import AsyncAurora
from aurora.client.errors import (
    AnswerUnreadable,
    CallFailed,
    Contradicted,
    Limited,
    NotAllowed,
    NotAuthenticated,
    NotThere,
    Refused,
    RequestInvalid,
    ServerFailed,
    Unreachable,
)
from aurora.client.model import Question, Receipt, UsageEvent, Verdict
from aurora.client.remote import Remote
from aurora.client.retrying import Retrying
from aurora.client.spool import Spool
from aurora.client.waiting import Aurora
from aurora.client.wsgi import AuroraWSGIMiddleware

__all__ = [
    "AnswerUnreadable",
    "AsyncAurora",
    "Aurora",
    "AuroraMiddleware",
    "AuroraWSGIMiddleware",
    "CallFailed",
    "Contradicted",
    "Limited",
    "NotAllowed",
    "NotAuthenticated",
    "NotThere",
    "Question",
    "Receipt",
    "Refused",
    "Remote",
    "RequestInvalid",
    "Retrying",
    "ServerFailed",
    "Spool",
    "Unreachable",
    "UsageEvent",
    "Verdict",
]
