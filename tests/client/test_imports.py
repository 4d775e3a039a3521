"""Importing the client brings nothing of the platform into a customer's application."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"psycopg", "fastapi", "starlette", "pydantic", "uvicorn", "typst", "lxml", "pgqueuer"}
PLATFORM = {"aurora.db", "aurora.features", "aurora.integrations", "aurora.apps"}


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a new interpreter has after a statement."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_client_loads_nothing_of_the_platform() -> None:
    loaded = loaded_by("import aurora.client")
    assert "aurora.client" in loaded
    assert not loaded & (HEAVY | PLATFORM)


def test_the_test_finds_the_wrong_version() -> None:
    assert loaded_by("import aurora.db.pool") & (HEAVY | PLATFORM) == {"aurora.db", "psycopg"}
