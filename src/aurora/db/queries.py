"""Loads the named queries of a room's queries.sql and runs them into typed rows.

    -- name: find_key_by_hash -> ApiKey
    -- Finds the key that a request carries.
    select … from api_keys where key_hash = :key_hash

A file is a list of such sections. `-> ApiKey` names the class in the room's model.py that a row
becomes; without it the query returns one value, or nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
from psycopg.rows import kwargs_row, tuple_row

from aurora.db.errors import NotFoundRow, TooManyRows
from aurora.db.lexer import Kind, SqlSyntaxError, Token, tokens
from aurora.db.messages import Packed, PackedStatement
from aurora.db.transaction import Turns

T = TypeVar("T")

FILE_NAME: Final = "queries.sql"
# A result is held in memory whole; whoever needs more pages through it.
MAX_ROWS: Final = 100_000

_HEADER: Final = re.compile(r"-- name: ([a-z][a-z0-9_]*)(?: -> ([A-Z][A-Za-z0-9]*))?")
_HEADER_LIKE: Final = re.compile(r"--\s*name\s*:", re.IGNORECASE)
_PARAMETER_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*")
_IDLE: Final = (Kind.SPACE, Kind.COMMENT)


class BadQuery(ValueError):
    """A queries.sql that breaks the format; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Query:
    """One named query.

    Attributes:
        name: Unique within its room.
        text: The SQL with psycopg's `%(name)s` placeholders; every other `%` is doubled.
        parameters: Their names, in the order of their first use.
        model: The class in the room's model.py that a row becomes, if any.
        summary: The sentence above it.
        source: Its file.
        line: The line of its header in that file, counted from 1.
    """

    name: str
    text: str
    parameters: tuple[str, ...]
    model: str | None
    summary: str
    source: Path
    line: int

    def __str__(self) -> str:
        """Return where to find it."""
        return f"query {self.name} ({self.source}:{self.line})"


class Queries(Mapping[str, Query]):
    """The named queries of one file.

    Args:
        read: Reads the file; asked when the first query is, for a command needs few of all rooms'.
        source: Its name, for messages.
    """

    def __init__(self, read: Callable[[], Mapping[str, Query]], source: Path) -> None:
        self._read, self._source = read, source

    @cached_property
    def _queries(self) -> Mapping[str, Query]:
        return self._read()

    def __getitem__(self, name: str) -> Query:
        """Return a query, or raise KeyError naming those with a similar name."""
        try:
            return self._queries[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._queries) or sorted(self._queries)
            raise KeyError(f"{name} is not in {self._source}; near: {', '.join(near)}") from None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in the order of the file."""
        return iter(self._queries)

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self._queries)


def load_queries(package: str) -> Queries:
    """Return the queries of a package; its queries.sql is read when the first one is asked for.

    Whoever asks gets BadQuery where the file breaks the format; tests ask for every room's.

    Args:
        package: The room's dotted name; in its store, `__package__`.

    Raises:
        FileNotFoundError: The package has no queries.sql.
    """
    file = resources.files(package) / FILE_NAME
    source = Path(str(file))
    if not file.is_file():
        raise FileNotFoundError(source)
    return Queries(lambda: parse_queries(file.read_text(encoding="utf-8"), source), source)


def parse_queries(text: str, source: Path) -> Mapping[str, Query]:
    """Return the queries that the text of a queries.sql defines.

    Args:
        text: The file's content.
        source: The file's name, for messages.

    Raises:
        BadQuery: The text breaks the format.
    """
    found: dict[str, Query] = {}
    for header, body in _sections(text, source):
        query = _parse_section(header, body, source)
        if query.name in found:
            raise BadQuery(
                f"{source}:{query.line}: {query.name} is defined twice, "
                f"first on line {found[query.name].line}"
            )
        found[query.name] = query
    return found


def _sections(text: str, source: Path) -> Iterator[tuple[Token, list[Token]]]:
    """Yield each header with the tokens up to the next one."""
    header: Token | None = None
    body: list[Token] = []
    starts_line = True
    try:
        for token in tokens(text):
            # Only a comment at the beginning of a line: not one within a string or a body.
            if starts_line and token.kind is Kind.COMMENT and _HEADER_LIKE.match(token.text):
                if header:
                    yield header, body
                header, body = token, []
            elif header:
                body.append(token)
            elif token.kind not in _IDLE:
                raise BadQuery(f"{source}:{token.line}: SQL before the first `-- name:`")
            starts_line = token.text.endswith("\n")
    except SqlSyntaxError as error:
        raise BadQuery(f"{source}: {error}") from error
    if header:
        yield header, body


def _parse_section(header: Token, body: list[Token], source: Path) -> Query:
    here = f"{source}:{header.line}"
    match = _HEADER.fullmatch(header.text.rstrip())
    if not match:
        raise BadQuery(f"{here}: expected `-- name: snake_case` or `-- name: snake_case -> Model`")
    name, model = match.groups()
    summary, rest = _take_summary(body)
    if not summary:
        raise BadQuery(f"{here}: {name} needs a sentence in the line below its name")
    pieces: list[str] = []
    parameters: dict[str, None] = {}
    for token in _one_statement(rest, f"{here}: {name}"):
        if token.kind is Kind.PARAMETER:
            parameter = token.text[1:]
            if not _PARAMETER_NAME.fullmatch(parameter):
                raise BadQuery(f"{source}:{token.line}: parameter {token.text} is not snake_case")
            parameters[parameter] = None
            pieces.append(f"%({parameter})s")
        else:
            # psycopg looks for placeholders everywhere, in strings and comments as well.
            pieces.append(token.text.replace("%", "%%"))
    text = "".join(pieces)
    return Query(name, text, tuple(parameters), model, summary, source, header.line)


def _take_summary(body: list[Token]) -> tuple[str, list[Token]]:
    """Return the comment lines that follow the header at once, joined, and what comes after."""
    lines: list[str] = []
    for place, token in enumerate(body):
        ends_block = token.kind is Kind.SPACE and token.text.count("\n") > 1
        is_line = token.kind is Kind.COMMENT and token.text.startswith("--")
        if ends_block or not (is_line or token.kind is Kind.SPACE):
            return " ".join(lines), body[place:]
        if is_line and (line := token.text.lstrip("-").strip()):
            lines.append(line)
    return " ".join(lines), []


def _one_statement(body: list[Token], what: str) -> list[Token]:
    """Return the tokens of the only statement, without its semicolon and what surrounds it."""
    solid = [place for place, token in enumerate(body) if token.kind not in _IDLE]
    while solid and body[solid[-1]].text == ";":
        solid.pop()
    if not solid:
        raise BadQuery(f"{what} has no SQL")
    statement = body[solid[0] : solid[-1] + 1]
    if any(token.text == ";" for token in statement):
        raise BadQuery(f"{what} is more than one statement")
    return statement


async def fetch_all(
    connection: psycopg.AsyncConnection[Any], query: Query, model: type[T], /, **params: Any
) -> list[T]:
    """Return every row as a `model`, built by keyword from the column names.

    Raises:
        TooManyRows: There are more than MAX_ROWS rows.
    """
    _check_model(query, model)
    async with _run(connection, query, params, kwargs_row(model)) as cursor:
        if cursor.rowcount > MAX_ROWS:
            raise TooManyRows(f"{query} returned {cursor.rowcount} rows; at most {MAX_ROWS}")
        return await cursor.fetchall()


async def fetch_one(
    connection: psycopg.AsyncConnection[Any], query: Query, model: type[T], /, **params: Any
) -> T:
    """Return the one row as a `model`.

    Raises:
        NotFoundRow: There is none.
        TooManyRows: There are several.
    """
    row = await fetch_optional(connection, query, model, **params)
    if row is None:
        raise NotFoundRow(f"{query} returned no row")
    return row


async def fetch_optional(
    connection: psycopg.AsyncConnection[Any], query: Query, model: type[T], /, **params: Any
) -> T | None:
    """Return the row as a `model`, or None when there is none.

    Raises:
        TooManyRows: There are several.
    """
    _check_model(query, model)
    async with _run(connection, query, params, kwargs_row(model)) as cursor:
        _check_at_most_one(query, cursor.rowcount)
        return await cursor.fetchone()


async def fetch_value(
    connection: psycopg.AsyncConnection[Any], query: Query, /, **params: Any
) -> Any:
    """Return the only column of the row, or None when there is no row.

    Raises:
        TooManyRows: There are several rows.
        TypeError: There are several columns.
    """
    async with _run(connection, query, params, tuple_row) as cursor:
        _check_at_most_one(query, cursor.rowcount)
        row = await cursor.fetchone()
        if row is None:
            return None
        if len(row) != 1:
            raise TypeError(f"{query} returned {len(row)} columns; a value is one")
        return row[0]


async def fetch_in_turn(
    turns: Turns, query: Query, model: type[T], /, *, times: int = 1, **params: Any
) -> list[T]:
    """Run a query so many times, each committed by itself; return all rows as `model`s.

    Raises:
        psycopg.Error: One was refused; those before it are committed.
    """
    _check_model(query, model)
    _check_parameters(query, params)
    try:
        return [model(**row) for row in await turns.run(query.text, params, times=times)]
    except (psycopg.Error, TypeError) as error:
        error.add_note(f"in {query}")
        raise


def packed(query: Query, /, **params: Packed) -> PackedStatement:
    """Return a query with parameters in the binary forms of the types that it names."""
    _check_parameters(query, params)
    places = {name: f"${number}" for number, name in enumerate(query.parameters, 1)}
    return PackedStatement(query.text % places, [params[name] for name in query.parameters])


async def execute(connection: psycopg.AsyncConnection[Any], query: Query, /, **params: Any) -> int:
    """Run a query for its effect and return the number of rows it touched."""
    async with _run(connection, query, params, tuple_row) as cursor:
        return cursor.rowcount


@asynccontextmanager
async def _run(
    connection: psycopg.AsyncConnection[Any],
    query: Query,
    params: dict[str, Any],
    factory: Any,
) -> AsyncIterator[psycopg.AsyncCursor[Any]]:
    """Run a query and lend its cursor; whatever goes wrong names the query."""
    _check_parameters(query, params)
    try:
        async with connection.cursor(row_factory=factory) as cursor:
            # An empty mapping too: without one psycopg would leave the doubled % as they are.
            await cursor.execute(query.text, params)
            yield cursor
    except (psycopg.Error, TypeError) as error:
        error.add_note(f"in {query}")
        raise


def _check_parameters(query: Query, params: Mapping[str, Any]) -> None:
    if params.keys() != set(query.parameters):
        raise TypeError(f"{query} takes {sorted(query.parameters)}, not {sorted(params)}")


def _check_model(query: Query, model: type[object]) -> None:
    if query.model != model.__name__:
        raise TypeError(f"{query} returns {query.model or 'no model'}, not {model.__name__}")


def _check_at_most_one(query: Query, rows: int) -> None:
    if rows > 1:
        raise TooManyRows(f"{query} returned {rows} rows where at most one was promised")
