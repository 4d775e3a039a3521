"""Errors are facts: each has an HTTP status, a stable code, and one sentence that helps."""

from __future__ import annotations

from typing import Any, ClassVar

_BY_CODE: dict[str, type[AuroraError]] = {}
_BY_CONSTRAINT: dict[str, type[AuroraError]] = {}


class AuroraError(Exception):
    """A refusal that the caller can understand and act on.

    Attributes:
        status: The HTTP status of the problem document (RFC 9457).
        code: Stable, snake_case; part of the public interface.
        title: What every refusal of this kind has in common.
        constraints: Names of the database constraints that raise this error when violated.
        facts: JSON-able members added to the problem document.
        headers: Header fields added to the answer.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    constraints: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Enter the class in the tables that map codes and constraints to errors."""
        super().__init_subclass__()
        if "code" in cls.__dict__:
            other = _BY_CODE.setdefault(cls.code, cls)
            if other.__qualname__ != cls.__qualname__:
                raise TypeError(f"error code {cls.code!r} belongs to {other.__qualname__} already")
        for constraint in cls.__dict__.get("constraints", ()):
            _BY_CONSTRAINT[constraint] = cls

    def __init__(self, detail: str | None = None, **facts: Any) -> None:
        self.detail = detail or self.title
        self.facts = facts
        self.headers: dict[str, str] = {}
        super().__init__(self.detail)


class Invalid(AuroraError):
    """The request cannot be understood or breaks a rule of its fields."""

    status, code, title = 422, "invalid", "The request is not valid"


class Malformed(AuroraError):
    """The body cannot be read at all."""

    status, code, title = 400, "malformed", "The request cannot be read"


class Unauthorized(AuroraError):
    """No identity, or one that is not accepted."""

    status, code, title = 401, "unauthorized", "Credentials are missing or not accepted"


class Forbidden(AuroraError):
    """The identity is known and may not do this."""

    status, code, title = 403, "forbidden", "This identity may not do that"


class NotFound(AuroraError):
    """It does not exist, or belongs to somebody else: the two look the same on purpose."""

    status, code, title = 404, "not_found", "There is no such thing here"


class Conflict(AuroraError):
    """The request contradicts what is already so."""

    status, code, title = 409, "conflict", "The request contradicts the present state"


class TooLarge(AuroraError):
    """The body passes a named limit."""

    status, code, title = 413, "too_large", "The request body is too large"


class LimitExceeded(AuroraError):
    """A rate limit or quota is used up."""

    status, code, title = 429, "limit_exceeded", "A limit is used up"


class Unavailable(AuroraError):
    """The platform cannot answer now; trying again later is right."""

    status, code, title = 503, "unavailable", "The service cannot answer right now"


def error_by_code(code: str) -> type[AuroraError] | None:
    """Return the class whose stable code this is, if any."""
    return _BY_CODE.get(code)


def error_by_constraint(name: str) -> type[AuroraError] | None:
    """Return the class that a violation of this database constraint means, if any."""
    return _BY_CONSTRAINT.get(name)
