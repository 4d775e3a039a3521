"""Splits SQL text into tokens and statements, as much as named queries and migrations need.

It follows PostgreSQL 18, section 4.1 (lexical structure), with standard_conforming_strings on.
Nothing is lost: the texts of all tokens, joined, are the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class Kind(Enum):
    """What a token is."""

    SPACE = auto()
    COMMENT = auto()
    QUOTED = auto()
    """A string, a quoted identifier, or a dollar-quoted body."""
    WORD = auto()
    """An identifier, a keyword, or a number."""
    PARAMETER = auto()
    """`:name`."""
    SYMBOL = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of SQL text and the line it begins on, counted from 1."""

    kind: Kind
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement without its semicolon, and the line it begins on, counted from 1."""

    text: str
    line: int
    words: tuple[str, ...]
    """Its first few words in lower case, for telling what kind of statement it is."""


class SqlSyntaxError(ValueError):
    """SQL text that ends inside a quotation or a comment."""


_SPACE: Final = re.compile(r"[ \t\n\r\f\v]+")
_LINE_COMMENT: Final = re.compile(r"--[^\n\r]*")
_WORD: Final = re.compile(r"[A-Za-z0-9_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*")
_DOLLAR: Final = re.compile(r"\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$")
_PARAMETER: Final = re.compile(r":[A-Za-z_][A-Za-z0-9_]*")
_CONTINUATION: Final = re.compile(r"[ \t\f\v]*[\n\r][ \t\n\r\f\v]*'")
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_ESCAPED_PIECE: Final = re.compile(r"\\.|''|[^\\']+", re.DOTALL)

_STATEMENT_WORDS: Final = 5


def tokens(text: str) -> Iterator[Token]:
    """Yield the tokens of SQL text.

    A colon before a name is a parameter, except in `::`, in `:=`, and when it touches the operand
    before it inside square brackets: `a[low:high]` is a slice of columns, `a[low : :high]` ends at
    a parameter.

    Raises:
        SqlSyntaxError: A quotation or a comment has no end.
    """
    at, line, brackets, touches_operand = 0, 1, 0, False
    while at < len(text):
        kind, end = _token_at(text, at, is_slice=brackets > 0 and touches_operand, line=line)
        piece = text[at:end]
        yield Token(kind, piece, line)
        brackets = max(0, brackets + (piece == "[") - (piece == "]"))
        touches_operand = kind in (Kind.WORD, Kind.QUOTED, Kind.PARAMETER) or piece in (")", "]")
        line += piece.count("\n")
        at = end


def statements(text: str) -> Iterator[Statement]:
    """Yield the statements of SQL text, without empty ones and the comments between them.

    Raises:
        SqlSyntaxError: A quotation or a comment has no end.
    """
    gathered: list[Token] = []
    parentheses = blocks = 0
    words: list[str] = []
    for token in tokens(text):
        if token.text == ";" and not parentheses and not blocks:
            yield from _statement(gathered, words)
            gathered, words = [], []
            continue
        gathered.append(token)
        if token.kind is Kind.WORD:
            word = token.text.lower()
            words.append(word)
            blocks += _block_step(word, words, blocks)
        elif token.kind is Kind.SYMBOL:
            parentheses = max(0, parentheses + (token.text == "(") - (token.text == ")"))
    yield from _statement(gathered, words)


def _statement(gathered: list[Token], words: list[str]) -> Iterator[Statement]:
    idle = (Kind.SPACE, Kind.COMMENT)
    solid = [place for place, token in enumerate(gathered) if token.kind not in idle]
    if solid:
        body = gathered[solid[0] : solid[-1] + 1]
        text = "".join(token.text for token in body)
        yield Statement(text, body[0].line, tuple(words[:_STATEMENT_WORDS]))


def _block_step(word: str, words: list[str], depth: int) -> int:
    """Return how a word changes the depth of `begin atomic … end` in a function's SQL body."""
    is_routine = words[0] == "create" and not {"function", "procedure"}.isdisjoint(
        words[1:_STATEMENT_WORDS]
    )
    if not is_routine:
        return 0
    if word == "atomic" and words[-2] == "begin":
        return 1
    if depth and word == "case":
        return 1
    return -1 if depth and word == "end" else 0


def _token_at(text: str, at: int, *, is_slice: bool, line: int) -> tuple[Kind, int]:
    """Return the kind and the end of the token that begins at `at`."""
    if space := _SPACE.match(text, at):
        return Kind.SPACE, space.end()
    if end := _comment_end(text, at, line):
        return Kind.COMMENT, end
    if end := _quoted_end(text, at, line):
        return Kind.QUOTED, end
    if word := _WORD.match(text, at):
        return Kind.WORD, word.end()
    if not is_slice and (parameter := _PARAMETER.match(text, at)):
        return Kind.PARAMETER, parameter.end()
    return Kind.SYMBOL, at + (2 if text.startswith(("::", ":="), at) else 1)


def _comment_end(text: str, at: int, line: int) -> int:
    """Return the end of the comment that begins here, or 0; block comments nest."""
    if comment := _LINE_COMMENT.match(text, at):
        return comment.end()
    if not text.startswith("/*", at):
        return 0
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, at):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise SqlSyntaxError(f"line {line}: /* has no end")


def _quoted_end(text: str, at: int, line: int) -> int:
    """Return the end of the quotation that begins here, or 0.

    A doubled quote within '…' or "…" begins what looks like the next quotation: all the same here.
    """
    if text[at] in "'\"":
        mark = text[at]
    elif dollar := _DOLLAR.match(text, at):
        mark = dollar.group()
    elif text[at] in "eE" and text.startswith("'", at + 1):
        return _escape_string_end(text, at + 1, line)
    else:
        return 0
    close = text.find(mark, at + len(mark))
    if close < 0:
        raise SqlSyntaxError(f"line {line}: {mark} has no end")
    return close + len(mark)


def _escape_string_end(text: str, at: int, line: int) -> int:
    """Return the end of E'…', in which a backslash may hide a quote.

    A string that continues after a line break keeps the rules of its beginning.
    """
    while True:
        at += 1
        while piece := _ESCAPED_PIECE.match(text, at):
            at = piece.end()
        if not text.startswith("'", at):
            raise SqlSyntaxError(f"line {line}: E' has no end")
        at += 1
        more = _CONTINUATION.match(text, at)
        if not more:
            return at
        at = more.end() - 1
