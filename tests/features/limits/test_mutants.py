"""What the bound stands on: each part of it, and what passes without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from tests.features.limits.world import World, worst

import aurora.features.limits as room
from aurora.core.ratelimits import WINDOW_S
from aurora.features.limits.budget import Asked, Budget
from aurora.features.limits.model import Lease

LIMIT: Final = 40
SQL: Final = (Path(room.__file__).parent / "leases.sql").read_text("utf-8")


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


class UsedFromTheAnswer(Budget):
    """The life of a lease begins when it arrives, and not before it was asked for."""

    def settle(self, asked: Asked, lease: Lease, now_s: float) -> None:
        super().settle(asked, lease, now_s)
        self._until_s = now_s + lease.life_ms / 1000


def late_use(world: World) -> None:
    """Granted at the end of ten seconds, used in the next ones, asked again an hour later."""
    first, second, _ = world.processes
    world.now_s = 29.5
    world.send(first, LIMIT)
    world.execute(first)
    world.now_s = 30.45
    world.reply(first)
    world.now_s = 3630.1
    world.come(second, LIMIT)


def late_answer(world: World) -> None:
    """The answer takes eight seconds, and the second that it was good for is over."""
    first, second, _ = world.processes
    world.now_s = 23.9
    world.send(first, LIMIT)
    world.execute(first)
    world.now_s = 31.9
    world.reply(first)
    world.now_s = 3630.1
    world.come(second, LIMIT)


def nearly_an_hour(world: World) -> None:
    """All at once, and again shortly before the hour is over."""
    first, second, _ = world.processes
    world.come(first, LIMIT)
    world.now_s = 3599.0
    world.come(second, LIMIT)


def forward(world: World) -> None:
    """The clock jumps by more than an hour under a process that holds the key."""
    first, _, _ = world.processes
    world.come(first, LIMIT)
    world.now_s, world.jumped_s = 10.0, 3700.0
    world.come(first, LIMIT)


def forward_and_another(world: World) -> None:
    """After it a process asks that never did; the first one had been there since."""
    first, second, _ = world.processes
    world.come(first, LIMIT)
    world.now_s, world.jumped_s = 10.0, 3700.0
    world.ask(first, 0)
    world.come(second, LIMIT)


def back_and_forth(world: World) -> None:
    """The clock goes back by an hour and more, somebody new asks, and it comes again."""
    first, second, third = world.processes
    world.come(first, LIMIT // 2)
    world.now_s, world.jumped_s = 10.0, -4000.0
    world.come(second, LIMIT // 2)
    world.now_s, world.jumped_s = 20.0, 0.0
    world.come(third, LIMIT)


def returned(world: World) -> None:
    """Half of a lease is used; the other half is returned, and another process takes it."""
    first, second, third = world.processes
    world.send(first, LIMIT)
    world.execute(first)
    world.reply(first)
    world.admitted = world.admitted[: LIMIT // 2]
    first.budget._tokens = LIMIT // 2
    world.give_up(first, whole=True)
    world.give_back(first)
    world.come(second, LIMIT)
    world.come(third, LIMIT)


def nearly_a_second(world: World) -> None:
    """All of a second's share at once, and again shortly before the second is over."""
    first, second, _ = world.processes
    world.now_s = 0.05
    world.come(first, LIMIT)
    world.now_s = 1.01
    world.come(second, LIMIT)


def shrinking(world: World) -> None:
    """All of it is used under one limit; then the limit becomes smaller, and no new one opens."""
    first, second, _ = world.processes
    whole = world.terms
    world.come(first, LIMIT)
    world.terms = whole._replace(per_hour=LIMIT // 2)
    world.come(first, LIMIT)
    world.terms = whole
    world.come(second, LIMIT)


@dataclass(frozen=True)
class Part:
    """A part of the limiter: what happens to it, and what it is without it."""

    story: Callable[[World], None]
    right: str = ""
    wrong: str = ""
    budget: type[Budget] = Budget
    per_second: int | None = None


PARTS: Final = {
    "counted under the end of its life": Part(
        late_use, "ends_at + interval '5 seconds'", "key_time"
    ),
    "counted for a whole hour": Part(nearly_an_hour, "- 360;", "- 358;"),
    "used from before it was asked for": Part(late_answer, budget=UsedFromTheAnswer),
    "a jump is not believed": Part(
        forward, "app.limit_time(v_clock, p_expected);", "v_clock;"
    ),
    "a jump is remembered": Part(
        forward_and_another, "ahead = w.ahead + (v_clock - v_time)", "ahead = w.ahead"
    ),
    "a key's time never goes back": Part(
        back_and_forth, "key_time := greatest(v_time, w.seen_at);", "key_time := v_time;"
    ),
    "what is returned is taken off once": Part(returned, "-v_lease.unused", "-2 * v_lease.unused"),
    "counted for a whole second": Part(nearly_a_second, "- 10;", "- 8;", per_second=LIMIT),
    "the count outlives a changed limit": Part(
        shrinking,
        "app.lock_rate_limit(p_organization_id, p_api_key_id);",
        "app.lock_rate_limit(p_organization_id, md5(p_api_key_id::text || p_per_hour)::uuid);",
    ),
}  # fmt: skip


def a_world(connection: psycopg.Connection[Any], part: Part, budget: type[Budget]) -> World:
    per_hour = LIMIT if part.per_second is None else 100 * LIMIT
    return World(connection, per_hour=per_hour, per_second=part.per_second, budget=budget)


@pytest.mark.parametrize("name", PARTS)
def test_the_bound_holds_where(name: str, connection: psycopg.Connection[Any]) -> None:
    part = PARTS[name]
    world = a_world(connection, part, Budget)
    part.story(world)
    world.check()
    assert world.admitted


@pytest.mark.parametrize("name", PARTS)
def test_the_bound_breaks_unless(name: str, connection: psycopg.Connection[Any]) -> None:
    part = PARTS[name]
    if part.right:
        assert part.right in SQL
        connection.execute(SQL.replace(part.right, part.wrong).encode())
    world = a_world(connection, part, part.budget)
    part.story(world)
    with pytest.raises(AssertionError):
        world.check()


def test_a_process_that_comes_after_a_jump_opens_one_window_and_no_second(
    connection: psycopg.Connection[Any],
) -> None:
    world = World(connection, per_hour=LIMIT)
    first, second, third = world.processes
    world.come(first, LIMIT)
    # Nobody is left who could know that it is not an hour later.
    world.die(first)
    world.now_s, world.jumped_s = 10.0, 3700.0
    assert world.come(second, LIMIT) == LIMIT
    # The clock is set back, and jumps again to where it was: nothing is opened twice.
    for number, jumped_s in enumerate((0.0, 3700.0, -9000.0, 3700.0)):
        world.now_s, world.jumped_s = 20.0 + number, jumped_s
        world.die(world.processes[0])
        assert world.come(world.processes[0], LIMIT) == 0
    assert world.come(third, LIMIT) == 0
    assert worst([at for at, _ in world.admitted], WINDOW_S) == 2 * LIMIT


def test_a_clock_that_went_back_stops_nobody_who_was_there(
    connection: psycopg.Connection[Any],
) -> None:
    world = World(connection, per_hour=LIMIT)
    first, second, _ = world.processes
    world.come(first, LIMIT)
    world.now_s, world.jumped_s = 10.0, -7200.0
    assert world.come(first, LIMIT) == 0
    world.now_s = 3700.0
    # Two hours behind, and yet the window of an hour ago is over.
    assert world.come(second, LIMIT) + world.come(first, LIMIT) == LIMIT
    world.check()


class FixedWindow:
    """The counter that begins anew at every full hour."""

    def __init__(self, limit: int) -> None:
        self._limit, self._hour, self._count = limit, -1, 0

    def take(self, now_s: float) -> bool:
        hour = int(now_s // WINDOW_S)
        if hour != self._hour:
            self._hour, self._count = hour, 0
        self._count += 1
        return self._count <= self._limit


class Gcra:
    """The generic cell rate algorithm (ITU-T I.371) with a burst of the whole limit."""

    def __init__(self, limit: int) -> None:
        self._step_s, self._due_s = WINDOW_S / limit, 0.0

    def take(self, now_s: float) -> bool:
        due_s = max(self._due_s, now_s)
        if due_s - now_s > WINDOW_S - self._step_s + 1e-6:
            return False
        self._due_s = due_s + self._step_s
        return True


def greedy() -> list[float]:
    """Return when requests come: all at the end of an hour, then one every few seconds."""
    return [3599.0] * LIMIT + [3600.0 + 10 * number for number in range(1, 360)]


@pytest.mark.parametrize("mutant", [FixedWindow, Gcra])
def test_what_others_do_lets_twice_as_many_pass(mutant: type[FixedWindow | Gcra]) -> None:
    limiter = mutant(LIMIT)
    admitted = [at for at in greedy() if limiter.take(at)]
    assert worst(admitted, WINDOW_S) >= 1.9 * LIMIT


def test_and_ours_does_not(connection: psycopg.Connection[Any]) -> None:
    world = World(connection, per_hour=LIMIT)
    for number, at in enumerate(greedy()):
        world.now_s = at
        world.come(world.processes[number % 3], 1)
    assert worst([at for at, _ in world.admitted], WINDOW_S) == LIMIT


LATEST_S: Final = WINDOW_S + 17.0


def half_minutes(statement: str) -> str:
    """The same windows counted by half minutes, as coarse as a minute's promise would allow."""
    coarse = statement.replace("10000", "30000").replace("- 360", "- 120").replace("362", "122")
    assert coarse != statement
    return coarse


def back_after(world: World, began_s: float) -> int:
    """Use all of a limit at once; return how many pass as late as it may be back."""
    first, second, _ = world.processes
    world.now_s = began_s
    assert world.come(first, LIMIT) == LIMIT
    world.now_s = began_s + LATEST_S
    return world.come(second, LIMIT)


@pytest.mark.parametrize("began_s", [0.0, 3.999, 4.0, 4.001, 9.999])
def test_what_was_used_is_back_after_its_hour_and_17_seconds(
    began_s: float, connection: psycopg.Connection[Any]
) -> None:
    assert back_after(World(connection, per_hour=LIMIT), began_s) == LIMIT


def test_counted_by_half_minutes_it_would_not_be(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        b"alter table rate_limit_windows drop constraint rate_limit_windows_counts_check"
    )
    connection.execute(half_minutes(SQL).encode())
    assert back_after(World(connection, per_hour=LIMIT), 0.0) == 0
