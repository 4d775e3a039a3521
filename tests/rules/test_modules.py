"""House rules for Python modules: what they open with, and what only some of them may do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from tests.rules.sources import Rule, breaches, expect_none, matching, numbered

SRC = r"src/.*\.py"
PRINTERS = r"src/aurora/(apps/cli/.*|.*/commands)\.py"
CLOCK = r"src/aurora/core/clock\.py"
MONEY = r"src/aurora/(core/money|features/(invoices|plans|subscriptions)/.*)\.py"
LOADERS = r"src/aurora/(db/queries|features/[a-z_]+/store)\.py"


def without_one_sentence(_name: str, source: str) -> list[str]:
    """Rule 4: the first paragraph of a module's docstring is one sentence saying what it is for."""
    opening = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0].strip()
    if not opening:
        return ["1: open the module with a docstring of one sentence"]
    if not opening.endswith(".") or re.search(r"[.!?]\s+[A-ZÆØÅ]", opening):
        return ["1: the first paragraph of the docstring must be one sentence"]
    return []


def called(node: ast.AST) -> str:
    """Return the dotted name of what a call calls, such as datetime.now."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def prints(_name: str, source: str) -> list[str]:
    return numbered(
        (node.lineno, "only apps/cli and commands.py print; log instead")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and called(node) in {"print", "pprint", "pprint.pprint"}
    )


_OTHER_CLOCKS = re.compile(r"(.*\.)?(datetime\.(now|utcnow|today)|date\.today)|time\.time(_ns)?")


def reads_another_clock(_name: str, source: str) -> list[str]:
    """Rule 11: time.monotonic and perf_counter measure durations and are free to use."""
    return numbered(
        (node.lineno, f"{called(node)}(): the one clock is aurora.core.clock.now()")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and _OTHER_CLOCKS.fullmatch(called(node))
    )


def computes_with_floats(_name: str, source: str) -> list[str]:
    return numbered(
        (node.lineno, "money is Decimal; a binary fraction loses øre")
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Name) and node.id == "float")
        or (isinstance(node, ast.Constant) and type(node.value).__name__ == "float")
    )


def loads_queries(_name: str, source: str) -> list[str]:
    return numbered(
        (node.lineno, "only a room's store.py loads its queries")
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.alias) and node.name == "load_queries")
        or (isinstance(node, ast.Attribute) and node.attr == "load_queries")
    )


def imported(name: str, source: str) -> Iterator[tuple[int, str]]:
    """Yield line and absolute dotted name of all that a module imports, names included."""
    package = name.removeprefix("src/").removesuffix(".py").split("/")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *filter(None, [node.module])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


_ROOM = re.compile(r"aurora\.features\.([a-z_]+)(?:\.([A-Za-z_]+))?(?:\..*)?")
_PUBLIC_FILES = frozenset({"service", "model"})


def opens_another_rooms_drawers(name: str, source: str) -> list[str]:
    """A room imports other rooms' package, service, and model; nobody else imports a store."""
    home = re.match(r"src/aurora/features/([a-z_]+)/", name)
    found = []
    for line, target in imported(name, source):
        match = _ROOM.fullmatch(target)
        if match is None or (home and home[1] == match[1]):
            continue
        room, part = match[1], match[2]
        # A name that no file of that room bears is one of the package's public names.
        is_file = bool(part) and bool(matching(rf"src/aurora/features/{room}/{part}(\.py|/.*)"))
        closed = part == "store" or (home and is_file and part not in _PUBLIC_FILES)
        if closed:
            found.append((line, f"{room}.{part} is private; ask {room}'s service"))
    return numbered(found)


def rooms_without_a_door_plate(names: list[str]) -> list[str]:
    """Return the rooms that do not say what they own; import-linter cannot see those either."""
    rooms = {match[1] for n in names if (match := re.match(r"src/aurora/features/(\w+)/", n))}
    return sorted(r for r in rooms if f"src/aurora/features/{r}/__init__.py" not in names)


def test_every_room_has_a_package_that_says_what_it_owns() -> None:
    expect_none(rooms_without_a_door_plate(matching(r"src/aurora/features/.*")))


def test_the_room_rule_finds_the_wrong_version() -> None:
    room = "src/aurora/features/keys"
    assert rooms_without_a_door_plate([f"{room}/__init__.py", f"{room}/logic.sql"]) == []
    assert rooms_without_a_door_plate([f"{room}/logic.sql"]) == ["keys"]


def test_every_module_opens_with_one_sentence() -> None:
    names = matching(r"(src|tests|bench|scripts)/.*\.py")
    expect_none(breaches(without_one_sentence, names))


def test_only_the_command_line_prints() -> None:
    names = [n for n in matching(SRC) if not re.fullmatch(PRINTERS, n)]
    expect_none(breaches(prints, names))


def test_only_the_clock_reads_the_time() -> None:
    names = [n for n in matching(SRC) if not re.fullmatch(CLOCK, n)]
    expect_none(breaches(reads_another_clock, names))


def test_money_is_never_a_binary_fraction() -> None:
    expect_none(breaches(computes_with_floats, matching(MONEY)))


def test_only_stores_load_queries() -> None:
    names = [n for n in matching(SRC) if not re.fullmatch(LOADERS, n)]
    expect_none(breaches(loads_queries, names))


def test_a_room_uses_only_its_own_store() -> None:
    expect_none(breaches(opens_another_rooms_drawers, matching(SRC)))


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (without_one_sentence, '"""It is for this."""', '"""It is for this. And that."""'),
        (without_one_sentence, '"""One\nsentence.\n\nAnd. More."""', '"""no full stop"""'),
        (without_one_sentence, '"""Keys: made, and e.g. kept."""', "import os"),
        (without_one_sentence, '"""Empty package."""', ""),
        (prints, "log('x')", "print('x')"),
        (prints, "page.print()", "def f():\n    pprint(1)"),
        (reads_another_clock, "now()", "datetime.now(UTC)"),
        (reads_another_clock, "clock.now()", "datetime.datetime.utcnow()"),
        (reads_another_clock, "time.monotonic()", "time.time()"),
        (reads_another_clock, "perf_counter()", "dt.date.today()"),
        (computes_with_floats, "Decimal('1.5')", "Decimal(1.5)"),
        (computes_with_floats, "x: int = 1", "def f(x: float) -> int: ..."),
        (loads_queries, "from aurora.db.queries import fetch_one", "import load_queries"),
        (loads_queries, "queries.load", "from aurora.db.queries import load_queries as q"),
        (loads_queries, "load_queries_of = 1", "queries.load_queries('x')"),
    ],
)
def test_each_rule_finds_the_wrong_version(rule: Rule, right: str, wrong: str) -> None:
    assert rule("src/aurora/x.py", right) == []
    assert len(rule("src/aurora/x.py", wrong)) == 1


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        (
            "features/usage/service.py",
            "from aurora.features.keys import service",
            "from aurora.features.keys import store",
        ),
        (
            "features/usage/service.py",
            "from aurora.features.usage.store import x",
            "from aurora.features.keys.store import x",
        ),
        ("features/usage/api.py", "from . import store", "from ..keys import store"),
        ("features/usage/api.py", "from .store import x", "from ..keys.store import find_key"),
        (
            "features/usage/jobs.py",
            "import aurora.features.keys.model",
            "import aurora.features.keys.store",
        ),
        (
            "features/usage/jobs.py",
            "from aurora.features.keys import ApiKey",
            "def late():\n    from aurora.features.keys.store import find_key",
        ),
        (
            "apps/house.py",
            "from aurora.features.keys import api",
            "from aurora.features.keys import store",
        ),
    ],
)
def test_the_store_rule_finds_the_wrong_version(name: str, right: str, wrong: str) -> None:
    assert opens_another_rooms_drawers(f"src/aurora/{name}", right) == []
    assert len(opens_another_rooms_drawers(f"src/aurora/{name}", wrong)) == 1


def test_a_private_file_of_another_room_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    files = ("src/aurora/features/keys/jobs.py",)
    monkeypatch.setattr("tests.rules.sources.tracked", lambda: files)
    source = "from aurora.features.keys import jobs"
    assert len(opens_another_rooms_drawers("src/aurora/features/usage/service.py", source)) == 1
    assert opens_another_rooms_drawers("src/aurora/apps/worker.py", source) == []
