"""Verifying keys."""

from __future__ import annotations

from aurora.core import clock
from aurora.core.secrets import is_well_formed
from aurora.db.transaction import Connection
from aurora.features.gate.decision import decide
from aurora.features.gate.model import Verdict, VerifyRequest
from aurora.features.keys.service import find_key_record

MALFORMED = Verdict(valid=False, code="MALFORMED")
NOT_FOUND = Verdict(valid=False, code="NOT_FOUND")


def is_worth_looking_up(request: VerifyRequest) -> bool:
    """Return whether the key has the form and checksum of one: a typo costs no database work."""
    return is_well_formed(request.key)


async def verify(conn: Connection, request: VerifyRequest) -> Verdict:
    """Return whether a request with this key may pass, and why."""
    if not is_worth_looking_up(request):
        return MALFORMED
    record = await find_key_record(conn, request.key)
    if record is None:
        return NOT_FOUND
    code = decide(record, request, clock.now())
    return Verdict(
        valid=code == "VALID",
        code=code,
        organization_id=record.organization_id,
        key_id=record.id,
        environment=record.environment,
        kind=record.kind,
        scopes=record.scopes,
        rate_limit_tier=record.rate_limit_tier,
        rate_limit_per_hour=record.rate_limit_per_hour,
    )
