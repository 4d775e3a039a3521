"""A PostgreSQL of a benchmark's own: embedded, durable, and gone afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from bench.rig.homes import a_home

from aurora.db.embedded import EmbeddedServer, in_use

AURORA: Final = Path(sys.executable).with_name("aurora")
COMMAND_TIMEOUT_S: Final = 120
_DURABLE: Final = ("fsync", "synchronous_commit", "full_page_writes")


@dataclass(frozen=True, slots=True)
class Customer:
    """An organization with a production key."""

    organization_id: str
    slug: str
    key_id: str
    key: str


@dataclass(frozen=True, slots=True)
class Bench:
    """A migrated database of Aurora's, and a folder beside it that is cleared away."""

    server: EmbeddedServer
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """The environment in which `aurora` works on this database and no other."""
        return environment_of(self.server.home)

    def aurora(self, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
        """Run a command of `aurora` that answers with JSON, and return its answer.

        Args:
            arguments: Of the command, but `--json`.
            env: In the place of the bench's own.
        """
        done = subprocess.run(
            [AURORA, *arguments, "--json"],
            env=dict(env or self.env),
            stdout=subprocess.PIPE,
            timeout=COMMAND_TIMEOUT_S,
            check=True,
        )
        return json.loads(done.stdout)

    def a_customer(self, slug: str) -> Customer:
        """Make an organization and a production key."""
        organization = self.aurora(
            "org", "create", "--name", slug, "--slug", slug, "--email", f"post@{slug}.example"
        )
        key = self.aurora("key", "create", "--org", slug, "--name", "bench", "--env", "production")
        return Customer(organization["id"], slug, key["id"], key["key"])

    def execute(self, statement: str) -> None:
        """Run a statement as the owner of the database."""
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            connection.execute(statement)

    def fetch(self, statement: str) -> Any:
        """Return the only value that a query of the owner gives."""
        with psycopg.connect(self.server.dsn()) as connection:
            found = connection.execute(statement).fetchone()
            return None if found is None else found[0]


def environment_of(home: Path) -> dict[str, str]:
    """Return the environment in which `aurora` works on this home, whatever else is set."""
    kept = {name: value for name, value in os.environ.items() if name[:7] != "AURORA_"}
    return {**kept, "AURORA_HOME": str(home)}


@contextmanager
def a_bench() -> Iterator[Bench]:
    """Give a new, migrated, durable database; it and the folder are removed at the end.

    Raises:
        SystemExit: It is not durable, so its figures would say nothing.
    """
    with a_home() as home, in_use(home) as server:
        bench = Bench(server, home.parent)
        bench.aurora("migrate")
        lax = {
            setting: value
            for setting in _DURABLE
            if (value := bench.fetch(f"show {setting}")) != "on"
        }
        if lax:
            raise SystemExit(f"the database is not durable: {lax}")
        yield bench
