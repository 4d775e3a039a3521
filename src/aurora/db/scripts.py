"""Runs a file of SQL statement by statement, so that a failure names the file and the line."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from aurora.core.errors import AuroraError
from aurora.db.lexer import SqlSyntaxError, Statement, statements

# The caller's transaction is what makes a file all or nothing.
_TRANSACTION_WORDS: Final = frozenset(
    {"begin", "start", "commit", "end", "rollback", "abort", "prepare"}
)


class ScriptFailed(AuroraError):
    """A file of SQL could not be run; the detail names file, line, and what PostgreSQL said."""

    status, code, title = 500, "script_failed", "A file of SQL could not be run"


async def run_script(connection: psycopg.AsyncConnection[Any], text: str, name: str) -> None:
    """Run the statements of a file in the transaction that the caller has opened.

    Args:
        connection: Inside a transaction.
        text: The SQL.
        name: The file's name, for messages.

    Raises:
        ScriptFailed: A statement failed, controls the transaction, or has no end.
    """
    try:
        parsed = list(statements(text))
    except SqlSyntaxError as error:
        raise ScriptFailed(f"{name}: {error}") from error
    for statement in parsed:
        if statement.words and statement.words[0] in _TRANSACTION_WORDS:
            raise ScriptFailed(
                f"{name}:{statement.line}: `{statement.words[0]}` is not allowed: a file is one "
                "transaction"
            )
    for statement in parsed:
        try:
            await connection.execute(statement.text)
        except psycopg.Error as error:
            raise _failure(name, statement, error) from error


def _failure(name: str, statement: Statement, error: psycopg.Error) -> ScriptFailed:
    """Say where and why, within one line; the position is a character counted from 1."""
    line = statement.line
    if position := error.diag.statement_position:
        line += statement.text.count("\n", 0, int(position) - 1)
    primary = error.diag.message_primary or str(error)
    detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
    return ScriptFailed(
        f"{name}:{line}: {primary}{detail} [{error.sqlstate}]",
        file=name,
        line=line,
        sqlstate=error.sqlstate,
    )
