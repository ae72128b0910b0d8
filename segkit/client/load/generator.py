"""The load generator: requests when they are due, whatever became of those before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from segkit.client.load.clock import SLICE_S, Clock, WallClock
from segkit.client.load.figures import COMPLETE, FAILED, INTERRUPTED, NOT_SENT, Attempt, Figures
from segkit.client.segmenter import Answer, Segmenter
from segkit.errors import PredictionTimeout, ServerError
from segkit.video.frame import Image

__all__ = ["Plan", "closed_loop", "open_loop"]

SENDERS = 4  # encoding a frame must not make the next one late
FIRST_TIMEOUT_S = 60.0  # a model may load, or have a queue left from before
PAUSE_S = 0.1  # of a closed loop after a failure, which may have come at once


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a run is measured.

    Args:
        seconds: That are measured.
        warmup_s: Of the same load before, not counted.
        deadline_s: What an answer may take; it is missed else.
        timeout_s: When a request is given up.
        max_outstanding: Requests under way at most; what is due above that is missed, unsent.
        stop_when_failed: Whether to end as soon as the p99 can only be above the deadline.
    """

    seconds: float
    warmup_s: float = 2.0
    deadline_s: float = 1 / 30
    timeout_s: float = 5.0
    max_outstanding: int = 256
    stop_when_failed: bool = False

    @property
    def end(self) -> float:
        """Seconds since the begin of the run."""
        return self.warmup_s + self.seconds


def open_loop(
    segmenter: Segmenter,
    images: Sequence[Image],
    times: Sequence[float],
    plan: Plan,
    *,
    load: str,
    clock: Clock | None = None,
    senders: int = SENDERS,
) -> Figures:
    """Sends each request when it is due. Ctrl-C ends it, with the figures until then.

    Latency counts from the moment a request was due, not from when it was sent: a generator that
    is held up by the server must not leave out of the figures what it could not send.

    Args:
        segmenter: Answers them.
        images: Sent in turn.
        times: When they are due, in order: seconds from the begin of the warm-up to `plan.end`.
        plan: How it is measured.
        load: What `times` are, in words.
        clock: Tells the time.
        senders: Threads that encode and send.

    Raises:
        ServerError: Not even a first request, before the run, was answered.
    """
    run = _Run(segmenter, images, plan, clock or WallClock())
    if plan.stop_when_failed:
        # What may be late of so many while the 99th percentile is not.
        run.tolerated = max(0, sum(due >= plan.warmup_s for due in times) - 1) // 100
    left = iter(times)
    lock = threading.Lock()

    def send() -> None:
        while True:
            with lock:
                due = next(left, None)
            if due is None or run.wait_until(due):
                return
            run.send(due)

    return run.execute(send, senders, load)


def closed_loop(
    segmenter: Segmenter,
    images: Sequence[Image],
    concurrency: int,
    plan: Plan,
    *,
    clock: Clock | None = None,
) -> Figures:
    """Keeps so many requests under way: each answer lets the next one go. See `open_loop`."""
    run = _Run(segmenter, images, replace(plan, max_outstanding=concurrency), clock or WallClock())

    def send() -> None:
        while run.now() < plan.end and not run.stopped.is_set():
            done = threading.Event()
            attempt = run.send(run.now(), done.set)
            run.wait_for(done, plan.timeout_s)
            if attempt.failure:
                run.wait_for(run.stopped, PAUSE_S)

    return run.execute(send, concurrency, f"{concurrency} at a time")


class _Run:
    """One run: the requests so far, and when to end."""

    def __init__(
        self, segmenter: Segmenter, images: Sequence[Image], plan: Plan, clock: Clock
    ) -> None:
        self._segmenter, self._images, self._plan, self._clock = segmenter, images, plan, clock
        self._begin = clock.now()
        self._attempts: list[Attempt] = []
        self._outstanding = self._missed = 0
        self._ended = COMPLETE
        self._bug: BaseException | None = None
        self._cpu_begin: float | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        self.tolerated: int | None = None  # measured requests that may be missed, if any number

    def now(self) -> float:
        """Seconds since the run began."""
        return self._clock.now() - self._begin

    def wait_until(self, due: float) -> bool:
        """Blocks until then; True if the run ends before."""
        return self._clock.wait(self.stopped, self._begin + due)

    def wait_for(self, event: threading.Event, seconds: float) -> bool:
        """Blocks until an event, or for so long; whether the event is set."""
        return self._clock.wait(event, self._clock.now() + seconds)

    def execute(self, work: Callable[[], None], workers: int, load: str) -> Figures:
        """Runs the work in threads to its end, and gives the figures."""
        threads = [
            threading.Thread(target=self._guard, args=(work,), name="load", daemon=True)
            for _ in range(workers)
        ]
        end = self._plan.end
        try:
            self._ask_once()
            self._begin = self._clock.now()
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(SLICE_S)
            if self._ended != COMPLETE:
                end = min(end, self.now())
            self.wait_for(self._idle, self._plan.timeout_s)
        except KeyboardInterrupt:
            self._ended = INTERRUPTED
            self.stopped.set()
            end = min(end, self.now())
        with self._lock:
            if self._bug is not None:
                raise self._bug
            cpu_s = 0.0 if self._cpu_begin is None else time.process_time() - self._cpu_begin
            return Figures.of(
                self._attempts,
                load=load,
                ended=self._ended,
                begin=self._plan.warmup_s,
                end=end,
                deadline_s=self._plan.deadline_s,
                cpu_s=cpu_s,
            )

    def send(self, due: float, on_done: Callable[[], None] = lambda: None) -> Attempt:
        """Sends a request that is due."""
        attempt = Attempt(due, self.now())
        with self._lock:
            number = len(self._attempts)
            self._attempts.append(attempt)
            if self._cpu_begin is None and due >= self._plan.warmup_s:
                self._cpu_begin = time.process_time()
            if self._outstanding >= self._plan.max_outstanding:
                attempt.failure = NOT_SENT
                self._count(attempt)
            else:
                self._outstanding += 1
                self._idle.clear()
        if attempt.failure:
            on_done()
            return attempt
        image = self._images[number % len(self._images)]
        future: Future[Answer]
        try:
            future = self._segmenter.submit(image, timeout_s=self._plan.timeout_s)
        except ServerError as err:
            future = Future()
            future.set_exception(err)

        def finish(done: Future[Answer]) -> None:
            self._finish(attempt, done)
            on_done()

        future.add_done_callback(finish)
        return attempt

    def _finish(self, attempt: Attempt, done: Future[Answer]) -> None:
        finished = self.now()
        if done.cancelled():  # by closing the segmenter after Ctrl-C
            return
        error = done.exception()
        with self._lock:
            self._outstanding -= 1
            if not self._outstanding:
                self._idle.set()
            if error is None:
                answer = done.result()
                attempt.finished = finished
                attempt.sent_bytes = answer.sent_bytes
                attempt.received_bytes = answer.received_bytes
            elif isinstance(error, ServerError):
                attempt.failure = type(error).__name__
            else:
                self._bug = error
                self.stopped.set()
            self._count(attempt)

    def _count(self, attempt: Attempt) -> None:
        """Counts what was missed, and ends a run that can only fail."""
        if attempt.due >= self._plan.warmup_s and attempt.latency_s > self._plan.deadline_s:
            self._missed += 1
            if self.tolerated is not None and self._missed > self.tolerated:
                self._ended = FAILED
                self.stopped.set()

    def _ask_once(self) -> None:
        """One request before the first that counts: the model is there, and its queue empty."""
        done = threading.Event()
        future = self._segmenter.submit(self._images[0], timeout_s=FIRST_TIMEOUT_S)
        future.add_done_callback(lambda _: done.set())
        if not self.wait_for(done, FIRST_TIMEOUT_S):
            raise PredictionTimeout(
                f"a first request was not answered in {FIRST_TIMEOUT_S:.0f} s",
                expected="a model that answers",
                next_step="look at the log of the server",
            )
        future.result()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as err:  # whoever started the thread raises it
            self._bug = err
            self.stopped.set()
