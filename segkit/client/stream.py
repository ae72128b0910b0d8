"""stream(): the frames of a source through a segmenter to the sinks, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

from segkit.client.live import LiveStream
from segkit.client.painter import Drawer, Painter, Smoother
from segkit.client.recorded import RecordedStream
from segkit.client.report import STAGES, Report
from segkit.client.requests import Requests
from segkit.client.segmenter import Segmenter
from segkit.client.window import LIVE, RECORDED, AdaptiveWindow, FixedWindow
from segkit.video.frame import Frame, SegmentedFrame, Sink
from segkit.video.meters import StageTimer

__all__ = ["Stream", "stream"]


def stream(
    source: Iterable[Frame],
    segmenter: Segmenter,
    sinks: Sequence[Sink],
    *,
    live: bool = False,
    draw: Drawer | None = None,
    smooth: Smoother | None = None,
    window: int | None = None,
    max_outage_s: float = 30.0,
    max_staleness_s: float = 2.0,
    on_frame: Callable[[SegmentedFrame], None] | None = None,
) -> Report:
    """Segments a source: every frame of a recorded one, the newest ones of a live one.

    Recorded, nothing is dropped: when the server goes away, the frames under way are kept and sent
    again until it is back. Live, frames that are too old are left out and counted. The first
    failure of any stage ends the stream and is raised here; the sinks are the caller's to close or
    discard.

    Args:
        source: Gives the frames.
        segmenter: Gives the masks.
        sinks: Take the results, each in turn.
        live: Whether only the newest frames matter.
        draw: Makes a picture of image, mask and confidence; the image itself if None.
        smooth: Steadies the masks over time.
        window: Requests under way at the same time; by what round trips take if None.
        max_outage_s: Seconds that the server may be away.
        max_staleness_s: Live: the age at which a frame is left out.
        on_frame: Called after each frame is written, for progress.

    Raises:
        ServerError: The server failed a request, or stayed away for longer.
        VideoError: The source or a sink failed.
    """
    running = Stream(
        segmenter,
        live=live,
        draw=draw,
        smooth=smooth,
        window=window,
        max_outage_s=max_outage_s,
        max_staleness_s=max_staleness_s,
    )
    running.run(source, sinks, on_frame)
    return running.report()


class Stream:
    """One stream, whose figures can be asked for while it runs; for its arguments see `stream`.

    Args:
        segmenter: See `stream`, as for the following.
        live: As there.
        draw: As there.
        smooth: As there.
        window: As there.
        max_outage_s: As there.
        max_staleness_s: As there.
        close_source: Lets a thread go that waits for a frame of a live source; called when the
            stream is left.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        live: bool = False,
        draw: Drawer | None = None,
        smooth: Smoother | None = None,
        window: int | None = None,
        max_outage_s: float = 30.0,
        max_staleness_s: float = 2.0,
        close_source: Callable[[], None] = lambda: None,
    ) -> None:
        self._timer = timer = StageTimer()
        servers = getattr(segmenter, "servers", 1)
        adaptive = AdaptiveWindow(LIVE if live else RECORDED, servers=servers)
        allowed = adaptive if window is None else FixedWindow(window)
        painter = Painter(timer, draw=draw, smooth=smooth)
        self._requests = Requests(segmenter, allowed, timer)
        self._stream: LiveStream | RecordedStream
        if live:
            self._stream = LiveStream(
                self._requests,
                painter,
                timer,
                max_staleness_s=max_staleness_s,
                max_outage_s=max_outage_s,
                close_source=close_source,
            )
        else:
            self._stream = RecordedStream(self._requests, painter, timer, max_outage_s=max_outage_s)
        self._frames = 0
        self._begin = self._end = 0.0

    def run(
        self,
        source: Iterable[Frame],
        sinks: Sequence[Sink],
        on_frame: Callable[[SegmentedFrame], None] | None = None,
    ) -> None:
        """Runs it to the source's end, see `stream`."""
        self._begin = self._end = time.perf_counter()
        with closing(self._stream.run(source)) as frames:
            for segmented in frames:
                with self._timer.measure("write"):
                    for sink in sinks:
                        sink.write(segmented)
                self._end = time.perf_counter()
                self._timer.add("age", self._end - segmented.frame.captured)
                self._timer.add("latency", sum(segmented.stage_ms.values()) / 1e3)
                self._frames += 1
                if on_frame is not None:
                    on_frame(segmented)

    @property
    def drops(self) -> dict[str, int]:
        """Cause -> frames left out so far; for every frame, where `report` would take too long."""
        return self._stream.drops

    def report(self) -> Report:
        """What it has done so far, or did."""
        requests, answered = self._requests, max(1, self._requests.answered)
        return Report(
            frames=self._frames,
            captured=self._stream.captured,
            seconds=self._end - self._begin,
            latency_ms=self._timer.summary("latency"),
            age_ms=self._timer.summary("age"),
            stage_ms={stage: self._timer.summary(stage) for stage in STAGES},
            drops=self.drops,
            retries=self._stream.retries,
            window=requests.window.size,
            sent_bytes=requests.sent_bytes / answered,
            received_bytes=requests.received_bytes / answered,
        )
