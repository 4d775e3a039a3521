"""The Supabase project that is written is one, and nobody's files are lost."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from aurora.core.errors import Invalid
from aurora.db.export import FolderNotOurs, export_supabase
from aurora.db.migrator import parse_migration

ONE = parse_migration("20260101000000_one.sql", "create table one ();\n")
TWO = parse_migration("20260102000000_two.sql", "create table two ();\n")


def contents(directory: Path) -> dict[str, str]:
    return {
        str(file.relative_to(directory)): file.read_text()
        for file in directory.rglob("*")
        if file.is_file()
    }


def test_a_project_holds_configuration_migrations_and_seed(tmp_path: Path) -> None:
    target = tmp_path / "project"
    written = export_supabase(target, [ONE], [("seed.sql", "select 1;\n")])
    assert target / "supabase/config.toml" in written
    found = contents(target)
    assert found["supabase/migrations/20260101000000_one.sql"] == ONE.sql
    assert found["supabase/seed.sql"] == "select 1;\n"
    config = tomllib.loads(found["supabase/config.toml"])
    assert config["project_id"] == "aurora"
    assert config["db"]["major_version"] == 17
    assert config["db"]["seed"] == {"enabled": True, "sql_paths": ["./seed.sql"]}
    assert config["api"]["schemas"] == ["public"]


def test_without_a_seed_none_is_announced(tmp_path: Path) -> None:
    export_supabase(tmp_path, [ONE])
    config = tomllib.loads((tmp_path / "supabase/config.toml").read_text())
    assert config["db"]["seed"]["enabled"] is False


def test_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    export_supabase(tmp_path, [ONE, TWO])
    before = contents(tmp_path)
    export_supabase(tmp_path, [ONE, TWO])
    assert contents(tmp_path) == before


def test_doing_it_again_removes_what_is_no_longer_part_and_nothing_else(tmp_path: Path) -> None:
    export_supabase(tmp_path, [ONE, TWO])
    (tmp_path / "supabase/migrations/20270101000000_theirs.sql").write_text("select 1;")
    export_supabase(tmp_path, [ONE])
    names = {file.name for file in (tmp_path / "supabase/migrations").iterdir()}
    assert names == {ONE.filename, "20270101000000_theirs.sql"}


def test_a_folder_of_somebody_else_is_left_alone_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "supabase").mkdir()
    (tmp_path / "supabase/config.toml").write_text("mine")
    with pytest.raises(FolderNotOurs):
        export_supabase(tmp_path, [ONE])
    assert contents(tmp_path) == {"supabase/config.toml": "mine"}
    export_supabase(tmp_path, [ONE], force=True)
    assert (tmp_path / "supabase/migrations" / ONE.filename).exists()


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "", ".", "a//b", "config.toml", ".aurora-export.json"]
)
def test_no_file_lands_outside_or_on_another(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        export_supabase(tmp_path / "p", [ONE], [(name, "x")])
    assert contents(tmp_path) == {}


def test_a_forged_list_deletes_nothing_outside(tmp_path: Path) -> None:
    outside = tmp_path / "precious"
    outside.write_text("x")
    target = tmp_path / "p"
    (target / "supabase").mkdir(parents=True)
    (target / "supabase/.aurora-export.json").write_text('["../../precious"]')
    export_supabase(target, [ONE])
    assert outside.exists()
