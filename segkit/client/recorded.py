"""RecordedStream: every frame of a source through a segmenter, none lost, in order.

Four stages run at the same time, joined by bounded queues:

    decode -> send (resize, encode, request) -> receive (reply, draw) -> write (the caller's thread)

A request is kept until it is answered, and sent again while the server is away: memory is bounded
by the window.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from segkit.client.background import Background
from segkit.client.outage import Outage
from segkit.client.painter import Painter
from segkit.client.requests import Request, Requests
from segkit.client.segmenter import Answer
from segkit.client.window import LARGEST
from segkit.errors import PredictionTimeout, ServerUnavailable
from segkit.video.frame import Frame, SegmentedFrame
from segkit.video.meters import StageTimer

__all__ = ["RecordedStream"]

DECODED_AHEAD = DRAWN_AHEAD = 2  # frames; enough that no stage waits for a neighbour's hiccup
LONGEST_BACKOFF_S = 2.0


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
        self._outage = Outage(max_outage_s, longest_backoff_s=LONGEST_BACKOFF_S)
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
            answer = self._answer(request)
            if answer is None:
                return
            self._requests.finish(request)
            yield self._painter.paint(request, answer)

    def _answer(self, request: Request) -> Answer | None:
        """The answer to a request, which is sent again while the server is away.

        None where the stream is being left.
        """
        while not self._requests.stopped:
            try:
                answer = self._requests.answer(request)
            except (ServerUnavailable, PredictionTimeout) as err:
                # Sent before the last outage ended, it failed with those before it, in that one.
                if request.sent > self._outage.ended_at:
                    self._requests.window.missed(time.perf_counter())
                    self._requests.pause(self._outage.failed(err, request.frame))
                    if self._requests.stopped:
                        return None
                self.retries += 1
                self._requests.send(request)
            else:
                if answer is not None:
                    self._outage.over()
                return answer
        return None
