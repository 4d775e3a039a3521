"""What is under way and ends without a task: told once, in order, whatever one of them does."""

from __future__ import annotations

from asyncio import InvalidStateError

import pytest

from aurora.integrations.hot import Pending


def test_each_is_told_once_where_it_ends_and_late_ones_at_once() -> None:
    pending: Pending[int] = Pending()
    told: list[tuple[str, int]] = []
    pending.add_done_callback(lambda done: told.append(("first", done.result())))
    pending.add_done_callback(lambda done: told.append(("second", done.result())))
    assert (pending.done(), told) == (False, [])
    with pytest.raises(InvalidStateError):
        pending.result()
    pending.set_result(7)
    assert told == [("first", 7), ("second", 7)]
    pending.add_done_callback(lambda done: told.append(("late", done.result())))
    assert (pending.done(), told[2:]) == (True, [("late", 7)])
    with pytest.raises(InvalidStateError):
        pending.set_result(8)
    with pytest.raises(InvalidStateError):
        pending.set_exception(KeyError())
    assert pending.result() == 7


def test_what_went_wrong_is_raised_to_each() -> None:
    pending: Pending[int] = Pending()
    failed = KeyError("gone")
    pending.set_exception(failed)
    for _ in range(2):
        with pytest.raises(KeyError) as raised:
            pending.result()
        assert raised.value is failed


def test_one_that_fails_keeps_nobody_from_being_told() -> None:
    pending: Pending[int] = Pending()
    told: list[int] = []

    def fails(_done: Pending[int]) -> None:
        raise ValueError

    pending.add_done_callback(fails)
    pending.add_done_callback(lambda done: told.append(done.result()))
    pending.set_result(1)
    assert told == [1]
