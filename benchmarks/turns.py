"""Timing several ways to do the same, which take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

__all__ = ["take_turns"]


def take_turns(
    ways: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Milliseconds of every pass; each round runs every way once and starts with another one.

    So all see the same machine, and none always comes after the longest.

    Args:
        ways: Name -> one pass, which returns when its result is there.
        rounds: Rounds that count.
        warm_up: Rounds before them, which do not.
        clock: Seconds; time.thread_time leaves out what other threads do.
    """
    passes: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for round_ in range(-warm_up, rounds):
        for name in order:
            start = clock()
            ways[name]()
            if round_ >= 0:
                passes[name].append(1e3 * (clock() - start))
        order.append(order.pop(0))
    return passes
