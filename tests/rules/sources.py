"""What the house rules read: the files of the repository, and SQL cut into statements."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

Rule = Callable[[str, str], list[str]]
"""Takes a file's path from the root and its text; returns `line: what is wrong` for each breach."""


_MADE_BY_TOOLS = re.compile(
    r"(^|.*/)(\.git|\.venv|\.tools|__pycache__|\.[a-z_]+_cache|\.hypothesis)/.*"
)


@cache
def tracked() -> tuple[str, ...]:
    """Return the path of every file that is in git or would be added, from the root, sorted.

    In an unpacked archive, where git knows nothing, that is every file the tools did not make.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = {name for name in listed.stdout.decode().split("\0") if name}
    else:
        names = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*")}
    return tuple(
        sorted(n for n in names if (ROOT / n).is_file() and not _MADE_BY_TOOLS.fullmatch(n))
    )


def matching(*patterns: str) -> list[str]:
    """Return the tracked paths that fully match any of these regular expressions."""
    return [name for name in tracked() if any(re.fullmatch(p, name) for p in patterns)]


def text_of(name: str) -> str:
    """Return the text of a tracked file, or nothing when it is not text."""
    data = (ROOT / name).read_bytes()
    return "" if b"\0" in data else data.decode("utf-8", "replace")


def breaches(rule: Rule, names: Iterable[str]) -> list[str]:
    """Return every breach of a rule in these files as `path:line: what is wrong`."""
    return [f"{name}:{found}" for name in names for found in rule(name, text_of(name))]


def expect_none(found: Iterable[str]) -> None:
    """Fail the test with one line for each breach, so that a newcomer sees all of them at once."""
    if lines := list(found):
        pytest.fail("\n".join(lines), pytrace=False)


def numbered(found: Iterable[tuple[int, str]]) -> list[str]:
    """Return breaches in the form that a rule returns."""
    return [f"{line}: {what}" for line, what in found]


@dataclass(frozen=True)
class Statement:
    """One SQL statement.

    Attributes:
        line: Where it begins, from 1, comments before it left out.
        text: All of it, with its comments and without the semicolon.
        head: It without comments and dollar-quoted bodies, in lowercase, spaces collapsed.
    """

    line: int
    text: str
    head: str

    @property
    def lines(self) -> int:
        return self.text.count("\n") + 1


_PIECE = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)
      | (?P<body>(?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag))
      | (?P<quoted>[eE]'(?:\\.|''|[^'\\])*'|'(?:''|[^'])*'|"(?:""|[^"])*")
      | (?P<end>;)
      | (?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)


def statements(sql: str) -> list[Statement]:
    """Cut SQL at the semicolons that end statements; quoted ones end nothing."""
    found: list[Statement] = []
    text: list[str] = []
    head: list[str] = []
    line, first_line = 1, 0
    for piece in _PIECE.finditer(f"{sql};"):
        kind, value = piece.lastgroup, piece.group()
        kind = "body" if kind == "tag" else kind
        if kind == "end":
            if first_line:
                squeezed = re.sub(r"\s+", " ", "".join(head)).strip().lower()
                found.append(Statement(first_line, "".join(text).strip(), squeezed))
            text, head, first_line = [], [], 0
        elif first_line or (kind != "comment" and not value.isspace()):
            first_line = first_line or line
            text.append(value)
            head.append("" if kind in {"comment", "body"} else value)
        line += value.count("\n")
    return found
