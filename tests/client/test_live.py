"""A live stream: the newest frames, in order, and every one that is left out accounted for.

In real time, on a machine that may be busy: how well the window does is in test_window.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from simulated_server import SimulatedSegmenter, camera

from segkit.client import Answer, Report, stream
from segkit.client.report import DROPS
from segkit.errors import ContractMismatch, ServerUnavailable, VideoError
from segkit.video.frame import Frame, SegmentedFrame

STAGE_THREADS = {"capture", "send", "receive"}


class Collector:
    """A sink that keeps indices, and sees that each mask is its own frame's."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.indices: list[int] = []
        self._seconds = seconds

    def write(self, segmented: SegmentedFrame) -> None:
        time.sleep(self._seconds)
        assert int(segmented.mask[0, 0]) == segmented.frame.index % 251
        self.indices.append(segmented.frame.index)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not STAGE_THREADS & {thread.name for thread in threading.enumerate()}


def run(segmenter: Any, source: Iterator[Frame], sink: Any, **options: Any) -> Report:
    report = stream(source, segmenter, [sink], live=True, **options)
    check(report, sink)
    return report


def check(report: Report, sink: Collector) -> None:
    assert sink.indices == sorted(set(sink.indices))
    assert report.frames == len(sink.indices)
    assert report.captured == report.frames + report.dropped
    assert set(report.drops) <= set(DROPS)


def test_a_server_that_keeps_up_gets_the_frames_one_at_a_time() -> None:
    sink = Collector()
    with SimulatedSegmenter(0.002) as server:
        report = run(server, camera(20, 2), sink)
    assert report.frames >= 25
    assert server.most_under_way <= 2  # an idle server needs no more


def test_a_slow_server_gets_the_newest_frames_and_they_are_not_old() -> None:
    sink = Collector()
    with SimulatedSegmenter(0.1) as server:
        report = run(server, camera(60, 3), sink)
    assert report.drops["replaced"] > 100
    assert report.frames >= 15
    assert report.age_ms.p90 < 1000  # a queue of them all would be seconds long
    assert server.most_under_way <= 6


def test_a_long_way_is_filled_with_requests() -> None:
    sink = Collector()
    with SimulatedSegmenter(0.005, 0.2) as server:
        report = run(server, camera(30, 4), sink)
    assert server.most_under_way >= 4
    assert report.frames >= 40  # one at a time would be 20


def test_a_slow_sink_gets_the_newest_pictures() -> None:
    sink = Collector(0.05)
    with SimulatedSegmenter(0.001) as server:
        report = run(server, camera(100, 1), sink)
    assert report.drops["unshown"] + report.drops.get("replaced", 0) > 50
    assert report.age_ms.p90 < 500


def test_a_source_that_waited_for_the_server_is_not_shown_stale() -> None:
    sink = Collector()
    with SimulatedSegmenter(0.3) as server:
        report = run(server, camera(100, 1), sink, max_staleness_s=0.05, window=1)
    assert report.frames == 0
    assert report.drops["late"] > 0


def test_an_outage_is_waited_out_and_its_frames_are_counted() -> None:
    away = ServerUnavailable("away", expected="a server", next_step="start it")
    sink = Collector()
    with SimulatedSegmenter(0.002, fail=lambda nth: away if 5 <= nth < 8 else None) as server:
        report = run(server, camera(25, 4), sink)
    assert report.drops["failed"] == 3
    assert sink.indices[-1] >= 90


def test_a_server_that_stays_away_ends_the_stream() -> None:
    away = ServerUnavailable("away", expected="a server", next_step="start it")
    with (
        SimulatedSegmenter(0.002, fail=lambda nth: away if nth >= 5 else None) as server,
        pytest.raises(ServerUnavailable, match=r"away; it stayed away for 0.2 s") as caught,
    ):
        stream(camera(50, 20), server, [Collector()], live=True, max_outage_s=0.2)
    assert "--max_outage" in caught.value.next_step


def test_an_error_that_time_does_not_mend_is_raised_at_once() -> None:
    wrong = ContractMismatch("bad model")
    with (
        SimulatedSegmenter(0.002, fail=lambda nth: wrong if nth == 3 else None) as server,
        pytest.raises(ContractMismatch, match="bad model"),
    ):
        stream(camera(50, 20), server, [Collector()], live=True)


def test_a_source_that_fails_is_raised() -> None:
    def damaged() -> Iterator[Frame]:
        yield from camera(50, 0.2)
        raise VideoError("the camera is gone")

    with SimulatedSegmenter(0.002) as server, pytest.raises(VideoError, match="camera is gone"):
        stream(damaged(), server, [Collector()], live=True)


def test_a_sink_that_fails_ends_an_endless_source() -> None:
    class Full(Collector):
        def write(self, segmented: SegmentedFrame) -> None:
            raise VideoError("the disk is full")

    with SimulatedSegmenter(0.002) as server, pytest.raises(VideoError, match="disk is full"):
        stream(camera(50, 10**6), server, [Full()], live=True)


def test_an_interrupt_ends_the_stream_although_the_server_hangs() -> None:
    class Hanging:
        def submit(self, image: np.ndarray, *, timeout_s: float | None = None) -> Future[Answer]:
            future: Future[Answer] = Future()
            if not image[0, 0, 0]:
                future.set_result(Answer(image[..., 0]))
            return future

    def interrupt(segmented: SegmentedFrame) -> None:
        raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stream(
            camera(50, 10**6),
            Hanging(),  # type: ignore[arg-type]
            [Collector()],
            live=True,
            on_frame=interrupt,
        )
    assert time.monotonic() - begin < 5
