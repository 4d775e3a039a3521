"""What PostgreSQL refuses, told as one of Aurora's errors."""

from __future__ import annotations

from typing import Final

import psycopg

from aurora.core.errors import AuroraError, Unavailable, error_by_code, error_by_constraint

# SQL raises every refusal of its own with this state: `raise exception using errcode = 'AU000',
# message = '<code>', detail = '<one sentence for people>'`. Class AU is free in the standard.
REFUSAL_STATE: Final = "AU000"

_NOT_NULL_VIOLATION: Final = "23502"
_CONSTRAINT_CLASS: Final = "23"
# Connection exceptions, and resources or an operator that end the session (PostgreSQL 18,
# appendix A). 57014 is not among them: it is a timeout, not a loss.
_LOST_CLASSES: Final = ("08", "53", "58")
_LOST_STATES: Final = frozenset({"57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04"})
_BUSY_STATES: Final = frozenset({"57014", "55P03", "40001", "40P01"})


class DatabaseUnavailable(Unavailable):
    """There is no working connection to PostgreSQL, or it has no room for one more."""

    code, title = "database_unavailable", "The database cannot be reached right now"


class DatabaseBusy(Unavailable):
    """A statement waited or ran too long, or lost against a concurrent one; try it again."""

    code, title = "database_busy", "The database took too long; try again"


class NotFoundRow(LookupError):
    """A query that promises a row returned none."""


class TooManyRows(LookupError):
    """A query returned more rows than it promises."""


def translate(error: psycopg.Error) -> AuroraError | None:
    """Return the Aurora error that a database error means, or None when it is a fault of ours.

    Nothing of the server's own text is passed on, except the detail of a refusal that our SQL
    wrote for people: messages such as `Key (email)=(…) already exists` name other tenants' data.

    Args:
        error: What psycopg raised.
    """
    if error.sqlstate is None:
        # No state means the server never answered: the connection or the pool failed.
        return DatabaseUnavailable() if isinstance(error, psycopg.OperationalError) else None
    said = error.diag
    return refused(
        error.sqlstate, said.message_primary or "", said.message_detail, said.constraint_name or ""
    )


def refused(state: str, message: str, detail: str | None, constraint: str) -> AuroraError | None:
    """Return the Aurora error of what SQL was refused and handed on as a row; as `translate`.

    Args:
        state: SQLSTATE.
        message: The primary message; of a refusal its code.
        detail: Of a refusal the sentence for people.
        constraint: The one that was violated, or nothing.
    """
    if state == REFUSAL_STATE:
        refusal = error_by_code(message)
        return refusal(detail) if refusal else None
    if state.startswith(_CONSTRAINT_CLASS) and state != _NOT_NULL_VIOLATION:
        violated = error_by_constraint(constraint)
        return violated() if violated else None
    if state in _BUSY_STATES:
        return DatabaseBusy()
    if state in _LOST_STATES or state.startswith(_LOST_CLASSES):
        return DatabaseUnavailable()
    return None
