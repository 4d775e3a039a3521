"""Database errors become Aurora's, and tell nothing that is not the caller's business."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.rows import TupleRow
from psycopg_pool import PoolTimeout

from aurora.core.errors import Conflict
from aurora.db.errors import DatabaseBusy, DatabaseUnavailable, translate


class NameTaken(Conflict):
    code, title = "stage_name_taken", "The name is taken"
    constraints = ("stage_names_key", "stage_names_excl", "stage_names_parent_fkey")


async def raised(connection: psycopg.AsyncConnection[TupleRow], script: str) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as failure:
        async with connection.transaction():
            await connection.execute(script)
    return failure.value


@pytest.mark.parametrize(
    "script",
    [
        "insert into names values (1, 'a'), (1, 'secret@example.com')",
        "insert into names values (1, 'same'), (2, 'same')",
        "insert into names values (1, 'a', 99)",
    ],
)
async def test_a_violated_constraint_is_found_by_its_name(
    connection: psycopg.AsyncConnection[TupleRow], script: str
) -> None:
    await connection.execute(
        "create temporary table names (n int, word text, parent int,"
        " constraint stage_names_key unique (n),"
        " constraint stage_names_parent_fkey foreign key (parent) references names (n),"
        " constraint stage_names_excl exclude using btree (word with =))"
    )
    error = await raised(connection, script)
    refusal = translate(error)
    assert isinstance(refusal, NameTaken)
    assert "secret" not in refusal.detail
    assert refusal.facts == {}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("57014", DatabaseBusy),  # statement_timeout
        ("55P03", DatabaseBusy),  # lock_timeout
        ("40P01", DatabaseBusy),  # deadlock
        ("40001", DatabaseBusy),  # serialization
        ("57P01", DatabaseUnavailable),  # an operator ended the session
        ("57P03", DatabaseUnavailable),  # starting up
        ("53300", DatabaseUnavailable),  # too many connections
        ("53100", DatabaseUnavailable),  # disk full
        ("08006", DatabaseUnavailable),  # connection failure
        ("25P03", DatabaseUnavailable),  # idle in transaction for too long
    ],
)
async def test_what_passes_is_unavailable(
    connection: psycopg.AsyncConnection[TupleRow], state: str, expected: type
) -> None:
    error = await raised(
        connection, f"do $$ begin raise exception using errcode = '{state}'; end $$"
    )
    assert type(translate(error)) is expected


@pytest.mark.parametrize(
    "state", ["42501", "42601", "22012", "23502", "23505", "25006", "42P01", "XX000", "AU000"]
)
async def test_what_is_a_fault_of_ours_stays_what_it_is(
    connection: psycopg.AsyncConnection[TupleRow], state: str
) -> None:
    error = await raised(
        connection, f"do $$ begin raise exception using errcode = '{state}'; end $$"
    )
    assert translate(error) is None


def test_what_the_client_finds_is_unavailable_only_when_it_is_the_connection() -> None:
    assert isinstance(translate(PoolTimeout("no connection")), DatabaseUnavailable)
    assert isinstance(translate(psycopg.OperationalError("gone")), DatabaseUnavailable)
    assert translate(psycopg.ProgrammingError("a placeholder is missing")) is None
