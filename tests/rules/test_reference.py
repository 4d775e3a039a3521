"""The reference is complete: every route, command, setting, relation, function, and error code."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import typer
from tests.rules.sources import expect_none, statements, text_of

import aurora
from aurora.apps import house
from aurora.apps.api.app import build
from aurora.apps.cli import main as command_line
from aurora.apps.settings import Settings
from aurora.core.errors import AuroraError
from aurora.core.secrets import generate_service_token

HTTP: Final = "docs/reference/http.md"
CLI: Final = "docs/reference/cli.md"
SCHEMA: Final = "docs/reference/schema.md"
SETTINGS: Final = "docs/operate/running.md"

# A few of each, so that a collector that finds nothing is not taken for a complete reference.
FLOORS: Final = {
    "routes": 20,
    "commands": 20,
    "relations": 15,
    "functions": 30,
    "codes": 60,
    "refusals": 15,
}

_METHODS = r"GET|POST|PUT|PATCH|DELETE"
_ROUTE = re.compile(rf"`((?:{_METHODS}) /[^`\s]*)`")
_COMMAND = re.compile(r"^\| `(aurora [^`]*)` \|(.*)$", re.MULTILINE)
_CODE = re.compile(r"^\| (\d{3}) \| `([a-z0-9_]+)`", re.MULTILINE)
_RELATION = re.compile(
    r"create (?:unlogged )?(?:table|(?:or replace )?view)(?: if not exists)? ([\w.]+)"
)
_REFUSAL = re.compile(r"app\.refuse\(\s*'([a-z0-9_]+)'")
_FUNCTION = re.compile(r"create (?:or replace )?(?:function|procedure) ([\w.]+)")


def routes(document: Mapping[str, Any]) -> set[str]:
    """Return the routes of an OpenAPI document as `GET /v1/plans`."""
    return {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method in operations
        if re.fullmatch(_METHODS, method.upper())
    }


def commands(group: Any, path: str = "aurora") -> Iterator[tuple[str, set[str]]]:
    """Yield each command with its options, both names of a switch among them."""
    for name, command in group.commands.items():
        here = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from commands(command, here)
        else:
            given = [o for p in command.params for o in (*p.opts, *p.secondary_opts)]
            yield here, {option for option in given if option.startswith("--")} - {"--help"}


def codes() -> dict[str, int]:
    """Return the status of each error code that Aurora's modules define."""
    for module in pkgutil.walk_packages(aurora.__path__, "aurora."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: dict[str, int] = {}
    left = [AuroraError]
    while left:
        error = left.pop()
        left += error.__subclasses__()
        if error.__module__.startswith("aurora."):
            found[error.code] = error.status
    return found


def defined(pattern: re.Pattern[str], sql: str) -> set[str]:
    """Return the names that statements of SQL define; those of the schema public stand bare."""
    matches = (pattern.match(statement.head) for statement in statements(sql))
    return {match[1].removeprefix("public.") for match in matches if match}


def schema(pattern: re.Pattern[str]) -> set[str]:
    """Return the names that Aurora's SQL defines."""
    return {
        name for path in house.definitions() for name in defined(pattern, path.read_text("utf-8"))
    }


def missing_routes(actual: set[str], text: str) -> list[str]:
    """Return the routes that a text lacks, or has beyond the actual ones."""
    told = set(_ROUTE.findall(text))
    return [f"{HTTP}: no {route}" for route in sorted(actual - told)] + [
        f"{HTTP}: {route} does not exist" for route in sorted(told - actual)
    ]


def missing_commands(actual: Mapping[str, set[str]], text: str) -> list[str]:
    """Return the commands without a row of their own, and the options that their row lacks."""
    rows = {
        re.sub(r"( [A-Z\[][A-Z_\]]*)+$", "", name): options
        for name, options in _COMMAND.findall(text)
    }
    found = []
    for name, options in actual.items():
        if name not in rows:
            found.append(f"{CLI}: no {name}")
            continue
        told = set(re.findall(r"--[a-z][a-z-]*", rows[name]))
        found += [f"{CLI}: {name}: no {option}" for option in sorted(options - told)]
        found += [f"{CLI}: {name}: has no {option}" for option in sorted(told - options)]
    gone = set(rows) - set(actual) - {"aurora --version"}
    return found + [f"{CLI}: {name} does not exist" for name in sorted(gone)]


def unexplained(group: Any, path: str = "aurora") -> Iterator[str]:
    """Yield the commands and their options and arguments for which `--help` has no word."""
    for name, command in group.commands.items():
        here = f"{path} {name}"
        if not command.help:
            yield here
        yield from (f"{here}: {p.name}" for p in command.params if not getattr(p, "help", None))
        if hasattr(command, "commands"):
            yield from unexplained(command, here)


def missing_codes(actual: Mapping[str, int], text: str) -> list[str]:
    """Return the codes that the table lacks, has with another status, or has beyond the actual."""
    told = {code: int(status) for status, code in _CODE.findall(text)}
    return [
        f"{HTTP}: no code {code} with status {status}"
        for code, status in sorted(actual.items())
        if told.get(code) != status
    ] + [f"{HTTP}: code {code} does not exist" for code in sorted(set(told) - set(actual))]


def missing_names(actual: set[str], text: str, page: str) -> list[str]:
    """Return the names that stand in no code span of a text, alone or with their arguments."""
    told = set(re.findall(r"`([\w.]+)(?:\([^`]*\))?`", text))
    return [f"{page}: no {name}" for name in sorted(actual - told)]


def document() -> dict[str, Any]:
    """Return the OpenAPI document; the application needs no database for it."""
    server: Any = build(dsn="", service_token=generate_service_token())
    found: dict[str, Any] = server.app.openapi()
    return found


def test_every_route_stands_in_the_reference() -> None:
    actual = routes(document())
    assert len(actual) >= FLOORS["routes"]
    # Pages are routes too, but in no OpenAPI document.
    pages = {"GET /", "GET /docs", "GET /openapi.json"}
    expect_none(missing_routes(actual | pages, text_of(HTTP)))


def test_every_command_option_and_argument_has_a_word_of_help() -> None:
    command_line.add_commands()
    expect_none(list(unexplained(typer.main.get_command(command_line.app))))
    mute = typer.Typer()
    mute.command("show")(lambda number: number)
    mute.command("list", help="Lists.")(lambda: None)
    assert list(unexplained(typer.main.get_command(mute))) == [
        "aurora show",
        "aurora show: number",
    ]


def test_every_command_and_option_stands_in_the_reference() -> None:
    command_line.add_commands()
    actual = dict(commands(typer.main.get_command(command_line.app)))
    assert len(actual) >= FLOORS["commands"]
    expect_none(missing_commands(actual, text_of(CLI)))


def test_every_relation_and_function_stands_in_the_reference() -> None:
    relations, functions = schema(_RELATION), schema(_FUNCTION)
    assert len(relations) >= FLOORS["relations"]
    assert len(functions) >= FLOORS["functions"]
    expect_none(missing_names(relations | functions, text_of(SCHEMA), SCHEMA))


def test_every_error_code_stands_in_the_reference() -> None:
    actual = codes()
    assert len(actual) >= FLOORS["codes"]
    expect_none(missing_codes(actual, text_of(HTTP)))


def test_every_code_that_sql_refuses_with_stands_in_the_reference() -> None:
    actual = {
        code for path in house.definitions() for code in _REFUSAL.findall(path.read_text("utf-8"))
    }
    assert len(actual) >= FLOORS["refusals"]
    expect_none(missing_names(actual, text_of(HTTP), HTTP))


def test_every_setting_stands_in_the_reference() -> None:
    actual = {f"AURORA_{name.upper()}" for name in Settings.model_fields}
    expect_none(missing_names(actual, text_of(SETTINGS), SETTINGS))


def test_the_route_rule_finds_the_wrong_version() -> None:
    actual = routes({"paths": {"/a/{id}": {"get": {}, "delete": {}, "parameters": []}}})
    assert missing_routes(actual, "`GET /a/{id}`, `DELETE /a/{id}`") == []
    assert missing_routes(actual, "`GET /a/{id}`") == [f"{HTTP}: no DELETE /a/{{id}}"]
    told = "`GET /a/{id}`, `DELETE /a/{id}`, `GET /b`"
    assert missing_routes(actual, told) == [f"{HTTP}: GET /b does not exist"]


def test_the_command_rule_finds_the_wrong_version() -> None:
    actual = {"aurora key list": {"--org", "--json"}}
    right = "| `aurora key list KEY_ID` | `--org` (needed), `--json` |"
    assert missing_commands(actual, right) == []
    assert missing_commands(actual, "") == [f"{CLI}: no aurora key list"]
    assert len(missing_commands(actual, right.replace("--org", "--organization"))) == 2
    assert len(missing_commands({}, right)) == 1


def test_the_code_rule_finds_the_wrong_version() -> None:
    assert missing_codes({"a_b": 409}, "| 409 | `a_b` ᶜ | Why |") == []
    assert len(missing_codes({"a_b": 409}, "| 404 | `a_b` | Why |")) == 1
    assert len(missing_codes({"a_b": 409}, "")) == 1
    assert len(missing_codes({}, "| 404 | `a_b` | Why |")) == 1


def test_the_name_rule_finds_the_wrong_version() -> None:
    sql = "create table if not exists public.a ();\ncreate or replace function app.b() returns int"
    assert defined(_RELATION, sql) == {"a"}
    assert defined(_FUNCTION, sql) == {"app.b"}
    assert missing_names({"a", "app.b"}, "`a` and `app.b(text)`", "x") == []
    assert missing_names({"a", "app.b"}, "`a` and app.b", "x") == ["x: no app.b"]
