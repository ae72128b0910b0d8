"""Percentiles, and how long each stage takes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["StageTimer", "Summary", "percentiles"]

T = TypeVar("T")

KEPT = 10_000  # of the latest passes: a stream may run for months


def percentiles(
    values: Sequence[float] | npt.NDArray[np.float64], points: Sequence[float] = (50, 90, 99)
) -> list[float]:
    """The values below which so many per cent of all values lie: measured ones, none in between.

    Args:
        values: At least one.
        points: Per cent.
    """
    return [float(value) for value in np.percentile(values, points, method="higher")]


@dataclass(frozen=True)
class Summary:
    """Milliseconds of many passes; all are 0 where there was none."""

    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0


class StageTimer:
    """Notes what each stage takes. Threads may use it at the same time."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Notes one pass of a stage."""
        with self._lock:
            self._seconds.setdefault(stage, deque(maxlen=KEPT)).append(seconds)

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

    def summary(self, stage: str) -> Summary:
        """Milliseconds of the latest passes of a stage."""
        with self._lock:
            milliseconds = 1e3 * np.array(self._seconds.get(stage, ()), np.float64)
        if not len(milliseconds):
            return Summary()
        return Summary(float(milliseconds.mean()), *percentiles(milliseconds))
