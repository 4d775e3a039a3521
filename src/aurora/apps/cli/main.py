"""The command `aurora`: the rooms' commands, and what runs the platform."""

from __future__ import annotations

import getpass
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from aurora import __version__
from aurora.apps import house
from aurora.apps.cli import operating, schema
from aurora.apps.settings import Settings, load_settings
from aurora.db.transaction import named
from aurora.integrations.terminal import Terminal, failing_clearly, out

HELP = """\
Aurora: API keys, limits, usage, and invoices for companies that sell an API.

Start with `aurora up`: it starts PostgreSQL, a demo organization, and the server, and
says what to try. Every command takes `--help`; those that show something take
`--json`. The database is AURORA_DATABASE_URL, or the embedded one in AURORA_HOME.
"""

app = typer.Typer(
    help=HELP, no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False
)

# The rooms' command groups, in the order of a customer's life.
GROUPS = {
    "org": ("organizations", "org"),
    "user": ("organizations", "user"),
    "token": ("sign_in", "token"),
    "key": ("keys", "key"),
    "plan": ("plans", "plan"),
    "coupon": ("plans", "coupon"),
    "subscription": ("subscriptions", "subscription"),
    "usage": ("usage", "usage"),
    "billing": ("invoices", "billing"),
    "invoice": ("invoices", "invoice"),
    "export": ("privacy", "export"),
    "erase": ("privacy", "erase"),
    "audit": ("audit", "audit"),
}

# Commands that ask a higher room and stand in a lower one's group: group, room, door.
ADDED = (
    ("billing", "invoices", "what_if_commands"),
    ("subscription", "invoices", "what_if_commands"),
    ("invoice", "invoices", "drafting_commands"),
    ("invoice", "invoices", "settling_commands"),
    ("invoice", "invoices", "explain_commands"),
    ("billing", "invoices", "entering_commands"),
    ("billing", "invoices", "overdue_commands"),
    ("billing", "books", "commands"),
    ("plan", "invoices", "simulation_commands"),
    ("usage", "invoices", "impressions_commands"),
)


def _say_version(wanted: bool) -> None:
    if wanted:
        out.print(f"aurora {__version__}")
        raise typer.Exit


@app.callback()
def configure(
    ctx: typer.Context,
    database_url: Annotated[
        str | None, typer.Option(help="In place of AURORA_DATABASE_URL.", show_default=False)
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Read the settings that every command stands on."""
    del version
    with failing_clearly():
        settings = load_settings(database_url=database_url)
    ctx.obj = _terminal(settings)
    ctx.with_resource(named(_who_types()))
    ctx.meta[operating.SETTINGS] = settings


def _who_types() -> str:
    """Return who runs the command, for the audit; the account may have no name or an odd one."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return "cli:" + re.sub(r"[^\w.@-]", "_", user)[:100]


def _terminal(settings: Settings) -> Terminal:
    @contextmanager
    def connect() -> Iterator[str]:
        import asyncio

        from aurora.apps.database import database, prepare

        with database(settings) as where:
            if where.is_embedded:
                # Nobody else looks after the embedded database's schema.
                asyncio.run(prepare(where))
            yield where.dsn

    return Terminal(connect=connect)


def add_commands(arguments: Sequence[str] = ()) -> None:
    """Add the commands that a command line can mean: those of the group that it names, or all.

    A command asks its own room and few others; importing and describing all of them takes as long
    as everything else that a command does.
    """
    operating.add_to(app)
    app.add_typer(schema.supabase, name="supabase")
    word = _first_word(arguments)
    if word in GROUPS:
        _add_groups({word: GROUPS[word]})
    elif word is None or word not in _names(app):
        _add_groups(GROUPS)


def _first_word(arguments: Iterable[str]) -> str | None:
    """Return the command or the group that a command line begins with, after its options."""
    rest = iter(arguments)
    for each in rest:
        if each == "--database-url":
            next(rest, None)
        elif not each.startswith("-"):
            return each
    return None


def _names(of: typer.Typer) -> set[str]:
    commands = {
        command.name or command.callback.__name__.replace("_", "-")
        for command in of.registered_commands
        if command.callback is not None
    }
    return commands | {group.name for group in of.registered_groups if group.name is not None}


def _add_groups(wanted: Mapping[str, tuple[str, str]]) -> None:
    rooms = {room.name: room for room in house.rooms()}
    for name, (room, offered) in wanted.items():
        group = rooms[room].offered("commands", offered)
        for _, other, door in (each for each in ADDED if each[0] == name):
            more = rooms[other].offered(door, name)
            known = {command.callback for command in group.registered_commands}
            group.registered_commands += [
                command for command in more.registered_commands if command.callback not in known
            ]
        app.add_typer(group, name=name)


def main() -> None:
    """Run the command line."""
    add_commands(sys.argv[1:])
    app()


if __name__ == "__main__":
    main()
