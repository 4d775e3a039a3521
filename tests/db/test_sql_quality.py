"""Tools of others read our SQL: plpgsql_check every function, squawk every migration."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.conftest import TEST_SETTINGS

from aurora.db.embedded import EmbeddedServer
from aurora.db.migrator import migrate
from aurora.integrations import jobs

ROOT = Path(__file__).parents[2]
MIGRATIONS = ROOT / "src/aurora/db/migrations"
FEATURES = ROOT / "src/aurora/features"
PGTAP_TESTS = ROOT / "supabase/tests"
DEBIAN = Path("/usr/lib/postgresql/15")
DEBIAN_SHARE = Path("/usr/share/postgresql/15/extension")
TOOL_TIMEOUT_S = 60

# Functions in PL/pgSQL; one that is a trigger once for each table that it stands on.
CHECKED = """
select p.oid::regprocedure::text || coalesce(' on ' || t.tgrelid::regclass, ''), c.level, c.lineno,
  c.message
from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace and n.nspname in ('public', 'app')
  join pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
  left join pg_trigger t on t.tgfoid = p.oid and not t.tgisinternal,
  plpgsql_check_function_tb(
    p.oid, coalesce(t.tgrelid, 0), fatal_errors => false, other_warnings => true,
    performance_warnings => false, extra_warnings => true, security_warnings => true
  ) c
where (p.prorettype <> 'trigger'::regtype or t.oid is not null) {more}
order by 1, 3
"""


def _shared(folder: str) -> Path:
    """Let the account that PostgreSQL runs as under root pass through."""
    Path(folder).chmod(0o711)
    return Path(folder) / "home"


@pytest.fixture(scope="module")
async def debian() -> AsyncIterator[str]:
    """The DSN of a migrated database on Debian's PostgreSQL 15, which has plpgsql_check."""
    if not (DEBIAN / "lib/plpgsql_check.so").exists():
        pytest.skip("postgresql-15-plpgsql-check is not installed")
    with tempfile.TemporaryDirectory(prefix="aurora-debian-") as folder:
        server = EmbeddedServer.start(
            _shared(folder), settings=TEST_SETTINGS, binaries=DEBIAN / "bin"
        )
        await migrate(server.dsn())
        await jobs.install(server.dsn())
        yield server.dsn()
        server.stop()


async def complaints(dsn: str, more: str = "", before: str = "") -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("create extension if not exists plpgsql_check")
        # Ingest, folding, and reversing read tables that each session makes for itself.
        await connection.execute(
            "select app.open_usage_staging(), app.open_usage_folding(), app.open_usage_reversing()"
        )
        if before:
            await connection.execute(before.encode())
        found = await connection.execute(CHECKED.format(more=more).encode())
        rows = list(await found.fetchall())
        await connection.rollback()
        return rows


async def test_plpgsql_check_finds_nothing(debian: str) -> None:
    assert await complaints(debian) == []


async def test_plpgsql_check_finds_the_wrong_version(debian: str) -> None:
    wrong = """create function app.wrong() returns int language plpgsql as
        'declare v_no int; begin return (select no_such_column from public.plans); end'"""
    found = await complaints(debian, "and p.proname = 'wrong'", wrong)
    assert any("no_such_column" in str(row) for row in found)


def _libpq(dsn: str) -> dict[str, str]:
    """Return a DSN as the variables that psql reads; pg_prove hands no whole DSN on."""
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    parts = conninfo_to_dict(dsn)
    return {variable: str(parts[name]) for name, variable in names.items()}


def test_every_pgtap_test_passes(debian: str) -> None:
    program = shutil.which("pg_prove")
    if program is None or not (DEBIAN_SHARE / "pgtap.control").exists():
        pytest.skip("postgresql-15-pgtap is not installed")
    with psycopg.connect(debian) as connection:
        connection.execute("create extension if not exists pgtap")
    tests = sorted(str(file) for file in PGTAP_TESTS.glob("*.test.sql"))
    assert tests
    done = subprocess.run(
        [program, *tests],
        env={**os.environ, **_libpq(debian)},
        capture_output=True,
        text=True,
        timeout=TOOL_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Result: PASS" in done.stdout
    assert f"Files={len(tests)}," in done.stdout


def rooms_without_pgtap(features: Path, tests: Path) -> set[str]:
    """Return the rooms that have tables or functions of their own and no pgTAP file."""
    rooms = {file.parent.name for pattern in ("*/tables.sql", "*/logic.sql")
             for file in features.glob(pattern)}  # fmt: skip
    return rooms - {file.name.removesuffix(".test.sql") for file in tests.glob("*.test.sql")}


def test_every_room_with_sql_has_a_pgtap_test() -> None:
    assert (FEATURES / "usage/tables.sql").exists()
    assert rooms_without_pgtap(FEATURES, PGTAP_TESTS) == set()


def test_a_room_without_a_pgtap_test_is_found(tmp_path: Path) -> None:
    for room in ("doors", "keys", "windows"):
        (tmp_path / "features" / room).mkdir(parents=True)
    (tmp_path / "features/doors/tables.sql").touch()
    (tmp_path / "features/keys/tables.sql").touch()
    (tmp_path / "features/windows/logic.sql").touch()
    (tmp_path / "keys.test.sql").touch()
    assert rooms_without_pgtap(tmp_path / "features", tmp_path) == {"doors", "windows"}


def squawk(*files: Path) -> str:
    done = subprocess.run(
        [Path(sys.executable).parent / "squawk", "--config", ROOT / ".squawk.toml",
         "--reporter", "gcc", *files],
        capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return re.sub(r"(?m)^.*\(checked .*\n?", "", done.stdout)


def test_squawk_finds_nothing_in_the_migrations() -> None:
    assert squawk(*sorted(MIGRATIONS.glob("*.sql"))) == ""


def test_squawk_finds_the_wrong_version(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.sql"
    wrong.write_text("alter table plans add column colour text not null;\ndrop table invoices;\n")
    found = squawk(wrong)
    assert "ban-drop-table" in found
    assert "adding-not-nullable-field" in found or "adding-required-field" in found
