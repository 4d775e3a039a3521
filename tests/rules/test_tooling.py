"""The tools at the root keep their promises: fitting pins, named migrations, honest goals."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.rules.sources import ROOT, text_of

PROJECT: dict[str, Any] = tomllib.loads(text_of("pyproject.toml"))
RESULT = '{"name": "x", "value": 1, "unit": "ms", "goal": "< 2", "met": %s, "details": {}}'


def unpinned(requirements: list[str], lock: str) -> list[str]:
    """Return the requirements that no pin of a lock file satisfies."""
    pins = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", lock, re.MULTILINE))
    return [
        text
        for text in requirements
        if (pin := pins.get(canonicalize_name((one := Requirement(text)).name))) is None
        or pin not in one.specifier
    ]


def test_the_locks_hold_what_the_project_asks_for() -> None:
    runtime = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    developing = PROJECT["dependency-groups"]["dev"]
    assert unpinned(runtime, text_of("requirements/runtime.txt")) == [], "run: make lock"
    assert unpinned(runtime + developing, text_of("requirements/dev.txt")) == [], "run: make lock"


def test_both_locks_pin_the_same_versions() -> None:
    pins = re.compile(r"^[a-z0-9-]+==[^ ]+", re.MULTILINE)
    runtime = set(pins.findall(text_of("requirements/runtime.txt")))
    assert runtime <= set(pins.findall(text_of("requirements/dev.txt")))


def test_the_pin_rule_finds_the_wrong_version() -> None:
    assert unpinned(["Typing_Extensions>=4"], "typing-extensions==4.1 \\\n") == []
    assert unpinned(["a>=2"], "a==1.9 \\\n") == ["a>=2"]
    assert unpinned(["b"], "a==1.9 \\\n") == ["b"]


def a_copy_of(tmp_path: Path, script: str) -> Path:
    target = tmp_path / "scripts" / script
    target.parent.mkdir()
    shutil.copy(ROOT / "scripts" / script, target)
    return target


def test_a_migration_is_named_once_and_in_lowercase_words(tmp_path: Path) -> None:
    script = a_copy_of(tmp_path, "new-migration")

    def new_migration(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([script, name], capture_output=True, text=True, check=False)

    made = new_migration("credit_notes")
    pattern = r"src/aurora/db/migrations/\d{14}_credit_notes\.sql"
    assert re.fullmatch(pattern, made.stdout.strip())
    assert (tmp_path / made.stdout.strip()).read_text().startswith("-- ")
    for wrong in ("credit_notes", "Credit", "", "../x", "a b", "x" * 61):
        refused = new_migration(wrong)
        assert (refused.returncode, refused.stdout) == (2, "")
    assert len(list(tmp_path.glob("src/**/*.sql"))) == 1


def bench(tmp_path: Path, *names: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, tmp_path / "scripts" / "run_benchmarks.py", *names]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_missed_goal_fails_the_benchmarks(tmp_path: Path) -> None:
    a_copy_of(tmp_path, "run_benchmarks.py")
    (tmp_path / "bench" / "gate").mkdir(parents=True)
    (tmp_path / "bench" / "gate" / "__main__.py").write_text(f"print('{RESULT % 'true'}')")
    (tmp_path / "bench" / "ingest.py").write_text(f"print('{RESULT % 'false'}')")
    assert bench(tmp_path, "gate").returncode == 0
    both = bench(tmp_path)
    assert both.returncode == 1
    assert [line.split()[0] for line in both.stdout.splitlines()[-2:]] == ["met", "MISSED"]
    assert bench(tmp_path, "nothing").returncode == 2


@pytest.mark.parametrize("code", ["print('fast')", "print('{}')", "raise SystemExit(3)", "pass"])
def test_a_benchmark_that_reports_nothing_has_not_passed(tmp_path: Path, code: str) -> None:
    a_copy_of(tmp_path, "run_benchmarks.py")
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "ingest.py").write_text(code)
    assert bench(tmp_path).returncode == 1
