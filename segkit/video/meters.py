"""Percentiles of latencies and the mean time of each stage."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

__all__ = ["StageTimer", "percentiles"]

T = TypeVar("T")


def percentiles(values: Sequence[float], points: Sequence[float] = (50, 90, 99)) -> list[float]:
    """The values below which so many per cent of all values lie: measured ones, none in between.

    Args:
        values: At least one.
        points: Per cent.
    """
    return [float(value) for value in np.percentile(values, points, method="higher")]


class StageTimer:
    """Adds up what each stage takes. Threads may use it at the same time."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Notes one pass of a stage."""
        with self._lock:
            self._seconds[stage] += seconds
            self._counts[stage] += 1

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Notes how long the block takes; nothing where it raises."""
        start = time.perf_counter()
        yield
        self.add(stage, time.perf_counter() - start)

    def measure_each(self, items: Iterable[T], stage: str) -> Iterator[T]:
        """The same items; notes how long each takes to come."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self.add(stage, time.perf_counter() - start)
            yield item

    def mean_ms(self) -> dict[str, float]:
        """Stage -> mean milliseconds of a pass."""
        with self._lock:
            return {
                stage: 1e3 * seconds / self._counts[stage]
                for stage, seconds in self._seconds.items()
            }
