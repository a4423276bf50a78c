"""Garbage collections are seen wherever they begin."""

from __future__ import annotations

import gc

from symfx.collection import Collections


def test_a_collection_at_the_start_of_the_watch_ends():
    """It would hide the functions of the program from then on, up to the next collection."""
    before, enabled = gc.get_threshold(), gc.isenabled()
    gc.enable()
    try:
        for threshold in range(1, 30):
            gc.collect()
            gc.set_threshold(threshold)
            kept = [[] for _ in range(threshold % 7)]
            with Collections() as collections:
                gc.disable()
                assert not collections.here(), (threshold, kept)
            gc.enable()
    finally:
        gc.set_threshold(*before)
        if not enabled:
            gc.disable()


def test_the_calls_of_a_collection_are_seen():
    seen = []

    class Held:
        def __init__(self):
            self.self = self

        def __del__(self):
            seen.append(collections.here())

    with Collections() as collections:
        Held()
        gc.collect()
        assert seen == [True]
        assert not collections.here()
