"""HTTP door of the gate: POST /v1/keys/verify."""

from __future__ import annotations

import msgspec

from aurora.core.errors import Invalid, Malformed
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.gate import service
from aurora.features.gate.model import MAX_VERIFY_BODY_BYTES, Verdict, VerifyRequest
from aurora.integrations.http import HotRequest, HotRoute

_decoder = msgspec.json.Decoder(VerifyRequest)


async def post_verify(request: HotRequest) -> bytes:
    """Answer whether a request with this key may pass."""
    asked = _decode(request.body)
    if not service.is_worth_looking_up(asked):
        return msgspec.json.encode(service.MALFORMED)
    async with transaction(request.pool, PLATFORM, read_only=True) as conn:
        return msgspec.json.encode(await service.verify(conn, asked))


def _decode(body: bytes) -> VerifyRequest:
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Invalid(f"{error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed("The body is not a JSON object with the key in it.") from None


HOT_ROUTES = (
    HotRoute(
        path="/v1/keys/verify",
        handler=post_verify,
        max_body_bytes=MAX_VERIFY_BODY_BYTES,
        models=(VerifyRequest, Verdict),
        public=True,
        operation={
            "tags": ["keys"],
            "operationId": "verify_key",
            "summary": "May a request with this key pass?",
            "description": (
                "Needs no credentials but the key itself. The status is 200 whatever the verdict; "
                "`code` says why. Send `origin`, `ip`, and `scope` as far as they are known."
            ),
            "security": [],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/VerifyRequest"},
                        "example": {"key": "tro_test_…", "scope": "aurora:read"},
                    }
                },
            },
            "responses": {
                "200": {
                    "description": "The verdict.",
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Verdict"}}
                    },
                }
            },
        },
    ),
)
