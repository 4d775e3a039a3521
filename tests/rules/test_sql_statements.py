"""The SQL cutter that other rules stand on: it must not be fooled by quoted semicolons."""

from __future__ import annotations

from tests.rules.sources import statements

SAMPLE = """-- A comment; with a semicolon.
create table a (b text default ';', "c;d" int); /* one;
two */
create function f() returns void language plpgsql as $body$
begin
  perform 'x'; -- $$
  execute $q$ select 1; $q$;
end;
$body$ security definer
   set search_path = '';

comment on table a is E'it\\'s; a table';
select $1;"""


def test_sql_is_cut_only_where_statements_end() -> None:
    cut = statements(SAMPLE)
    assert [(s.line, s.lines) for s in cut] == [(2, 1), (4, 7), (12, 1), (13, 1)]
    assert cut[0].head == """create table a (b text default ';', "c;d" int)"""
    assert cut[1].head == (
        "create function f() returns void language plpgsql as security definer set search_path = ''"
    )
    assert cut[3].head == "select $1"


def test_a_comment_alone_is_no_statement() -> None:
    assert statements("-- nothing\n/* here; */\n ; ;") == []
