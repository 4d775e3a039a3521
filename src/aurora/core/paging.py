"""Pages and their cursors: opaque, stateless, and refused when anything about them is odd."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar, overload
from uuid import UUID

import msgspec

from aurora.core.clock import as_utc
from aurora.core.errors import Invalid

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200
MAX_CURSOR_LENGTH: Final = 600
"""Characters; a cursor of a timestamp and a UUID has 90."""

_MAX_BIGINT: Final = 2**63

CursorValue = datetime | UUID | str | int

T = TypeVar("T")
A = TypeVar("A", datetime, UUID, str, int)
B = TypeVar("B", datetime, UUID, str, int)
C = TypeVar("C", datetime, UUID, str, int)


class CursorInvalid(Invalid):
    """The cursor was not given out by this endpoint, or was changed on the way."""

    code, title = "cursor_invalid", "The cursor is not one of ours"


class PageSizeInvalid(Invalid):
    """The page size is out of range."""

    code, title = "page_size_invalid", "The page size is out of range"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list.

    Attributes:
        items: At most `MAX_PAGE_SIZE` of them.
        next_cursor: Where the next page starts; None on the last page.
    """

    items: list[T]
    next_cursor: str | None = None


def page_size(requested: int | None) -> int:
    """Return the page size to use for the one that was asked for, if any was.

    Raises:
        PageSizeInvalid: It is below 1 or above `MAX_PAGE_SIZE`.
    """
    if requested is None:
        return DEFAULT_PAGE_SIZE
    if not 1 <= requested <= MAX_PAGE_SIZE:
        raise PageSizeInvalid(f"Ask for 1 to {MAX_PAGE_SIZE} items a page.")
    return requested


def page_of(rows: Sequence[T], size: int, key: Callable[[T], tuple[CursorValue, ...]]) -> Page[T]:
    """Make a page of rows that were read with `limit size + 1`.

    The extra row is not shown: it only tells that there is a next page, without a count.

    Args:
        rows: In the order of the list, at most size + 1.
        size: How many to show.
        key: The values that place a row in that order; the last one must be unique.
    """
    items = list(rows[:size])
    more = len(rows) > size
    return Page(items, encode_cursor(*key(items[-1])) if more and items else None)


def encode_cursor(*values: CursorValue) -> str:
    """Return an opaque cursor that holds these values, as unpadded base64url of a JSON array.

    Raises:
        ValueError: A datetime names no zone, so it would mean another moment elsewhere, or the
            cursor would be longer than `MAX_CURSOR_LENGTH`.
    """
    exact = [as_utc(value) if isinstance(value, datetime) else value for value in values]
    cursor = base64.urlsafe_b64encode(msgspec.json.encode(exact)).rstrip(b"=").decode("ascii")
    if len(cursor) > MAX_CURSOR_LENGTH:
        raise ValueError(f"a cursor holds at most {MAX_CURSOR_LENGTH} characters")
    return cursor


@overload
def decode_cursor(text: str, types: tuple[type[A]]) -> tuple[A]: ...
@overload
def decode_cursor(text: str, types: tuple[type[A], type[B]]) -> tuple[A, B]: ...
@overload
def decode_cursor(text: str, types: tuple[type[A], type[B], type[C]]) -> tuple[A, B, C]: ...
def decode_cursor(text: str, types: tuple[type[Any], ...]) -> tuple[Any, ...]:
    """Return the values of a cursor that `encode_cursor` made.

    Args:
        text: The cursor as the client sent it.
        types: What it must hold, in order: datetime, UUID, str, or int.

    Raises:
        CursorInvalid: It is not text that `encode_cursor` could have made of such values, or it
            holds what PostgreSQL cannot: a NUL character, or an integer beyond bigint.
    """
    if len(text) > MAX_CURSOR_LENGTH:
        raise _invalid()
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        values: tuple[Any, ...] = msgspec.json.decode(raw, type=tuple[types])  # type: ignore[valid-type]
        # One text per cursor: what does not encode back to itself was not made here.
        canonical = encode_cursor(*values) == text
    except (msgspec.DecodeError, binascii.Error, ValueError, OverflowError):
        raise _invalid() from None
    if not canonical or not all(_fits_postgresql(value) for value in values):
        raise _invalid()
    return values


def _invalid() -> CursorInvalid:
    return CursorInvalid("Send next_cursor of the page before, unchanged, or no cursor at all.")


def _fits_postgresql(value: CursorValue) -> bool:
    if isinstance(value, str):
        return "\0" not in value
    return not isinstance(value, int) or -_MAX_BIGINT <= value < _MAX_BIGINT
