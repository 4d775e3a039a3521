"""The only Python that runs the privacy room's SQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.rows import tuple_row

from aurora.db.queries import fetch_all, fetch_one, fetch_optional, fetch_value, load_queries
from aurora.db.transaction import Connection
from aurora.features.privacy.model import Days, Person, Subject, TableColumns

QUERIES = load_queries(__package__)
ROWS_A_FETCH = 500


async def find_subject(conn: Connection, which: UUID | str) -> Subject | None:
    """Return an organization by id or slug, deleted or not."""
    if isinstance(which, UUID):
        return await fetch_optional(conn, QUERIES["find_subject"], Subject, organization_id=which)
    return await fetch_optional(conn, QUERIES["find_subject_by_slug"], Subject, slug=which)


async def find_person(conn: Connection, email: str) -> Person:
    """Return who has this address; without memberships and accounts when nobody does."""
    return await fetch_one(conn, QUERIES["find_person"], Person, email=email)


async def list_accounts(conn: Connection, auth_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """Return what is known of sign-in accounts."""
    query = QUERIES["list_accounts"]
    found: list[dict[str, Any]] = await fetch_value(conn, query, auth_ids=list(auth_ids))
    return found


async def list_tables(conn: Connection) -> list[TableColumns]:
    """Return the tables whose rows the acting role may read, without columns of secrets."""
    return await fetch_all(conn, QUERIES["list_tables"], TableColumns)


async def list_rows(
    conn: Connection, table: TableColumns, where: Mapping[str, Sequence[object]]
) -> AsyncIterator[list[tuple[Any, ...]]]:
    """Yield the rows, in batches, in which any of the columns has one of its values.

    Args:
        conn: An open transaction; a cursor on the server keeps memory flat.
        table: Which table and which of its columns.
        where: Values by column; e-mail addresses are compared in small letters.
    """
    conditions = [
        sql.SQL("lower({}) = any (%s)").format(sql.Identifier(column))
        if column == "email"
        else sql.SQL("{} = any (%s)").format(sql.Identifier(column))
        for column in where
    ]
    statement = sql.SQL("select {} from public.{} where {}").format(
        sql.SQL(", ").join(map(sql.Identifier, table.columns)),
        sql.Identifier(table.name),
        sql.SQL(" or ").join(conditions),
    )
    async with conn.cursor(name="export", row_factory=tuple_row) as cursor:
        await cursor.execute(statement, [list(values) for values in where.values()])
        while rows := await cursor.fetchmany(ROWS_A_FETCH):
            yield rows


async def erase_person(conn: Connection, email: str) -> dict[str, int]:
    """Erase a person; return what was touched."""
    done: dict[str, int] = await fetch_value(conn, QUERIES["erase_person"], email=email)
    return done


async def erase_organization(conn: Connection, organization_id: UUID) -> dict[str, int]:
    """Erase an organization but for its raw usage; return what was touched."""
    query = QUERIES["erase_organization"]
    done: dict[str, int] = await fetch_value(conn, query, organization_id=organization_id)
    return done


async def find_usage_days(conn: Connection, organization_id: UUID) -> Days:
    """Return the first and last day on which the organization has raw rows."""
    query = QUERIES["find_usage_days"]
    return await fetch_one(conn, query, Days, organization_id=organization_id)


async def strip_usage(conn: Connection, organization_id: UUID, day: date) -> int:
    """Strip one day's raw rows; return how many."""
    query = QUERIES["strip_usage"]
    done: int = await fetch_value(conn, query, organization_id=organization_id, day=day)
    return done
