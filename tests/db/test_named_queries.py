"""Every named query is one that PostgreSQL can run, and gives exactly the fields of its model."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import ModuleType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
import psycopg
import pytest
from psycopg import pq, sql

from aurora.apps import house
from aurora.db.queries import Query, parse_queries

ROLE = "service_role"

# What psycopg makes of a column of this type, as far as a model may say.
PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "bytea": (bytes,),
    "int2": (int,),
    "int4": (int,),
    "int8": (int,),
    "numeric": (Decimal,),
    "text": (str,),
    "varchar": (str,),
    "name": (str,),
    "uuid": (UUID,),
    "date": (date,),
    "timestamptz": (datetime,),
    "interval": (timedelta,),
    "inet": (str,),
    "json": (dict, list),
    "jsonb": (dict, list),
}

NAMED = [
    pytest.param(room, query, id=f"{room.name}.{query.name}")
    for room in house.rooms()
    for query in (room.offered("store", "QUERIES") or {}).values()
]


@pytest.fixture(scope="module")
def platform(worker_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that acts as the platform and only prepares."""
    with psycopg.connect(worker_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(ROLE)))
        # Ingest reads a table that each session makes for itself.
        connection.execute("select app.open_usage_staging()")
        yield connection


def columns(connection: psycopg.Connection[Any], query: Query) -> dict[str, int]:
    """Prepare a query, and return its result columns with the oids of their types."""
    place = {name: f"${number}" for number, name in enumerate(query.parameters, 1)}
    text = re.sub(r"%\((\w+)\)s", lambda found: place[found[1]], query.text).replace("%%", "%")
    prepared = connection.pgconn.prepare(b"", text.encode())
    assert prepared.status == pq.ExecStatus.COMMAND_OK, (
        f"{query}: {prepared.error_message.decode()}"
    )
    described = connection.pgconn.describe_prepared(b"")
    names = [(described.fname(n) or b"").decode() for n in range(described.nfields)]
    assert len(names) == len(set(names)), f"{query} gives a column twice: {names}"
    return {name: described.ftype(n) for n, name in enumerate(names)}


def fields(model: type) -> dict[str, set[type]]:
    """Return the fields of a model with the types that each may hold."""
    assert dataclasses.is_dataclass(model) or issubclass(model, msgspec.Struct)
    hints = get_type_hints(model)
    names = (
        [field.name for field in dataclasses.fields(model)]
        if dataclasses.is_dataclass(model)
        else list(model.__struct_fields__)
    )
    return {name: set(_types(hints[name])) for name in names}


def _types(hint: Any) -> Iterator[type]:
    """Give the plain classes that an annotation stands for; None is left out."""
    origin = get_origin(hint)
    if origin is Annotated:
        yield from _types(get_args(hint)[0])
    elif origin is Literal:
        yield from {type(value) for value in get_args(hint)}
    elif origin in (Union, UnionType):
        for part in get_args(hint):
            yield from _types(part)
    elif hint is Any:
        yield object
    elif hint is not type(None):
        yield origin or hint


def check(connection: psycopg.Connection[Any], models: ModuleType | None, query: Query) -> None:
    """Fail unless the columns of a query are the fields of the model that it names."""
    given = columns(connection, query)
    if query.model is None:
        assert len(given) <= 1, f"{query} gives {sorted(given)} and names no model"
        return
    model = getattr(models, query.model, None)
    assert model is not None, f"{query}: the room's model.py has no {query.model}"
    wanted = fields(model)
    assert given.keys() == wanted.keys(), str(query)
    for name, oid in given.items():
        assert not wrong_type(oid, wanted[name]), (
            f"{query}: {name} is {type_name(oid)} and {query.model}.{name} {wanted[name]}"
        )


def wrong_type(oid: int, wanted: set[type]) -> bool:
    known = psycopg.adapters.types.get(oid)
    if object in wanted or known is None:
        return False
    given = (list,) if known.array_oid == oid else PYTHON_TYPES.get(known.name, ())
    return bool(given) and wanted.isdisjoint(given)


def type_name(oid: int) -> str:
    known = psycopg.adapters.types.get(oid)
    return known.name if known else str(oid)


@pytest.mark.parametrize(("room", "query"), NAMED)
def test_a_query_gives_exactly_the_fields_of_its_model(
    room: house.Room, query: Query, platform: psycopg.Connection[Any]
) -> None:
    check(platform, room.door("model"), query)


def test_every_room_with_queries_is_among_them() -> None:
    with_queries = {file.parent.name for file in house.FEATURES.glob("*/queries.sql")}
    assert {room.name for room in house.rooms() if room.offered("store", "QUERIES")} == with_queries
    assert len(NAMED) > 80


PLANS = next(room for room in house.rooms() if room.name == "plans")


def plan_query(body: str) -> Query:
    """A query that says it gives a Plan."""
    text = f"-- name: mutant -> Plan\n-- A wrong one.\n{body};\n"
    return parse_queries(text, PLANS.sql[0])["mutant"]


def right() -> Query:
    found: Query = PLANS.offered("store", "QUERIES")["find_plan"]
    return found


def rewritten(old: str, new: str) -> Query:
    query = right()
    assert old in query.text
    return dataclasses.replace(query, text=query.text.replace(old, new))


MUTANTS = {
    "a column is missing": rewritten("overage_rate,", ""),
    "a column too many": rewritten("overage_rate,", "overage_rate, sort_order,"),
    "a column twice": rewritten("overage_rate,", "overage_rate, currency,"),
    "a column under another name": rewritten("overage_rate,", "overage_rate as rate,"),
    "a column that is no more": rewritten("overage_rate,", "overage_price,"),
    "a column of another type": rewritten("overage_rate,", "overage_rate::text as overage_rate,"),
    "a model that is none": dataclasses.replace(right(), model="Tariff"),
    "a table the platform may not read": dataclasses.replace(
        right(), text="select * from app.clock"
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_query_is_caught_with(mutant: str, platform: psycopg.Connection[Any]) -> None:
    check(platform, PLANS.door("model"), right())
    with pytest.raises((AssertionError, psycopg.Error)):
        check(platform, PLANS.door("model"), MUTANTS[mutant])
