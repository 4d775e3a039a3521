"""The command line on a test's database, without a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from tests.conftest import LOGIN_ROLE
from typer.testing import CliRunner

from aurora.apps.cli import main as command_line
from aurora.integrations.terminal import Terminal

Said = tuple[int, Any]


@pytest.fixture
def aurora(database: str) -> Callable[..., Said]:
    """Run a command: its exit code, and what it said, parsed where --json was asked for."""
    if not command_line.app.registered_groups:
        command_line.add_commands()
    dsn = make_conninfo(database, user=LOGIN_ROLE)

    def said(*arguments: str, stdin: str | None = None) -> Said:
        terminal = Terminal(connect=lambda: nullcontext(dsn))
        # The callback reads the machine's settings; the groups below it need the terminal alone.
        group, *rest = arguments
        found = next(g for g in command_line.app.registered_groups if g.name == group)
        assert found.typer_instance is not None
        done = CliRunner().invoke(found.typer_instance, rest, obj=terminal, input=stdin)
        if done.exit_code == 0 and "--json" in rest:
            return 0, json.loads(done.stdout)
        return done.exit_code, done.output

    return said
