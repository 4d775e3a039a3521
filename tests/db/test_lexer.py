"""SQL text falls into the tokens that PostgreSQL would see."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.db.lexer import Kind, SqlSyntaxError, statements, tokens


def parameters(text: str) -> list[str]:
    return [token.text for token in tokens(text) if token.kind is Kind.PARAMETER]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select :a, :b_2", [":a", ":b_2"]),
        ("select x::text, :a::uuid[]", [":a"]),
        ("select ':a', 'it''s :b', :c", [":c"]),
        ("select E'\\':a', e'\\\\', :c", [":c"]),
        ("select date':a', type'\\', :c", [":c"]),
        ("select E'one\\'' \n ' :a\\' still', :c", [":c"]),
        ('select ":a", "b"":c", :d', [":d"]),
        ("select $$ :a $$, $b$ :b $$ :c $b$, :d", [":d"]),
        ("select a$$, :b, c$$", [":b"]),
        ("select 1 -- :a\n, :b", [":b"]),
        ("select /* :a /* :b */ :c */ :d", [":d"]),
        ("select tags[1:2], tags[:low], tags[a:b], tags[low : :high]", [":low", ":high"]),
        ("select array[:a, :b], (array[1])[2:n]", [":a", ":b"]),
        ("select f(p_a := :a, p_b => :b)", [":a", ":b"]),
        ("select 12:30, x % :a", [":a"]),
        ("select u&'\\0061:a', b'01', :b", [":b"]),
        ("select :å", []),
        ("select '{\"a\":true}'::jsonb->>:key", [":key"]),
        ("select 1 limit:n", [":n"]),
    ],
)
def test_only_a_parameter_is_a_parameter(text: str, expected: list[str]) -> None:
    assert parameters(text) == expected


@given(st.text(alphabet="ab_E1 :='\"$/*-\\[]();%\nå", max_size=60))
def test_no_character_is_lost_or_invented(text: str) -> None:
    try:
        pieces = list(tokens(text))
    except SqlSyntaxError:
        return
    assert "".join(piece.text for piece in pieces) == text
    assert all(piece.text for piece in pieces)
    line = 1
    for piece in pieces:
        assert piece.line == line
        line += piece.text.count("\n")


QUOTED = st.one_of(
    st.text(max_size=20).map(lambda inner: "'" + inner.replace("'", "''") + "'"),
    st.text(max_size=20).map(lambda inner: '"' + inner.replace('"', '""') + '"'),
    st.text(max_size=20).map(
        lambda inner: "E'" + inner.replace("\\", "\\\\").replace("'", "\\'") + "'"
    ),
    st.text(max_size=20).map(lambda inner: f"$tag${inner.replace('$', '')}$tag$"),
    st.text(max_size=20).map(lambda inner: f"/*{inner.replace('*', '').replace('/', '')}*/"),
    st.text(max_size=20).map(lambda inner: "--" + inner.replace("\n", "").replace("\r", "") + "\n"),
)


@given(st.lists(st.one_of(QUOTED, st.just(" :real "), st.just(" x::int ")), max_size=12))
def test_whatever_is_quoted_hides_its_parameters(pieces: list[str]) -> None:
    # A comma keeps neighbours apart, as any valid SQL does.
    text = " , ".join(pieces)
    assert parameters(text) == [":real"] * pieces.count(" :real ")


@pytest.mark.parametrize(
    "text", ["select 'a", 'select "a', "select $$a$", "select E'a\\'", "/* a /* b */"]
)
def test_a_quotation_without_an_end_names_its_line(text: str) -> None:
    with pytest.raises(SqlSyntaxError, match=r"line 2: .* has no end"):
        list(tokens("\n" + text))


def test_a_statement_ends_at_its_own_semicolon() -> None:
    script = """
-- A function keeps its semicolons.
create function f() returns void language plpgsql as $$ begin perform 1; end $$;
create or replace function g(a int default 1) returns int
begin atomic
  select case when a > 1 then 2 else 3 end;
  select 4;
end;;
create rule r as on insert to t do also (select 1; select 2);
begin; select 'a;b';
"""
    found = list(statements(script))
    assert [statement.words[0] for statement in found] == [
        "create", "create", "create", "begin", "select",
    ]  # fmt: skip
    assert [statement.line for statement in found] == [3, 4, 9, 10, 10]
    assert found[1].text.endswith("end")
    assert found[-1].text == "select 'a;b'"


def test_comments_alone_are_no_statement() -> None:
    assert list(statements(" -- nothing\n ; /* at all */ ;")) == []
