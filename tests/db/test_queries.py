"""Named queries: the format is checked when it is read, and rows become models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from aurora.db import queries
from aurora.db.errors import NotFoundRow, TooManyRows
from aurora.db.queries import (
    BadQuery,
    Queries,
    Query,
    execute,
    fetch_all,
    fetch_one,
    fetch_optional,
    fetch_value,
    load_queries,
    parse_queries,
)

SOURCE = Path("room/queries.sql")
Connection = psycopg.AsyncConnection[TupleRow]


@dataclass(frozen=True)
class Pair:
    n: int
    word: str


class Packed(msgspec.Struct, frozen=True):
    n: int
    word: str


def one(text: str) -> Query:
    (query,) = parse_queries(text, SOURCE).values()
    return query


def query(sql: str, model: str | None = None) -> Query:
    arrow = f" -> {model}" if model else ""
    return one(f"-- name: probe{arrow}\n-- Probes.\n{sql}\n")


def test_a_section_becomes_a_query() -> None:
    found = one(
        "-- The keys' queries.\n\n"
        "-- name: find_key -> ApiKey\n"
        "-- Finds a key\n"
        "-- by its hash.\n"
        "\n"
        "-- An index serves this.\n"
        "select 5 % 2, '%s', :hash::text, :limit, :hash from keys -- 100 %\n"
        "where a[1:2] = b;\n\n"
    )
    assert found == Query(
        name="find_key",
        text="select 5 %% 2, '%%s', %(hash)s::text, %(limit)s, %(hash)s from keys -- 100 %%\n"
        "where a[1:2] = b",
        parameters=("hash", "limit"),
        model="ApiKey",
        summary="Finds a key by its hash.",
        source=SOURCE,
        line=3,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- name: Find\n-- S.\nselect 1", "queries.sql:1: expected `-- name:"),
        ("-- name: a -> row\n-- S.\nselect 1", "queries.sql:1: expected"),
        ("--name: a\n-- S.\nselect 1", "queries.sql:1: expected"),
        ("-- name: a\nselect 1", "queries.sql:1: a needs a sentence"),
        ("-- name: a\n\n-- S.\nselect 1", "a needs a sentence"),
        ("-- name: a\n-- S.\n", "a has no SQL"),
        ("-- name: a\n-- S.\n-- more\n;", "a has no SQL"),
        ("-- name: a\n-- S.\nselect 1; select 2", "a is more than one statement"),
        ("-- name: a\n-- S.\nselect :Id", "queries.sql:3: parameter :Id is not snake_case"),
        ("-- name: a\n-- S.\nselect 'x", "line 3: ' has no end"),
        ("select 1\n-- name: a\n-- S.\nselect 1", "queries.sql:1: SQL before the first"),
        ("-- name: a\n-- S.\nselect 1\n-- name: a\n-- T.\nselect 2",
         "queries.sql:4: a is defined twice, first on line 1"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_when_it_is_read(text: str, message: str) -> None:
    with pytest.raises(BadQuery) as refusal:
        parse_queries(text, SOURCE)
    assert message in str(refusal.value)


def test_a_header_within_a_string_or_a_body_is_text() -> None:
    text = "-- name: a\n-- S.\nselect '\n-- name: b\n', $$\n-- name: c\n$$\n"
    assert list(parse_queries(text, SOURCE)) == ["a"]


def test_an_unknown_name_names_the_near_ones() -> None:
    text = "-- name: find_key_by_hash\n-- S.\nselect 1"
    loaded = Queries(lambda: parse_queries(text, SOURCE), SOURCE)
    with pytest.raises(KeyError, match="near: find_key_by_hash"):
        loaded["find_key_by_hsah"]


def test_a_package_without_queries_says_so() -> None:
    with pytest.raises(FileNotFoundError):
        load_queries("aurora.core")


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
async def test_a_literal_arrives_as_it_was_written(worker_dsn: str, literal: str) -> None:
    quoted = literal.replace("'", "''")
    made = query(f"select '{quoted}' || :more")
    async with await psycopg.AsyncConnection.connect(worker_dsn) as connection:
        assert await fetch_value(connection, made, more="%s :x") == literal + "%s :x"


@pytest.mark.parametrize("model", [Pair, Packed])
async def test_rows_become_models_by_column_name(
    connection: Connection, model: type[Pair | Packed]
) -> None:
    rows = "select word, n from (values (1, 'a'), (2, 'b')) v (n, word) where n >= :low order by n"
    some = query(rows, model.__name__)
    assert await fetch_all(connection, some, model, low=1) == [
        model(n=1, word="a"),
        model(n=2, word="b"),
    ]
    assert await fetch_one(connection, some, model, low=2) == model(n=2, word="b")
    assert await fetch_optional(connection, some, model, low=3) is None
    with pytest.raises(NotFoundRow, match=r"probe \(room/queries.sql:1\) returned no row"):
        await fetch_one(connection, some, model, low=3)
    for fetch in (fetch_one, fetch_optional):
        with pytest.raises(TooManyRows, match="2 rows"):
            await fetch(connection, some, model, low=1)


async def test_a_query_without_parameters_keeps_its_percent_signs(connection: Connection) -> None:
    assert await fetch_value(connection, query("select 7 % 4 || '%'")) == "3%"


async def test_a_value_is_one_row_of_one_column_or_none(connection: Connection) -> None:
    assert await fetch_value(connection, query("select 1 where false")) is None
    with pytest.raises(TypeError, match="2 columns"):
        await fetch_value(connection, query("select 1, 2"))
    with pytest.raises(TooManyRows):
        await fetch_value(connection, query("select generate_series(1, 2)"))


async def test_execute_counts_the_rows_it_touched(connection: Connection) -> None:
    await connection.execute("create temporary table t (n int) on commit drop")
    fill = query("insert into t select generate_series(1, :n)")
    assert await execute(connection, fill, n=3) == 3
    assert await execute(connection, query("delete from t where n > 1")) == 2


async def test_parameters_must_be_those_of_the_query(connection: Connection) -> None:
    made = query("select :a::int")
    with pytest.raises(TypeError, match=r"takes \['a'\], not \['b'\]"):
        await fetch_value(connection, made, b=1)


async def test_the_model_must_be_the_one_that_the_file_names(connection: Connection) -> None:
    with pytest.raises(TypeError, match="returns Pair, not Packed"):
        await fetch_all(connection, query("select 1 as n, 'a' as word", "Pair"), Packed)
    with pytest.raises(TypeError, match="returns no model"):
        await fetch_all(connection, query("select 1 as n, 'a' as word"), Pair)


async def test_a_failure_names_the_query(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero) as failure:
        await fetch_value(connection, query("select 1 / :n", None), n=0)
    assert failure.value.__notes__ == ["in query probe (room/queries.sql:1)"]


async def test_a_column_that_the_model_lacks_names_the_query(connection: Connection) -> None:
    with pytest.raises(TypeError) as failure:
        await fetch_all(connection, query("select 1 as n, 'a' as word, 2 as x", "Pair"), Pair)
    assert failure.value.__notes__ == ["in query probe (room/queries.sql:1)"]


async def test_a_result_has_a_limit(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_ROWS", 2)
    many = query("select n, '' as word from generate_series(1, :n) n", "Pair")
    assert len(await fetch_all(connection, many, Pair, n=2)) == 2
    with pytest.raises(TooManyRows, match="3 rows; at most 2"):
        await fetch_all(connection, many, Pair, n=3)
