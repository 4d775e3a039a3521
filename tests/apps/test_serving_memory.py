"""What a server began with is not looked through again and again while it serves."""

from __future__ import annotations

import gc

from aurora.apps.serving import COLLECT_EVERY_OBJECTS, keep_out_of_collections


def test_what_was_there_is_passed_over_and_what_comes_is_collected() -> None:
    before = gc.get_threshold()
    there = [[number] for number in range(10_000)]
    try:
        keep_out_of_collections()
        assert gc.get_freeze_count() >= len(there)
        assert len(gc.get_objects()) < len(there)
        assert gc.get_threshold() == (COLLECT_EVERY_OBJECTS, *before[1:])
        circle: list[object] = []
        circle.append(circle)
        del circle
        assert gc.collect() >= 1
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
