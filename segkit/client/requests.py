"""Requests: the frames that are with the segmenter just now, never more than the window."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from segkit.client.segmenter import Answer, Segmenter
from segkit.client.window import Window
from segkit.video.frame import Frame
from segkit.video.meters import StageTimer

__all__ = ["Request", "Requests"]

POLL_SECONDS = 0.1  # how soon a thread that waits for an answer sees that it is to stop


@dataclass
class Request:
    """A frame under way; times are seconds of time.perf_counter().

    Args:
        frame: The frame.
        started: When its encoding began, for the first time.
        sent: When it was on its way, for the last time.
        replied: When its answer came; 0 before.
        future: That answer.
    """

    frame: Frame
    started: float = field(default_factory=time.perf_counter)
    sent: float = 0.0
    replied: float = 0.0
    future: Future[Answer] = field(default_factory=Future)


class Requests:
    """Starts requests as the window allows, and teaches it what they took.

    Args:
        segmenter: Answers them.
        window: How many may be under way.
        timer: Notes "send" and "server".
    """

    def __init__(self, segmenter: Segmenter, window: Window, timer: StageTimer) -> None:
        self._segmenter, self.window, self._timer = segmenter, window, timer
        # Whether there is a frame to send while the window is full; a live stream knows better.
        self.frame_waits: Callable[[], bool] = lambda: True
        self._under_way = 0
        self._blocked = False
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self.answered = self.sent_bytes = self.received_bytes = 0

    def wait_for_room(self) -> bool:
        """Blocks until another request may be started; False once `stop` was called."""
        with self._changed:
            self._blocked = True
            self._changed.wait_for(lambda: self.stopped or self._under_way < self.window.size)
            self._blocked = False
            return not self.stopped

    def start(self, frame: Frame, *, timeout_s: float | None = None) -> Request:
        """Starts on a frame, which takes room until `finish`."""
        with self._changed:
            self._under_way += 1
        request = Request(frame)
        self.send(request, timeout_s=timeout_s)
        return request

    def send(self, request: Request, *, timeout_s: float | None = None) -> None:
        """Sends a request, perhaps once more; it keeps its room."""
        begin = time.perf_counter()
        future = self._segmenter.submit(request.frame.image, timeout_s=timeout_s)
        request.sent, request.replied = time.perf_counter(), 0.0
        request.future = future
        self._timer.add("send", request.sent - begin)
        future.add_done_callback(lambda done: self._replied(request, done))

    def answer(self, request: Request) -> Answer | None:
        """Blocks until the answer to a request is there; None once `stop` was called.

        Raises:
            ServerError: What the segmenter raises.
        """
        while not self.stopped:
            try:
                return request.future.result(timeout=POLL_SECONDS)
            except TimeoutError:
                continue
        return None

    def pause(self, seconds: float) -> None:
        """Blocks for so long, or until `stop` is called."""
        self._stopping.wait(seconds)

    def finish(self, request: Request) -> None:
        """Gives the room of a request back."""
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Lets whoever waits here go."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def _replied(self, request: Request, future: Future[Answer]) -> None:
        request.replied = time.perf_counter()
        if future.cancelled() or future.exception() is not None:
            return
        answer, rtt_s = future.result(), request.replied - request.sent
        self._timer.add("server", rtt_s)
        with self._changed:
            limited = self._blocked and self.frame_waits()
            self.answered += 1
            self.sent_bytes += answer.sent_bytes
            self.received_bytes += answer.received_bytes
        self.window.replied(request.sent, request.replied, limited=limited)
        with self._changed:
            self._changed.notify_all()
