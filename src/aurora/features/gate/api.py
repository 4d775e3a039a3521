"""HTTP door of the gate: POST /v1/keys/verify."""

from __future__ import annotations

import msgspec

from aurora.core.errors import Invalid, Malformed
from aurora.features.gate.model import MAX_VERIFY_BODY_BYTES, Verdict, VerifyRequest
from aurora.features.gate.service import Gate
from aurora.integrations.http import HotRequest, HotRoute

_decoder = msgspec.json.Decoder(VerifyRequest)
_encoder = msgspec.json.Encoder()


async def post_verify(request: HotRequest) -> bytes:
    """Answer whether a request with this key may pass."""
    gate: Gate = request.state.gate
    asked = _decode(request.body)
    return _encoder.encode(gate.verify_at_once(asked) or await gate.verify(asked))


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
