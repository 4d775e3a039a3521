"""Starts an embedded PostgreSQL of its own for a benchmark, with Aurora's schema in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.rig.homes import a_home

from aurora.db.embedded import EmbeddedServer
from aurora.db.migrator import migrate

LOGIN = "aurora_app"


@dataclass(frozen=True)
class Bench:
    """Where a benchmark works: the owner's DSN and the application's."""

    owner: str
    application: str


@contextmanager
def a_database(**settings: str) -> Iterator[Bench]:
    """Give a migrated database on a server that ends with the block.

    Args:
        settings: Of PostgreSQL, by their names.
    """
    with a_home() as home:
        server = EmbeddedServer.start(home, settings=settings)
        asyncio.run(migrate(server.dsn()))
        yield Bench(server.dsn(), server.dsn(user=LOGIN))
