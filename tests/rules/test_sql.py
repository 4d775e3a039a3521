"""House rules 6 and 7 for SQL: pinned search paths, comments on everything, verbs for queries."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby, pairwise

import pytest
from tests.rules.sources import (
    Statement,
    breaches,
    expect_none,
    matching,
    numbered,
    statements,
    text_of,
)

ROOM_SQL = r"src/aurora/features/[a-z_]+/(?!queries)[a-z_]+\.sql"
PLATFORM_SQL = r"src/aurora/db/platform/.*\.sql"
QUERIES = r"src/aurora/features/[a-z_]+/queries\.sql"

VERBS = ("find_", "get_", "list_", "insert_", "update_", "delete_", "count_")

_FUNCTION = re.compile(r"(?:create|alter)(?: or replace)? (?:function|procedure) ")
_CREATED = re.compile(
    r"create (?:or replace )?(?:unlogged )?(table|function|procedure) (?:if not exists )?"
    r'([\w."]+)'
)
_COMMENTED = re.compile(r'comment on (table|function|procedure) ([\w."]+)')
_QUERY = re.compile(r"^-- name: \w+", re.MULTILINE)


def loose_search_paths(_name: str, source: str) -> list[str]:
    """A definer with its caller's search_path lets the caller choose what its names mean.

    So does an empty one: PostgreSQL looks for types among temporary ones first, unless the path
    says that they come last. What a definer calls runs with the definer's rights as well.
    """
    return numbered(
        (s.line, "a function's path is: set search_path = pg_catalog, pg_temp")
        for s in statements(source)
        if _FUNCTION.match(s.head)
        and ("security definer" in s.head or "set search_path" in s.head)
        and not re.search(r"set search_path (?:=|to) pg_catalog, pg_temp\b", s.head)
    )


def floating_money(_name: str, source: str) -> list[str]:
    return numbered(
        (s.line, "money is numeric; a binary fraction loses øre")
        for s in statements(re.sub(r"\$\w*\$", "", source))
        if re.search(r"\b(float[48]?|double precision|real)\b", s.head)
        and not s.head.startswith("comment on")
    )


def uncommented(all_statements: Iterable[Statement]) -> list[str]:
    """Return the tables and functions among a room's statements that no `comment on` explains."""
    created: dict[tuple[str, str], int] = {}
    commented: set[tuple[str, str]] = set()
    for statement in all_statements:
        if " partition of " in statement.head:
            continue
        if match := _CREATED.match(statement.head):
            created.setdefault((match[1], plain_name(match[2])), statement.line)
        if match := _COMMENTED.match(statement.head):
            commented.add((match[1], plain_name(match[2])))
    return [
        f"{line}: no comment on {kind} {name}"
        for (kind, name), line in created.items()
        if (kind, name) not in commented
    ]


def plain_name(name: str) -> str:
    return name.replace('"', "").removeprefix("public.")


def badly_named_queries(_name: str, source: str) -> list[str]:
    """A query starts with a verb of rule 7, or bears the name of the SQL function it calls."""
    starts = [match.start() for match in _QUERY.finditer(source)]
    found = []
    for start, end in pairwise([*starts, len(source)]):
        query = source[start:end]
        name = query.split(maxsplit=3)[2]
        calls = re.search(rf"\b{name}\s*\(", query)
        if not name.startswith(VERBS) and not calls:
            found.append((source.count("\n", 0, start) + 1, f"{name} starts with no verb"))
    return numbered(found)


def test_every_definer_pins_its_search_path_and_puts_temporary_names_last() -> None:
    expect_none(breaches(loose_search_paths, matching(ROOM_SQL, PLATFORM_SQL)))


def test_money_in_sql_is_never_a_binary_fraction() -> None:
    rooms = r"src/aurora/features/(invoices|plans|subscriptions)/[a-z_]+\.sql"
    expect_none(breaches(floating_money, matching(rooms)))


def test_every_table_and_function_has_a_comment() -> None:
    found = []
    names = matching(ROOM_SQL, PLATFORM_SQL)
    for room, files in groupby(names, key=lambda name: name.rpartition("/")[0]):
        found += [
            f"{room}: {missing}"
            for missing in uncommented(s for name in files for s in statements(text_of(name)))
        ]
    expect_none(found)


def test_queries_are_named_by_what_they_do() -> None:
    expect_none(breaches(badly_named_queries, matching(QUERIES)))


PATH = "search_path = pg_catalog, pg_temp"
BODY = "as $$ begin perform 1; end $$"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (
            f"create function f() returns void security definer set {PATH} {BODY};",
            f"create function f() returns void security definer {BODY};",
        ),
        (
            f"create function f() returns void {BODY} security definer set {PATH};",
            f"CREATE OR REPLACE FUNCTION f() RETURNS void\n{BODY}\nSECURITY\n  DEFINER;",
        ),
        (
            f"create function f() returns void {BODY}; -- not security definer",
            "create procedure f() security definer set search_path = public as $$ set x = '' $$;",
        ),
        ("comment on function f() is 'security definer';", "alter function f() security definer;"),
        (
            f"create function f() returns void set {PATH} {BODY};",
            f"create function f() returns void set search_path = '' {BODY};",
        ),
    ],
)
def test_the_path_rule_finds_the_wrong_version(right: str, wrong: str) -> None:
    assert loose_search_paths("x", right) == []
    assert len(loose_search_paths("x", wrong)) == 1


def test_the_money_rule_finds_the_wrong_version() -> None:
    assert floating_money("x", "create table t (a numeric(12,2)); -- never float") == []
    assert floating_money("x", "comment on table t is 'not a real one';") == []
    for wrong in ("float", "float8", "double precision", "real"):
        assert len(floating_money("x", f"create table t (a {wrong});")) == 1
        assert len(floating_money("x", f"create function f() as $x$ select 1::{wrong} $x$;")) == 1


def test_the_comment_rule_finds_the_wrong_version() -> None:
    right = f"""create table if not exists public.t (a int);
        create table t_2026 partition of t default;
        create or replace function app.f(a int) returns int {BODY};
        comment on table t is 'x'; comment on function app.f(int) is 'y';"""
    assert uncommented(statements(right)) == []
    wrong = right.replace("comment on table t", "comment on table u").replace("app.f(int)", "f()")
    assert [found.partition(": ")[2] for found in uncommented(statements(wrong))] == [
        "no comment on table t",
        "no comment on function app.f",
    ]


def test_the_query_rule_finds_the_wrong_version() -> None:
    right = """-- name: find_key_by_hash -> ApiKey\n-- One.\nselect 1;
-- name: claim_events\n-- Calls.\nselect claim_events(:ids);"""
    assert badly_named_queries("x", right) == []
    wrong = right.replace("find_key", "key").replace("select claim_events(", "select other(")
    assert [found.split()[1] for found in badly_named_queries("x", wrong)] == [
        "key_by_hash",
        "claim_events",
    ]
