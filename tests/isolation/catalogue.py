"""Reads from pg_catalog what there is to attack: relations with their columns, and functions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

SCHEMAS = ["public", "app", "auth", "usage_partitions", "pgqueuer", "aurora"]
FUNCTION_SCHEMAS = ["public", "app", "auth"]
ROLES = ["anon", "authenticated", "tenant"]

# Whatever belongs to an extension is neither ours nor holds our rows.
_RELATIONS = """
select c.oid::integer, n.nspname || '.' || c.relname as name, c.relkind::text as kind,
  format('%%I.%%I', n.nspname, c.relname) as sql_name,
  coalesce((
    select jsonb_agg(jsonb_build_object(
      'name', a.attname, 'sql_name', quote_ident(a.attname),
      'type', format_type(a.atttypid, a.atttypmod), 'nullable', not a.attnotnull,
      'insertable_by', (
        select coalesce(jsonb_agg(r), '[]') from unnest(%(roles)s::text[]) r
        where has_column_privilege(r, c.oid, a.attnum, 'insert')
      )
    ) order by a.attnum)
    from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  ), '[]') as columns,
  coalesce((
    select array_agg(a.attname::text order by a.attnum) from pg_index i
      join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey)
    where i.indrelid = c.oid and i.indisprimary
  ), '{}') as primary_key
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any (%(schemas)s) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
  and not exists (
    select from pg_depend d
    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
  )
order by 2
"""

_FUNCTIONS = """
select n.nspname || '.' || p.proname as name,
  format('select %%I.%%I(%%s)', n.nspname, p.proname, (
    select string_agg('null::' || format_type(t, null), ', ' order by o)
    from unnest(p.proargtypes::oid[]) with ordinality as a (t, o)
  )) as call
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = any (%(schemas)s)
  and not exists (
    select from pg_depend d
    where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
  )
order by 1, 2
"""


@dataclass(frozen=True)
class Column:
    """A column, with the roles that may give it a value in an INSERT."""

    name: str
    sql_name: str
    type: str
    nullable: bool
    insertable_by: frozenset[str]


@dataclass(frozen=True)
class Relation:
    """A table, partition, view, materialized view, foreign table, or sequence."""

    oid: int
    name: str
    kind: str
    sql_name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]

    def column(self, name: str | None) -> Column | None:
        """Return a column by its name, or None."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True)
class Function:
    """A function and the SELECT that calls it with nulls."""

    name: str
    call: str


def relations(admin: psycopg.Connection[Any]) -> list[Relation]:
    """Return every relation of the schemas that hold anything of ours."""
    with admin.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_RELATIONS, {"schemas": SCHEMAS, "roles": ROLES}).fetchall()
    return [
        Relation(
            row["oid"],
            row["name"],
            row["kind"],
            row["sql_name"],
            tuple(
                Column(**{**column, "insertable_by": frozenset(column["insertable_by"])})
                for column in row["columns"]
            ),
            tuple(row["primary_key"]),
        )
        for row in found
    ]


def functions(admin: psycopg.Connection[Any]) -> list[Function]:
    """Return every function of the schemas whose functions clients could reach."""
    found = admin.execute(_FUNCTIONS, {"schemas": FUNCTION_SCHEMAS}).fetchall()
    return [Function(name, call) for name, call in found]


def a_row(admin: psycopg.Connection[Any], relation: Relation, condition: str) -> str | None:
    """Return a row as JSON text, or None where no row meets the condition."""
    if relation.kind == "S":
        return None
    found = admin.execute(
        f"select to_jsonb(t) from {relation.sql_name} t where {condition} limit 1".encode()
    ).fetchone()
    return None if found is None else json.dumps(found[0])
