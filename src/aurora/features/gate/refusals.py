"""What a door that answers for the gate says, code by code."""

from __future__ import annotations

from aurora.core.errors import AuroraError, Forbidden, Unauthorized
from aurora.features.gate.model import HTTP_STATUS, Verdict


class KeyRefused(Unauthorized):
    """The key does not open anything; `reason` says why, as the gate's code."""

    code, title = "key_refused", "The API key is not accepted"


class KeyForbidden(Forbidden):
    """The key is alive, but not for this request; `reason` says why, as the gate's code."""

    code, title = "key_forbidden", "The API key does not allow this request"


class KeyLimited(AuroraError):
    """The key has used what it may use for now; `reason` says of what, as the gate's code."""

    status, code, title = 429, "key_limited", "The key has used what it may for now"


class GateUnavailable(AuroraError):
    """Whether the key is alive is not known at the moment, so it opens nothing."""

    status, code, title = 503, "gate_unavailable", "The key cannot be checked at the moment"


_BY_STATUS: dict[int, type[AuroraError]] = {
    each.status: each for each in (KeyRefused, KeyForbidden, KeyLimited, GateUnavailable)
}
UNAVAILABLE_RETRY_S = 1


def refusal_of(verdict: Verdict) -> AuroraError:
    """Return the refusal that a verdict other than VALID stands for."""
    facts: dict[str, object] = {"reason": verdict.code}
    if verdict.code == "UNAVAILABLE":
        facts["retry_after_s"] = UNAVAILABLE_RETRY_S
    elif verdict.limits is not None and verdict.limits.retry_after_s is not None:
        facts["retry_after_s"] = verdict.limits.retry_after_s
    if verdict.detail is not None:
        facts["gate_detail"] = verdict.detail
    sentence = f"The API key is not accepted: {verdict.code}."
    return _BY_STATUS[HTTP_STATUS[verdict.code]](sentence, **facts)
