"""A model server and a clock in virtual time: what they measure is exact, and takes no time."""

from __future__ import annotations

import heapq
import itertools
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np

from segkit.client import Answer


class VirtualClock:
    """Time that passes when somebody waits. One thread at a time may wait.

    Args:
        interrupt_at: When Ctrl-C is pressed, if ever.
    """

    def __init__(self, interrupt_at: float = float("inf")) -> None:
        self._now = 100.0
        self._interrupt_at = self._now + interrupt_at
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self._now

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), action))

    def wait(self, event: threading.Event, until: float) -> bool:
        if (
            until >= self._interrupt_at
            and threading.current_thread() is not threading.main_thread()
        ):
            self._now = self._interrupt_at
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return event.wait(60)
        while not event.is_set() and self._events and self._events[0][0] <= until:
            when, _, action = heapq.heappop(self._events)
            self._now = max(self._now, when)
            action()
        if not event.is_set():
            self._now = max(self._now, until)
        return event.is_set()

    def work(self, seconds: float) -> None:
        """Takes time of whoever calls."""
        self._now += seconds


class VirtualServer:
    """Answers one after another.

    Args:
        clock: The time.
        service_s: Number of the request -> seconds that it takes, infinite for never.
        encode_s: Seconds that `submit` takes.
        fail: Number of the request -> the error to answer with, or None.
    """

    def __init__(
        self,
        clock: VirtualClock,
        service_s: Callable[[int], float],
        *,
        encode_s: float = 0.0,
        fail: Callable[[int], Exception | None] = lambda nth: None,
    ) -> None:
        self._clock, self._service_s, self._encode_s, self._fail = clock, service_s, encode_s, fail
        self._free_at = 0.0
        self.requests = self.under_way = self.most_under_way = 0

    def submit(self, image: np.ndarray, *, timeout_s: float | None = None) -> Future[Answer]:
        number, self.requests = self.requests, self.requests + 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self._clock.work(self._encode_s)
        future: Future[Answer] = Future()
        error = self._fail(number)
        if error is None:
            self._free_at = max(self._clock.now(), self._free_at) + self._service_s(number)

        def answer() -> None:
            self.under_way -= 1
            if error is None:
                future.set_result(Answer(image[..., 0], None, 1000, 200))
            else:
                future.set_exception(error)

        due = self._clock.now() if error else self._free_at
        if due < float("inf"):
            self._clock.at(due, answer)
        return future

    def segment(self, images: np.ndarray) -> np.ndarray:
        return images[..., 0]

    def describe(self) -> Any:
        raise NotImplementedError
