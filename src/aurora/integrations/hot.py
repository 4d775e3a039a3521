"""What a hot route is: one that no framework stands before."""

from __future__ import annotations

from asyncio import InvalidStateError
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar, cast

import structlog

from aurora.db.pool import Pool
from aurora.integrations.http import MAX_BYTES_UNDER_WAY, Caller

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class HotRequest:
    """What a hot route gets: no framework stands between the socket and the handler.

    Attributes:
        body: Read whole, within the route's limit.
        headers: By their names in lower case; the last one where a name comes twice.
        caller: Who sends it; None where the route is public.
        pool: The application's connections.
        scope: The ASGI scope: method, query string, the peer's address.
        state: What the application holds for its rooms, such as the gate.
    """

    body: bytes
    headers: Mapping[bytes, bytes]
    caller: Caller | None
    pool: Pool
    scope: Mapping[str, Any]
    state: Any


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """A small request, whole: what `HotRoute.at_once` answers where it can.

    Attributes:
        body: Read whole.
        headers: By their names in lower case; the last one where a name comes twice.
        caller: Who sends it; None where the route is public.
        state: What the application holds for its rooms, by name.
    """

    body: bytes
    headers: Mapping[bytes, bytes]
    caller: Caller | None
    state: Any


class Pending(Generic[T]):
    """Something under way, for those who are told of its end and do not wait in a task.

    As a future, but they are told where it ends, and not in the loop's next round: for an answer
    that costs little, that round costs more than making it.
    """

    __slots__ = ("_error", "_is_done", "_result", "_told")

    def __init__(self) -> None:
        self._is_done = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._told: list[Callable[[Pending[T]], object]] = []

    def done(self) -> bool:
        """Return whether it ended."""
        return self._is_done

    def result(self) -> T:
        """Return what came of it, or raise what went wrong.

        Raises:
            InvalidStateError: It is under way.
        """
        if not self._is_done:
            raise InvalidStateError
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def add_done_callback(self, tell: Callable[[Pending[T]], object]) -> None:
        """Let somebody be told of the end, at once where it is over; it must not fail."""
        if self._is_done:
            tell(self)
        else:
            self._told.append(tell)

    def set_result(self, result: T) -> None:
        """End it, and tell who asked."""
        self._end(result, None)

    def set_exception(self, error: BaseException) -> None:
        """End it by what went wrong, and tell who asked."""
        self._end(None, error)

    def _end(self, result: T | None, error: BaseException | None) -> None:
        if self._is_done:
            raise InvalidStateError
        self._is_done, self._result, self._error = True, result, error
        told, self._told = self._told, []
        for tell in told:
            try:
                tell(self)
            except Exception:
                # The others, and whoever else ended with it, are to be told all the same.
                log.exception("not_told")


class Later(NamedTuple):
    """An answer that follows something under way.

    Attributes:
        done: What is under way.
        render: Makes the body of a 200 of its result.
    """

    done: Pending[Any]
    render: Callable[[Any], bytes]


@dataclass(slots=True)
class HotAnswer:
    """An answer of a hot route that is not simply 200 with JSON.

    Attributes:
        status: The HTTP status.
        body: What is sent.
        headers: In lower case, without those that every answer has.
    """

    status: int
    body: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HotRoute:
    """A route that is too hot for a framework, with its part of the OpenAPI document.

    Attributes:
        path: Exact path, no parameters.
        handler: Answers the JSON body of a 200, or something else as a HotAnswer.
        max_body_bytes: A larger body is refused with 413.
        operation: The OpenAPI operation object of its method.
        models: The structs that the operation refers to as components.
        public: True where no credentials are needed.
        methods: What it takes; the first stands in the OpenAPI document.
        takes_compressed: Whether a Content-Encoding is undone, within `max_body_bytes` too.
        max_bytes_under_way: What the bodies of all its requests may have together.
        at_once: Answers a small request without a task of its own: with the body of a 200, or by
            what it must wait for; None has the handler asked instead, for whatever reason.
    """

    path: str
    handler: Callable[[HotRequest], Awaitable[bytes | HotAnswer]]
    max_body_bytes: int
    operation: Mapping[str, Any]
    models: tuple[type, ...]
    public: bool = False
    methods: tuple[str, ...] = ("POST",)
    takes_compressed: bool = False
    max_bytes_under_way: int = MAX_BYTES_UNDER_WAY
    at_once: Callable[[PlainRequest], bytes | Later | None] | None = None
