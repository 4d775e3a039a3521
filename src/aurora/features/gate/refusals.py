"""What a door that answers for the gate says, code by code."""

from __future__ import annotations

from typing import Any

from aurora.core.errors import AuroraError, Forbidden, Unauthorized
from aurora.features.gate.model import HTTP_STATUS, Verdict
from aurora.features.limits.model import QuotaExceeded, RateLimited
from aurora.features.limits.service import limit_texts


class KeyRefused(Unauthorized):
    """The key does not open anything; `reason` says why, as the gate's code."""

    code, title = "key_refused", "The API key is not accepted"


class KeyForbidden(Forbidden):
    """The key is alive, but not for this request; `reason` says why, as the gate's code."""

    code, title = "key_forbidden", "The API key does not allow this request"


class GateUnavailable(AuroraError):
    """Whether the key is alive is not known at the moment, so it opens nothing."""

    status, code, title = 503, "gate_unavailable", "The key cannot be checked at the moment"


_REFUSALS: dict[int, type[AuroraError]] = {401: KeyRefused, 403: KeyForbidden, 503: GateUnavailable}
_LIMITS: dict[str, type[AuroraError]] = {
    "RATE_LIMITED": RateLimited,
    "QUOTA_EXCEEDED": QuotaExceeded,
}
UNAVAILABLE_RETRY_S = 1


def refusal_of(verdict: Verdict) -> AuroraError:
    """Return the refusal that a verdict other than VALID stands for."""
    facts: dict[str, Any] = {"reason": verdict.code}
    taken = verdict.limits
    if verdict.code == "UNAVAILABLE":
        facts["retry_after_s"] = UNAVAILABLE_RETRY_S
    elif taken is not None and taken.retry_after_s is not None:
        facts["retry_after_s"] = taken.retry_after_s
    if verdict.detail is not None:
        facts["reason_detail"] = verdict.detail
    if verdict.code in _LIMITS:
        refusal = _LIMITS[verdict.code](**facts)
        if taken is not None:
            refusal.headers = dict(limit_texts(taken))
        return refusal
    sentence = f"The API key is not accepted: {verdict.code}."
    return _REFUSALS[HTTP_STATUS[verdict.code]](sentence, **facts)
