"""RecordedStream: every frame of a source through a segmenter, none lost, in order.

Four stages run at the same time, joined by bounded queues:

    decode -> send (resize, encode, request) -> receive (reply, draw) -> write (the caller's thread)

A request is kept until it is answered, and sent again while the server is away: memory is bounded
by the window.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from segkit.client.background import Background
from segkit.client.painter import Painter
from segkit.client.requests import Request, Requests
from segkit.client.segmenter import Answer
from segkit.client.window import LARGEST
from segkit.errors import PredictionTimeout, ServerError, ServerUnavailable
from segkit.video.frame import Frame, SegmentedFrame
from segkit.video.meters import StageTimer

__all__ = ["RecordedStream"]

logger = logging.getLogger(__name__)

DECODED_AHEAD = DRAWN_AHEAD = 2  # frames; enough that no stage waits for a neighbour's hiccup
POLL_SECONDS = 0.1  # how soon a thread that waits for the server sees that it is to stop
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.1, 2.0


class _Stopped(Exception):
    """The stream is being left; nobody sees this."""


class RecordedStream:
    """Gives the frames of a source, segmented; see `segkit.client.stream.stream`.

    Args:
        requests: Starts them.
        painter: Finishes them.
        timer: Notes "decode".
        max_outage_s: Seconds that the server may be away.
    """

    def __init__(
        self, requests: Requests, painter: Painter, timer: StageTimer, *, max_outage_s: float
    ) -> None:
        self._requests, self._painter, self._timer = requests, painter, timer
        self._max_outage_s = max_outage_s
        self._back_at = float("-inf")  # when the last outage ended
        self._stopping = threading.Event()
        self.captured = self.retries = 0
        self.drops: dict[str, int] = {}  # always empty: nothing is dropped

    def run(self, source: Iterable[Frame]) -> Generator[SegmentedFrame, None, None]:
        """The frames. The first failure of any stage is raised here."""
        with ExitStack() as stages:
            frames = self._timer.measure_each(source, "decode")
            decoded = Background(frames, name="decode", depth=DECODED_AHEAD)
            sent = Background(self._send(decoded), name="send", depth=LARGEST)
            drawn = Background(self._receive(sent), name="receive", depth=DRAWN_AHEAD)
            for stage in (decoded, sent, drawn):
                stages.enter_context(stage)
            # Leaving lets all of them go before any is waited for.
            stages.callback(self._stop, (decoded, sent, drawn))
            yield from drawn

    def _stop(self, stages: Sequence[Background[Any]]) -> None:
        self._stopping.set()
        self._requests.stop()
        for stage in stages:
            stage.stop()

    def _send(self, frames: Iterable[Frame]) -> Iterator[Request]:
        for frame in frames:
            self.captured += 1
            if not self._requests.wait_for_room():
                return
            yield self._requests.start(frame)

    def _receive(self, requests: Iterable[Request]) -> Iterator[SegmentedFrame]:
        for request in requests:
            try:
                answer = self._answer(request)
            except _Stopped:
                return
            self._requests.finish(request)
            yield self._painter.paint(request, answer)

    def _answer(self, request: Request) -> Answer:
        """The answer to a request, which is sent again while the server is away."""
        away_since: float | None = None
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                answer = self._wait(request.future)
            except (ServerUnavailable, PredictionTimeout) as err:
                if request.sent > self._back_at:  # else it failed with those before, in an outage
                    now = time.perf_counter()
                    self._requests.window.missed(now)
                    if away_since is None:
                        away_since = now
                        self._say_away(err, request.frame)
                    left_s = self._max_outage_s - (now - away_since)
                    if left_s <= 0:
                        raise self._give_up(err, request.frame) from err
                    # Full jitter: the clients of one server must not all come back at one instant.
                    if self._stopping.wait(min(left_s, random.uniform(0, backoff_s))):
                        raise _Stopped from err
                    backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
                self.retries += 1
                self._requests.send(request)
            else:
                if away_since is not None:
                    self._back_at = time.perf_counter()
                    logger.warning("it is back after %.1f s", self._back_at - away_since)
                return answer

    def _say_away(self, err: ServerError, frame: Frame) -> None:
        logger.warning(
            "%s; frame %d waits for it up to %g s", err.problem, frame.index, self._max_outage_s
        )

    def _wait(self, future: Future[Answer]) -> Answer:
        while True:
            if self._stopping.is_set():
                raise _Stopped
            try:
                return future.result(timeout=POLL_SECONDS)
            except TimeoutError:
                continue

    def _give_up(self, err: ServerError, frame: Frame) -> ServerError:
        return type(err)(
            f"{err.problem}; it stayed away for {self._max_outage_s:g} s at frame {frame.index}",
            expected=err.expected,
            next_step=f"{err.next_step}; or wait longer with --max_outage",
        )
