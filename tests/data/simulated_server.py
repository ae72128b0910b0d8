"""A model server in simulation: a queue served in turn, at the end of a way of a given length."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from fractions import Fraction
from typing import Any

import numpy as np

from segkit.client import Answer
from segkit.errors import PredictionTimeout
from segkit.video.frame import Frame


class SimulatedSegmenter:
    """Answers in real time, at a server's pace. A context manager.

    Args:
        service_s: Seconds that the model takes for an image, one after another.
        rtt_s: Seconds there and back.
        jitter: Share of the way that is random.
        fail: Number of the request -> the error to answer with, or None.
    """

    def __init__(
        self,
        service_s: float,
        rtt_s: float = 0.0,
        *,
        jitter: float = 0.0,
        fail: Callable[[int], Exception | None] = lambda nth: None,
    ) -> None:
        self._service_s, self._rtt_s, self._jitter = service_s, rtt_s, jitter
        self._fail = fail
        self._random = random.Random(7)
        self._free_at = 0.0
        self._due: list[tuple[float, int, Future[Answer], Any]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="simulated", daemon=True)
        self.under_way = self.most_under_way = 0

    def submit(self, image: np.ndarray, *, timeout_s: float | None = None) -> Future[Answer]:
        future: Future[Answer] = Future()
        with self._changed:
            number = next(self._numbers)
            now = time.perf_counter()
            arrives = now + self._way_s()
            begins = max(arrives, self._free_at)
            error = self._fail(number)
            if error is None:
                self._free_at = begins + self._service_s
            due = begins + (self._service_s if error is None else 0.0) + self._way_s()
            result: Any = error or Answer(image[..., 0])
            if timeout_s is not None and due > now + timeout_s:
                due, result = now + timeout_s, PredictionTimeout("too late")
            heapq.heappush(self._due, (due, number, future, result))
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self._changed.notify_all()
        return future

    def segment(self, images: np.ndarray) -> np.ndarray:
        return images[..., 0]

    def describe(self) -> Any:
        raise NotImplementedError

    def __enter__(self) -> SimulatedSegmenter:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _way_s(self) -> float:
        return self._rtt_s / 2 * (1 + self._jitter * self._random.expovariate(1))

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self._due:
                    self._changed.wait()
                if self._closed:
                    return
                due, _, future, result = self._due[0]
                left = due - time.perf_counter()
                if left > 0:
                    self._changed.wait(left)
                    continue
                heapq.heappop(self._due)
                self.under_way -= 1
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def camera(fps: float, seconds: float) -> Iterator[Frame]:
    """Frames at a camera's constant rate; their pixels say their index, modulo 251."""
    begin = time.perf_counter()
    for index in range(round(fps * seconds)):
        due = begin + index / fps
        time.sleep(max(0.0, due - time.perf_counter()))
        yield Frame(
            np.full((6, 8, 3), index % 251, np.uint8), index, Fraction(index) / Fraction(fps)
        )
