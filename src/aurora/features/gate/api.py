"""HTTP doors of the gate: POST /v1/keys/verify, and /v1/forward-auth for proxies."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs

import msgspec

from aurora.core.errors import Invalid, Malformed
from aurora.features.gate.model import (
    MAX_BATCH,
    MAX_VERIFY_BODY_BYTES,
    BatchVerdict,
    Verdict,
    VerifyBatch,
    VerifyRequest,
)
from aurora.features.gate.refusals import refusal_of
from aurora.features.gate.service import MALFORMED, Gate
from aurora.features.limits.service import limit_headers
from aurora.integrations.hot import HotAnswer, HotRequest, HotRoute, PlainRequest
from aurora.integrations.http import problem
from aurora.integrations.proxies import Proxies

MAX_FORWARDED_BODY_BYTES = 1024 * 1024
MAX_CREDENTIAL_BYTES = 500
MAX_ORIGIN = 300
MAX_SCOPE = 100

_one = msgspec.json.Decoder(VerifyRequest)
_several = msgspec.json.Decoder(list[VerifyRequest])
_batch = msgspec.json.Decoder(VerifyBatch)
_encoder = msgspec.json.Encoder()


def verify_at_once(request: PlainRequest) -> bytes | None:
    """Answer one question about a key that is remembered; None where it takes more to answer."""
    try:
        asked = _one.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    gate: Gate = request.state["gate"]
    verdict = gate.verify_at_once(asked)
    return None if verdict is None else _encoder.encode(verdict)


async def post_verify(request: HotRequest) -> bytes:
    """Answer whether requests with these keys may pass, in the order they were asked."""
    gate: Gate = request.state.gate
    body = request.body
    if body[:1] == b"{":
        try:
            asked = _one.decode(body)
        except msgspec.ValidationError as error:
            if _is_batch(body):
                batch = _decode(_batch, body).requests
                return _encoder.encode(BatchVerdict(results=await _verify_all(request, batch)))
            raise Invalid(f"{error}.") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Malformed("The body is not a JSON object with the key in it.") from None
        verdict = gate.verify_at_once(asked)
        if verdict is None:
            verdict = await gate.verify(asked, peer=_caller(request))
        return _encoder.encode(verdict)
    return _encoder.encode(await _verify_all(request, _decode(_several, body)))


async def forward_auth(request: HotRequest) -> HotAnswer:
    """Answer for a proxy whether the request it holds may pass: the status says it.

    The key stands in Authorization or X-API-Key, as the proxy was sent it; the caller's address is
    what trusted proxies say it is. `?scope=` names what the request is going to do.
    """
    gate: Gate = request.state.gate
    headers = request.headers
    key = _key_of(headers)
    if key is None:
        return _forwarded(request, MALFORMED)
    asked = VerifyRequest(
        key=key,
        origin=_text(headers.get(b"origin"), MAX_ORIGIN),
        ip=_caller(request),
        scope=_scope_of(request.scope["query_string"]),
    )
    verdict = gate.verify_at_once(asked)
    return _forwarded(request, await gate.verify(asked) if verdict is None else verdict)


async def _verify_all(request: HotRequest, asked: list[VerifyRequest]) -> list[Verdict]:
    if len(asked) > MAX_BATCH:
        raise Invalid(f"One call asks at most {MAX_BATCH} questions.", max_requests=MAX_BATCH)
    gate: Gate = request.state.gate
    # What is known at once needs no task; a task costs a few times what a verdict does.
    found = [gate.verify_at_once(each) for each in asked]
    missing = [place for place, verdict in enumerate(found) if verdict is None]
    peer = _caller(request)
    late = await asyncio.gather(*(gate.verify(asked[place], peer=peer) for place in missing))
    known = dict(zip(missing, late, strict=True))
    return [known[place] if verdict is None else verdict for place, verdict in enumerate(found)]


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Invalid(f"{error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed("The body is neither a question about a key nor a list of them.") from None


def _is_batch(body: bytes) -> bool:
    try:
        return "requests" in msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _forwarded(request: HotRequest, verdict: Verdict) -> HotAnswer:
    """Return a verdict as a proxy takes it: a status, and headers that it may hand on."""
    marks = [(b"x-aurora-code", verdict.code.encode())]
    if verdict.key_id is not None:
        marks.append((b"x-aurora-key-id", str(verdict.key_id).encode()))
        marks.append((b"x-aurora-organization-id", str(verdict.organization_id).encode()))
        marks.append((b"x-aurora-environment", str(verdict.environment).encode()))
    if verdict.valid:
        if verdict.limits is not None:
            marks += limit_headers(verdict.limits)
        return HotAnswer(200, b"", marks)
    scope = request.scope
    response = problem(
        refusal_of(verdict), instance=scope["path"], request_id=scope["aurora.request_id"]
    )
    own = [
        (name, value)
        for name, value in response.raw_headers
        if name not in (b"content-length", b"cache-control")
    ]
    return HotAnswer(response.status_code, bytes(response.body), marks + own)


def _caller(request: HotRequest) -> str | None:
    proxies: Proxies = request.state.proxies
    peer = request.scope.get("client")
    return proxies.caller(None if peer is None else peer[0], request.scope["headers"])


def _key_of(headers: Any) -> str | None:
    authorization: bytes | None = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return _text(value.strip(), MAX_CREDENTIAL_BYTES)
    return _text(headers.get(b"x-api-key", b"").strip() or None, MAX_CREDENTIAL_BYTES)


def _text(value: bytes | None, limit: int) -> str | None:
    # What is too long is cut: it is then no key and no origin that anybody allows.
    return None if value is None else value[: limit + 1].decode("latin-1")


def _scope_of(query: bytes) -> str | None:
    if not query:
        return None
    found = parse_qs(query.decode("latin-1"), max_num_fields=20).get("scope")
    return found[-1][:MAX_SCOPE] if found else None


_BODY = {
    "description": "The verdict, or one for each question, in their order.",
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    {"$ref": "#/components/schemas/Verdict"},
                    {"type": "array", "items": {"$ref": "#/components/schemas/Verdict"}},
                    {"$ref": "#/components/schemas/BatchVerdict"},
                ]
            }
        }
    },
}

HOT_ROUTES = (
    HotRoute(
        path="/v1/keys/verify",
        handler=post_verify,
        at_once=verify_at_once,
        max_body_bytes=MAX_VERIFY_BODY_BYTES,
        models=(VerifyRequest, Verdict, VerifyBatch, BatchVerdict),
        public=True,
        operation={
            "tags": ["keys"],
            "operationId": "verify_key",
            "summary": "May a request with this key pass?",
            "description": (
                "Needs no credentials but the key itself. The status is 200 whatever the verdict; "
                "`code` says why. Send `origin`, `ip`, and `scope` as far as they are known. "
                f"An array, or an object with `requests`, asks up to {MAX_BATCH} questions at once."
            ),
            "security": [],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "oneOf": [
                                {"$ref": "#/components/schemas/VerifyRequest"},
                                {
                                    "type": "array",
                                    "items": {"$ref": "#/components/schemas/VerifyRequest"},
                                    "maxItems": MAX_BATCH,
                                },
                                {"$ref": "#/components/schemas/VerifyBatch"},
                            ]
                        },
                        "example": {"key": "tro_test_…", "scope": "aurora:read"},
                    }
                },
            },
            "responses": {"200": _BODY},
        },
    ),
    HotRoute(
        path="/v1/forward-auth",
        handler=forward_auth,
        max_body_bytes=MAX_FORWARDED_BODY_BYTES,
        models=(),
        public=True,
        # Proxies ask with the method of the request they hold.
        methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
        operation={
            "tags": ["keys"],
            "operationId": "forward_auth",
            "summary": "May the request that a proxy holds pass?",
            "description": (
                "For nginx auth_request, Caddy forward_auth, Traefik ForwardAuth, and Envoy "
                "ext_authz. The key stands in Authorization or X-API-Key. 200 lets it pass; 401, "
                "403, 429, and 503 refuse it, and X-Aurora-Code says why."
            ),
            "security": [],
            "parameters": [
                {
                    "name": "scope",
                    "in": "query",
                    "required": False,
                    "schema": {"type": "string", "maxLength": MAX_SCOPE},
                    "description": "What the request is going to do.",
                }
            ],
            "responses": {
                "200": {
                    "description": "It may pass.",
                    "headers": {
                        "X-Aurora-Code": {"schema": {"type": "string"}},
                        "X-Aurora-Organization-Id": {"schema": {"type": "string"}},
                        "X-Aurora-Key-Id": {"schema": {"type": "string"}},
                        "X-Aurora-Environment": {"schema": {"type": "string"}},
                    },
                }
            },
        },
    ),
)
