"""What a call of Aurora can fail with: one class a meaning, each with the problem's stable code."""

from __future__ import annotations

from typing import Any, Final

import msgspec

MAX_DETAIL_CHARACTERS: Final = 500


class CallFailed(Exception):
    """A call did not succeed.

    Attributes:
        status: The HTTP status; None where no answer came.
        code: The stable code of the problem document, such as `api_key_unknown`.
        detail: One sentence for people.
        request_id: Under which Aurora's log has it.
        retry_after_s: Seconds after which the same call may succeed, where Aurora said so.
        facts: Further members of the problem document.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        code: str = "unreachable",
        request_id: str | None = None,
        retry_after_s: float | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.detail, self.status, self.code = detail[:MAX_DETAIL_CHARACTERS], status, code
        self.request_id, self.retry_after_s = request_id, retry_after_s
        self.facts = facts or {}
        super().__init__(f"{self.detail} [{code}]")


class Unreachable(CallFailed):
    """No answer came, however often it was tried; whether the call took effect is not known."""


class AnswerUnreadable(CallFailed):
    """Something answered that does not speak as Aurora does: a proxy, or another release."""


class Refused(CallFailed):
    """Aurora answered with a problem document: a 4xx or 5xx."""


class RequestInvalid(Refused):
    """The call itself is wrong: 400, 413, 415, 422."""


class NotAuthenticated(Refused):
    """The token is missing or not accepted: 401."""


class NotAllowed(Refused):
    """The token is good, and may not do this: 403."""


class NotThere(Refused):
    """It does not exist, or belongs to somebody else: 404."""


class Contradicted(Refused):
    """The call contradicts what is already so: 409."""


class Limited(Refused):
    """A limit is used up: 429; `retry_after_s` says when it is not any more."""


class ServerFailed(Refused):
    """Aurora cannot do it now: 5xx."""


_BY_STATUS: Final[dict[int, type[Refused]]] = {
    400: RequestInvalid,
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotThere,
    409: Contradicted,
    413: RequestInvalid,
    415: RequestInvalid,
    422: RequestInvalid,
    429: Limited,
}
_KNOWN: Final = frozenset({"type", "title", "status", "detail", "instance", "code", "request_id"})


def refusal(
    status: int, body: bytes, *, request_id: str | None, retry_after_s: float | None
) -> CallFailed:
    """Return the error that an answer of 4xx or 5xx is."""
    kind = _BY_STATUS.get(status, ServerFailed if status >= 500 else Refused)  # noqa: PLR2004
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problem = {}
    return kind(
        str(problem.get("detail") or f"Aurora answered {status}."),
        status=status,
        # What is no problem document comes from somebody on the way, a proxy mostly.
        code=str(problem.get("code") or f"http_{status}"),
        request_id=str(problem.get("request_id") or request_id or "") or None,
        retry_after_s=retry_after_s,
        facts={name: value for name, value in problem.items() if name not in _KNOWN},
    )
