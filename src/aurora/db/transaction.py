"""Opens a transaction that says who acts: the one door through which the application queries."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Literal, get_args
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import dict_row

from aurora.db.errors import translate
from aurora.db.messages import PackedStatement, exchange
from aurora.db.pool import Connection, Pool

__all__ = [
    "PLATFORM",
    "Actor",
    "Connection",
    "Pool",
    "named",
    "person",
    "tenant",
    "transaction",
    "transaction_on",
    "transactions_in_turn",
]

Role = Literal["service_role", "tenant", "authenticated", "anon"]

STATEMENT_TIMEOUT_MS: Final = 15_000
ROLLBACK_TIMEOUT_S: Final = 5.0

_ROLES: Final = frozenset(get_args(Role))
# What is written into the audit: one line of text, of a length that a column shows.
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


def _check_names(name: str | None, request_id: str | None) -> None:
    for value in (name, request_id):
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError("a name for the audit is one line of at most 200 characters")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts in a transaction (design.md, section 4).

    Attributes:
        role: The PostgreSQL role assumed for the transaction.
        organization_id: The tenant; given exactly when the role is `tenant`.
        claims: The person's token, shaped as Supabase's JWT; becomes `request.jwt.claims`.
        user_id: The member on whose behalf a tenant acts, if it is one.
        name: Who that is to the audit, such as `operator` or `key:<id>`; becomes `app.actor`.
            None takes the name that `named` gave to what runs now.
        request_id: The request it is done in; becomes `app.request_id`, None as with `name`.
    """

    role: Role
    organization_id: UUID | None = None
    claims: Mapping[str, object] | None = None
    user_id: UUID | None = None
    name: str | None = None
    request_id: str | None = None

    def __post_init__(self) -> None:
        """Refuse what could become another identity once it stands in a statement."""
        if self.role not in _ROLES:
            raise ValueError(f"no such role: {self.role!r}")
        if (self.role == "tenant") is not isinstance(self.organization_id, UUID):
            raise ValueError("a tenant acts for one organization, and nobody else does")
        if self.user_id is not None and not (
            self.role == "tenant" and isinstance(self.user_id, UUID)
        ):
            raise ValueError("only a tenant acts on behalf of a member, named by a UUID")
        _check_names(self.name, self.request_id)


PLATFORM: Final = Actor("service_role")

_named: ContextVar[tuple[str | None, str | None]] = ContextVar("named", default=(None, None))


@contextmanager
def named(name: str | None, request_id: str | None = None) -> Iterator[None]:
    """Name who acts in every transaction that is opened in this block, for the audit.

    A door does this once (a request, a command, a job), so that no service in between has to hand
    the name on. Tasks that are started inside inherit it. It gives no rights: those are the role's.

    Args:
        name: As in Actor; None leaves the database role as the name.
        request_id: As in Actor.

    Raises:
        ValueError: A name is not one line of at most 200 characters.
    """
    _check_names(name, request_id)
    before = _named.set((name, request_id))
    try:
        yield
    finally:
        _named.reset(before)


def tenant(organization_id: UUID, user_id: UUID | None = None, *, name: str | None = None) -> Actor:
    """Return the actor that sees one organization's data plane and nothing else.

    Args:
        organization_id: The organization.
        user_id: The member who asks, when it is a person and not a key.
        name: As in Actor.
    """
    return Actor("tenant", organization_id=organization_id, user_id=user_id, name=name)


def person(auth_id: UUID, **claims: object) -> Actor:
    """Return the actor for a signed-in person.

    Args:
        auth_id: The `sub` of the token, `auth.users.id`.
        claims: Further members of the token, such as email.
    """
    token = {**claims, "sub": str(auth_id), "role": "authenticated"}
    return Actor("authenticated", claims=token)


@asynccontextmanager
async def transaction(
    pool: Pool,
    acting_as: Actor,
    *,
    read_only: bool = False,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
) -> AsyncIterator[Connection]:
    """Borrow a connection for one transaction in which `acting_as` acts.

    Commits at the end of the block; rolls back on any exception, cancellation included. For a
    savepoint, use `connection.transaction()` inside.

    Args:
        pool: Where the connection comes from and returns to, clean.
        acting_as: Whose rights apply.
        read_only: Let PostgreSQL refuse every write.
        statement_timeout_ms: The longest any single statement may run, in milliseconds.

    Raises:
        AuroraError: What the database refused, by `aurora.db.errors.translate`.
        psycopg.Error: A database error that no Aurora error stands for.
    """
    try:
        connection = await pool.getconn()
        try:
            async with transaction_on(
                connection,
                acting_as,
                read_only=read_only,
                statement_timeout_ms=statement_timeout_ms,
            ):
                yield connection
        finally:
            # With a reset callback this only queues: it cannot be interrupted half-way. Whatever
            # state a second cancellation left behind, the pool rolls back or closes.
            await pool.putconn(connection)
    except psycopg.Error as error:
        if translated := translate(error):
            raise translated from error
        raise


@asynccontextmanager
async def transaction_on(
    connection: Connection,
    acting_as: Actor,
    *,
    read_only: bool = False,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
) -> AsyncIterator[Connection]:
    """As `transaction`, on a connection that is held for more than that (it must be idle).

    Raises:
        psycopg.Error: What the database refused, as it said it.
    """
    try:
        opening = _opening(connection, acting_as, read_only, statement_timeout_ms)
        await connection.execute("; ".join(opening))
        yield connection
        await _commit(connection)
    except BaseException:
        await _abandon(connection)
        raise


class Turns:
    """A connection on which every statement is a transaction of its own; see below.

    Attributes:
        connection: That one, idle between two of them.
    """

    def __init__(self, connection: Connection, opening: Sequence[str]) -> None:
        self.connection, self._opening = connection, opening

    async def run(
        self, statement: str, params: Mapping[str, Any], *, times: int = 1
    ) -> list[dict[str, Any]]:
        """Run a statement so many times, and return all rows once all of them are committed.

        Args:
            statement: One statement, with psycopg's placeholders.
            params: The same for each time.
            times: How many transactions.

        Raises:
            psycopg.Error: One was refused: those before it are committed, none comes after it.
        """
        # Parameters are bound in the message: psycopg looks for placeholders in all of it.
        opening = "; ".join(self._opening).replace("%", "%%")
        one = f"{opening}; {statement}; commit; "
        rows: list[dict[str, Any]] = []
        async with psycopg.AsyncClientCursor(self.connection, row_factory=dict_row) as cursor:
            await cursor.execute((one * times).encode(), params)
            last: list[dict[str, Any]] = []
            while True:
                # What came right before a commit is the statement's own answer.
                if cursor.statusmessage == "COMMIT":
                    rows += last
                last = await cursor.fetchall() if cursor.description else []
                if not cursor.nextset():
                    return rows

    async def run_together(self, statements: Iterable[PackedStatement]) -> list[PGresult]:
        """Run statements in one transaction, and return what each said once it is committed.

        Raises:
            psycopg.Error: One was refused, and so were all.
        """
        opening = [PackedStatement(each) for each in self._opening]
        message = chain(opening, statements, [PackedStatement("commit")])
        return (await exchange(self.connection.pgconn, message))[len(opening) : -1]


@asynccontextmanager
async def transactions_in_turn(
    pool: Pool,
    acting_as: Actor,
    *,
    read_only: bool = False,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
) -> AsyncIterator[Turns]:
    """Borrow a connection for many transactions of one statement each, several in a round trip.

    The opening, the statement, and the commit travel in one message, and so may the next ones: what
    a transaction holds is let go without waiting for whoever asked.

    Args:
        pool: Where the connection comes from and returns to, clean.
        acting_as: Whose rights apply.
        read_only: Let PostgreSQL refuse every write.
        statement_timeout_ms: The longest any single statement may run, in milliseconds.

    Raises:
        As `transaction`.
    """
    try:
        connection = await pool.getconn()
        try:
            opening = _opening(connection, acting_as, read_only, statement_timeout_ms)
            try:
                yield Turns(connection, opening)
            except BaseException:
                await _abandon(connection)
                raise
        finally:
            await pool.putconn(connection)
    except psycopg.Error as error:
        if translated := translate(error):
            raise translated from error
        raise


def _opening(
    connection: Connection, actor: Actor, read_only: bool, statement_timeout_ms: int
) -> list[str]:
    """Return BEGIN and the identity, the statements of one message.

    One simple-protocol message costs 0.21 ms per transaction over a bare query, a pipeline
    0.38 ms, three statements 0.45 ms (measured on a local socket). The role is set in a statement
    of its own, because privileges of later statements are checked when those are planned, and the
    login role may not even call app.set_organization.
    """
    local = {"role": actor.role, "statement_timeout": str(int(statement_timeout_ms))}
    if actor.claims is not None:
        local["request.jwt.claims"] = json.dumps(actor.claims, default=str)
    name, request_id = _named.get()
    if (name := actor.name or name) is not None:
        local["app.actor"] = name
    if (request_id := actor.request_id or request_id) is not None:
        local["app.request_id"] = request_id
    settings = ", ".join(
        f"set_config('{name}', {sql.quote(value, connection)}, true)"
        for name, value in local.items()
    )
    begin = "begin read only" if read_only else "begin"
    if actor.organization_id is None:
        return [begin, f"select {settings}"]
    # Through the function, never set_config: only it reaches the workers of a Citus cluster.
    ids = (
        [actor.organization_id] if actor.user_id is None else [actor.organization_id, actor.user_id]
    )
    arguments = ", ".join(f"'{known}'" for known in ids)
    return [begin, f"select {settings}", f"select app.set_organization({arguments})"]


async def _commit(connection: Connection) -> None:
    status = connection.pgconn.transaction_status
    if status == TransactionStatus.IDLE:
        # Whatever followed the early end ran as the login role, which owns nothing.
        raise RuntimeError("the transaction was ended inside its block; services never commit")
    if status == TransactionStatus.INERROR:
        # COMMIT would quietly roll back and the caller would believe that it was stored.
        raise RuntimeError("a database error was swallowed inside the transaction")
    await connection.commit()


async def _abandon(connection: Connection) -> None:
    """Roll back as far as that is possible; the pool deals with what remains."""
    try:
        async with asyncio.timeout(ROLLBACK_TIMEOUT_S):
            if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await connection.close()
            else:
                await connection.rollback()
    except (psycopg.Error, TimeoutError):
        await connection.close()
