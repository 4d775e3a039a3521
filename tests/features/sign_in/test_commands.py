"""aurora token: a token is shown once, listed without its secret, and revoked."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from typing import Any

from psycopg.conninfo import make_conninfo
from tests.features.sign_in.conftest import World
from typer.testing import CliRunner, Result

from aurora.core.secrets import is_service_token
from aurora.features.sign_in.commands import token
from aurora.integrations.terminal import Terminal


async def command(world: World, *arguments: str) -> Result:
    terminal = Terminal(connect=lambda: nullcontext(make_conninfo(world.dsn, user="aurora_app")))
    # A command starts a loop of its own, so it needs a thread of its own.
    return await asyncio.to_thread(CliRunner().invoke, token, [*arguments, "--json"], obj=terminal)


async def test_a_token_is_shown_once_listed_and_revoked(world: World) -> None:
    made = await command(world, "create", "--name", "Nightly", "--scope", "billing:run")
    assert made.exit_code == 0, made.output
    shown: dict[str, Any] = json.loads(made.stdout)
    assert is_service_token(shown["token"])
    assert shown["scopes"] == ["billing:run"]
    listed = await command(world, "list")
    assert shown["token"] not in listed.stdout
    assert [each["id"] for each in json.loads(listed.stdout)] == [shown["id"]]
    revoked = await command(world, "revoke", shown["id"])
    assert json.loads(revoked.stdout)["revoked_at"] is not None


async def test_an_unknown_scope_is_refused_with_one_line(world: World) -> None:
    refused = await command(world, "create", "--name", "Nightly", "--scope", "everything")
    assert refused.exit_code == 1
    assert await world.admin("select * from service_tokens") == []
