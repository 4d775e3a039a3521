"""What the doctor finds: each thing it looks for is broken here, and it says which one."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.conftest import LOGIN_ROLE

from aurora.apps.database import Database
from aurora.apps.doctor import examine, mend
from aurora.apps.settings import load_settings

FINE = {
    *("postgresql", "schema", "login", "row level security", "temporary objects", "partitions"),
    *("clock", "disk"),
}


async def found(dsn: str, home: Path, login: str = LOGIN_ROLE) -> dict[str, tuple[str, str]]:
    """What every check says of a database: its status and its detail."""
    where = Database(make_conninfo(dsn, user=login), dsn, is_embedded=False)
    findings = await examine(where, load_settings(home=home))
    return {finding.check: (finding.status, finding.detail) for finding in findings}


def change(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute(statement.encode())


@pytest.fixture
def healthy(database: str) -> str:
    """A copy of the template; the right that copies have open is closed again."""
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    change(database, f'revoke temporary on database "{name}" from public')
    return database


async def test_a_healthy_database_has_only_a_specimen_for_a_seller(
    healthy: str, tmp_path: Path
) -> None:
    findings = await found(healthy, tmp_path)
    assert {check for check, (status, _) in findings.items() if status == "ok"} == FINE
    assert findings["seller"][0] == "warning"


@pytest.mark.parametrize(
    ("statement", "check", "status", "told"),
    [
        ("alter table plans disable row level security", "row level security", "failed", "plans"),
        (("delete from aurora.migrations where version = (select max(version) from"
         " aurora.migrations)"), "schema", "failed", ""),
        ("insert into app.clock (shift) values ('1 day')", "clock", "warning", "1 day"),
        (("do $$ begin execute (select format('drop table usage_partitions.%I', 'usage_analytics_'"
         " || to_char(now(), 'YYYY_MM'))); end $$"), "partitions", "failed", "usage_analytics_"),
        (("do $$ begin execute format('grant temporary on database %I to authenticated',"
         " current_database()); end $$"), "temporary objects", "warning", "authenticated"),
    ],
)  # fmt: skip
async def test_what_is_broken_is_named(
    statement: str, check: str, status: str, told: str, healthy: str, tmp_path: Path
) -> None:
    change(healthy, statement)
    findings = await found(healthy, tmp_path)
    assert findings[check][0] == status
    assert told in findings[check][1]
    assert {name for name, (how, _) in findings.items() if how != "ok"} == {check, "seller"}


@pytest.mark.parametrize("away", ["-35 days", "0", "1 month"])
async def test_a_month_that_is_missing_is_named_and_mended_once(
    away: str, healthy: str, tmp_path: Path
) -> None:
    """From the month of the latest event that is still taken to the next one."""
    change(
        healthy,
        "do $$ begin execute (select format('drop table usage_partitions.%I', 'usage_analytics_' "
        f"|| to_char(now() + interval '{away}', 'YYYY_MM'))); end $$",
    )
    status, detail = (await found(healthy, tmp_path))["partitions"]
    assert (status, "doctor --mend" in detail) == ("failed", True)
    where = Database(make_conninfo(healthy, user=LOGIN_ROLE), healthy, is_embedded=False)
    assert await mend(where) == 1
    assert (await found(healthy, tmp_path))["partitions"][0] == "ok"
    assert await mend(where) == 0


@pytest.mark.parametrize(
    ("role", "told"),
    [("superuser", "is superuser"), ("bypassrls", "bypasses row"), ("createrole", "make roles")],
)
async def test_a_login_that_may_too_much_is_told(
    role: str, told: str, healthy: str, tmp_path: Path
) -> None:
    login = f"doctor_{role}"
    change(healthy, f"create role {login} login {role}")
    try:
        status, detail = (await found(healthy, tmp_path, login))["login"]
    finally:
        change(healthy, f"drop role {login}")
    assert (status, told in detail) == ("warning", True)


async def test_a_login_that_owns_the_tables_is_told(healthy: str, tmp_path: Path) -> None:
    change(healthy, "create role doctor_owner login; alter table plans owner to doctor_owner")
    try:
        status, detail = (await found(healthy, tmp_path, "doctor_owner"))["login"]
    finally:
        change(
            healthy,
            "alter table plans owner to current_user; drop owned by doctor_owner;"
            " drop role doctor_owner",
        )
    assert (status, "owns the tables" in detail) == ("warning", True)
