"""What each HTTP route is to an organization's key, and the requests that try foreign ids on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.isolation.identities import thing_of


@dataclass(frozen=True)
class Access:
    """The statuses that are right: for nobody, and for the key of A with ids of B, and of A."""

    nobody: int
    foreign: frozenset[int]
    own: int


OPEN: Final = Access(nobody=200, foreign=frozenset({200}), own=200)
OPERATORS: Final = Access(nobody=401, foreign=frozenset({403}), own=403)
OWN: Final = Access(nobody=401, foreign=frozenset({404}), own=200)
# Of people: a key hears 403 about its own organization, 404 about any other.
MANAGED: Final = Access(nobody=401, foreign=frozenset({403, 404}), own=403)
# No organization is named: the key's own is meant.
IMPLIED: Final = Access(nobody=401, foreign=frozenset({200}), own=200)
# Of somebody who is signed in: a key is nobody's session.
PEOPLES: Final = Access(nobody=401, foreign=frozenset({403}), own=403)
# Of anybody who knows a secret: a wrong one hears the same, whoever asks.
SIGNING_IN: Final = Access(nobody=401, foreign=frozenset({401}), own=401)

ROUTES: Final[dict[str, Access]] = {
    "POST /v1/organizations": OPERATORS,
    "GET /v1/organizations": OPERATORS,
    "GET /v1/organizations/{organization_id}": OWN,
    "GET /v1/organizations/{organization_id}/logo": OWN,
    "PUT /v1/organizations/{organization_id}/logo": MANAGED,
    "DELETE /v1/organizations/{organization_id}/logo": MANAGED,
    "GET /v1/seller/logo": OPERATORS,
    "PUT /v1/seller/logo": OPERATORS,
    "DELETE /v1/seller/logo": OPERATORS,
    "POST /v1/organizations/{organization_id}/users": OPERATORS,
    "PATCH /v1/organizations/{organization_id}": MANAGED,
    "DELETE /v1/organizations/{organization_id}": MANAGED,
    "POST /v1/organizations/{organization_id}/status": MANAGED,
    "POST /v1/organizations/{organization_id}/restore": MANAGED,
    "GET /v1/organizations/{organization_id}/users": MANAGED,
    "GET /v1/organizations/{organization_id}/users/{user_id}": MANAGED,
    "PATCH /v1/organizations/{organization_id}/users/{user_id}": MANAGED,
    "DELETE /v1/organizations/{organization_id}/users/{user_id}": MANAGED,
    "POST /v1/organizations/{organization_id}/invitations": MANAGED,
    "GET /v1/organizations/{organization_id}/invitations": MANAGED,
    "POST /v1/organizations/{organization_id}/invitations/{invitation_id}/resend": MANAGED,
    "DELETE /v1/organizations/{organization_id}/invitations/{invitation_id}": MANAGED,
    "GET /v1/organizations/{organization_id}/export": MANAGED,
    "POST /v1/organizations/{organization_id}/erase": MANAGED,
    "POST /v1/people/export": OPERATORS,
    "POST /v1/people/erase": OPERATORS,
    # Whoever has the token of the mail; a wrong one is unknown to everybody.
    "POST /v1/invitations/accept": Access(nobody=404, foreign=frozenset({404}), own=404),
    "GET /v1/audit": OPERATORS,
    "POST /v1/sign-in/password": SIGNING_IN,
    "POST /v1/sign-in/links": Access(nobody=202, foreign=frozenset({202}), own=202),
    "POST /v1/sign-in/links/open": SIGNING_IN,
    "POST /v1/sign-in/password-reset": SIGNING_IN,
    "POST /v1/sign-out": PEOPLES,
    "POST /v1/sign-out/everywhere": PEOPLES,
    "GET /v1/sessions": PEOPLES,
    "DELETE /v1/sessions/{session_id}": PEOPLES,
    "GET /v1/me": IMPLIED,
    "PUT /v1/me/password": PEOPLES,
    "GET /v1/notifications": OPERATORS,
    "GET /v1/plans": IMPLIED,
    "POST /v1/plans": OPERATORS,
    "GET /v1/plans/{plan_id}": IMPLIED,
    "PATCH /v1/plans/{plan_id}": OPERATORS,
    "DELETE /v1/plans/{plan_id}": OPERATORS,
    "GET /v1/plans/{plan_id}/versions": OPERATORS,
    "GET /v1/coupons": OPERATORS,
    "POST /v1/coupons": OPERATORS,
    "POST /v1/coupons/{code}/retire": OPERATORS,
    "POST /v1/organizations/{organization_id}/keys": MANAGED,
    "GET /v1/organizations/{organization_id}/keys": MANAGED,
    "GET /v1/organizations/{organization_id}/keys/{key_id}": MANAGED,
    "PATCH /v1/organizations/{organization_id}/keys/{key_id}": MANAGED,
    "POST /v1/organizations/{organization_id}/keys/{key_id}/rotate": MANAGED,
    "POST /v1/organizations/{organization_id}/keys/{key_id}/revoke": MANAGED,
    "POST /v1/organizations/{organization_id}/subscription": OPERATORS,
    "GET /v1/organizations/{organization_id}/subscription": OWN,
    "POST /v1/organizations/{organization_id}/subscription/cancel": MANAGED,
    "POST /v1/organizations/{organization_id}/subscription/reactivate": MANAGED,
    "POST /v1/organizations/{organization_id}/subscription/change": MANAGED,
    "POST /v1/organizations/{organization_id}/subscription/preview": MANAGED,
    "POST /v1/organizations/{organization_id}/subscription/withdraw": MANAGED,
    "POST /v1/organizations/{organization_id}/subscription/pause": MANAGED,
    "POST /v1/organizations/{organization_id}/subscription/resume": MANAGED,
    "POST /v1/organizations/{organization_id}/subscription/redeem": MANAGED,
    "GET /v1/usage/summary": OWN,
    "GET /v1/usage/series": OWN,
    "GET /v1/usage/performance": OWN,
    "POST /v1/usage/backfill": OPERATORS,
    "GET /v1/usage/origins": OWN,
    "GET /v1/usage/live": OWN,
    "GET /v1/usage/impressions": OWN,
    "GET /v1/usage/export": OWN,
    "GET /v1/usage/days/{day}/events": OWN,
    "GET /v1/quota": OWN,
    "GET /v1/invoices": OWN,
    "GET /v1/invoices/{invoice_id}": OWN,
    "GET /v1/invoices/{invoice_id}/pdf": OWN,
    "POST /v1/invoices": OPERATORS,
    "POST /v1/invoices/preview": OPERATORS,
    "PATCH /v1/invoices/{invoice_id}": OPERATORS,
    "POST /v1/invoices/{invoice_id}/issue": OPERATORS,
    "POST /v1/invoices/{invoice_id}/void": OPERATORS,
    "POST /v1/invoices/{invoice_id}/credit-notes": OPERATORS,
    "POST /v1/invoices/{invoice_id}/allocations": OPERATORS,
    "GET /v1/invoices/{invoice_id}/allocations": OWN,
    "GET /v1/credit-notes": OWN,
    "GET /v1/credit-notes/{credit_note_id}": OWN,
    "GET /v1/credit-notes/{credit_note_id}/pdf": OWN,
    "POST /v1/payments": OPERATORS,
    "GET /v1/payments": OWN,
    "GET /v1/payments/{payment_id}": OWN,
    "POST /v1/payments/{payment_id}/reverse": OPERATORS,
    "GET /v1/overdue": OPERATORS,
    "POST /v1/overdue/chase": OPERATORS,
    "GET /v1/overdue/policies": OPERATORS,
    "POST /v1/overdue/policies": OPERATORS,
    "PUT /v1/organizations/{organization_id}/overdue-exemption": OPERATORS,
    "DELETE /v1/organizations/{organization_id}/overdue-exemption": OPERATORS,
    # Nothing in world.sql says where in the Peppol network its buyer is.
    "GET /v1/invoices/{invoice_id}/ehf": Access(nobody=401, foreign=frozenset({404}), own=409),
    "GET /v1/invoices/{invoice_id}/lines/{line}/usage": OWN,
    "POST /v1/billing/runs": OPERATORS,
    "GET /healthz": OPEN,
    "GET /readyz": OPEN,
    # Foreign keys and organizations are rejected one event at a time.
    "POST /v1/usage/events": IMPLIED,
    # A verdict is about the key in the body, whoever asks.
    "POST /v1/keys/verify": OPEN,
    # The key that is asked about is the one the request carries; without one nothing passes.
    "GET /v1/forward-auth": Access(nobody=401, foreign=frozenset({200}), own=200),
}

# Asked a few times for one address they say 429 to everybody alike.
LIMITED: Final = frozenset(route for route in ROUTES if "/sign-in/" in route)

# The rows of world.sql that a parameter or field of this name could mean.
_NUMBERS: Final = {
    "user_id": 4,
    "key_id": 10,
    "api_key_id": 10,
    "subscription_id": 20,
    "invoice_id": 30,
    "credit_note_id": 31,
    "payment_id": 32,
    "widget_id": 40,
    "invitation_id": 60,
    "session_id": 70,
    "subject_id": 10,
}
# What is asked for and is nobody's.
_WORDS: Final = {"reason": "a test"}
# For bodies of which the document shows no example.
_BODIES: Final[dict[str, dict[str, Any]]] = {
    "NewBillingRun": {"as_of": "2026-01-01"},
    "Acceptance": {"token": "x" * 43},
    "LinkAsked": {"email": "kari@hotel.example"},
    "LinkOpened": {"token": "x" * 43},
    "PasswordReset": {"token": "x" * 43, "new_password": "a stranger's long password"},
    "PasswordChange": {"new_password": "a stranger's long password"},
    "PersonAsked": {"email": "kari@hotel.example"},
    "PersonErasure": {"email": "kari@hotel.example", "confirm": "kari@hotel.example"},
    "OrganizationErasure": {"confirm": "hotel"},
}


NOBODYS: Final = {"day": "2026-11-01", "plan_id": "basic", "code": "SUMMER", "line": "1"}


class Unnamed(LookupError):
    """A route or an id that the matrix does not know yet."""


def id_of(name: str, organization: str) -> str:
    """Return the id that a parameter gets.

    Raises:
        Unnamed: Nobody said what the parameter means.
    """
    if name == "organization_id":
        return str(thing_of(organization, 0))
    if name in _WORDS:
        return _WORDS[name]
    if name not in _NUMBERS:
        raise Unnamed(f"say in routes.py which row of world.sql the parameter {name} means")
    return str(thing_of(organization, _NUMBERS[name]))


@dataclass(frozen=True)
class Attempt:
    """A request, whose ids it carries, and the statuses that are right for the key of A."""

    route: str
    url: str
    whose: str
    right: frozenset[int]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.route.split()[0]

    def __str__(self) -> str:
        return f"{self.route} with ids of {self.whose}: {self.url} {dict(self.query)}"


def attempts(document: Mapping[str, Any], other: str = "B") -> Iterator[Attempt]:
    """Yield the requests that the OpenAPI document allows with ids of A, of another, and of both.

    Args:
        document: What /openapi.json says.
        other: The letter of the other organization; C is nobody's, and its ids are missing ones.

    Raises:
        Unnamed: No rule names a route.
    """
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            route = f"{method.upper()} {path}"
            if route not in ROUTES:
                raise Unnamed(f"no rule in routes.py names {route}")
            yield from _of_operation(route, path, operation, document, other)


def _of_operation(
    route: str, path: str, operation: Mapping[str, Any], document: Mapping[str, Any], other: str
) -> Iterator[Attempt]:
    access = ROUTES[route]
    # A day is nobody's, and neither are the platform's plans and coupons; and a
    # first line every document has.
    for name, value in NOBODYS.items():
        path = path.replace(f"{{{name}}}", value)
    parameters = operation.get("parameters", [])
    in_path = [p["name"] for p in parameters if p["in"] == "path" and p["name"] not in NOBODYS]
    in_query = [p["name"] for p in parameters if p["in"] == "query" and p["name"].endswith("_id")]
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json")
    own_path = {name: id_of(name, "A") for name in in_path}
    own_body = None if schema is None else _example(schema, document, "A")

    needed = {p["name"]: id_of(p["name"], "A") for p in parameters if _is_needed(p)}

    own = frozenset({access.own})
    yield Attempt(route, path.format(**own_path), "A", own, needed, own_body)
    if in_path:
        foreign = {name: id_of(name, other) for name in in_path}
        yield Attempt(route, path.format(**foreign), other, access.foreign, body=own_body)
    if len(in_path) > 1:
        mixed = {**own_path, in_path[-1]: id_of(in_path[-1], other)}
        yield Attempt(route, path.format(**mixed), f"A and {other}", access.foreign, body=own_body)
    for name in in_query:
        query = {name: id_of(name, other)}
        yield Attempt(route, path.format(**own_path), other, access.foreign, query, own_body)
    if schema is not None:
        body = _example(schema, document, other)
        yield Attempt(route, path.format(**own_path), other, access.foreign, body=body)


def _is_needed(parameter: Mapping[str, Any]) -> bool:
    return bool(parameter["in"] == "query" and parameter.get("required"))


def _example(content: Mapping[str, Any], document: Mapping[str, Any], organization: str) -> Any:
    """Return the documented example with every id in it replaced, and those missing added."""
    if "example" in content:
        return _with_ids(content["example"], content["schema"], document, organization)
    schema = _resolved(content["schema"], document)
    shown = schema.get("examples") or [_BODIES.get(schema.get("title", ""), {})]
    return _with_ids(shown[0], schema, document, organization)


def _with_ids(
    value: Any, schema: Mapping[str, Any], document: Mapping[str, Any], organization: str
) -> Any:
    schema = _resolved(schema, document)
    if isinstance(value, list):
        return [_with_ids(each, schema.get("items", {}), document, organization) for each in value]
    if not isinstance(value, dict):
        return value
    names = {name for name in schema.get("properties", {}) if name.endswith("_id")}
    return {**value, **{name: id_of(name, organization) for name in names}}


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Mapping[str, Any] = document["components"]["schemas"][reference.rsplit("/", 1)[-1]]
    return found
