"""stream(): every frame of a source through a segmenter to the sinks, in order.

Four stages run at the same time, joined by bounded queues:

    decode -> send (resize, encode, request) -> receive (reply, draw) -> write (the caller's thread)

The window is the number of requests under way. Its default, 4, keeps a server busy while replies
travel: at 8 ms a frame up to 24 ms there and back (Little's law, (way + service) / service). More
only makes frames wait in the server's queue.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from segkit.client.background import Background
from segkit.client.segmenter import Segmenter
from segkit.errors import PredictionTimeout, ServerError, ServerUnavailable
from segkit.video.frame import Frame, Image, Mask, SegmentedFrame, Sink
from segkit.video.meters import StageTimer, percentiles
from segkit.video.resize import resize_mask

__all__ = ["DEFAULT_WINDOW", "STAGES", "Report", "stream"]

logger = logging.getLogger(__name__)

DEFAULT_WINDOW = 4
STAGES = ("decode", "send", "server", "draw", "write")
DECODED_AHEAD = DRAWN_AHEAD = 2  # frames; enough that no stage waits for a neighbour's hiccup
POLL_SECONDS = 0.1  # how soon a thread that waits for the server sees that it is to stop
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.1, 2.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a stream did.

    Args:
        frames: Frames written.
        seconds: From the first frame's decoding to the last one's writing.
        latency_ms: Per cent -> milliseconds from the start of a frame's sending to its mask.
        stage_ms: Stage of STAGES -> mean milliseconds of a frame. "server" is the time a request
            is under way: network, waiting and model. Stages overlap, so they add up to more than
            a frame takes.
        retries: Requests sent again because the server was away.
    """

    frames: int
    seconds: float
    latency_ms: dict[int, float]
    stage_ms: dict[str, float]
    retries: int

    @property
    def fps(self) -> float:
        """Frames a second, on the whole."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


@dataclass
class _Request:
    """A frame under way. `sent` and `replied` are seconds of time.perf_counter."""

    frame: Frame
    future: Future[Mask]
    started: float
    sent: float
    replied: float = 0.0


class _Stopped(Exception):
    """The stream is being left; nobody sees this."""


def stream(
    source: Iterable[Frame],
    segmenter: Segmenter,
    sinks: Sequence[Sink],
    *,
    draw: Callable[[Image, Mask], Image] | None = None,
    window: int = DEFAULT_WINDOW,
    max_outage_s: float = 30.0,
    on_frame: Callable[[SegmentedFrame], None] | None = None,
) -> Report:
    """Segments every frame of a source; nothing is dropped, the order is kept.

    When the server goes away, the frames under way are kept and sent again until it is back. The
    first failure of any stage ends the stream and is raised here; the sinks are the caller's to
    close or discard.

    Args:
        source: Gives the frames.
        segmenter: Gives the masks.
        sinks: Take the results, each in turn.
        draw: Makes a picture of image and mask; the image itself if None.
        window: Requests under way at the same time.
        max_outage_s: Seconds that the server may be away.
        on_frame: Called after each frame is written, for progress.

    Raises:
        ServerError: The server failed a request, or stayed away for longer.
        VideoError: The source or a sink failed.
    """
    return _Stream(segmenter, draw, max_outage_s).run(source, sinks, window, on_frame)


class _Stream:
    def __init__(
        self,
        segmenter: Segmenter,
        draw: Callable[[Image, Mask], Image] | None,
        max_outage_s: float,
    ) -> None:
        self._segmenter = segmenter
        self._draw = draw or (lambda image, mask: image)
        self._max_outage_s = max_outage_s
        self._timer = StageTimer()
        self._latencies_ms: list[float] = []
        self._retries = 0
        self._back_at = float("-inf")  # when the last outage ended
        self._stopping = threading.Event()

    def run(
        self,
        source: Iterable[Frame],
        sinks: Sequence[Sink],
        window: int,
        on_frame: Callable[[SegmentedFrame], None] | None,
    ) -> Report:
        frames = 0
        start = time.perf_counter()
        with ExitStack() as stages:
            decoded = Background(
                self._timer.measure_each(source, "decode"), name="decode", depth=DECODED_AHEAD
            )
            sent = Background(self._send(decoded), name="send", depth=window)
            drawn = Background(self._receive(sent), name="receive", depth=DRAWN_AHEAD)
            for stage in (decoded, sent, drawn):
                stages.enter_context(stage)
            # Leaving lets all of them go before any is waited for.
            stages.callback(self._stop, (decoded, sent, drawn))
            for segmented in drawn:
                with self._timer.measure("write"):
                    for sink in sinks:
                        sink.write(segmented)
                frames += 1
                if on_frame is not None:
                    on_frame(segmented)
        values = percentiles(self._latencies_ms) if self._latencies_ms else [0.0, 0.0, 0.0]
        mean_ms = self._timer.mean_ms()
        return Report(
            frames=frames,
            seconds=time.perf_counter() - start,
            latency_ms=dict(zip((50, 90, 99), values, strict=True)),
            stage_ms={stage: mean_ms.get(stage, 0.0) for stage in STAGES},
            retries=self._retries,
        )

    def _stop(self, stages: Sequence[Background[Any]]) -> None:
        self._stopping.set()
        for stage in stages:
            stage.stop()

    def _send(self, frames: Iterable[Frame]) -> Iterator[_Request]:
        for frame in frames:
            request = self._start(frame)
            self._timer.add("send", request.sent - request.started)
            yield request

    def _start(self, frame: Frame) -> _Request:
        started = time.perf_counter()
        future = self._segmenter.submit(frame.image)
        request = _Request(frame, future, started, time.perf_counter())
        future.add_done_callback(lambda _: setattr(request, "replied", time.perf_counter()))
        return request

    def _receive(self, requests: Iterable[_Request]) -> Iterator[SegmentedFrame]:
        for request in requests:
            try:
                mask = self._answer(request)
            except _Stopped:
                return
            replied = request.replied or time.perf_counter()
            self._timer.add("server", replied - request.sent)
            self._latencies_ms.append(1e3 * (replied - request.started))
            frame = request.frame
            with self._timer.measure("draw"):
                fitted = resize_mask(mask, (frame.image.shape[0], frame.image.shape[1]))
                picture = self._draw(frame.image, fitted)
            yield SegmentedFrame(frame, fitted, picture)

    def _answer(self, request: _Request) -> Mask:
        """The mask of a request, which is sent again while the server is away."""
        away_since: float | None = None
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                mask = self._wait(request.future)
            except (ServerUnavailable, PredictionTimeout) as err:
                if request.sent > self._back_at:  # else it failed with those before, in an outage
                    now = time.perf_counter()
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
                self._send_again(request)
            else:
                if away_since is not None:
                    self._back_at = time.perf_counter()
                    logger.warning("it is back after %.1f s", self._back_at - away_since)
                return mask

    def _send_again(self, request: _Request) -> None:
        self._retries += 1
        again = self._start(request.frame)
        request.future, request.sent = again.future, again.sent
        again.future.add_done_callback(lambda _: setattr(request, "replied", time.perf_counter()))

    def _say_away(self, err: ServerError, frame: Frame) -> None:
        logger.warning(
            "%s; frame %d waits for it up to %g s", err.problem, frame.index, self._max_outage_s
        )

    def _wait(self, future: Future[Mask]) -> Mask:
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
