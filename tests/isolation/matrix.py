"""Tries every operation on everything as everybody, and compares with what may be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from tests.isolation.catalogue import Function, Relation, a_row, functions, relations
from tests.isolation.expectations import FUNCTIONS, PLATFORM, Rule, rule_of
from tests.isolation.identities import IDENTITIES, NONE, OPERATOR, ORGANIZATIONS, Identity, Who

from aurora.db.pool import Pool
from aurora.db.transaction import Actor, Connection, transaction

HERE: Final = Path(__file__).parent
MIN_CASES: Final = 2_000

Open = Callable[[Pool, Actor], AbstractAsyncContextManager[Connection]]

# Refused by rights, or by a rule of ours that says so.
_REFUSED: Final = frozenset({"42501", "AU000"})
# What nobody can do: a view that cannot be written, a view or partition that cannot be referred to.
_IMPOSSIBLE: Final = frozenset({"55000", "42809", "428C9"})
# Foreign keys forbid to empty a table, which is asked after the right to empty it.
_REFERRED_TO: Final = "0A000"
# A constraint is asked only after the rights: whoever hears from it has passed them.
_CONSTRAINTS: Final = "23"


@dataclass(frozen=True)
class Case:
    """One try, and whether it may succeed."""

    identity: Identity
    target: str
    operation: str
    organization: str
    statement: str
    may: bool

    def __str__(self) -> str:
        return f"{self.identity.name}: {self.operation} {self.target} of {self.organization}"


@dataclass(frozen=True)
class Breach:
    """A try that ended otherwise than it must, or something that no rule names."""

    what: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.what}: {self.outcome}"


@dataclass(frozen=True)
class Verdict:
    """What a run of the matrix found."""

    cases: int
    breaches: tuple[Breach, ...]

    def names(self, *parts: str) -> bool:
        """Whether some breach's text holds all these parts."""
        return any(all(part in str(breach) for part in parts) for breach in self.breaches)


def furnish(admin: psycopg.Connection[Any], *files: str) -> None:
    """Run files of this folder; those about one organization are run for both."""
    for file in files:
        text = (HERE / file).read_text("utf-8")
        worlds = ORGANIZATIONS if "{place}" in text else {"": None}
        for letter in worlds:
            place = f"{letter.lower() * 8}-0000-4000-8000-"
            admin.execute(
                text.replace("{place}", place).replace("{letter}", letter.lower()).encode()
            )
    admin.commit()


@asynccontextmanager
async def as_the_application_does(pool: Pool, actor: Actor) -> AsyncIterator[Connection]:
    """Open a transaction as the product itself does."""
    async with transaction(pool, actor, statement_timeout_ms=120_000) as connection:
        yield connection


async def run(admin_dsn: str, pool: Pool, opened: Open = as_the_application_does) -> Verdict:
    """Try everything.

    Args:
        admin_dsn: Of whoever may read the catalogue and every row.
        pool: Logged in as the application; of one connection, so that leftovers would be met.
        opened: How a transaction of an identity begins.
    """
    breaches: list[Breach] = []
    cases: list[Case] = []
    with psycopg.connect(admin_dsn) as admin:
        for relation in relations(admin):
            rule = PLATFORM if relation.kind == "S" else rule_of(relation.name)
            if rule is None:
                breaches.append(Breach(relation.name, "no rule names this relation"))
            rule = rule or PLATFORM
            if rule.whose and relation.kind != "S" and relation.column(rule.whose) is None:
                breaches.append(Breach(relation.name, f"has no column {rule.whose}"))
                continue
            rows = _rows(admin, relation, rule)
            if rule.whose and rule_is_exact(relation.name) and None in (rows["A"], rows["B"]):
                breaches.append(Breach(relation.name, "world.sql has no row here for A and for B"))
            for identity in IDENTITIES:
                cases += _relation_cases(identity, relation, rule, rows)
        for function in functions(admin):
            if function.name not in FUNCTIONS:
                breaches.append(Breach(function.name, "no rule names this function"))
            cases += [_function_case(identity, function) for identity in IDENTITIES]
    for identity in IDENTITIES:
        own = [case for case in cases if case.identity is identity]
        async with opened(pool, identity.actor) as connection:
            cursor = await connection.execute(
                "select * from attempts.attempt(%s)", ([case.statement for case in own],)
            )
            outcomes = await cursor.fetchall()
        breaches += [
            breach
            for case, outcome in zip(own, outcomes, strict=True)
            if (breach := _judged(case, *outcome))
        ]
    return Verdict(len(cases), tuple(breaches))


def rule_is_exact(relation: str) -> bool:
    """Whether the relation is named itself and not by its schema."""
    return not relation.startswith(("usage_partitions.", "pgqueuer."))


def _rows(admin: psycopg.Connection[Any], relation: Relation, rule: Rule) -> dict[str, str | None]:
    if rule.whose is None or relation.kind == "S":
        return {"-": a_row(admin, relation, "true")}
    target = rule.target
    return {
        letter: a_row(admin, relation, f"{rule.whose} = '{organization}' and {target}")
        for letter, organization in ORGANIZATIONS.items()
    }


def _relation_cases(
    identity: Identity, relation: Relation, rule: Rule, rows: dict[str, str | None]
) -> Iterator[Case]:
    def case(operation: str, letter: str, statement: str, who: Who) -> Case:
        may = identity.name in who and (letter in ("A", "-") or identity.name in OPERATOR)
        return Case(identity, relation.name, operation, letter, statement, may)

    name = relation.sql_name
    if relation.kind == "S":
        yield case("SELECT", "-", f"select last_value from {name}", NONE)
        yield case("UPDATE", "-", f"select setval({relation.oid}::regclass, 1, false)", NONE)
        return
    yield from _as_granted(identity, relation, rule)
    yield case("TRUNCATE", "-", f"truncate {name}", NONE)
    if relation.primary_key:
        yield case("REFERENCES", "-", _reference(relation), NONE)
    for letter, row in rows.items():
        of = "true" if rule.whose is None else f"{rule.whose} = '{ORGANIZATIONS[letter]}'"
        any_column = rule.whose or relation.columns[0].sql_name
        yield case("SELECT", letter, f"select {any_column} from {name} where {of}", rule.reads)
        yield case("INSERT", letter, _insert(identity, relation, rule, row), rule.inserts)
        yield case("DELETE", letter, f"delete from {name} where {of}", rule.deletes)
        for column in relation.columns:
            yield case(
                f"UPDATE {column.name}",
                letter,
                f"update {name} set {column.sql_name} = {rule.values.get(column.name, 'null')}"
                f" where {of} and {rule.target}",
                rule.updates.get(column.name, NONE),
            )
        for hidden in sorted(rule.hidden):
            yield case(f"SELECT {hidden}", letter, f"select {hidden} from {name} where {of}", NONE)
        if rule.whose:
            yield from _crossings(case, relation, rule, letter)
    whose = relation.column(rule.whose)
    if whose and whose.nullable and relation.kind in ("r", "p"):
        nobodys = f"{whose.sql_name} is null"
        yield case(
            "SELECT NOBODY'S", "-", f"select from {name} where {nobodys}", rule.reads & OPERATOR
        )
        yield case("DELETE NOBODY'S", "-", f"delete from {name} where {nobodys}", NONE)
        taken = f"update {name} set {whose.sql_name} = '{ORGANIZATIONS['A']}' where {nobodys}"
        yield case("TAKE NOBODY'S", "-", taken, NONE)


def _crossings(
    case: Callable[[str, str, str, Who], Case], relation: Relation, rule: Rule, letter: str
) -> Iterator[Case]:
    """Yield the ways across: moving a row to the other organization, and pretending to be it."""
    mine, other = ORGANIZATIONS[letter], ORGANIZATIONS["B" if letter == "A" else "A"]
    name, whose = relation.sql_name, rule.whose
    yield case(
        "MOVE TO OTHER",
        letter,
        f"update {name} set {whose} = '{other}' where {whose} = '{mine}'",
        NONE,
    )
    pretended = "; ".join(
        f"select set_config('{setting}', '{value}', true)"
        for setting, value in (("app.organization_id", mine), ("app.user_id", ""))
    )
    attempt = case(
        "SELECT", letter, f"select {whose} from {name} where {whose} = '{mine}'", rule.reads
    )
    if attempt.identity.actor.role != "tenant":
        yield Case(
            attempt.identity,
            relation.name,
            "SELECT as if tenant",
            letter,
            f"{pretended}; {attempt.statement}",
            attempt.may,
        )


def _insert(identity: Identity, relation: Relation, rule: Rule, row: str | None) -> str:
    granted = [c for c in relation.columns if identity.actor.role in c.insertable_by]
    columns = ", ".join(column.sql_name for column in granted or relation.columns)
    values: dict[str, Any] = {**json.loads(row or "{}"), **rule.row}
    document = json.dumps({key: value for key, value in values.items() if value != ""})
    literal = document.replace("'", "''")
    return (
        f"insert into {relation.sql_name} ({columns}) select {columns}"
        f" from jsonb_populate_record(null::{relation.sql_name}, '{literal}')"
    )


def _as_granted(identity: Identity, relation: Relation, rule: Rule) -> Iterator[Case]:
    """Yield what the lists of rights say, whatever policies make of it: the second wall of two."""
    updates = frozenset[str]().union(*rule.updates.values())
    rights = {
        "SELECT": rule.reads,
        "INSERT": rule.inserts,
        "UPDATE": updates,
        "DELETE": rule.deletes,
    }
    # Read from the lists themselves, because MAINTAIN is not a word before PostgreSQL 17.
    granted = (
        "select from (select relacl from pg_class where oid = {0} union all select attacl"
        " from pg_attribute where attrelid = {0} {1}) as lists (acl), aclexplode(acl) a"
        " where a.privilege_type = '{2}' and a.grantee in (0, current_user::regrole)"
    )
    for right in (*rights, "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"):
        roles: set[str] = {i.actor.role for i in IDENTITIES if i.name in rights.get(right, NONE)}
        if right in ("SELECT", "UPDATE"):
            roles |= rule.also_granted
        statement = granted.format(relation.oid, "", right)
        may = identity.actor.role in roles
        yield Case(identity, relation.name, f"{right} (as granted)", "-", statement, may)
    if rule.whose:
        statement = granted.format(relation.oid, f"and attname = '{rule.whose}'", "UPDATE")
        what = f"UPDATE {rule.whose} (as granted)"
        yield Case(identity, relation.name, what, "-", statement, may=False)


def _reference(relation: Relation) -> str:
    keys = [column for column in relation.columns if column.name in relation.primary_key]
    columns = ", ".join(f"{column.sql_name} {column.type}" for column in keys)
    names = ", ".join(column.sql_name for column in keys)
    return (
        f"create table attempts.reference ({columns},"
        f" foreign key ({names}) references {relation.sql_name} ({names}))"
    )


def _function_case(identity: Identity, function: Function) -> Case:
    may = identity.name in FUNCTIONS.get(function.name, NONE)
    return Case(identity, function.name, "EXECUTE", "-", function.call, may)


def _judged(case: Case, state: str | None, affected: int, message: str | None) -> Breach | None:
    told = f"{state} {message}" if state else f"{affected} rows"
    if case.operation == "EXECUTE":
        # A function that may be called can still be refused what it reads.
        own = f"permission denied for function {case.target.partition('.')[2]}"
        did = state != "42501" or not (message == own or "for schema" in (message or ""))
    elif case.operation in ("TRUNCATE", "REFERENCES"):
        did = state in (None, _REFERRED_TO)
    elif state is None:
        did = affected > 0
    elif state.startswith(_CONSTRAINTS):
        did = True
    elif state in _REFUSED or state in _IMPOSSIBLE:
        did = False
    else:
        return Breach(str(case), f"ended in a way that proves nothing: {told}")
    if did is case.may:
        return None
    return Breach(str(case), f"must not, but did: {told}" if did else f"may, but could not: {told}")
