"""Opens the pool of connections; transaction() is the only thing that should borrow from it."""

from __future__ import annotations

import select
from typing import Any, Final

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from aurora.db.errors import DatabaseUnavailable

Connection = psycopg.AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

OPEN_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 5
BORROW_TIMEOUT_S: Final = 10.0
UNACKNOWLEDGED_TIMEOUT_MS: Final = 15_000
# Callers that may wait for a connection. One more is refused at once: a queue that cannot be
# served within BORROW_TIMEOUT_S only makes everybody late.
MAX_WAITING: Final = 1_000
# A farewell of the server is a message and then the end of the stream.
_MAX_FAREWELL_READS: Final = 3


async def open_pool(dsn: str, *, min_size: int = 1, max_size: int = 8, name: str) -> Pool:
    """Open a pool and wait until its first `min_size` connections work.

    Statements are never prepared, so a PgBouncer in transaction mode may stand in between.

    Args:
        dsn: Connection string or URL.
        min_size: Connections held open when nothing happens.
        max_size: Connections at most.
        name: Shown by PostgreSQL as application_name, and in the pool's logs.

    Raises:
        DatabaseUnavailable: No connection within OPEN_TIMEOUT_S seconds.
    """
    pool: Pool = AsyncConnectionPool(
        dsn,
        kwargs=_options(name),
        min_size=min_size,
        max_size=max_size,
        name=name,
        timeout=BORROW_TIMEOUT_S,
        max_waiting=MAX_WAITING,
        check=_refuse_dead,
        # Having a reset also makes the pool take connections back in its own task, so returning
        # one never suspends and cannot be interrupted by the cancellation of the borrower.
        reset=_refuse_dirty,
        open=False,
    )
    try:
        await pool.open(wait=True, timeout=OPEN_TIMEOUT_S)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"No connection within {OPEN_TIMEOUT_S:.0f} seconds") from error
    except BaseException:
        await pool.close()
        raise
    return pool


async def open_connection(dsn: str, *, name: str) -> Connection:
    """Open a connection of one's own, which listens or is asked again and again.

    Raises:
        psycopg.OperationalError: The server does not answer.
    """
    return await psycopg.AsyncConnection.connect(dsn, **_options(name))


def _options(name: str) -> dict[str, Any]:
    return {
        # transaction() sends BEGIN itself, together with the identity, in one message.
        "autocommit": True,
        "prepare_threshold": None,
        "application_name": name,
        "connect_timeout": CONNECT_TIMEOUT_S,
        # A network that swallows everything is noticed by the kernel and not only by who waits.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": UNACKNOWLEDGED_TIMEOUT_MS,
    }


async def _refuse_dead(connection: Connection) -> None:
    """Raise when the server hung up while the connection was idle; costs no round trip.

    An idle connection has nothing to say, so a readable socket is either a notification or the
    server's farewell. Without this, a restart of PostgreSQL fails one request per connection.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    for _ in range(_MAX_FAREWELL_READS):
        if not poll.poll(0):
            return
        connection.pgconn.consume_input()


async def _refuse_dirty(connection: Connection) -> None:
    """Raise, so that the pool discards it, unless a connection is as it was when it was new.

    Everything an identity sets is local to its transaction: idle means that nothing is left.
    """
    if (
        connection.pgconn.transaction_status != TransactionStatus.IDLE
        or connection.pgconn.pipeline_status != PipelineStatus.OFF
        or not connection.autocommit
    ):
        raise psycopg.OperationalError("the connection came back in use")
