"""What is written twice says the same: rooms and migrations, queries and models, SQL and Python."""

from __future__ import annotations

import dataclasses
import random
import uuid
import zlib
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg.rows import TupleRow

from aurora.apps import house
from aurora.core.periods import period_start
from aurora.core.secrets import generate_api_key, is_well_formed
from aurora.core.taxids import kid
from aurora.db.definitions import build, dump_schema
from aurora.db.migrator import packaged_migrations
from aurora.db.queries import Query
from aurora.features.usage.service import event_key

Connection = psycopg.AsyncConnection[TupleRow]


async def test_rooms_and_migrations_make_the_same_schema(postgres: Any, template_dsn: str) -> None:
    name = f"rooms_{uuid.uuid4().hex[:12]}"
    await postgres.clone("template0", name)
    try:
        async with await psycopg.AsyncConnection.connect(
            postgres.dsn(name), autocommit=True
        ) as connection:
            await build(connection, house.definitions())
        assert dump_schema(postgres.dsn(name)) == dump_schema(template_dsn)
    finally:
        await postgres.drop(name)


def test_the_first_migrations_are_the_rooms_files() -> None:
    migrations = {migration.name: migration.sql for migration in packaged_migrations()}
    for room in house.rooms():
        if room.sql:
            text = "\n".join(file.read_text("utf-8").strip() + "\n" for file in room.sql)
            assert migrations[room.name] == text, "run scripts/first_migrations.py"


async def test_running_a_rooms_logic_again_changes_nothing(postgres: Any, database: str) -> None:
    before = dump_schema(database)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        again = [file for room in house.rooms() for file in room.sql if file.name != "tables.sql"]
        await build(connection, again)
    assert dump_schema(database) == before


def named_queries() -> Iterator[tuple[ModuleType, ModuleType | None, Query]]:
    """Every query with its room's store and model."""
    for room in house.rooms():
        store = room.door("store")
        if store is not None:
            for query in store.QUERIES.values():
                yield store, room.door("model"), query


def fields_of(model: type[Any]) -> set[str]:
    if issubclass(model, msgspec.Struct):
        return {field.name for field in msgspec.structs.fields(model)}
    return {field.name for field in dataclasses.fields(model)}


def columns_of(connection: psycopg.Connection[TupleRow], query: Query) -> set[str]:
    """Ask PostgreSQL itself, as the role the application acts in, without running the query."""
    numbered = query.text % {
        name: f"${place}" for place, name in enumerate(query.parameters, start=1)
    }
    name = f"q{uuid.uuid4().hex[:8]}"
    prepared = connection.pgconn.prepare(name.encode(), numbered.encode())
    assert prepared.status == psycopg.pq.ExecStatus.COMMAND_OK, (
        f"{query.name}: {prepared.error_message.decode()}"
    )
    described = connection.pgconn.describe_prepared(name.encode())
    names = (described.fname(place) for place in range(described.nfields))
    return {column.decode() for column in names if column is not None}


@pytest.mark.parametrize(
    "entry", list(named_queries()), ids=lambda entry: f"{entry[0].__package__}:{entry[2].name}"
)
async def test_a_query_gives_what_its_model_holds(
    worker_dsn: str, entry: tuple[ModuleType, ModuleType, Query]
) -> None:
    store, models, query = entry
    with psycopg.connect(worker_dsn) as connection:
        connection.execute("set local role service_role")
        connection.execute("select app.open_usage_staging()")
        columns = columns_of(connection, query)
    if query.model is not None:
        model = getattr(store, query.model, None) or getattr(models, query.model)
        assert columns == fields_of(model)


async def test_a_query_that_lacks_a_column_would_be_found(worker_dsn: str) -> None:
    query = next(q for _, _, q in named_queries() if q.name == "find_plan")
    wrong = dataclasses.replace(query, text=query.text.replace("price_yearly, ", ""))
    with psycopg.connect(worker_dsn) as connection:
        right_columns = columns_of(connection, query)
        wrong_columns = columns_of(connection, wrong)
    assert right_columns - wrong_columns == {"price_yearly"}


async def value(connection: Connection, query: str, *params: object) -> Any:
    row = await (await connection.execute(query, params)).fetchone()
    assert row is not None
    return row[0]


async def test_sql_and_python_make_keys_that_the_other_accepts(connection: Connection) -> None:
    for environment in ("production", "test"):
        made_here = generate_api_key(environment).key
        assert await value(connection, "select app.is_api_key(%s)", made_here)
        made_there = await value(connection, "select generate_api_key(%s)", environment)
        assert is_well_formed(made_there)
        broken = made_there[:-1] + ("A" if made_there[-1] != "A" else "B")
        assert not await value(connection, "select app.is_api_key(%s)", broken)
    for text in (b"", b"a", b"aurora", bytes(range(256))):
        assert await value(connection, "select app.crc32(%s)", text) == zlib.crc32(text)


async def test_sql_and_python_agree_on_identities_and_check_digits(connection: Connection) -> None:
    for source, event_id in ((None, "a"), ("s", "a-b"), ("s-a", "b"), ("blå", "bær")):
        there = await value(connection, "select app.usage_event_key(%s, %s)", source, event_id)
        assert there.bytes == event_key(source, event_id)
    for number in ("1234", "2026000001", "0", "99999999"):
        assert kid(number) == number + await value(connection, "select app.mod10(%s)", number)


async def test_sql_and_python_agree_on_billing_moments_over_ten_years(
    connection: Connection,
) -> None:
    chance = random.Random(1)
    for _ in range(300):
        anchor = date(2024, 1, 1) + timedelta(days=chance.randrange(3653))
        months, zone = chance.randrange(120), chance.choice(["Europe/Oslo", "America/New_York"])
        there = await value(
            connection, "select app.billing_moment(%s, %s, %s)", anchor, months, zone
        )
        assert there == period_start(anchor, 1, months, zone), (anchor, months, zone)


def test_every_sql_file_of_a_room_is_listed_in_the_house() -> None:
    listed = {file for room in house.rooms() for file in room.sql}
    found = {
        file
        for folder in house.FEATURES.iterdir()
        if folder.is_dir()
        for file in Path(folder).glob("*.sql")
        if file.name != "queries.sql"
    }
    assert found == listed
