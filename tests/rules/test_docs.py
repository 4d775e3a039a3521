"""Documents are tested: links lead somewhere, decisions count up, make targets exist."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from tests.rules.sources import ROOT, breaches, expect_none, matching, numbered, text_of

_CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//|#")
_TEST = re.compile(r"\b(?:tests|bench|supabase/tests)/[\w./-]*\w")


def broken_links(name: str, source: str) -> list[str]:
    """Return the relative links of a Markdown file that lead to no file or folder."""
    # Code keeps its line breaks, so that line numbers stay right.
    prose = _CODE.sub(lambda match: "\n" * match.group().count("\n"), source)
    found = []
    for match in _LINK.finditer(prose):
        target = match[1] or match[2]
        if _ELSEWHERE.match(target):
            continue
        path = (ROOT / PurePosixPath(name).parent / unquote(target.partition("#")[0])).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            found.append((prose.count("\n", 0, match.start()) + 1, f"no such file: {target}"))
    return numbered(found)


def misnumbered(names: Sequence[str]) -> list[str]:
    """Return what is wrong with the names of the decisions: 0001-….md, 0002-….md, and so on."""
    found = [
        f"{name}: name it 0001-what-was-decided.md"
        for name in names
        if not re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", name)
    ]
    numbers = sorted(int(name[:4]) for name in names if name[:4].isdigit())
    expected = list(range(1, len(numbers) + 1))
    return (
        found
        + [
            f"decision {want:04} is missing or double"
            for want, have in zip(expected, numbers, strict=True)
            if want != have
        ][:1]
    )


def without_a_test(_name: str, source: str) -> list[str]:
    """Rule 14: a decision names the test that enforces it, and that test exists."""
    named = _TEST.findall(source)
    if not named:
        return ["1: name the test (tests/...) that enforces the decision"]
    return [f"1: no such test: {path}" for path in named if not (ROOT / path).exists()]


def unknown_targets(_name: str, source: str) -> list[str]:
    """Return the `make` targets that a document mentions and the Makefile does not have."""
    known = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    return numbered(
        (source.count("\n", 0, match.start()) + 1, f"no target {match[1]} in the Makefile")
        for match in re.finditer(r"(?:`|^ *\$? *)make ([a-z]+)", source, re.MULTILINE)
        if match[1] not in known
    )


def test_every_relative_link_leads_somewhere() -> None:
    expect_none(breaches(broken_links, matching(r".*\.md")))


def test_decisions_are_numbered_without_a_gap() -> None:
    decisions = matching(r"docs/decisions/(?!README)[^/]+")
    expect_none(misnumbered([name.rpartition("/")[2] for name in decisions]))


def test_every_decision_names_the_test_that_enforces_it() -> None:
    expect_none(breaches(without_a_test, matching(r"docs/decisions/\d.*\.md")))


def test_every_make_target_in_the_documents_exists() -> None:
    expect_none(breaches(unknown_targets, matching(r".*\.md")))


def test_the_link_rule_finds_the_wrong_version() -> None:
    right = """[a](../pyproject.toml) [b](https://x.example/y) [c](#here) ![d](../src#x "title")
```
[not a link](nowhere.md)
```
`[nor this](nowhere.md)`
[e]: ../Makefile"""
    assert broken_links("docs/x.md", right) == []
    assert broken_links("docs/x.md", right + "\n[f](nowhere.md)") == ["7: no such file: nowhere.md"]
    assert len(broken_links("x.md", right)) == 3
    assert len(broken_links("x.md", "[out](../../../etc)")) == 1


def test_the_numbering_rule_finds_the_wrong_version() -> None:
    assert misnumbered(["0001-a.md", "0002-b-c.md"]) == []
    assert len(misnumbered(["0001-a.md", "0003-b.md"])) == 1
    assert len(misnumbered(["0001-a.md", "0001-b.md"])) == 1
    assert len(misnumbered(["0001-a.md", "0002_b.txt"])) == 1
    assert len(misnumbered(["0001-a.md", "notes.md"])) == 1


def test_the_decision_rule_finds_the_wrong_version() -> None:
    assert without_a_test("x", "Held by `tests/rules/test_docs.py`.") == []
    assert len(without_a_test("x", "Held by nothing.")) == 1
    assert len(without_a_test("x", "Held by tests/rules/test_nothing.py.")) == 1


def test_the_target_rule_finds_the_wrong_version() -> None:
    assert unknown_targets("x", "Run `make up`, and make sure to read.\n    make test") == []
    assert unknown_targets("x", "Run\n\n    make coffee") == ["3: no target coffee in the Makefile"]
    assert len(unknown_targets("x", "`make tea name=x`")) == 1
