"""LiveStream: the newest frames of a source through a segmenter; what is too old is left out.

    capture -> slot of one -> send (resize, encode, request) -> receive (reply, draw) -> slot of one
            -> write (the caller's thread)

A frame is taken from the first slot only when a request may be started, so that it is the newest
one there is. Nothing waits in a queue longer than that: a deep queue is what makes live video lag.
Every frame that is left out is counted by its cause (`segkit.client.report.DROPS`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from segkit.client.background import Background
from segkit.client.outage import Outage
from segkit.client.painter import Painter
from segkit.client.requests import Request, Requests
from segkit.client.slot import Slot
from segkit.client.window import LARGEST
from segkit.errors import PredictionTimeout, ServerUnavailable
from segkit.video.frame import Frame, SegmentedFrame
from segkit.video.meters import StageTimer

__all__ = ["LiveStream"]

SHORTEST_DEADLINE_S = 0.05
LONGEST_BACKOFF_S = 1.0


class LiveStream:
    """Gives the frames of a live source, segmented; see `segkit.client.stream.stream`.

    Args:
        requests: Starts them.
        painter: Finishes them.
        timer: Notes "decode".
        max_staleness_s: The age at which a frame is left out.
        max_outage_s: Seconds that the server may be away.
        close_source: Lets the thread go that waits for a frame.
    """

    def __init__(
        self,
        requests: Requests,
        painter: Painter,
        timer: StageTimer,
        *,
        max_staleness_s: float,
        max_outage_s: float,
        close_source: Callable[[], None] = lambda: None,
    ) -> None:
        self._painter, self._timer = painter, timer
        self._close_source = close_source
        self._max_staleness_s = max_staleness_s
        self._outage = Outage(max_outage_s, longest_backoff_s=LONGEST_BACKOFF_S)
        self._newest: Slot[Frame] = Slot()
        self._picture: Slot[SegmentedFrame] = Slot()
        self._requests = requests
        requests.frame_waits = lambda: self._newest.is_full
        self._errors: list[BaseException] = []  # of the capture and receive threads
        self._drops: Counter[str] = Counter()
        self._lock = threading.Lock()  # guards _drops
        self.captured = 0
        self.retries = 0  # always 0: by then there is a newer frame

    @property
    def drops(self) -> dict[str, int]:
        """Cause -> frames left out so far."""
        with self._lock:
            return dict(self._drops)

    def run(self, source: Iterable[Frame]) -> Generator[SegmentedFrame, None, None]:
        """The frames. The first failure of any stage is raised here."""
        with ExitStack() as stack:
            capture = self._thread(self._capture, source, "capture")
            sent = stack.enter_context(Background(self._send(), name="send", depth=LARGEST))
            receive = self._thread(self._receive, sent, "receive")
            stack.callback(self._leave, capture, receive, sent)
            capture.start()
            receive.start()
            while (segmented := self._picture.take()) is not None:
                yield segmented
            if self._errors:
                raise self._errors[0]

    def _thread(self, work: Callable[[Any], None], items: Any, name: str) -> threading.Thread:
        def run() -> None:
            try:
                work(items)
            except BaseException as err:  # the caller's thread raises it
                self._errors.append(err)
                self._stop()

        return threading.Thread(target=run, name=name, daemon=True)

    def _stop(self) -> None:
        self._requests.stop()
        self._newest.close()
        self._picture.close()

    def _leave(
        self, capture: threading.Thread, receive: threading.Thread, sent: Background[Request]
    ) -> None:
        self._stop()
        self._close_source()
        sent.stop()
        capture.join()
        receive.join()

    def _capture(self, source: Iterable[Frame]) -> None:
        for frame in self._timer.measure_each(source, "decode"):
            if self._requests.stopped:
                return
            self.captured += 1
            if self._newest.put(frame) is not None:
                self._drop("replaced")
        self._newest.close()

    def _send(self) -> Iterator[Request]:
        while self._requests.wait_for_room():
            frame = self._newest.take()
            if frame is None:
                return
            left_s = self._max_staleness_s - (time.perf_counter() - frame.captured)
            if left_s <= 0:
                self._drop("stale")
                continue
            yield self._requests.start(frame, timeout_s=max(SHORTEST_DEADLINE_S, left_s))

    def _receive(self, requests: Iterable[Request]) -> None:
        for request in requests:
            try:
                answer = self._requests.answer(request)
            except PredictionTimeout:
                self._requests.window.missed(time.perf_counter())
                self._drop("late")
                answer = None
            except ServerUnavailable as err:
                self._requests.window.missed(time.perf_counter())
                self._drop("failed")
                self._requests.pause(self._outage.failed(err, request.frame))
                answer = None
            self._requests.finish(request)
            if answer is not None:
                self._outage.over()
                if self._picture.put(self._painter.paint(request, answer)) is not None:
                    self._drop("unshown")
        self._picture.close()

    def _drop(self, cause: str) -> None:
        with self._lock:
            self._drops[cause] += 1
