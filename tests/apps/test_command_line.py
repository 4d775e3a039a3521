"""A command line loads the group that it names, and all where it names none."""

from __future__ import annotations

import pytest
import typer

from aurora.apps.cli import main as command_line


@pytest.mark.parametrize(
    ("arguments", "groups"),
    [
        (["key", "list", "--org", "usage"], {"key", "supabase"}),
        (["--database-url", "billing", "usage", "summary"], {"usage", "supabase"}),
        (["serve", "--port", "80"], {"supabase"}),
        (["supabase", "export"], {"supabase"}),
        ([], {*command_line.GROUPS, "supabase"}),
        (["--help"], {*command_line.GROUPS, "supabase"}),
        (["nothing"], {*command_line.GROUPS, "supabase"}),
    ],
)
def test_the_group_that_is_named_is_loaded(
    arguments: list[str], groups: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "app", typer.Typer())
    command_line.add_commands(arguments)
    assert {group.name for group in command_line.app.registered_groups} == groups


def test_a_group_has_the_same_commands_alone_as_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[set[str]] = []
    for arguments in (["invoice", "list"], []):
        monkeypatch.setattr(command_line, "app", typer.Typer())
        command_line.add_commands(arguments)
        (group,) = (g for g in command_line.app.registered_groups if g.name == "invoice")
        assert group.typer_instance is not None
        found.append(command_line._names(group.typer_instance))
    alone, among = found
    assert alone == among
    assert {"draft", "credit", "explain", "show"} <= alone
