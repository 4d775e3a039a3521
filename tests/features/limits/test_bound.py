"""No more than a limit in any rolling hour or second, whatever happens in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.features.limits.world import Process, World

from aurora.features.limits.budget import Terms

PROCESSES = 3
STEPS_S = (0.0, 0.01, 0.05, 0.4, 0.95, 1.1, 4.0, 29.0, 31.0, 600.0, 1800.0, 3400.0, 3590.0, 3601.0)
LIMITS = (0, 1, 2, 7, 40, 1000)
NUMBERS = st.integers(0, PROCESSES - 1)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


class Machine(RuleBasedStateMachine):
    """Chooses what happens next, and asks after every step whether the bound still holds.

    A clock that jumps is seen by a process that holds the key before one that has never asked
    for it comes: what happens otherwise is told by the tests of the clock.
    """

    connection: psycopg.Connection[Any]

    @initialize(per_hour=st.sampled_from(LIMITS), per_second=st.sampled_from((None, 1, 3, 20)))
    def begin(self, per_hour: int, per_second: int | None) -> None:
        self.world = World(
            self.connection, per_hour=per_hour, per_second=per_second, processes=PROCESSES
        )
        self.set_s = 0.0

    def process(self, number: int) -> Process:
        return self.world.processes[number]

    @rule(step_s=st.sampled_from(STEPS_S), more_s=st.floats(0, 1))
    def time_passes(self, step_s: float, more_s: float) -> None:
        self.world.now_s += step_s + more_s

    @precondition(lambda self: self.world.admitted)
    @rule(place=st.integers(0, 10_000), short_s=st.sampled_from((0.001, 0.2, 0.9, 3.0)))
    def an_hour_is_nearly_over(self, place: int, short_s: float) -> None:
        at, terms = self.world.admitted[place % len(self.world.admitted)]
        window_s = 3600 if terms.per_second is None or place % 2 else 1
        self.world.now_s = max(self.world.now_s, at + window_s - short_s)

    @rule(number=NUMBERS, how_many=st.integers(1, 50))
    def requests_come(self, number: int, how_many: int) -> None:
        self.world.take(self.process(number), how_many)

    @rule(number=NUMBERS, how_many=st.integers(1, 50))
    def requests_come_and_wait(self, number: int, how_many: int) -> None:
        if self.process(number).asked is None:
            self.world.come(self.process(number), how_many)

    @rule(number=NUMBERS, waiting=st.integers(0, 50))
    def a_lease_is_asked_for(self, number: int, waiting: int) -> None:
        if self.process(number).asked is None:
            self.world.send(self.process(number), waiting)

    @rule(number=NUMBERS)
    def postgresql_grants_it(self, number: int) -> None:
        process = self.process(number)
        if process.asked is not None and process.lease is None:
            self.world.execute(process)

    @rule(number=NUMBERS)
    def the_grant_arrives(self, number: int) -> None:
        if self.process(number).lease is not None:
            self.world.reply(self.process(number))

    @rule(number=NUMBERS)
    def the_message_is_lost(self, number: int) -> None:
        self.world.lose(self.process(number))

    @rule(number=NUMBERS, whole=st.booleans())
    def what_is_unused_is_given_up(self, number: int, whole: bool) -> None:
        self.world.give_up(self.process(number), whole=whole)

    @rule(number=NUMBERS)
    def and_given_back(self, number: int) -> None:
        self.world.give_back(self.process(number))

    @rule(number=NUMBERS)
    def or_lost(self, number: int) -> None:
        self.process(number).returning.clear()

    @rule(number=NUMBERS)
    def a_process_dies(self, number: int) -> None:
        self.world.die(self.process(number))

    @rule(per_hour=st.sampled_from(LIMITS))
    def the_limit_changes(self, per_hour: int) -> None:
        self.world.terms = Terms(per_hour, self.world.terms.per_second)

    @precondition(lambda self: any(each.budget.knows_the_time for each in self.world.processes))
    @rule(jump_s=st.floats(2.1, 90_000), sign=st.sampled_from((1, -1)))
    def the_clock_jumps(self, jump_s: float, sign: int) -> None:
        self.world.jumped_s += sign * jump_s
        seer = next(each for each in self.world.processes if each.budget.knows_the_time)
        self.world.lose(seer)
        self.world.ask(seer, 0)

    @precondition(lambda self: self.world.terms.per_second is None)
    @rule(step_s=st.floats(0, 1))
    def the_clock_is_set_a_little(self, step_s: float) -> None:
        # Too little to be told from slewing; five seconds an hour are paid for.
        if self.set_s + step_s < 4:
            self.set_s += step_s
            self.world.jumped_s += step_s

    @invariant()
    def the_bound_holds(self) -> None:
        if hasattr(self, "world"):
            self.world.check()


def test_the_bound_holds_in_any_order(connection: psycopg.Connection[Any]) -> None:
    class Here(Machine):
        pass

    Here.connection = connection
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
